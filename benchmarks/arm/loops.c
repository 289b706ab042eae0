/* Four outputs share each load of x; vectors where the compiler's target has them. */
#include "loops.h"

#include "kernels/core/requantize.h"

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#include <string.h>
#elif defined(__AVX2__)
#include <immintrin.h>
#endif

enum { ROWS = 4 };

/* Sums of w * x of four rows. */
static void float_dots(const float* w, const float* x, size_t n, float* dots) {
#if defined(__ARM_NEON)
  float32x4_t acc[ROWS];
  for (int r = 0; r < ROWS; ++r) acc[r] = vdupq_n_f32(0);
  for (size_t i = 0; i < n; i += 4) {
    const float32x4_t v = vld1q_f32(x + i);
    for (int r = 0; r < ROWS; ++r) acc[r] = vmlaq_f32(acc[r], vld1q_f32(w + (size_t)r * n + i), v);
  }
  for (int r = 0; r < ROWS; ++r) {
    const float32x2_t half = vadd_f32(vget_low_f32(acc[r]), vget_high_f32(acc[r]));
    dots[r] = vget_lane_f32(vpadd_f32(half, half), 0);
  }
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
  float32x4_t acc[ROWS];
  for (int r = 0; r < ROWS; ++r) acc[r] = vdupq_n_f32(0);
  for (size_t i = 0; i < n; i += 4) {
    const float32x4_t v = vldrwq_f32(x + i);
    for (int r = 0; r < ROWS; ++r) acc[r] = vfmaq_f32(acc[r], vldrwq_f32(w + (size_t)r * n + i), v);
  }
  for (int r = 0; r < ROWS; ++r)
    dots[r] =
        vgetq_lane_f32(acc[r], 0) + vgetq_lane_f32(acc[r], 1) + vgetq_lane_f32(acc[r], 2) + vgetq_lane_f32(acc[r], 3);
#elif defined(__AVX2__) && defined(__FMA__)
  __m256 acc[ROWS];
  for (int r = 0; r < ROWS; ++r) acc[r] = _mm256_setzero_ps();
  for (size_t i = 0; i < n; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    for (int r = 0; r < ROWS; ++r) acc[r] = _mm256_fmadd_ps(_mm256_loadu_ps(w + (size_t)r * n + i), v, acc[r]);
  }
  for (int r = 0; r < ROWS; ++r) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(acc[r]), _mm256_extractf128_ps(acc[r], 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    dots[r] = _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
  }
#else
  float acc[ROWS] = {0};
  for (size_t i = 0; i < n; ++i)
    for (int r = 0; r < ROWS; ++r) acc[r] += w[(size_t)r * n + i] * x[i];
  for (int r = 0; r < ROWS; ++r) dots[r] = acc[r];
#endif
}

void float_dense(const float* w, const float* bias, const float* x, size_t inputs, size_t outputs, float* y) {
  for (size_t c = 0; c < outputs; c += ROWS, w += ROWS * inputs) {
    float dots[ROWS];
    float_dots(w, x, inputs, dots);
    for (int r = 0; r < ROWS; ++r) {
      const float v = dots[r] + bias[c + (size_t)r];
      y[c + (size_t)r] = v > 0 ? v : 0;
    }
  }
}

#if defined(__ARM_FEATURE_MVE)
const char* const int8_dense_kind = "VMLADAVA";
static void int8_dots(const int8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  int32_t a = 0, b = 0, c = 0, d = 0;
  for (size_t i = 0; i < n; i += 16) {
    const int8x16_t v = vldrbq_s8(x + i);
    a = vmladavaq_s8(a, vldrbq_s8(w + i), v);
    b = vmladavaq_s8(b, vldrbq_s8(w + n + i), v);
    c = vmladavaq_s8(c, vldrbq_s8(w + 2 * n + i), v);
    d = vmladavaq_s8(d, vldrbq_s8(w + 3 * n + i), v);
  }
  dots[0] = a, dots[1] = b, dots[2] = c, dots[3] = d;
}
#elif defined(__ARM_NEON)
#if defined(__ARM_FEATURE_DOTPROD)
const char* const int8_dense_kind = "SDOT";
#else
const char* const int8_dense_kind = "SMULL, SADALP";
#endif
static void int8_dots(const int8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  int32x4_t acc[ROWS];
  for (int r = 0; r < ROWS; ++r) acc[r] = vdupq_n_s32(0);
  for (size_t i = 0; i < n; i += 16) {
    const int8x16_t v = vld1q_s8(x + i);
    for (int r = 0; r < ROWS; ++r) {
      const int8x16_t u = vld1q_s8(w + (size_t)r * n + i);
#if defined(__ARM_FEATURE_DOTPROD)
      acc[r] = vdotq_s32(acc[r], u, v);
#else
      const int16x8_t low = vmull_s8(vget_low_s8(u), vget_low_s8(v)); /* weights of -127..127: two products fit */
      acc[r] = vpadalq_s16(acc[r], vmlal_s8(low, vget_high_s8(u), vget_high_s8(v)));
#endif
    }
  }
  for (int r = 0; r < ROWS; ++r) {
    const int32x2_t half = vadd_s32(vget_low_s32(acc[r]), vget_high_s32(acc[r]));
    dots[r] = vget_lane_s32(vpadd_s32(half, half), 0);
  }
}
#elif defined(__ARM_FEATURE_SIMD32)
const char* const int8_dense_kind = "SXTB16, SMLAD";
static uint32_t word(const int8_t* p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}
static void int8_dots(const int8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  for (int r = 0; r < ROWS; r += 2, w += 2 * n) {
    int32_t a = 0, b = 0;
    for (size_t i = 0; i < n; i += 4) {
      const uint32_t v = word(x + i), p = word(w + i), q = word(w + n + i);
      const uint32_t v0 = (uint32_t)__sxtb16(v), v1 = (uint32_t)__sxtb16(v >> 8 | v << 24);
      a = __smlad((int)__sxtb16(p), (int)v0, a);
      a = __smlad((int)__sxtb16(p >> 8 | p << 24), (int)v1, a);
      b = __smlad((int)__sxtb16(q), (int)v0, b);
      b = __smlad((int)__sxtb16(q >> 8 | q << 24), (int)v1, b);
    }
    dots[r] = a, dots[r + 1] = b;
  }
}
#elif defined(__AVX2__)
const char* const int8_dense_kind = "VPMADDWD";
static void int8_dots(const int8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  __m256i acc[ROWS];
  for (int r = 0; r < ROWS; ++r) acc[r] = _mm256_setzero_si256();
  for (size_t i = 0; i < n; i += 16) {
    const __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)(const void*)(x + i)));
    for (int r = 0; r < ROWS; ++r) {
      const __m128i u = _mm_loadu_si128((const __m128i*)(const void*)(w + (size_t)r * n + i));
      acc[r] = _mm256_add_epi32(acc[r], _mm256_madd_epi16(_mm256_cvtepi8_epi16(u), v));
    }
  }
  for (int r = 0; r < ROWS; ++r) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(acc[r]), _mm256_extracti128_si256(acc[r], 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    dots[r] = _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
  }
}
#else
const char* const int8_dense_kind = "plain C";
static void int8_dots(const int8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  int32_t acc[ROWS] = {0};
  for (size_t i = 0; i < n; ++i)
    for (int r = 0; r < ROWS; ++r) acc[r] += w[(size_t)r * n + i] * x[i];
  for (int r = 0; r < ROWS; ++r) dots[r] = acc[r];
}
#endif

void int8_dense(const kws_op* op, const int8_t* w, const int8_t* x, size_t inputs, size_t outputs, int8_t* y) {
  for (size_t c = 0; c < outputs; c += ROWS, w += ROWS * inputs) {
    int32_t dots[ROWS];
    int8_dots(w, x, inputs, dots);
    for (int r = 0; r < ROWS; ++r) y[c + (size_t)r] = kws_requantize(op, (uint32_t)dots[r], (uint32_t)c + (uint32_t)r);
  }
}
