/* What the kernels with dot products share: sums of many rows are kept in memory and finished sixteen channels at a
 * time, with wide loads and one multiplication of which only the high half counts. The includer supplies
 *
 * KWS_DENSE_PLACES   places that are summed at once: 2, or 4 in pairs
 * KWS_DENSE_PAIRS    is defined where weights lie in pairs of rows
 * KWS_DENSE_DOTS_ALONE  is defined where sums are all that is wanted
 */
#ifndef TFMOT_KWS_DENSE_GROUPS_H_
#define TFMOT_KWS_DENSE_GROUPS_H_

#include "isa/dense_dot.h"

/* Channels of a group; sums in memory; bits behind the point before the last rounding. */
enum { KWS_GROUP = 16, KWS_DOTS = 512, KWS_FRACTION = 8 };

#if !defined(KWS_DENSE_DOTS_ALONE)
/* Constants of
 *
 *     v = (2 * (acc << up) * (gain * multiplier) >> 32) + (bias + offset) * bias_factor
 *     y = clip(round(v / 2^KWS_FRACTION))
 *
 * Exact: bias and zero point (the offset) are whole in v, so what the first shift drops changes no rounding. */
typedef struct {
  const int8_t *gain, *bias;
  const uint8_t* sums; /* int16, at any address; NULL where the zero point is 0 */
  int32_t scalars[2];  /* a << up; the multiplier, less than 2^23 */
  int16_t shorts[4];   /* bias factor, the input's zero point << up */
  int16_t offset, up;
  int8_t low, high;
} kws_group_scale;

/* False where a constant does not fit or is not whole, or an accumulator could pass 32 bits. */
static bool kws_make_group_scale(kws_group_scale* s, const kws_op* op) {
  const kws_options* o = &op->options;
  const uint32_t m = o->multiplier[0];
  const int raise = 31 + KWS_FRACTION - o->shift, bias_shift = o->bias_shift + raise - 31;
  if (kws_other_outputs(op) || o->gain_bytes != 1 || o->bias_bytes != 1 || o->sum_bytes == 4) return false;
  if (m >> 23 || raise < 0) return false;
  if (bias_shift < 1 || bias_shift > 14) return false; /* so that bias and offset fit 16 bits */
  const int zero_point = o->output_zero_point * (1 << KWS_FRACTION), offset = zero_point / (1 << bias_shift);
  if (offset * (1 << bias_shift) != zero_point) return false;
  /* The multiplier is raised as far as it fits, accumulators by the rest. */
  const int room = __builtin_clz(m | 1) - 9, by = raise < room ? raise : room, up = raise - by;
  /* |acc| <= inputs * 2^bits * 128, and what the zero point adds. */
  const uint64_t bound = ((uint64_t)o->inputs << (o->bits + 7)) + (o->sum_bytes ? 1u << 22 : 0);
  if (up > (o->sum_bytes ? 8 : 24) || bound << up >> 31) return false;
  s->gain = (const int8_t*)op->channel_parameters;
  s->bias = s->gain + o->outputs;
  s->sums = o->sum_bytes ? op->channel_parameters + 2 * (size_t)o->outputs : NULL;
  s->scalars[0] = (int32_t)(kws_level_factor(o) << up);
  s->scalars[1] = (int32_t)(m << by);
  s->shorts[0] = (int16_t)(1 << bias_shift);
  s->shorts[1] = (int16_t)(o->sum_bytes ? o->input_zero_point[0] * (1 << up) : 0);
  s->shorts[2] = s->shorts[3] = 0;
  s->offset = (int16_t)offset;
  s->up = (int16_t)up;
  s->low = (int8_t)o->activation_min;
  s->high = (int8_t)o->activation_max;
  return true;
}

/* The constants in few vectors, so that they stay in registers. */
typedef struct {
  int32x4_t scalars; /* factor, multiplier, and as 16 bits bias factor and zero */
  int16x8_t offset;
  int8x16_t low, high;
} kws_group_finisher;

KWS_INLINE kws_group_finisher kws_make_group_finisher(const kws_group_scale* s) {
  kws_group_finisher f;
  f.scalars = vcombine_s32(vld1_s32(s->scalars), vreinterpret_s32_s16(vld1_s16(s->shorts)));
  KWS_HIDE_VECTOR(f.scalars);
  f.offset = vdupq_n_s16(s->offset);
  f.low = vdupq_n_s8(s->low);
  f.high = vdupq_n_s8(s->high);
  return f;
}

/* What the outputs of a channel have in common. */
typedef struct {
  int32x4_t scale[4];
  int16x8_t bias[2];
} kws_group;

KWS_INLINE kws_group kws_load_group(const kws_group_finisher* f, const int8_t* gains, const int8_t* biases) {
  const int8x16_t gain = vld1q_s8(gains), bias = vld1q_s8(biases);
  const int16x8_t gain0 = vmovl_s8(vget_low_s8(gain)), gain1 = vmovl_high_s8(gain);
  const int32x2_t scalars = vget_low_s32(f->scalars);
  kws_group g;
  g.scale[0] = vmulq_lane_s32(vmovl_s16(vget_low_s16(gain0)), scalars, 1);
  g.scale[1] = vmulq_lane_s32(vmovl_high_s16(gain0), scalars, 1);
  g.scale[2] = vmulq_lane_s32(vmovl_s16(vget_low_s16(gain1)), scalars, 1);
  g.scale[3] = vmulq_lane_s32(vmovl_high_s16(gain1), scalars, 1);
  g.bias[0] = vaddw_s8(f->offset, vget_low_s8(bias));
  g.bias[1] = vaddw_high_s8(f->offset, bias);
  return g;
}

/* Sixteen outputs of one place. */
KWS_INLINE void kws_finish_group(const kws_group_finisher* f, const kws_group* g, const uint8_t* sums,
                                 const int32x4_t* dots, const uint32_t* constants, int8_t* y) {
  const int16x4_t shorts = vreinterpret_s16_s32(vget_high_s32(f->scalars));
  const int32x2_t scalars = vget_low_s32(f->scalars);
  int32x4_t v[4];
#define EACH(i) v[i] = vmlaq_lane_s32(vreinterpretq_s32_u32(vld1q_u32(constants + 4 * i)), dots[i], scalars, 0);
  KWS_REPEAT_4(EACH)
#undef EACH
  if (sums) {
    const int16x8_t s0 = vreinterpretq_s16_u8(vld1q_u8(sums)), s1 = vreinterpretq_s16_u8(vld1q_u8(sums + 16));
    v[0] = vmlsl_lane_s16(v[0], vget_low_s16(s0), shorts, 1);
    v[1] = vmlsl_high_lane_s16(v[1], s0, shorts, 1);
    v[2] = vmlsl_lane_s16(v[2], vget_low_s16(s1), shorts, 1);
    v[3] = vmlsl_high_lane_s16(v[3], s1, shorts, 1);
  }
#define EACH(i) v[i] = vqdmulhq_s32(v[i], g->scale[i]);
  KWS_REPEAT_4(EACH)
#undef EACH
  /* In assembly, because clang would multiply outside of loops and add here. */
#define EACH(i, instruction, half) \
  __asm__(instruction " %0.4s, %1." half ", %2.h[4]" : "+w"(v[i]) : "w"(g->bias[i / 2]), "x"(f->scalars));
  EACH(0, "smlal", "4h")
  EACH(1, "smlal2", "8h")
  EACH(2, "smlal", "4h")
  EACH(3, "smlal2", "8h")
#undef EACH
  const int16x8_t y0 = vqrshrn_high_n_s32(vqrshrn_n_s32(v[0], KWS_FRACTION), v[1], KWS_FRACTION);
  const int16x8_t y1 = vqrshrn_high_n_s32(vqrshrn_n_s32(v[2], KWS_FRACTION), v[3], KWS_FRACTION);
  vst1q_s8(y, vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(y0), y1), f->low), f->high));
}

/* What a loop over groups walks along. */
typedef struct {
  const int8_t *gain, *bias;
  const uint8_t* sums;
  const int32_t* dots;
} kws_group_inputs;

/* Whole groups of outputs: of all places. Sums lie as sum_rows() leaves them, a group of all places together. */
KWS_INLINE void kws_finish_groups_of(const int places, const kws_group_scale* s, const kws_group_inputs* from,
                                     const uint32_t* constants, uint32_t rows, uint32_t outputs, int8_t* y) {
  const kws_group_finisher f = kws_make_group_finisher(s);
  const int8_t *gain = from->gain, *bias = from->bias;
  const uint8_t* sums = from->sums;
  const size_t sums_step = sums ? 2 * KWS_GROUP : 0;
  const int32_t* dots = from->dots;
  for (const int8_t* const end = y + rows; y != end; y += KWS_GROUP, gain += KWS_GROUP, bias += KWS_GROUP) {
    const kws_group g = kws_load_group(&f, gain, bias);
    KWS_HIDE_POINTER(constants); /* or compilers would keep them in registers, and copy them */
    int32x4_t first[4];
    if (places == 1) {
#define LOAD(i) first[i] = vld1q_s32(dots + 4 * i);
      KWS_REPEAT_4(LOAD)
#undef LOAD
      kws_finish_group(&f, &g, sums, first, constants, y);
      dots += KWS_GROUP;
    } else {
      const uint32_t* c = constants;
      int8_t* to = y;
#if defined(KWS_DENSE_PAIRS)
      /* Two rows of one place, of the next place, two more rows of the first one ... */
      for (int left = places; left; left -= 2) {
        int32x4_t second[4];
#define LOAD(i)                                                            \
  {                                                                        \
    const int64x2x2_t both = vld2q_s64((const int64_t*)(const void*)dots); \
    first[i] = vreinterpretq_s32_s64(both.val[0]);                         \
    second[i] = vreinterpretq_s32_s64(both.val[1]);                        \
    dots += 8;                                                             \
    KWS_HIDE_POINTER(dots);                                                \
  }
        KWS_REPEAT_4(LOAD)
#undef LOAD
        kws_finish_group(&f, &g, sums, first, c, to);
        kws_finish_group(&f, &g, sums, second, c + KWS_GROUP, to + outputs);
        c += 2 * KWS_GROUP;
        to += 2 * (size_t)outputs;
      }
#else
      /* A group of one place, then of the next. */
      for (int left = places; left; --left) {
#define LOAD(i) first[i] = vld1q_s32(dots + 4 * i);
        KWS_REPEAT_4(LOAD)
#undef LOAD
        kws_finish_group(&f, &g, sums, first, c, to);
        dots += KWS_GROUP;
        c += KWS_GROUP;
        to += outputs;
      }
#endif
    }
    sums += sums_step;
  }
}

static KWS_NOINLINE void kws_finish_groups(const kws_group_scale* s, const kws_group_inputs* from, int places,
                                           const uint32_t* constants, uint32_t rows, uint32_t outputs, int8_t* y) {
  if (places == 1)
    kws_finish_groups_of(1, s, from, constants, rows, outputs, y);
  else
    kws_finish_groups_of(KWS_DENSE_PLACES, s, from, constants, rows, outputs, y);
}

/* Fewer outputs than a group has. What it lacks is made up, and dropped. */
static KWS_NOINLINE void kws_finish_rest(const kws_group_scale* s, kws_group_inputs from, int places,
                                         const uint32_t* constants, uint32_t rows, uint32_t outputs, int8_t* y) {
  uint8_t channels[4 * KWS_GROUP] = {0};
  int8_t last[KWS_DENSE_PLACES * KWS_GROUP];
  memcpy(channels, from.gain, rows);
  memcpy(channels + KWS_GROUP, from.bias, rows);
  if (from.sums) memcpy(channels + 2 * KWS_GROUP, from.sums, 2 * rows);
  from.gain = (const int8_t*)channels;
  from.bias = from.gain + KWS_GROUP;
  if (from.sums) from.sums = channels + 2 * KWS_GROUP;
  kws_finish_groups(s, &from, places, constants, KWS_GROUP, KWS_GROUP, last);
  for (int place = 0; place < places; ++place) memcpy(y + (size_t)place * outputs, last + KWS_GROUP * place, rows);
}

/* sum(x) of a row. */
static uint32_t kws_sum_inputs(const int8_t* x, size_t n) {
  const int8x16_t ones = vdupq_n_s8(1);
  int32x4_t sums = vdupq_n_s32(0);
  const int8_t* const end = x + n;
  for (; end - x >= 4 * KWS_VECTOR;) {
    int8x16_t v[4];
    x = kws_load(x, 4, v);
#define ADD(i) sums = vdotq_s32(sums, v[i], ones);
    KWS_REPEAT_4(ADD)
#undef ADD
  }
  for (; x != end; x += KWS_VECTOR) sums = vdotq_s32(sums, vld1q_s8(x), ones);
  return (uint32_t)vaddvq_s32(sums);
}

/* What the accumulators of a group start from at one place: see dense_body.inc. */
static void kws_group_constants(const kws_options* o, int up, uint32_t sum, uint32_t* constants) {
  /* The bit of each row's tile row. */
#if defined(KWS_DENSE_PAIRS)
  static const uint32_t rows[KWS_GROUP] = {1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128};
#else
  static const uint32_t rows[KWS_GROUP] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
#endif
  const uint32_t plain = 0u - kws_level_offset(o) * sum;
  const uint32_t flipped = plain + kws_level_factor(o) * (sum << (o->bits - 1));
  const uint32x4_t from[2] = {vdupq_n_u32(plain << up), vdupq_n_u32(flipped << up)};
  const uint32x4_t is_signed = vdupq_n_u32(kws_signed_rows(o->bits));
#define STORE(i) \
  vst1q_u32(constants + 4 * i, vbslq_u32(vtstq_u32(vld1q_u32(rows + 4 * i), is_signed), from[1], from[0]));
  KWS_REPEAT_4(STORE)
#undef STORE
}

#endif

/* The sums of rows, rounded up to whole tiles, at some places, whose inputs lie `stride` bytes apart: of one place in
 * order, of several as kws_finish_groups() takes them. Of one place, without pairs, `stride` bytes lie between tiles of
 * weights instead. Returns the weights that follow. */
typedef const uint8_t* kws_sum_rows(const int8_t* w, const int8_t* x, ptrdiff_t stride, size_t n, uint32_t rows,
                                    int places, int32_t* dots);

#if !defined(KWS_DENSE_DOTS_ALONE)
/* All outputs of 1 or KWS_DENSE_PLACES places. */
static KWS_NOINLINE void kws_outputs_in_groups(const kws_op* op, const kws_group_scale* s, kws_sum_rows* sum_rows,
                                               const int8_t* x, ptrdiff_t stride, int places, int8_t* y) {
  const kws_options* o = &op->options;
  const size_t padded = kws_padded_inputs(op), n = kws_blocks_across(o) * kws_block_inputs(o->layout);
  const uint32_t most = KWS_DOTS / (uint32_t)places;
  int32_t dots[KWS_DOTS];
  uint32_t constants[KWS_DENSE_PLACES * KWS_GROUP];
  for (int i = 0; i < places; ++i)
    kws_group_constants(o, s->up, kws_sum_inputs(x + i * stride, padded), constants + KWS_GROUP * i);
  const uint8_t* w = op->weights;
  kws_group_inputs from = {s->gain, s->bias, s->sums, dots};
  for (uint32_t left = o->outputs; left;) {
    const uint32_t rows = left < most ? left : most, rest = rows % KWS_GROUP, whole = rows - rest;
    w = sum_rows((const int8_t*)w, x, stride, n, rows, places, dots);
    if (whole) kws_finish_groups(s, &from, places, constants, whole, o->outputs, y);
    from.gain += whole;
    from.bias += whole;
    if (from.sums) from.sums += 2 * (size_t)whole;
    y += whole;
    left -= rows;
    if (rest) {
      from.dots += (size_t)places * whole;
      kws_finish_rest(s, from, places, constants, rest, o->outputs, y);
    }
  }
}

#endif

/* Primitives of dense_body.inc, instead of those of dense_vector.h. */
#undef KWS_DENSE_BLOCKS
#undef KWS_DENSE_DOTS
#define KWS_DENSE_SCALE kws_group_scale
#define KWS_DENSE_MAKE_SCALE kws_make_group_scale
#define KWS_DENSE_SUM kws_sum_inputs
#define KWS_DENSE_OUTPUTS(scale, op, x, stride, places, y) \
  kws_outputs_in_groups(op, scale, kws_sum_widths[op->options.bits], x, stride, places, y)
#define KWS_DENSE_DOTS(bits, places, w, x, stride, n, dots) \
  kws_sum_widths[bits]((const int8_t*)(w), x, stride, n, KWS_DENSE_ROWS, places, dots)

/* Defines kws_sum_widths, for which RUN(bits, w, x, stride, n, rows, places, dots) is compiled for each width. */
#define KWS_SUM_WIDTH(bits, RUN)                                                                                    \
  static const uint8_t* kws_sum_##bits(const int8_t* w, const int8_t* x, ptrdiff_t stride, size_t n, uint32_t rows, \
                                       int places, int32_t* dots) {                                                 \
    return RUN(bits, w, x, stride, n, rows, places, dots);                                                          \
  }
#define KWS_SUM_WIDTHS(RUN)          \
  KWS_FOR_WIDTHS(KWS_SUM_WIDTH, RUN) \
  static kws_sum_rows* const kws_sum_widths[9] = KWS_BY_WIDTH(kws_sum_);

#endif
