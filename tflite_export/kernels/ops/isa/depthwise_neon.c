/* Depthwise kernel for NEON, 64 and 32 bits: 8, 16 or 32 channels at a time, whose sums stay in registers. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_NEON && KWS_STATIC && KWS_HAS_KIND(2)

#include "../../dense/isa/dense_arm.h"
#include "../depthwise.h"

/* The upper eight numbers of a vector, less `zero`. */
#if defined(__aarch64__)
KWS_INLINE int16x8_t less_zero_high(int8x16_t x, int8x16_t zero) { return vsubl_high_s8(x, zero); }
KWS_INLINE int16x8_t widen_high(int8x16_t x) { return vmovl_high_s8(x); }
#else
KWS_INLINE int16x8_t less_zero_high(int8x16_t x, int8x16_t zero) {
  return vsubl_s8(vget_high_s8(x), vget_high_s8(zero));
}
KWS_INLINE int16x8_t widen_high(int8x16_t x) { return vmovl_s8(vget_high_s8(x)); }
#endif

/* What one tap adds to the sums of 8 or 16 channels: level * (x - zero), a product that fits 16 bits. */
KWS_INLINE void add_tap(const int lanes, const int8_t* x, const int8_t* levels, int8x16_t zero, int32x4_t* sums) {
  int16x8_t a[2], b[2];
  if (lanes == 8) {
    a[0] = vsubl_s8(vld1_s8(x), vget_low_s8(zero));
    b[0] = vmovl_s8(vld1_s8(levels));
  } else {
    const int8x16_t from = vld1q_s8(x), by = vld1q_s8(levels);
    a[0] = vsubl_s8(vget_low_s8(from), vget_low_s8(zero));
    a[1] = less_zero_high(from, zero);
    b[0] = vmovl_s8(vget_low_s8(by));
    b[1] = widen_high(by);
  }
  sums[0] = vmlal_s16(sums[0], vget_low_s16(a[0]), vget_low_s16(b[0]));
  sums[1] = kws_mlal_high_s16(sums[1], a[0], b[0]);
  if (lanes == 8) return;
  sums[2] = vmlal_s16(sums[2], vget_low_s16(a[1]), vget_low_s16(b[1]));
  sums[3] = kws_mlal_high_s16(sums[3], a[1], b[1]);
}

/* Constants of an op in few vectors. Where they allow that ("quick"), totals are halves of a 64-bit total's high half:
 *
 *     v = (acc * (gain * multiplier) >> 31) + bias * bias_factor
 *     y = clip(round(v / 2^shift) + zero point)
 *
 * Exact: bias and rounding are multiples of 2^31, and all sums fit 32 bits. */
typedef struct {
  kws_finisher any; /* for all constants of kws_scale */
  int32x4_t minus_shift;
  int32x2_t multiplier;
  int16x8_t output_zero;
  int16x4_t factor;
  int8x16_t zero, low, high;
  bool quick;
} constants_of_op;

/* Taps up to here have sums below 2^29; biases below 2^46 have a factor of 16 bits. */
static constants_of_op make_constants(const kws_op* op, kws_scale* s) {
  const kws_options* o = &op->options;
  constants_of_op c;
  c.any = kws_make_finisher(s);
  kws_raise_scale(s);
  c.quick = s->bias_shift >= 31 && s->bias_shift <= 45 && o->inputs <= 1 << 14;
  c.minus_shift = vdupq_n_s32(31 - s->shift);
  c.multiplier = vdup_n_s32(s->multiplier);
  c.output_zero = vdupq_n_s16((int16_t)o->output_zero_point);
  c.factor = vdup_n_s16((int16_t)(c.quick ? 1 << (s->bias_shift - 31) : 0));
  c.zero = vdupq_n_s8((int8_t)s->zero);
  c.low = vdupq_n_s8((int8_t)s->low);
  c.high = vdupq_n_s8((int8_t)s->high);
  return c;
}

/* Four outputs, before the zero point. */
KWS_INLINE int16x4_t quickly_scaled(const constants_of_op* c, int32x4_t acc, int16x4_t gain, int16x4_t bias) {
  int32x4_t v = vqdmulhq_s32(acc, vmulq_lane_s32(vmovl_s16(gain), c->multiplier, 0));
  v = vmlal_lane_s16(v, bias, c->factor, 0);
  return vqmovn_s32(vrshlq_s32(v, c->minus_shift));
}

/* Eight outputs before they are clipped. */
KWS_INLINE int8x8_t scaled(const bool quick, const constants_of_op* c, const int32x4_t* acc, size_t first) {
  if (quick) {
    const int16x8_t gain = vmovl_s8(vld1_s8(c->any.gain + first)), bias = vmovl_s8(vld1_s8(c->any.bias + first));
    const int16x4_t y0 = quickly_scaled(c, acc[0], vget_low_s16(gain), vget_low_s16(bias));
    const int16x4_t y1 = quickly_scaled(c, acc[1], vget_high_s16(gain), vget_high_s16(bias));
    return vqmovn_s16(vqaddq_s16(vcombine_s16(y0, y1), c->output_zero));
  }
  const kws_channels channels = kws_load_channels(&c->any, (uint32_t)first);
  const int16x4_t y0 = kws_scaled(&c->any, acc[0], channels.scale[0], channels.bias[0]);
  const int16x4_t y1 = kws_scaled(&c->any, acc[1], channels.scale[1], channels.bias[1]);
  return vqmovn_s16(vcombine_s16(y0, y1));
}

/* `lanes` outputs: 8, 16 or 32. */
KWS_INLINE void block(const bool quick, const int lanes, const constants_of_op* c, const kws_taps* t, size_t first,
                      int8_t* y) {
  int32x4_t sums[8];
#define CLEAR(i) sums[i] = vdupq_n_s32(0);
  KWS_REPEAT_8(CLEAR)
#undef CLEAR
  const int8_t *x_row = t->x + first, *level_row = t->levels + first;
  for (uint32_t i = t->rows; i; --i, x_row += t->x_row, level_row += t->level_row) {
    const int8_t *x = x_row, *levels = level_row;
    for (uint32_t j = t->columns; j; --j, x += t->x_column, levels += t->level_column) {
      add_tap(lanes, x, levels, c->zero, sums);
      if (lanes == 32) add_tap(16, x + 16, levels + 16, c->zero, sums + 4);
    }
  }
  y += first;
  if (lanes == 8) {
    const int8x8_t v = scaled(quick, c, sums, first);
    vst1_s8(y, vmin_s8(vmax_s8(v, vget_low_s8(c->low)), vget_low_s8(c->high)));
    return;
  }
#define FINISH(i)                                                                   \
  if (i < lanes / 16) {                                                             \
    const int8x8_t v0 = scaled(quick, c, sums + 4 * i, first + 16 * i);             \
    const int8x8_t v1 = scaled(quick, c, sums + 4 * i + 2, first + 16 * i + 8);     \
    vst1q_s8(y + 16 * i, vminq_s8(vmaxq_s8(vcombine_s8(v0, v1), c->low), c->high)); \
  }
  FINISH(0)
  FINISH(1)
#undef FINISH
}

/* All channels, of which there are at least 8. The last block may lie over the one before: its outputs are computed
 * twice, and nothing beyond a tensor is touched. */
KWS_INLINE void blocks(const bool quick, const constants_of_op* constants, const kws_taps* taps, size_t channels,
                       int8_t* y) {
  const constants_of_op c = *constants; /* which y does not overlap */
  const kws_taps t = *taps;
  size_t first = 0;
  for (; channels - first >= 32; first += 32) block(quick, 32, &c, &t, first, y);
  if (channels - first >= 16) {
    block(quick, 16, &c, &t, first, y);
    first += 16;
  }
  for (; first < channels; first += 8) block(quick, 8, &c, &t, first + 8 < channels ? first : channels - 8, y);
}
static KWS_NOINLINE void blocks_quickly(const constants_of_op* c, const kws_taps* t, size_t channels, int8_t* y) {
  blocks(true, c, t, channels, y);
}
static KWS_NOINLINE void blocks_exactly(const constants_of_op* c, const kws_taps* t, size_t channels, int8_t* y) {
  blocks(false, c, t, channels, y);
}

static void one_place(const kws_op* op, void* own, const kws_taps* taps, int8_t* y) {
  const constants_of_op* c = own;
  const size_t channels = (size_t)op->channels;
  if (channels >= 8)
    (c->quick ? blocks_quickly : blocks_exactly)(c, taps, channels, y);
  else
    for (size_t k = 0; k < channels; ++k)
      y[k] = kws_requantize(op, kws_sum_of_channel(taps, k, op->options.input_zero_point[0]), (uint32_t)k);
}

void kws_depthwise_neon(const kws_op* op) {
  kws_scale scale;
  if (!kws_one_output_a_channel(op) || !kws_make_scale(&scale, op)) {
    kws_depthwise_c(op);
    return;
  }
  constants_of_op c = make_constants(op, &scale);
  kws_depthwise_places(op, one_place, &c);
}

#endif
