/* Portable dense kernel. The loops are simple enough for a compiler to vectorize. */
#include "packed_kernels.h"
#include "requantize.h"
#include "window.h"

static int32_t sum_inputs(const int8_t* x, int n, int zero) {
  int32_t sum = 0;
  for (int j = 0; j < n; ++j) sum += x[j];
  return sum - n * zero;
}

/* One field of every byte. Products fit int16 x int16 -> int32, which compilers know how to add up. */
static int32_t dot_field(const uint8_t* w, const int8_t* x, int n, int16_t zero, int shift, uint8_t mask) {
  int32_t dot = 0;
  for (int j = 0; j < n; ++j) dot += (int16_t)((w[j] >> shift) & mask) * (int16_t)(x[j] - zero);
  return dot;
}

static void dot_block(const uint8_t* w, size_t pitch, int plane, int rows, const int8_t* x, int n, int zero,
                      int32_t* dot) {
  const int group_rows = 8 / plane;
  const uint8_t mask = (uint8_t)((1u << plane) - 1);
  for (int r = 0; r < rows; ++r)
    dot[r] = dot_field(w + (size_t)(r / group_rows) * pitch, x, n, (int16_t)zero, r % group_rows * plane, mask);
}

#define KWS_DENSE_NAME kws_packed_dense_ref
#define KWS_DENSE_SUM sum_inputs
#define KWS_DENSE_DOT dot_block
#include "dense_body.inc"
