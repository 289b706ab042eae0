/* Dense kernel for Arm processors that multiply matrices of bytes (Cortex-A510, A710 and later): two rows of weights
 * times two places an instruction; where there are fewer than four places, dot products on the same layout. */
#if defined(__aarch64__)

#include "dense_arm.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod+i8mm"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

enum { PLACES = 4, COLUMNS = 8 };

static uint32_t sum_row(const int8_t* x, size_t n) {
  const int8x16_t ones = vdupq_n_s8(1);
  int32x4_t sums = vdupq_n_s32(0);
  for (const int8_t* const end = x + n; x != end; x += KWS_VECTOR) sums = vdotq_s32(sums, vld1q_s8(x), ones);
  return (uint32_t)vaddvq_s32(sums);
}

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

KWS_INLINE const int8_t* dot_rows(const int bits, const int8_t* w, const kws_blocks* b, int32x4_t* rows) {
  int32x4_t parts[KWS_MAX_SLOTS + 1];
#define CLEAR(i) \
  if (i < kws_slot_counts[bits]) parts[i] = vdupq_n_s32(0);
  KWS_REPEAT_14(CLEAR)
#undef CLEAR
  const int8_t* x = b->x;
  size_t left = b->n / COLUMNS;
  for (; left >= 4; left -= 4) {
#define ADD_BLOCK(i) dot_block(bits, w + KWS_VECTOR * bits * i, x + COLUMNS * i, parts);
    KWS_REPEAT_4(ADD_BLOCK)
#undef ADD_BLOCK
    w += 4 * KWS_VECTOR * bits;
    x += 4 * COLUMNS;
  }
  for (; left; --left, w += KWS_VECTOR * bits, x += COLUMNS) dot_block(bits, w, x, parts);
  kws_separate(bits, parts, rows);
  return w;
}

/* Four places: sums of place 0 and a pair of rows, then of place 1; in the second half of the array, places 2 and 3.
 * More than four bits: row by row, or the sums would not fit the registers. */
KWS_INLINE const int8_t* multiply_block(const int bits, const int8_t* w, int8x16_t x01, int8x16_t x23,
                                        int32x4_t* parts01, int32x4_t* parts23) {
  int8x16_t bytes[8];
  /* One by one: four registers in a row are hard to find among so many sums. */
#define LOAD(i) \
  if (i < bits) bytes[i] = vld1q_s8(w + KWS_VECTOR * i);
  KWS_REPEAT_8(LOAD)
#undef LOAD
#define ADD(i)                                                                                                \
  if (i < (bits > 4 ? KWS_TILE : kws_slot_counts[bits])) {                                                    \
    const int8x16_t codes =                                                                                   \
        bits > 4 ? kws_row_code(bits, i, bytes) : bytes[kws_slots[bits][i].byte] >> kws_slots[bits][i].shift; \
    parts01[i] = vmmlaq_s32(parts01[i], x01, codes);                                                          \
    parts23[i] = vmmlaq_s32(parts23[i], x23, codes);                                                          \
  }
  KWS_REPEAT_14(ADD)
#undef ADD
  return w + KWS_VECTOR * bits;
}

KWS_INLINE const int8_t* multiply_rows(const int bits, const int8_t* w, const kws_blocks* b, int32x4_t* rows01,
                                       int32x4_t* rows23) {
  int32x4_t slots01[KWS_MAX_SLOTS + 1], slots23[KWS_MAX_SLOTS + 1];
  int32x4_t* const parts01 = bits > 4 ? rows01 : slots01;
  int32x4_t* const parts23 = bits > 4 ? rows23 : slots23;
#define CLEAR(i) \
  if (i < (bits > 4 ? KWS_TILE : kws_slot_counts[bits])) parts01[i] = parts23[i] = vdupq_n_s32(0);
  KWS_REPEAT_14(CLEAR)
#undef CLEAR
  const int8_t *x0 = b->x, *x1 = x0 + b->stride, *x2 = x1 + b->stride, *x3 = x2 + b->stride;
  /* Several places are read where they lie, which kws_row_in_place() grants for whole vectors only. */
  const int8_t* const end = x0 + b->n;
  for (; x0 != end; x0 += KWS_VECTOR, x1 += KWS_VECTOR, x2 += KWS_VECTOR, x3 += KWS_VECTOR) {
    const int8x16_t v0 = vld1q_s8(x0), v1 = vld1q_s8(x1), v2 = vld1q_s8(x2), v3 = vld1q_s8(x3);
    w = multiply_block(bits, w, low_halves(v0, v1), low_halves(v2, v3), parts01, parts23);
    w = multiply_block(bits, w, high_halves(v0, v1), high_halves(v2, v3), parts01, parts23);
  }
  if (bits <= 4) {
    kws_separate(bits, parts01, rows01);
    kws_separate(bits, parts23, rows23);
  }
  return w;
}

/* Eight outputs of one place, or their sums. */
KWS_INLINE void finish(const kws_finisher* f, const kws_channels* c, int32x4_t dots0, int32x4_t dots1,
                       const uint32_t* constants, int8_t* y, int32_t* dots) {
  if (dots) {
    vst1q_s32(dots, dots0);
    vst1q_s32(dots + 4, dots1);
  } else {
    kws_finish(f, c, dots0, dots1, constants, y);
  }
}

KWS_INLINE int32x4_t low_pairs(int32x4_t a, int32x4_t b) {
  return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
KWS_INLINE int32x4_t high_pairs(int32x4_t a, int32x4_t b) {
  return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

KWS_INLINE const uint8_t* run(const int bits, const int places, const kws_blocks* b) {
  const kws_finisher finisher = kws_make_finisher(b->scale);
  const int8_t* w = (const int8_t*)b->w;
  const size_t outputs = b->outputs;
  int32_t* const dots = b->dots;
  for (uint32_t first = 0; first < b->rows; first += KWS_MAX_BLOCK_ROWS) {
    int32x4_t rows[2][KWS_TILE];
    w = places == 1 ? dot_rows(bits, w, b, rows[0]) : multiply_rows(bits, w, b, rows[0], rows[1]);
#define FINISH(half)                                                                                                \
  {                                                                                                                 \
    kws_channels channels = {0};                                                                                    \
    if (!dots) channels = kws_load_channels(&finisher, first + 8 * half);                                           \
    const uint32_t* const constants = b->constants + 8 * half;                                                      \
    int8_t* const y = b->y + first + 8 * half;                                                                      \
    int32_t* const to = dots ? dots + 8 * half : NULL;                                                              \
    const int32x4_t *r = rows[0] + 4 * half, *s = rows[1] + 4 * half;                                               \
    if (places == 1) {                                                                                              \
      finish(&finisher, &channels, kws_add_pairs(r[0], r[1]), kws_add_pairs(r[2], r[3]), constants, y, to);         \
    } else {                                                                                                        \
      finish(&finisher, &channels, low_pairs(r[0], r[1]), low_pairs(r[2], r[3]), constants, y, to);                 \
      finish(&finisher, &channels, high_pairs(r[0], r[1]), high_pairs(r[2], r[3]), constants + 16, y + outputs,     \
             to ? to + 16 : NULL);                                                                                  \
      finish(&finisher, &channels, low_pairs(s[0], s[1]), low_pairs(s[2], s[3]), constants + 32, y + 2 * outputs,   \
             to ? to + 32 : NULL);                                                                                  \
      finish(&finisher, &channels, high_pairs(s[0], s[1]), high_pairs(s[2], s[3]), constants + 48, y + 3 * outputs, \
             to ? to + 48 : NULL);                                                                                  \
    }                                                                                                               \
  }
    FINISH(0)
    FINISH(1)
#undef FINISH
  }
  return (const uint8_t*)w;
}

KWS_RUN_WIDTHS(PLACES, run)

#define KWS_DENSE_NAME kws_packed_dense_i8mm
#define KWS_DENSE_ROWS KWS_MAX_BLOCK_ROWS
#define KWS_DENSE_PLACES PLACES
#define KWS_DENSE_SUM sum_row
#include "dense_body.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
