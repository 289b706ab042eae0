/* NEON code that the Arm kernels share: loads and requantization. */
#ifndef TFMOT_KWS_DENSE_ARM_H_
#define TFMOT_KWS_DENSE_ARM_H_

#include <arm_neon.h>

#include "../dense_vector.h"

/* Hides from the compiler what a vector or a pointer holds: clang would turn a multiply-subtract by a power of two into
 * two instructions, add before it multiplies, and compute an address for each load. */
#define KWS_HIDE_VECTOR(v) __asm__("" : "+w"(v))
#define KWS_HIDE_POINTER(p) __asm__("" : "+r"(p))

/* ARMv7 lacks half the registers and some of the instructions. */
#if defined(__aarch64__)
enum { KWS_MANY_REGISTERS = 1 };
KWS_INLINE int16x8_t kws_mull_high(int8x16_t a, int8x16_t b) { return vmull_high_s8(a, b); }
KWS_INLINE int16x8_t kws_mlal_high(int16x8_t sum, int8x16_t a, int8x16_t b) { return vmlal_high_s8(sum, a, b); }
KWS_INLINE int32x4_t kws_mlal_high_s16(int32x4_t sum, int16x8_t a, int16x8_t b) { return vmlal_high_s16(sum, a, b); }
KWS_INLINE int32x4_t kws_add_pairs(int32x4_t a, int32x4_t b) { return vpaddq_s32(a, b); }
/* The high halves of a + add and b + add. */
KWS_INLINE int32x4_t kws_add_high(int64x2_t a, int64x2_t b, int64x2_t add) {
  return vaddhn_high_s64(vaddhn_s64(a, add), b, add);
}
#else
enum { KWS_MANY_REGISTERS = 0 };
KWS_INLINE int16x8_t kws_mull_high(int8x16_t a, int8x16_t b) { return vmull_s8(vget_high_s8(a), vget_high_s8(b)); }
KWS_INLINE int16x8_t kws_mlal_high(int16x8_t sum, int8x16_t a, int8x16_t b) {
  return vmlal_s8(sum, vget_high_s8(a), vget_high_s8(b));
}
KWS_INLINE int32x4_t kws_mlal_high_s16(int32x4_t sum, int16x8_t a, int16x8_t b) {
  return vmlal_s16(sum, vget_high_s16(a), vget_high_s16(b));
}
KWS_INLINE int32x4_t kws_add_pairs(int32x4_t a, int32x4_t b) {
  return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
}
KWS_INLINE int32x4_t kws_add_high(int64x2_t a, int64x2_t b, int64x2_t add) {
  return vcombine_s32(vaddhn_s64(a, add), vaddhn_s64(b, add));
}
#endif

/* Loads `count` vectors, at most 16, up to four with one instruction, and returns what follows them. */
KWS_INLINE const int8_t* kws_load(const int8_t* from, const int count, int8x16_t* v) {
#if defined(__aarch64__)
#define LOAD_FOUR(i)                            \
  if (count >= 4 * i + 4) {                     \
    const int8x16x4_t four = vld1q_s8_x4(from); \
    v[4 * i] = four.val[0];                     \
    v[4 * i + 1] = four.val[1];                 \
    v[4 * i + 2] = four.val[2];                 \
    v[4 * i + 3] = four.val[3];                 \
    from += 4 * KWS_VECTOR;                     \
    KWS_HIDE_POINTER(from);                     \
  }
  KWS_REPEAT_4(LOAD_FOUR)
#undef LOAD_FOUR
  const int fours = count / 4 * 4, done = count % 4 == 3 ? count : fours;
  if (done > fours) {
    const int8x16x3_t three = vld1q_s8_x3(from);
    v[fours] = three.val[0];
    v[fours + 1] = three.val[1];
    v[fours + 2] = three.val[2];
    from += 3 * KWS_VECTOR;
    KWS_HIDE_POINTER(from);
  }
#else
  const int done = 0;
#endif
#define LOAD_ONE(i) \
  if (i >= done && i < count) v[i] = vld1q_s8(from + KWS_VECTOR * (i - done));
  KWS_REPEAT_14(LOAD_ONE)
  LOAD_ONE(14)
  LOAD_ONE(15)
#undef LOAD_ONE
  return from + KWS_VECTOR * (count - done);
}

/* `above` shifted to the left, over the low bits of `below`. */
KWS_INLINE int8x16_t kws_insert(int8x16_t below, int8x16_t above, const int shift) {
  switch (shift) {
    case 1:
      return vsliq_n_s8(below, above, 1);
    case 2:
      return vsliq_n_s8(below, above, 2);
    case 3:
      return vsliq_n_s8(below, above, 3);
    case 4:
      return vsliq_n_s8(below, above, 4);
    case 5:
      return vsliq_n_s8(below, above, 5);
    default:
      return vsliq_n_s8(below, above, 6);
  }
}

/* The code of a row whose slots all begin a byte or end one. */
KWS_INLINE int8x16_t kws_row_code(const int bits, const int row, const int8x16_t* bytes) {
  int8x16_t code = bytes[0];
#define GATHER(i)                                                                          \
  if (i < kws_slot_counts[bits] && kws_slots[bits][i].row == row) {                        \
    const int8x16_t part = bytes[kws_slots[bits][i].byte] >> kws_slots[bits][i].shift;     \
    code = kws_slots[bits][i].low ? kws_insert(code, part, kws_slots[bits][i].low) : part; \
  }
  KWS_REPEAT_14(GATHER)
  return kws_signed_rows(bits) >> row & 1 ? code : vandq_s8(code, vdupq_n_s8((int8_t)((1 << bits) - 1)));
}

/* Sums of the lanes of four vectors. */
KWS_INLINE int32x4_t kws_sum_lanes(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
  return kws_add_pairs(kws_add_pairs(a, b), kws_add_pairs(c, d));
}

/* Vectors of powers of two. */
KWS_INLINE int16x8_t kws_power_16(const int exponent) {
  int16x8_t v = vdupq_n_s16((int16_t)(1 << exponent));
  KWS_HIDE_VECTOR(v);
  return v;
}
KWS_INLINE int32x4_t kws_power_32(const int exponent) {
  int32x4_t v = vdupq_n_s32(1 << exponent);
  KWS_HIDE_VECTOR(v);
  return v;
}

/* Between two blocks: compilers would begin so many of them at once that weights spill. The sums of the first are made
 * before weights are loaded from the address that is returned. */
KWS_INLINE const int8_t* kws_settle(int32x4_t* sums, const int count, const int8_t* w) {
#define SETTLE(i) \
  if (i < count) __asm__ volatile("" : "+w"(sums[i]));
  KWS_REPEAT_14(SETTLE)
#undef SETTLE
  __asm__ volatile("" : "+r"(w));
  return w;
}
KWS_INLINE const int8_t* kws_settle_16(int16x8_t* sums, const int count, const int8_t* w) {
#define SETTLE(i) \
  if (i < count) __asm__ volatile("" : "+w"(sums[i]));
  KWS_REPEAT_14(SETTLE)
#undef SETTLE
  __asm__ volatile("" : "+r"(w));
  return w;
}

/* The slots of a byte, separated, and the parts of a row, added up. */
KWS_INLINE void kws_separate(const int bits, int32x4_t* parts, int32x4_t* rows) {
#define SEPARATE(i)                                                                                   \
  if (i < kws_slot_counts[bits]) {                                                                    \
    const kws_slot s = kws_slots[bits][i];                                                            \
    if (kws_slot_below(bits, i)) parts[i] = vmlsq_s32(parts[i], parts[i + 1], kws_power_32(s.width)); \
    rows[s.row] = s.low ? vmlaq_s32(rows[s.row], parts[i], kws_power_32(s.low)) : parts[i];           \
  }
  KWS_REPEAT_14(SEPARATE)
#undef SEPARATE
}

/* Constants of requantization in few vectors, so that they stay in registers. */
typedef struct {
  int32x4_t scalars; /* a, the multiplier, what biases are multiplied by, the zero point */
  int32x4_t shift;
  int64x2_t add;
  int8x8_t low, high;
  const int8_t *gain, *bias;
  const uint8_t* sums;
} kws_finisher;

KWS_INLINE kws_finisher kws_make_finisher(const kws_scale* s) {
  const int32_t scalars[4] = {s->factor, s->multiplier, (int32_t)(1u << ((s->bias_shift - 16) & 31)), s->zero};
  kws_finisher f;
  f.scalars = vld1q_s32(scalars);
  KWS_HIDE_VECTOR(f.scalars);
  f.shift = vdupq_n_s32(32 - s->shift);
  f.add = vdupq_n_s64(s->add);
  f.low = vdup_n_s8((int8_t)s->low);
  f.high = vdup_n_s8((int8_t)s->high);
  f.gain = s->gain;
  f.bias = s->bias;
  /* Gains and biases are as long as sums; where the zero point is 0, whatever is read there counts nothing. */
  f.sums = s->sums ? s->sums : (const uint8_t*)s->gain;
  return f;
}

/* What a channel's outputs have in common, for eight channels. */
typedef struct {
  int32x4_t scale[2], bias[2];
  int16x8_t sums;
} kws_channels;

KWS_INLINE kws_channels kws_load_channels(const kws_finisher* f, uint32_t first) {
  kws_channels c;
  const int16x8_t gain = vmovl_s8(vld1_s8(f->gain + first));
  const int16x8_t bias = vshll_n_s8(vld1_s8(f->bias + first), 8);
  const int32x2_t scalars = vget_low_s32(f->scalars);
  c.scale[0] = vmulq_lane_s32(vmovl_s16(vget_low_s16(gain)), scalars, 1);
  c.scale[1] = vmulq_lane_s32(vmovl_s16(vget_high_s16(gain)), scalars, 1);
  c.bias[0] = vshll_n_s16(vget_low_s16(bias), 8);
  c.bias[1] = vshll_n_s16(vget_high_s16(bias), 8);
  c.sums = vreinterpretq_s16_u8(vld1q_u8(f->sums + 2 * (size_t)first));
  return c;
}

/* Four outputs before they are clipped: total = acc * scale + bias * bias_factor + add in 64 bits, of which the high
 * halves are shifted. */
KWS_INLINE int16x4_t kws_scaled(const kws_finisher* f, int32x4_t acc, int32x4_t scale, int32x4_t bias) {
  int64x2_t low = vmull_s32(vget_low_s32(acc), vget_low_s32(scale));
  int64x2_t high = vmull_s32(vget_high_s32(acc), vget_high_s32(scale));
  low = vmlal_lane_s32(low, vget_low_s32(bias), vget_high_s32(f->scalars), 0);
  high = vmlal_lane_s32(high, vget_high_s32(bias), vget_high_s32(f->scalars), 0);
  KWS_HIDE_VECTOR(low);
  KWS_HIDE_VECTOR(high);
  return vqmovn_s32(vshlq_s32(kws_add_high(low, high, f->add), f->shift));
}

/* Eight outputs. */
KWS_INLINE void kws_finish(const kws_finisher* f, const kws_channels* c, int32x4_t dots0, int32x4_t dots1,
                           const uint32_t* constants, int8_t* y) {
  int32x4_t acc0 = vmlaq_lane_s32(vreinterpretq_s32_u32(vld1q_u32(constants)), dots0, vget_low_s32(f->scalars), 0);
  int32x4_t acc1 = vmlaq_lane_s32(vreinterpretq_s32_u32(vld1q_u32(constants + 4)), dots1, vget_low_s32(f->scalars), 0);
  /* The low half of the zero point, which is the first one. */
  const int16x4_t zero = vreinterpret_s16_s32(vget_high_s32(f->scalars));
  acc0 = vmlsl_lane_s16(acc0, vget_low_s16(c->sums), zero, 2);
  acc1 = vmlsl_lane_s16(acc1, vget_high_s16(c->sums), zero, 2);
  const int16x4_t y0 = kws_scaled(f, acc0, c->scale[0], c->bias[0]);
  const int16x4_t y1 = kws_scaled(f, acc1, c->scale[1], c->bias[1]);
  vst1_s8(y, vmin_s8(vmax_s8(vqmovn_s16(vcombine_s16(y0, y1)), f->low), f->high));
}

/* A tile of one place, whose sums still lie in lanes: eight outputs, or the sums where dots is not NULL. */
KWS_INLINE void kws_finish_tile(const kws_finisher* f, const int32x4_t* rows, const uint32_t* constants, uint32_t first,
                                int8_t* y, int32_t* dots) {
  const int32x4_t dots0 = kws_sum_lanes(rows[0], rows[1], rows[2], rows[3]);
  const int32x4_t dots1 = kws_sum_lanes(rows[4], rows[5], rows[6], rows[7]);
  if (dots) {
    vst1q_s32(dots, dots0);
    vst1q_s32(dots + 4, dots1);
  } else {
    const kws_channels channels = kws_load_channels(f, first);
    kws_finish(f, &channels, dots0, dots1, constants, y + first);
  }
}

#endif
