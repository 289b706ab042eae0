/* The C twin of tflite_export/arithmetic.py: the same integers, bit for bit.
 *
 * Sums and products are made with unsigned types, which wrap: a model that passed the exporter's range checks never
 * wraps, and one that lies gets a wrong number, never undefined behaviour. */
#ifndef TFMOT_KWS_REQUANTIZE_H_
#define TFMOT_KWS_REQUANTIZE_H_

#include "packed_kernels.h"

/* floor(value / 2^shift): what >> does on every machine we know, and C99 does not promise for negative values. */
static inline int64_t kws_shift_right(int64_t value, int shift) {
  return value >= 0 ? value >> shift : ~(~value >> shift);
}

/* floor(total / 2^shift + 1/2), 1 <= shift <= 62. */
static inline int64_t kws_rounding_shift(uint64_t total, int shift) {
  return kws_shift_right((int64_t)(total + ((uint64_t)1 << (shift - 1))), shift);
}

/* zero_point + value, clipped to low..high. */
static inline int8_t kws_saturate(int64_t value, int zero_point, int low, int high) {
  /* Clipping first keeps the sum small, whatever the value. */
  if (value < low - zero_point) return (int8_t)low;
  if (value > high - zero_point) return (int8_t)high;
  return (int8_t)(value + zero_point);
}

/* Element `index` of an array of one- or two-byte little-endian integers. */
static inline int32_t kws_read_signed(const uint8_t* bytes, size_t index, int width) {
  if (width == 1) return (int8_t)bytes[index];
  return (int16_t)(uint16_t)(bytes[2 * index] | (unsigned)bytes[2 * index + 1] << 8);
}

/* int8 output of channel c from its 32-bit accumulator. */
static inline int8_t kws_requantize(const kws_op* op, uint32_t acc, uint32_t c) {
  const kws_options* o = &op->options;
  const uint8_t* biases = op->channel_parameters + (size_t)o->outputs * (size_t)o->gain_bytes;
  const int64_t gain = kws_read_signed(op->channel_parameters, c, o->gain_bytes);
  const int64_t bias = kws_read_signed(biases, c, o->bias_bytes);
  const uint64_t scale = (uint64_t)(gain * (int64_t)o->multiplier[0]);
  const uint64_t total = (uint64_t)(int64_t)(int32_t)acc * scale + ((uint64_t)bias << o->bias_shift);
  return kws_saturate(kws_rounding_shift(total, o->shift), o->output_zero_point, o->activation_min, o->activation_max);
}

#endif
