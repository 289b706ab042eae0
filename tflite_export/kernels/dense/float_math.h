/* The C twin of tflite_export/reference/float_arithmetic.py: float32, each operation rounded by itself.
 *
 * No multiplication may be fused with an addition, which compilers do where a processor can: the pragmas below keep
 * them from it. Then all processors that keep to IEEE 754 give the same bits. -ffast-math would undo that. */
#ifndef TFMOT_KWS_FLOAT_MATH_H_
#define TFMOT_KWS_FLOAT_MATH_H_

#include <math.h>
#include <string.h>

#include "../include/packed_kernels.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#if defined(__FAST_MATH__)
#error "-ffast-math changes results: build the kernels without it"
#endif

/* |y|; NaN gives 0. */
static inline float kws_magnitude(float y) { return y > 0 ? y : y < 0 ? -y : 0.0f; }

/* exp(-a), a >= 0: 2^-n exp(r) with n = round(a / ln 2), and exp(r) by its Taylor polynomial. From 87 on exp(-87). */
static inline float kws_exp_of_minus(float a) {
  static const float taylor[7] = {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
  if (!(a < 87.0f)) a = 87.0f;
  const int32_t whole = (int32_t)(a * 1.44269504f + 0.5f);
  const float n = (float)whole;
  /* ln 2 in two parts: the first has so few bits that n times it is exact. */
  float r = n * 0.693359375f - a;
  r = r + n * -2.12194440e-4f;
  float p = taylor[0];
  for (int i = 1; i < 7; ++i) p = p * r + taylor[i];
  const uint32_t bits = (uint32_t)(127 - whole) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

/* The function of a kws_function. */
static inline float kws_activate(float y, int function) {
  if (function == KWS_LINEAR) return y;
  if (KWS_FUNCTIONS & (1 << KWS_RELU | 1 << KWS_RELU6) && (function == KWS_RELU || function == KWS_RELU6)) {
    y = y > 0 ? y : 0.0f;
    return function == KWS_RELU || y < 6 ? y : 6.0f;
  }
  if (!(KWS_FUNCTIONS & (1 << KWS_SIGMOID | 1 << KWS_TANH))) return y;
  const float a = kws_magnitude(y);
  if (function == KWS_SIGMOID) {
    const float e = kws_exp_of_minus(a);
    return (y > 0 ? 1.0f : e) / (1.0f + e);
  }
  const float e = kws_exp_of_minus(a + a);
  const float value = (1.0f - e) / (1.0f + e);
  return y > 0 ? value : -value;
}

#endif
