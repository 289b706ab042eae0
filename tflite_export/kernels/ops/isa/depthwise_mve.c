/* Depthwise kernel for Arm's M-profile vectors (Helium): Cortex-M55, M85.
 *
 * Eight channels are loaded as 16 bits. VMULLB and VMULLT multiply the even and the odd ones; sums and outputs stay in
 * that order until they are narrowed, which puts them side by side again. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_MVE && KWS_STATIC && KWS_HAS_KIND(2)

#include <arm_mve.h>

#include "../../core/requantize.h"
#include "../depthwise.h"

enum { LANES = 8 };

/* Constants of an op. */
typedef struct {
  kws_scale scale;
  bool quick; /* kws_only_high_half() */
  int16_t zero;
} constants_of_op;

/* Sums, or terms of them, of the even and of the odd ones of eight channels. */
typedef struct {
  int32x4_t even, odd;
} eight;

KWS_DEPTHWISE_INLINE eight add_tap(eight sums, int16x8_t x, int16x8_t levels, int16_t zero) {
  x = vsubq_n_s16(x, zero);
  sums.even = vaddq_s32(sums.even, vmullbq_int_s16(x, levels));
  sums.odd = vaddq_s32(sums.odd, vmulltq_int_s16(x, levels));
  return sums;
}

/* The terms of kws_scale as they are used. */
typedef struct {
  const int8_t *gain, *bias;
  int32_t multiplier, add, bias_shift, bias_factor, shift;
  bool halves; /* of outputs are decided by the low half of a total */
  int16_t low, high;
} terms;

KWS_DEPTHWISE_INLINE terms terms_of(const bool quick, const kws_scale* s) {
  const terms t = {
      .gain = s->gain,
      .bias = s->bias,
      .multiplier = s->multiplier,
      .add = (int32_t)(s->add >> 32),
      .bias_shift = s->bias_shift,
      .bias_factor = quick ? 1 << (s->bias_shift - 32) : 0,
      .shift = 32 - s->shift,
      .halves = s->shift == 32,
      .low = (int16_t)s->low,
      .high = (int16_t)s->high,
  };
  return t;
}

/* Four outputs before they are clipped; `quick` where only the high halves of products matter. */
KWS_DEPTHWISE_INLINE int32x4_t scaled(const bool quick, const terms* t, int32x4_t acc, int32x4_t gain, int32x4_t bias) {
  const int32x4_t scale = vmulq_n_s32(gain, t->multiplier);
  int32x4_t high = vmulhq_s32(acc, scale);
  if (quick) {
    high = vmlaq_n_s32(high, bias, t->bias_factor);
  } else {
    const uint32x4_t low = vreinterpretq_u32_s32(vmulq_s32(acc, scale));
    const uint32x4_t sum = vaddq_u32(low, vreinterpretq_u32_s32(vshlq_r_s32(bias, t->bias_shift)));
    high = vaddq_s32(high, vshlq_r_s32(bias, t->bias_shift - 32));
    high = vaddq_m_n_s32(high, high, 1, vcmphiq_u32(low, sum)); /* the carry */
    /* What rounds is the top bit of the low half, or lies in the high one. */
    if (t->halves) high = vaddq_s32(high, vreinterpretq_s32_u32(vshrq_n_u32(sum, 31)));
  }
  return vshlq_r_s32(vaddq_n_s32(high, t->add), t->shift);
}

/* Outputs of eight channels as 16 bits, in order. */
KWS_DEPTHWISE_INLINE int16x8_t outputs_of(const bool quick, const terms* t, eight sums, int16x8_t gain,
                                          int16x8_t bias) {
  const int32x4_t even = scaled(quick, t, sums.even, vmovlbq_s16(gain), vmovlbq_s16(bias));
  const int32x4_t odd = scaled(quick, t, sums.odd, vmovltq_s16(gain), vmovltq_s16(bias));
  const int16x8_t v = vqmovntq_s32(vqmovnbq_s32(vuninitializedq_s16(), even), odd);
  return vminq_s16(vmaxq_s16(v, vdupq_n_s16(t->low)), vdupq_n_s16(t->high));
}

/* Outputs of `count` channels, a multiple of sixteen. */
KWS_DEPTHWISE_INLINE void blocks(const bool quick, const constants_of_op* c, const kws_taps* taps, size_t count,
                                 int8_t* y) {
  const terms t = terms_of(quick, &c->scale);
  const int16_t zero = c->zero;
  const size_t x_column = taps->x_column, level_column = taps->level_column;
  const uint32_t rows = taps->rows, columns = taps->columns;
  for (size_t first = 0; first != count; first += 2 * LANES) {
    const eight none = {vdupq_n_s32(0), vdupq_n_s32(0)};
    eight low = none, high = none;
    const int8_t *x_row = taps->x + first, *level_row = taps->levels + first;
    for (uint32_t i = rows; i; --i, x_row += taps->x_row, level_row += taps->level_row) {
      const int8_t *x = x_row, *levels = level_row;
      for (uint32_t j = columns; j; --j, x += x_column, levels += level_column) {
        low = add_tap(low, vldrbq_s16(x), vldrbq_s16(levels), zero);
        high = add_tap(high, vldrbq_s16(x + LANES), vldrbq_s16(levels + LANES), zero);
      }
    }
    const int8_t *gain = t.gain + first, *bias = t.bias + first;
    vstrbq_s16(y + first, outputs_of(quick, &t, low, vldrbq_s16(gain), vldrbq_s16(bias)));
    vstrbq_s16(y + first + LANES, outputs_of(quick, &t, high, vldrbq_s16(gain + LANES), vldrbq_s16(bias + LANES)));
  }
}
static __attribute__((noinline)) void blocks_quickly(const constants_of_op* c, const kws_taps* taps, size_t count,
                                                     int8_t* y) {
  blocks(true, c, taps, count, y);
}
static __attribute__((noinline)) void blocks_exactly(const constants_of_op* c, const kws_taps* taps, size_t count,
                                                     int8_t* y) {
  blocks(false, c, taps, count, y);
}

/* Up to eight outputs: what lies beyond the last channel is neither read nor written. */
static __attribute__((noinline)) void last_block(const constants_of_op* c, const kws_taps* taps, size_t first,
                                                 size_t left, int8_t* y) {
  const mve_pred16_t here = vctp16q((uint32_t)left);
  eight sums = {vdupq_n_s32(0), vdupq_n_s32(0)};
  const int8_t *x_row = taps->x + first, *level_row = taps->levels + first;
  for (uint32_t i = taps->rows; i; --i, x_row += taps->x_row, level_row += taps->level_row) {
    const int8_t *x = x_row, *levels = level_row;
    for (uint32_t j = taps->columns; j; --j, x += taps->x_column, levels += taps->level_column)
      sums = add_tap(sums, vldrbq_z_s16(x, here), vldrbq_z_s16(levels, here), c->zero);
  }
  const int16x8_t gain = vldrbq_z_s16(c->scale.gain + first, here), bias = vldrbq_z_s16(c->scale.bias + first, here);
  const terms quick = terms_of(true, &c->scale), exact = terms_of(false, &c->scale);
  const int16x8_t v =
      c->quick ? outputs_of(true, &quick, sums, gain, bias) : outputs_of(false, &exact, sums, gain, bias);
  vstrbq_p_s16(y + first, v, here);
}

static void one_place(const kws_op* op, void* own, const kws_taps* taps, int8_t* y) {
  const constants_of_op* c = own;
  const size_t channels = (size_t)op->channels;
  size_t first = channels / (2 * LANES) * (2 * LANES);
  if (first) (c->quick ? blocks_quickly : blocks_exactly)(c, taps, first, y);
  for (; first < channels; first += LANES) last_block(c, taps, first, channels - first, y);
}

/* False where the constants do not fit. */
static __attribute__((noinline)) bool all_places(const kws_op* op) {
  constants_of_op c;
  if (!kws_make_scale(&c.scale, op)) return false;
  kws_raise_scale(&c.scale);
  c.quick = kws_only_high_half(&c.scale);
  c.zero = (int16_t)op->options.input_zero_point[0];
  kws_depthwise_places(op, one_place, &c);
  return true;
}

void kws_depthwise_mve(const kws_op* op) {
  if (!kws_one_output_a_channel(op) || !all_places(op)) kws_depthwise_c(op);
}

#endif
