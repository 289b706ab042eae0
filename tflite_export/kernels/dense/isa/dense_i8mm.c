/* Dense kernel for Arm processors that multiply matrices of bytes (Cortex-A510, A710 and later): two rows of weights
 * times two places an instruction; where there are fewer than four places, dot products on the same layout. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_A64 && KWS_DENSE_STATIC && KWS_HAS_LAYOUT(1)

/* GCC inlines a function only where its target is part of the caller's, and "arch" replaces what -mcpu says: so all
 * that is included here, arm_neon.h too, is compiled for the same target. GCC 12 cannot go from Armv9 back to Armv8. */
#if defined(__clang__)
#elif __ARM_ARCH >= 9
#pragma GCC target("+dotprod+i8mm")
#else
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

#include "dense_arm.h"

#if defined(__clang__) && __clang_major__ >= 16
#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod+i8mm"))), apply_to = function)
#elif defined(__clang__) /* which takes no "arch" */
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#endif

enum { COLUMNS = 8 };

#define KWS_DENSE_NAME kws_packed_dense_i8mm
#define KWS_DENSE_ROWS KWS_MAX_BLOCK_ROWS
#define KWS_DENSE_PLACES 4
#define KWS_DENSE_PAIRS
#include "../dense_groups.h"

KWS_INLINE int8x16_t low_halves(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
KWS_INLINE int8x16_t high_halves(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

/* One place: lanes 0 and 1 of a sum belong to one row, lanes 2 and 3 to the next one. */
KWS_INLINE void dot_block(const int bits, const int8_t* w, const int8_t* x, int32x4_t* parts) {
  const int8x16_t inputs = vreinterpretq_s8_s64(vld1q_dup_s64((const int64_t*)(const void*)x));
  int8x16_t bytes[8];
  kws_load(w, bits, bytes);
#define ADD(i)                   \
  if (i < kws_slot_counts[bits]) \
    parts[i] = vdotq_s32(parts[i], bytes[kws_slots[bits][i].byte] >> kws_slots[bits][i].shift, inputs);
  KWS_REPEAT_14(ADD)
#undef ADD
}

/* Sums of sixteen rows, in order. */
KWS_INLINE const int8_t* dot_rows(const int bits, const int8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  int32x4_t parts[KWS_MAX_SLOTS + 1], rows[KWS_TILE];
#define CLEAR(i) \
  if (i < kws_slot_counts[bits]) parts[i] = vdupq_n_s32(0);
  KWS_REPEAT_14(CLEAR)
#undef CLEAR
  size_t left = n / COLUMNS;
  for (; left >= 4; left -= 4) {
#define ADD_BLOCK(i) dot_block(bits, w + KWS_VECTOR * bits * i, x + COLUMNS * i, parts);
    KWS_REPEAT_4(ADD_BLOCK)
#undef ADD_BLOCK
    w += 4 * KWS_VECTOR * bits;
    x += 4 * COLUMNS;
  }
  for (; left; --left, w += KWS_VECTOR * bits, x += COLUMNS) dot_block(bits, w, x, parts);
  kws_separate(bits, parts, rows);
#define STORE(i) vst1q_s32(dots + 4 * i, kws_add_pairs(rows[2 * i], rows[2 * i + 1]));
  KWS_REPEAT_4(STORE)
#undef STORE
  return w;
}

/* Four places: sums of place 0 and a pair of rows, then of place 1; in the second half of the array, places 2 and 3.
 * More than four bits: row by row, or the sums would not fit the registers. */
KWS_INLINE const int8_t* multiply_block(const int bits, const int8_t* w, int8x16_t x01, int8x16_t x23,
                                        int32x4_t* parts01, int32x4_t* parts23) {
  int8x16_t bytes[8];
  if (bits == 4 || bits == 8) {
    w = kws_load(w, bits, bytes);
    KWS_HIDE_POINTER(w);
  } else { /* one by one: registers in a row are hard to find among so many sums */
#define LOAD(i) \
  if (i < bits) bytes[i] = vld1q_s8(w + KWS_VECTOR * i);
    KWS_REPEAT_8(LOAD)
#undef LOAD
    w += KWS_VECTOR * bits;
  }
#define ADD(i)                                                                                                \
  if (i < (bits > 4 ? KWS_TILE : kws_slot_counts[bits])) {                                                    \
    const int8x16_t codes =                                                                                   \
        bits > 4 ? kws_row_code(bits, i, bytes) : bytes[kws_slots[bits][i].byte] >> kws_slots[bits][i].shift; \
    parts01[i] = vmmlaq_s32(parts01[i], x01, codes);                                                          \
    parts23[i] = vmmlaq_s32(parts23[i], x23, codes);                                                          \
  }
  KWS_REPEAT_14(ADD)
#undef ADD
  return w;
}

/* Sums of sixteen rows of four places, as kws_finish_groups() takes them. */
KWS_INLINE const int8_t* multiply_rows(const int bits, const int8_t* w, const int8_t* x, ptrdiff_t stride, size_t n,
                                       const int32_t* zeros, int32_t* dots) {
  int32x4_t parts01[KWS_MAX_SLOTS + 1], parts23[KWS_MAX_SLOTS + 1], slots01[KWS_TILE], slots23[KWS_TILE];
#define CLEAR(i)                                           \
  if (i < (bits > 4 ? KWS_TILE : kws_slot_counts[bits])) { \
    KWS_HIDE_POINTER(zeros);                               \
    parts01[i] = vld1q_s32(zeros);                         \
    parts23[i] = vld1q_s32(zeros + 4);                     \
  }
  KWS_REPEAT_14(CLEAR)
#undef CLEAR
  /* Several places are read where they lie, which kws_row_in_place() grants for whole vectors only. */
  for (size_t left = n / KWS_VECTOR; left; --left) {
    const int8x16_t v1 = vld1q_s8(x + stride), v2 = vld1q_s8(x + 2 * stride), v3 = vld1q_s8(x + 3 * stride);
    const int8x16_t v0 = vld1q_s8(x);
    x += KWS_VECTOR;
    KWS_HIDE_POINTER(x);
    w = multiply_block(bits, w, low_halves(v0, v1), low_halves(v2, v3), parts01, parts23);
    if (bits == 4) w = kws_settle(parts01, KWS_TILE, w);
    w = multiply_block(bits, w, high_halves(v0, v1), high_halves(v2, v3), parts01, parts23);
  }
  if (bits <= 4) {
    kws_separate(bits, parts01, slots01);
    kws_separate(bits, parts23, slots23);
  }
#define STORE(i) vst1q_s32(dots + 4 * i, bits > 4 ? parts01[i] : slots01[i]);
  KWS_REPEAT_8(STORE)
#undef STORE
  dots += 2 * KWS_GROUP;
#define STORE(i) vst1q_s32(dots + 4 * i, bits > 4 ? parts23[i] : slots23[i]);
  KWS_REPEAT_8(STORE)
#undef STORE
  return w;
}

KWS_INLINE const uint8_t* run(const int bits, const int8_t* w, const int8_t* x, ptrdiff_t stride, size_t n,
                              uint32_t rows, int places, int32_t* dots) {
  static const int32_t zeros[8] = {0};
  for (const int32_t* const end = dots + (size_t)places * rows; dots < end; dots += places * KWS_GROUP)
    w = places == 1 ? dot_rows(bits, w, x, n, dots) : multiply_rows(bits, w, x, stride, n, zeros, dots);
  return (const uint8_t*)w;
}

KWS_SUM_WIDTHS(run)

#include "../dense_body.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
