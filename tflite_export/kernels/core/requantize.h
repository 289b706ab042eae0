/* The C twin of tflite_export/reference/arithmetic.py: the same integers, bit for bit.
 *
 * Sums and products are made with unsigned types, which wrap: a model that passed the exporter's range checks never
 * wraps, and one that lies gets a wrong number, never undefined behaviour. */
#ifndef TFMOT_KWS_REQUANTIZE_H_
#define TFMOT_KWS_REQUANTIZE_H_

#include "../include/packed_kernels.h"

/* floor(value / 2^shift): what >> does on every machine we know, and C99 does not promise for negative values. */
static inline int64_t kws_shift_right(int64_t value, int shift) {
  return value >= 0 ? value >> shift : ~(~value >> shift);
}

/* floor(total / 2^shift + 1/2), 1 <= shift <= 62. */
static inline int64_t kws_rounding_shift(uint64_t total, int shift) {
  return kws_shift_right((int64_t)(total + ((uint64_t)1 << (shift - 1))), shift);
}

/* floor(value / divisor) of a quotient below 2^bits, bit by bit: on small cores a division of 64 bits is a call of more
 * code than many ops have. divisor * 2^bits fits 64 bits. */
static inline uint32_t kws_short_quotient(uint64_t value, uint64_t divisor, int bits) {
  uint32_t quotient = 0;
  for (int bit = bits - 1; bit >= 0; --bit) {
    if (value < divisor << bit) continue;
    value -= divisor << bit;
    quotient |= 1u << bit;
  }
  return quotient;
}

/* zero_point + value, clipped to low..high. */
static inline int8_t kws_saturate(int64_t value, int zero_point, int low, int high) {
  /* Clipping first keeps the sum small, whatever the value. */
  if (value < low - zero_point) return (int8_t)low;
  if (value > high - zero_point) return (int8_t)high;
  return (int8_t)(value + zero_point);
}

/* a and b of level = a * code - b. */
static inline uint32_t kws_level_factor(const kws_options* o) { return o->grid == KWS_MID_RISE ? 2 : 1; }
static inline uint32_t kws_level_offset(const kws_options* o) {
  return o->grid == KWS_MID_RISE ? (1u << o->bits) - 1 : 1u << (o->bits - 1);
}

/* Element `index` of an array of one-, two- or four-byte little-endian integers. */
static inline int32_t kws_read_signed(const uint8_t* bytes, size_t index, int width) {
  if (width == 1) return (int8_t)bytes[index];
  if (width == 4) {
    const uint8_t* b = bytes + 4 * index;
    return (int32_t)(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
  }
  return (int16_t)(uint16_t)(bytes[2 * index] | (unsigned)bytes[2 * index + 1] << 8);
}

/* Output of channel c from its 32-bit accumulator, before the zero point and the clipping. */
static inline int64_t kws_rounded_output(const kws_op* op, uint32_t acc, uint32_t c) {
  const kws_options* o = &op->options;
  const uint8_t* biases = op->channel_parameters + (size_t)o->outputs * (size_t)o->gain_bytes;
  const int64_t gain = kws_read_signed(op->channel_parameters, c, o->gain_bytes);
  const int64_t bias = kws_read_signed(biases, c, o->bias_bytes);
  const uint64_t scale = (uint64_t)(gain * (int64_t)o->multiplier[0]);
  const uint64_t total = (uint64_t)(int64_t)(int32_t)acc * scale + ((uint64_t)bias << o->bias_shift);
  return kws_rounding_shift(total, o->shift);
}

/* int8 output of channel c. */
static inline int8_t kws_requantize(const kws_op* op, uint32_t acc, uint32_t c) {
  const kws_options* o = &op->options;
  return kws_saturate(kws_rounded_output(op, acc, c), o->output_zero_point, o->activation_min, o->activation_max);
}

/* Clipped to int16. */
static inline int16_t kws_narrow(int64_t value) {
  return (int16_t)(value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value);
}

/* Whether outputs are other than int8, as those of layers inside of layers are. */
static inline bool kws_other_outputs(const kws_op* op) {
  return (KWS_HAS_RECURRENT && op->wide) || (KWS_HAS_WAVEFORM && op->sums);
}

/* Stores the output of channel c: at y, or where the op's outputs are int16 or sums, at the same place of those. */
static inline void kws_store(const kws_op* op, int8_t* y, uint32_t acc, uint32_t c) {
  if (KWS_HAS_WAVEFORM && op->sums)
    op->sums[y - op->y] = (int32_t)acc;
  else if (KWS_HAS_RECURRENT && op->wide)
    op->wide[y - op->y] = kws_narrow(kws_rounded_output(op, acc, c));
  else
    *y = kws_requantize(op, acc, c);
}

/* zero point * sum(level) of channel c: what an accumulator of x instead of x - zero point has too much. */
static inline uint32_t kws_zero_point_term(const kws_op* op, uint32_t c) {
  const kws_options* o = &op->options;
  if (!o->sum_bytes) return 0;
  const uint8_t* sums = op->channel_parameters + (size_t)o->outputs * (size_t)(o->gain_bytes + o->bias_bytes);
  return (uint32_t)o->input_zero_point[0] * (uint32_t)kws_read_signed(sums, c, o->sum_bytes);
}

/* Constants of kws_requantize() for kernels that do several channels at once, with the shift made 32 or more:
 *
 *     total = acc * (gain * multiplier) + (bias << bias_shift) + add        64 bits, never overflows
 *     y     = clip((total >> 32) >> (shift - 32), low, high)                add = rounding + zero point
 */
typedef struct {
  const int8_t *gain, *bias;
  const uint8_t* sums;   /* int16, at any address; NULL where the zero point is 0 */
  int32_t factor, zero;  /* a; the input's zero point */
  int32_t multiplier;    /* gain * multiplier fits 32 bits */
  int bias_shift, shift; /* 16..46, 32..54 */
  int64_t add;
  int low, high;
} kws_scale;

/* False where the constants do not fit what kws_scale promises; kws_requantize() takes any. */
static inline bool kws_make_scale(kws_scale* s, const kws_op* op) {
  const kws_options* o = &op->options;
  const int up = o->shift < 32 ? 32 - o->shift : 0;
  if (kws_other_outputs(op) || o->gain_bytes != 1 || o->bias_bytes != 1 || o->sum_bytes == 4) return false;
  if (up > 16 || o->shift > 54) return false;
  if (o->multiplier[0] > 1u << 24 || (uint64_t)o->multiplier[0] << up > 1u << 24) return false;
  if (o->bias_shift + up < 16 || o->bias_shift + up > 46) return false;
  s->gain = (const int8_t*)op->channel_parameters;
  s->bias = s->gain + o->outputs;
  s->sums = o->sum_bytes ? op->channel_parameters + 2 * (size_t)o->outputs : NULL;
  s->factor = (int32_t)kws_level_factor(o);
  s->zero = o->input_zero_point[0];
  s->multiplier = (int32_t)(o->multiplier[0] << up);
  s->bias_shift = o->bias_shift + up;
  s->shift = o->shift + up;
  s->add = ((int64_t)1 << (s->shift - 1)) + o->output_zero_point * ((int64_t)1 << s->shift);
  s->low = o->activation_min;
  s->high = o->activation_max;
  return true;
}

/* Shifts multiplier and bias further up, as far as they fit. */
static inline void kws_raise_scale(kws_scale* s) {
  const int most = 54 - s->shift < 46 - s->bias_shift ? 54 - s->shift : 46 - s->bias_shift;
  int up = 0;
  while (up < most && s->multiplier << up <= 1 << 23) ++up;
  s->multiplier <<= up;
  s->shift += up;
  s->bias_shift += up;
  s->add *= (int64_t)1 << up;
}

/* Where bias and rounding are multiples of 2^32, the low half of the product makes no difference. */
static inline bool kws_only_high_half(const kws_scale* s) { return s->bias_shift >= 32 && s->shift > 32; }

#endif
