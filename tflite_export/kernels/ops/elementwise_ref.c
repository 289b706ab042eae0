/* Lookup, softmax, and add and multiply with broadcasting. */
#include "../core/requantize.h"
#include "../include/packed_kernels.h"

#if KWS_STATIC

#if KWS_HAS_KIND(3)
void kws_lookup_ref(const kws_op* op) {
  const int8_t* table = (const int8_t*)op->weights;
  for (size_t i = 0; i < op->output_bytes; ++i) op->y[i] = table[op->x[0][i] + 128];
}

#endif

#if KWS_HAS_KIND(4)
/* Entry of a table of little-endian uint16. */
static int64_t entry(const uint8_t* table, int index) { return table[2 * index] | table[2 * index + 1] << 8; }

void kws_softmax_ref(const kws_op* op) {
  const int8_t* x = op->x[0];
  int8_t* y = op->y;
  for (size_t row = 0; row < op->rows; ++row, x += op->channels, y += op->channels) {
    int most = x[0];
    int64_t total = 0;
    for (int32_t i = 1; i < op->channels; ++i) most = x[i] > most ? x[i] : most;
    for (int32_t i = 0; i < op->channels; ++i) total += entry(op->weights, most - x[i]);
    if (!total) total = 1; /* a table of zeros: wrong, but no reason to divide by zero */
    for (int32_t i = 0; i < op->channels; ++i) {
      /* floor(256 e / total + 1/2), at most 256: e is a part of the total */
      const int64_t e = entry(op->weights, most - x[i]);
      const uint32_t share = kws_short_quotient((uint64_t)(512 * e + total), (uint64_t)(2 * total), 9);
      y[i] = kws_saturate(share, -128, -128, 127);
    }
  }
}

#endif

#if KWS_HAS_KIND(5)
static int8_t add(const kws_options* o, int a, int b) {
  const uint64_t total = (uint64_t)(a * (int64_t)o->multiplier[0]) + (uint64_t)(b * (int64_t)o->multiplier[1]);
  return kws_saturate(kws_rounding_shift(total, o->shift), o->output_zero_point, o->activation_min, o->activation_max);
}

#endif

#if KWS_HAS_KIND(6)
static int8_t multiply(const kws_options* o, int a, int b) {
  const uint64_t total = (uint64_t)((int64_t)(a * b) * (int64_t)o->multiplier[0]);
  return kws_saturate(kws_rounding_shift(total, o->shift), o->output_zero_point, o->activation_min, o->activation_max);
}

#endif

#if KWS_HAS_KIND(5) || KWS_HAS_KIND(6)
/* y[...] = f(x0[...], x1[...]): counts through all axes but the last like an odometer. */
static void for_each_pair(const kws_op* op, int8_t (*f)(const kws_options*, int, int)) {
  const kws_options* o = &op->options;
  const int last = op->rank - 1;
  const size_t length = (size_t)op->dims[last];
  int32_t index[KWS_MAX_RANK] = {0};
  size_t at[2] = {0, 0};
  for (size_t done = 0; done < op->output_bytes; done += length) {
    for (size_t i = 0; i < length; ++i) {
      const int a = op->x[0][at[0] + i * op->stride[0][last]] - o->input_zero_point[0];
      const int b = op->x[1][at[1] + i * op->stride[1][last]] - o->input_zero_point[1];
      op->y[done + i] = f(o, a, b);
    }
    for (int axis = last - 1; axis >= 0; --axis) {
      at[0] += op->stride[0][axis];
      at[1] += op->stride[1][axis];
      if (++index[axis] < op->dims[axis]) break;
      at[0] -= op->stride[0][axis] * (size_t)index[axis];
      at[1] -= op->stride[1][axis] * (size_t)index[axis];
      index[axis] = 0;
    }
  }
}

#endif

#if KWS_HAS_KIND(5)
void kws_add_ref(const kws_op* op) { for_each_pair(op, add); }
#endif

#if KWS_HAS_KIND(6)
void kws_multiply_ref(const kws_op* op) { for_each_pair(op, multiply); }
#endif

#endif
