/* Dense kernel for Arm processors with dot products of bytes (Cortex-A55, A76 and later): sixteen inputs of one row an
 * instruction. */
#if defined(__aarch64__)

#include "dense_arm.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

/* Blocks in a row of code. */
enum { UNROLL = 8 };

static uint32_t sum_row(const int8_t* x, size_t n) {
  const int8x16_t ones = vdupq_n_s8(1);
  int32x4_t sums = vdupq_n_s32(0);
  for (const int8_t* const end = x + n; x != end; x += KWS_VECTOR) sums = vdotq_s32(sums, vld1q_s8(x), ones);
  return (uint32_t)vaddvq_s32(sums);
}

/* Adds one block. */
KWS_INLINE void add_block(const int bits, const int8x16_t* bytes, int8x16_t inputs, int32x4_t* parts) {
#define ADD(i)                   \
  if (i < kws_slot_counts[bits]) \
    parts[i] = vdotq_s32(parts[i], bytes[kws_slots[bits][i].byte] >> kws_slots[bits][i].shift, inputs);
  KWS_REPEAT_14(ADD)
#undef ADD
}

KWS_INLINE const uint8_t* run(const int bits, const int places, const kws_blocks* b) {
  (void)places;
  const kws_finisher finisher = kws_make_finisher(b->scale);
  const int8_t* w = (const int8_t*)b->w;
  const uint32_t *constants = b->constants, outputs = b->rows;
  const size_t blocks = b->n / KWS_VECTOR;
  int8_t* const y = b->y;
  int32_t* const dots = b->dots;
  for (uint32_t first = 0; first < outputs; first += KWS_TILE) {
    int32x4_t parts[KWS_MAX_SLOTS + 1], rows[KWS_TILE];
    int8x16_t bytes[16], inputs[4];
#define CLEAR(i) \
  if (i < kws_slot_counts[bits]) parts[i] = vdupq_n_s32(0);
    KWS_REPEAT_14(CLEAR)
#undef CLEAR
    const int8_t* x = b->x;
    size_t left = blocks;
    for (; left >= UNROLL; left -= UNROLL) {
#define ADD_BLOCK(i)                                                              \
  if (i % 4 == 0) x = kws_load(x, 4, inputs);                                     \
  if (bits > 2 || i * bits % 4 == 0) w = kws_load(w, bits > 2 ? bits : 4, bytes); \
  add_block(bits, bytes + (bits > 2 ? 0 : i * bits % 4), inputs[i % 4], parts);   \
  w = kws_settle(parts, kws_slot_counts[bits], w);
      KWS_REPEAT_8(ADD_BLOCK)
#undef ADD_BLOCK
    }
    for (; left; --left) {
      x = kws_load(x, 1, inputs);
      w = kws_load(w, bits, bytes);
      add_block(bits, bytes, inputs[0], parts);
    }
    kws_separate(bits, parts, rows);
    kws_finish_tile(&finisher, rows, constants, first, y, dots);
  }
  return (const uint8_t*)w;
}

KWS_RUN_WIDTHS(1, run)

#define KWS_DENSE_NAME kws_packed_dense_dotprod
#define KWS_DENSE_ROWS KWS_TILE
#define KWS_DENSE_PLACES 1
#define KWS_DENSE_SUM sum_row
#include "dense_body.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
