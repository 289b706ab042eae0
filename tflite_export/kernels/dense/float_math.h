/* The C twin of tflite_export/reference/float_arithmetic.py: float32, each operation rounded by itself.
 *
 * No multiplication may be fused with an addition, which compilers do where a processor can: the pragmas below keep
 * them from it. Then all processors that keep to IEEE 754 give the same bits. -ffast-math would undo that.
 *
 * Each operation has a variable of its own where another one follows, because C rounds to float there: some machines
 * compute in a wider format (FLT_EVAL_METHOD), whose extra bits change no single operation that is then rounded. */
#ifndef TFMOT_KWS_FLOAT_MATH_H_
#define TFMOT_KWS_FLOAT_MATH_H_

#include <float.h>
#include <math.h>
#include <string.h>

#include "../include/packed_kernels.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#if KWS_DYNAMIC
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || \
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error "-ffast-math, or a part of it, changes results: build the kernels without it, or with -DKWS_DYNAMIC=0"
#endif
/* 16 and 32 widen what is narrower than a float. Of compilers that widen floats, GCC alone rounds variables, and only
 * where it is told to keep to the standard. */
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 && FLT_EVAL_METHOD != 32
#if defined(__clang__) || !defined(__GNUC__) || !defined(__STRICT_ANSI__) || FLT_EVAL_METHOD < 0
#error "floats are computed too widely: build with -msse2 -mfpmath=sse, GCC's -std=c99 or -DKWS_DYNAMIC=0"
#endif
#endif
#endif

/* Clang makes vectors of floats alone for Helium as well, which takes subnormal numbers for 0: see docs/kernels.md. It
 * makes none of what passes through here. */
#if defined(__clang__) && defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#define KWS_FLOAT_ALONE(value) __asm__ volatile("" : "+t"(value))
#else
#define KWS_FLOAT_ALONE(value) (void)0
#endif

/* |y|; NaN gives 0. */
static inline float kws_magnitude(float y) { return y > 0 ? y : y < 0 ? -y : 0.0f; }

/* exp(-a), a >= 0: 2^-n exp(r) with n = round(a / ln 2), and exp(r) by its Taylor polynomial. From 87 on exp(-87). */
static inline float kws_exp_of_minus(float a) {
  static const float taylor[7] = {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
  KWS_FLOAT_ALONE(a);
  if (!(a < 87.0f)) a = 87.0f;
  const float turns = a * 1.44269504f, next = turns + 0.5f;
  const int32_t whole = (int32_t)next;
  const float n = (float)whole;
  /* ln 2 in two parts: the first has so few bits that n times it is exact. */
  const float exact = n * 0.693359375f, rest = n * -2.12194440e-4f;
  float r = exact - a;
  r = r + rest;
  float p = taylor[0];
  for (int i = 1; i < 7; ++i) {
    const float product = p * r;
    p = product + taylor[i];
  }
  const uint32_t bits = (uint32_t)(127 - whole) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  p = p * power;
  KWS_FLOAT_ALONE(p);
  return p;
}

static inline float kws_activate_alone(float y, int function) {
  if (function == KWS_LINEAR) return y;
  if (KWS_FUNCTIONS & (1 << KWS_RELU | 1 << KWS_RELU6) && (function == KWS_RELU || function == KWS_RELU6)) {
    y = y > 0 ? y : 0.0f;
    return function == KWS_RELU || y < 6 ? y : 6.0f;
  }
  if (!(KWS_FUNCTIONS & (1 << KWS_SIGMOID | 1 << KWS_TANH))) return y;
  const float a = kws_magnitude(y);
  if (function == KWS_SIGMOID) {
    const float e = kws_exp_of_minus(a), above = y > 0 ? 1.0f : e, below = 1.0f + e;
    return above / below;
  }
  const float e = kws_exp_of_minus(a + a), above = 1.0f - e, below = 1.0f + e;
  const float value = above / below;
  return y > 0 ? value : -value;
}

/* The function of a kws_function. */
static inline float kws_activate(float y, int function) {
  KWS_FLOAT_ALONE(y);
  y = kws_activate_alone(y, function);
  KWS_FLOAT_ALONE(y);
  return y;
}

#endif
