/* Dense kernel for Arm processors with dot products of bytes (Cortex-A55, A76 and later): sixteen inputs of one row an
 * instruction. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_A64 && ((KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)) || KWS_DENSE_DYNAMIC)

/* GCC inlines a function only where its target is part of the caller's, and "arch" replaces what -mcpu says: so all
 * that is included here, arm_neon.h too, is compiled for the same target. GCC 12 cannot go from Armv9 back to Armv8. */
#if defined(__clang__)
#elif __ARM_ARCH >= 9
#pragma GCC target("+dotprod")
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#include "dense_arm.h"

#if defined(__clang__) && __clang_major__ >= 16
#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod"))), apply_to = function)
#elif defined(__clang__) /* which takes no "arch" */
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#endif

#define KWS_DENSE_NAME kws_packed_dense_dotprod
#define KWS_DENSE_ROWS KWS_TILE
#define KWS_DENSE_PLACES 2
#if !(KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0))
#define KWS_DENSE_DOTS_ALONE
#endif
#include "../dense_groups.h"

/* Adds one block. */
KWS_INLINE void add_block(const int bits, const int8x16_t* bytes, int8x16_t inputs, int32x4_t* parts) {
#define ADD(i)                   \
  if (i < kws_slot_counts[bits]) \
    parts[i] = vdotq_s32(parts[i], bytes[kws_slots[bits][i].byte] >> kws_slots[bits][i].shift, inputs);
  KWS_REPEAT_14(ADD)
#undef ADD
}

/* Tiles that are summed at once: they share the loads of inputs, and the finishing of sums. Where there are
 * more slots than rows, two tiles' sums do not fit the registers. */
KWS_INLINE int tiles_at_once(const int bits) { return bits == 3 || (bits > 4 && bits < 8) ? 1 : 2; }

/* What the slots of a byte are separated with after lanes are added. */
KWS_INLINE int32x4_t separator(const int bits) { return kws_power_32(bits & 7); }

KWS_INLINE void store_rows(const int32x4_t* rows, int32_t* dots) {
  vst1q_s32(dots, kws_sum_lanes(rows[0], rows[1], rows[2], rows[3]));
  vst1q_s32(dots + 4, kws_sum_lanes(rows[4], rows[5], rows[6], rows[7]));
}

/* Sums of all lanes of a tile's rows, from those of its slots. Slots of a byte are separated late, where they and the
 * next ones of their bytes come to lie in the same lanes of vectors. */
KWS_INLINE void finish_sums(const int bits, int32x4_t separator, int32x4_t* p, int32_t* dots) {
  int32x4_t low, high, rows[KWS_TILE];
  if (bits == 1) {
    low = kws_sum_lanes(p[0], p[1], p[2], p[3]);
    high = kws_sum_lanes(p[4], p[5], p[6], p[7]);
    low = vmlsq_s32(low, vextq_s32(low, high, 1), separator);
    high = vmlsq_s32(high, vextq_s32(high, vdupq_n_s32(0), 1), separator);
  } else if (bits == 2) {
    const int32x4_t a = kws_add_pairs(p[0], p[4]), b = kws_add_pairs(p[1], p[5]);
    const int32x4_t c = kws_add_pairs(p[2], p[6]), d = kws_add_pairs(p[3], p[7]);
    low = kws_add_pairs(vmlsq_s32(a, b, separator), vmlsq_s32(b, c, separator));
    high = kws_add_pairs(vmlsq_s32(c, d, separator), d);
  } else if (bits == 4) {
    low = kws_sum_lanes(p[0], p[2], p[4], p[6]);
    high = kws_sum_lanes(p[1], p[3], p[5], p[7]);
    low = vmlsq_s32(low, high, separator);
  } else {
    kws_separate(bits, p, rows);
    store_rows(rows, dots);
    return;
  }
  vst1q_s32(dots, low);
  vst1q_s32(dots + 4, high);
}

/* Fours of vectors that are loaded before block i of some in a row. */
KWS_INLINE int fours(const int bits, const int i) { return (i * bits + 3) / 4; }

/* Four blocks, with as few loads as there can be; seven vectors a block would need too many registers for that. */
KWS_INLINE const int8_t* add_four(const int bits, const int8_t* w, const int8x16_t* inputs, int32x4_t* parts) {
  int8x16_t bytes[4 * 8];
#define ADD(i)                                                                                       \
  if (bits == 7) {                                                                                   \
    w = kws_load(w, 7, bytes + i * bits);                                                            \
  } else {                                                                                           \
    if (fours(bits, i) < fours(bits, i + 1)) w = kws_load(w, 4, bytes + 4 * fours(bits, i));         \
    if (fours(bits, i) + 1 < fours(bits, i + 1)) w = kws_load(w, 4, bytes + 4 * fours(bits, i) + 4); \
  }                                                                                                  \
  add_block(bits, bytes + i * bits, inputs[i], parts);                                               \
  w = kws_settle(parts, kws_slot_counts[bits], w);
  KWS_REPEAT_4(ADD)
#undef ADD
  return w;
}

typedef struct {
  int32_t values[16];
} sixteen;

/* Clears eight sums of each of two tiles, four with one instruction. Fixed registers, because compilers copy what such
 * a load gives them. */
#define CLEAR_FOUR(a, b, c, d, sums)                                                                   \
  {                                                                                                    \
    register int32x4_t s0 __asm__("v" #a), s1 __asm__("v" #b), s2 __asm__("v" #c), s3 __asm__("v" #d); \
    __asm__("ld1 {v" #a ".4s-v" #d ".4s}, [%4]"                                                        \
            : "=w"(s0), "=w"(s1), "=w"(s2), "=w"(s3)                                                   \
            : "r"(zeros), "m"(*(const sixteen*)(const void*)zeros));                                   \
    (sums)[0] = s0;                                                                                    \
    (sums)[1] = s1;                                                                                    \
    (sums)[2] = s2;                                                                                    \
    (sums)[3] = s3;                                                                                    \
  }
KWS_INLINE void clear_two(const int32_t* zeros, int32x4_t* first, int32x4_t* second){
    CLEAR_FOUR(0, 1, 2, 3, first) CLEAR_FOUR(4, 5, 6, 7, first + 4) CLEAR_FOUR(16, 17, 18, 19, second)
        CLEAR_FOUR(20, 21, 22, 23, second + 4)}

/* Whether two places are summed row by row: their slots would take most of the registers. */
KWS_INLINE bool by_rows(const int bits) {
  return bits > 4 && bits < 8;
}
KWS_INLINE int sums_of_two(const int bits) { return by_rows(bits) ? KWS_TILE : kws_slot_counts[bits]; }

/* One block at two places: what is loaded and shifted serves both. */
KWS_INLINE void add_block_of_two(const int bits, const int8x16_t* bytes, int8x16_t x0, int8x16_t x1, int32x4_t* parts,
                                 int32x4_t* others) {
#define ADD(i)                                                                                                     \
  if (i < sums_of_two(bits)) {                                                                                     \
    const int8x16_t codes =                                                                                        \
        by_rows(bits) ? kws_row_code(bits, i, bytes) : bytes[kws_slots[bits][i].byte] >> kws_slots[bits][i].shift; \
    parts[i] = vdotq_s32(parts[i], codes, x0);                                                                     \
    others[i] = vdotq_s32(others[i], codes, x1);                                                                   \
  }
  KWS_REPEAT_14(ADD)
#undef ADD
}

/* Blocks at two places in a row: as many as their inputs have registers, beside the sums. */
KWS_INLINE int blocks_of_two(const int bits) { return bits == 4 || bits == 8 ? 4 : bits < 3 ? 2 : 1; }

/* The vectors of a block. Beside many sums one by one: registers in a row are hard to find there. */
KWS_INLINE const int8_t* load_block(const int bits, const int8_t* w, int8x16_t* bytes) {
  if (kws_slot_counts[bits] < 12) return kws_load(w, bits, bytes);
#define LOAD(i) \
  if (i < bits) bytes[i] = vld1q_s8(w + KWS_VECTOR * i);
  KWS_REPEAT_8(LOAD)
#undef LOAD
  return w + KWS_VECTOR * bits;
}

/* The sums of two places, `stride` bytes apart: a group of the first, then of the second. */
KWS_INLINE const uint8_t* run_two(const int bits, const int8_t* w, const int8_t* from, ptrdiff_t stride, size_t n,
                                  uint32_t rows, int32_t* dots) {
  enum { MOST = KWS_MAX_SLOTS + 2 };
  static const int32_t zeros[16] = {0};
  const int32_t* zero = zeros;
  const int32x4_t split = separator(bits);
  const size_t blocks = n / KWS_VECTOR, in_a_row = (size_t)blocks_of_two(bits);
  for (uint32_t tile = 0; tile * KWS_TILE < rows; ++tile) {
    int32x4_t parts[2 * MOST];
    int8x16_t x0[4], x1[4], bytes[4 * 8];
    if (sums_of_two(bits) == 8) {
      clear_two(zero, parts, parts + MOST);
    } else {
#define CLEAR(i)                           \
  if (i < sums_of_two(bits)) {             \
    KWS_HIDE_POINTER(zero);                \
    parts[i] = vld1q_s32(zero);            \
    parts[MOST + i] = vld1q_s32(zero + 4); \
  }
      KWS_REPEAT_14(CLEAR)
#undef CLEAR
    }
    const int8_t *x = from, *other = from + stride;
    for (size_t i = blocks / in_a_row; i; --i) {
      x = kws_load(x, (int)in_a_row, x0);
      other = kws_load(other, (int)in_a_row, x1);
#define ADD(i)                                                                                \
  if (i < in_a_row) {                                                                         \
    if (in_a_row < 4) {                                                                       \
      w = load_block(bits, w, bytes + i * bits);                                              \
    } else {                                                                                  \
      w = kws_load(w, 4, bytes + 4 * fours(bits, i));                                         \
      if (bits == 8) w = kws_load(w, 4, bytes + 4 * fours(bits, i) + 4);                      \
    }                                                                                         \
    add_block_of_two(bits, bytes + i * bits, x0[i], x1[i], parts, parts + MOST);              \
    w = kws_settle(parts + MOST, sums_of_two(bits), kws_settle(parts, sums_of_two(bits), w)); \
  }
      KWS_REPEAT_4(ADD)
#undef ADD
    }
    for (size_t i = blocks % in_a_row; i; --i) {
      x = kws_load(x, 1, x0);
      other = kws_load(other, 1, x1);
      w = load_block(bits, w, bytes);
      add_block_of_two(bits, bytes, x0[0], x1[0], parts, parts + MOST);
    }
    if (by_rows(bits)) {
      store_rows(parts, dots);
      store_rows(parts + MOST, dots + KWS_GROUP);
    } else {
      finish_sums(bits, split, parts, dots);
      finish_sums(bits, split, parts + MOST, dots + KWS_GROUP);
    }
    dots += tile % 2 ? KWS_GROUP + KWS_TILE : KWS_TILE;
  }
  return (const uint8_t*)w;
}

KWS_INLINE const uint8_t* run(const int bits, const int8_t* w, const int8_t* from, ptrdiff_t stride, size_t n,
                              uint32_t rows, int places, int32_t* dots) {
#if defined(KWS_DENSE_DOTS_ALONE)
  (void)places;
#else
  if (places == 2) return run_two(bits, w, from, stride, n, rows, dots);
#endif
  enum { MOST = KWS_MAX_SLOTS + 2 };
  static const int32_t zeros[16] = {0};
  const int32_t* zero = zeros;
  const int32x4_t split = separator(bits);
  const bool two = tiles_at_once(bits) == 2;
  const size_t blocks = n / KWS_VECTOR, in_a_row = two && bits > 2 ? 4 : 8, rest = blocks % in_a_row;
  size_t tile = n * (size_t)bits + (size_t)stride, next = KWS_TILE;
  for (int64_t left = rows;;) {
    /* A last tile that has no partner is summed twice. */
    if (two && left <= KWS_TILE) tile = next = 0;
    int32x4_t parts[2 * MOST];
    int8x16_t inputs[4], bytes[8];
#define CLEAR(i)                                                                                        \
  if (!two && i < kws_slot_counts[bits]) {                                                              \
    if (i % 2 == 0) KWS_HIDE_POINTER(zero); /* or compilers would copy sums that are cleared already */ \
    parts[i] = vld1q_s32(zero + 4 * (i % 2));                                                           \
  }
    KWS_REPEAT_14(CLEAR)
#undef CLEAR
    if (two) clear_two(zero, parts, parts + MOST);
    const int8_t *x = from, *other = w + tile;
    for (size_t i = blocks / in_a_row; i; --i) {
#define ADD(i)                                                    \
  if (in_a_row > 4 * i) {                                         \
    x = kws_load(x, 4, inputs);                                   \
    w = add_four(bits, w, inputs, parts);                         \
    if (two) other = add_four(bits, other, inputs, parts + MOST); \
  }
      ADD(0)
      ADD(1)
#undef ADD
    }
    if (rest) {
      size_t i = rest;
      KWS_HIDE_POINTER(i); /* or clang would write this loop out */
      for (; i; --i) {
        x = kws_load(x, 1, inputs);
        w = kws_load(w, bits, bytes);
        add_block(bits, bytes, inputs[0], parts);
        if (two) {
          other = kws_load(other, bits, bytes);
          add_block(bits, bytes, inputs[0], parts + MOST);
        }
      }
    }
    finish_sums(bits, split, parts, dots);
    dots += next;
    left -= KWS_TILE;
    if (two) {
      finish_sums(bits, split, parts + MOST, dots);
      dots += KWS_TILE;
      left -= KWS_TILE;
      w = other;
    }
    w += stride;
    if (left <= 0) return (const uint8_t*)w;
  }
}

KWS_SUM_WIDTHS(run)

#if KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)
#include "../dense_body.inc"
#endif

#if KWS_DENSE_DYNAMIC
#include "../dynamic.h"

static void dynamic_dots(const kws_op* op, const uint8_t* w, size_t step, uint32_t tiles, const int8_t* x, size_t n,
                         int32_t* dots) {
  const int bits = op->options.bits;
  const ptrdiff_t gap = (ptrdiff_t)(step - n * (size_t)bits);
  kws_sum_widths[bits]((const int8_t*)w, x, gap, n, tiles * KWS_TILE, 1, dots);
}

void kws_dynamic_dense_dotprod(const kws_op* op) {
  const unsigned signed_rows = op->options.bits > 8 ? 0 : kws_signed_rows(op->options.bits);
  const kws_dynamic_parts parts = {dynamic_dots, signed_rows, kws_dynamic_dot_neon, NULL};
  kws_run_dynamic(op, &parts);
}
#endif

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
