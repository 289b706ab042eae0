/* Four floats at a time, with the few operations that dynamic quantization needs: NEON, Helium, SSE2. Each lane is
 * rounded as a float alone would be, and nothing is fused.
 *
 * KWS_FLOAT_VECTORS     a machine has them
 * KWS_VECTORS_FLUSH     and takes subnormal numbers for 0 (Helium, NEON of ARMv7), where floats alone do not: callers
 *                       use them only where no such number can change a result
 */
#ifndef TFMOT_KWS_FLOAT_VECTOR_H_
#define TFMOT_KWS_FLOAT_VECTOR_H_

#include <string.h>

#include "float_math.h"

#define KWS_VECTORS_FLUSH 0
#define KWS_FLOAT_VECTORS 1

#if defined(__ARM_NEON)
#include <arm_neon.h>

typedef float32x4_t kws_f4;
typedef int32x4_t kws_i4;
typedef uint32x4_t kws_u4;

static inline kws_f4 kws_load_f4(const float* p) { return vld1q_f32(p); }
static inline void kws_store_f4(float* p, kws_f4 v) { vst1q_f32(p, v); }
static inline kws_f4 kws_set_f4(float v) { return vdupq_n_f32(v); }
static inline kws_f4 kws_add_f4(kws_f4 a, kws_f4 b) { return vaddq_f32(a, b); }
static inline kws_f4 kws_sub_f4(kws_f4 a, kws_f4 b) { return vsubq_f32(a, b); }
static inline kws_f4 kws_mul_f4(kws_f4 a, kws_f4 b) { return vmulq_f32(a, b); }
static inline kws_f4 kws_minus_f4(kws_f4 a) { return vnegq_f32(a); }
/* a > b ? yes : no */
static inline kws_f4 kws_greater_f4(kws_f4 a, kws_f4 b, kws_f4 yes, kws_f4 no) {
  return vbslq_f32(vcgtq_f32(a, b), yes, no);
}
/* Towards 0. */
static inline kws_i4 kws_whole_f4(kws_f4 v) { return vcvtq_s32_f32(v); }
static inline kws_f4 kws_float_i4(kws_i4 v) { return vcvtq_f32_s32(v); }
static inline kws_i4 kws_load_i4(const int32_t* p) { return vld1q_s32(p); }
static inline void kws_store_i4(int32_t* p, kws_i4 v) { vst1q_s32(p, v); }
static inline kws_i4 kws_set_i4(int32_t v) { return vdupq_n_s32(v); }
static inline kws_i4 kws_add_i4(kws_i4 a, kws_i4 b) { return vaddq_s32(a, b); }
static inline kws_i4 kws_sub_i4(kws_i4 a, kws_i4 b) { return vsubq_s32(a, b); }
static inline kws_i4 kws_mul_i4(kws_i4 a, kws_i4 b) { return vmulq_s32(a, b); }
/* 2^n, -126 <= n <= 127 */
static inline kws_f4 kws_power_f4(kws_i4 n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
/* Four of int8, or of int16 at any address, as they are. */
static inline kws_i4 kws_load_bytes(const uint8_t* p) {
  uint32_t word;
  memcpy(&word, p, sizeof word);
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(word)))));
}
static inline kws_i4 kws_load_shorts(const uint8_t* p) { return vmovl_s16(vreinterpret_s16_u8(vld1_u8(p))); }
static inline void kws_store_bytes(int8_t* p, kws_i4 v) {
  const int16x4_t half = vmovn_s32(v);
  const uint32_t word = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(half, half))), 0);
  memcpy(p, &word, sizeof word);
}
static inline void kws_store_16(int8_t* p, kws_i4 a, kws_i4 b, kws_i4 c, kws_i4 d) {
  const int16x8_t low = vcombine_s16(vmovn_s32(a), vmovn_s32(b)), high = vcombine_s16(vmovn_s32(c), vmovn_s32(d));
  vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
static inline void kws_store_shorts(int16_t* p, kws_i4 v) { vst1_s16(p, vmovn_s32(v)); }
#if defined(__aarch64__)
static inline kws_f4 kws_div_f4(kws_f4 a, kws_f4 b) { return vdivq_f32(a, b); }
#else
#define KWS_DIVIDE_LANES
#undef KWS_VECTORS_FLUSH
#define KWS_VECTORS_FLUSH 1
#endif
#define KWS_MAX_I4 vmaxq_s32
#define KWS_MAX_U4 vmaxq_u32
#define KWS_MIN_U4 vminq_u32
static inline kws_u4 kws_bits_f4(kws_f4 v) { return vreinterpretq_u32_f32(v); }
static inline kws_i4 kws_signed_u4(kws_u4 v) { return vreinterpretq_s32_u32(v); }
static inline kws_u4 kws_set_u4(uint32_t v) { return vdupq_n_u32(v); }
static inline void kws_store_u4(uint32_t* p, kws_u4 v) { vst1q_u32(p, v); }

#elif defined(__ARM_FEATURE_MVE) /* not by clang, which computes other numbers with these; then floats alone */
#if (__ARM_FEATURE_MVE & 2) && !defined(__clang__)
#include <arm_mve.h>

typedef float32x4_t kws_f4;
typedef int32x4_t kws_i4;
typedef uint32x4_t kws_u4;

static inline kws_f4 kws_load_f4(const float* p) { return vldrwq_f32(p); }
static inline void kws_store_f4(float* p, kws_f4 v) { vstrwq_f32(p, v); }
static inline kws_f4 kws_set_f4(float v) { return vdupq_n_f32(v); }
static inline kws_f4 kws_add_f4(kws_f4 a, kws_f4 b) { return vaddq_f32(a, b); }
static inline kws_f4 kws_sub_f4(kws_f4 a, kws_f4 b) { return vsubq_f32(a, b); }
static inline kws_f4 kws_mul_f4(kws_f4 a, kws_f4 b) { return vmulq_f32(a, b); }
static inline kws_f4 kws_minus_f4(kws_f4 a) { return vnegq_f32(a); }
static inline kws_f4 kws_greater_f4(kws_f4 a, kws_f4 b, kws_f4 yes, kws_f4 no) {
  return vpselq_f32(yes, no, vcmpgtq_f32(a, b));
}
static inline kws_i4 kws_whole_f4(kws_f4 v) { return vcvtq_s32_f32(v); }
static inline kws_f4 kws_float_i4(kws_i4 v) { return vcvtq_f32_s32(v); }
static inline kws_i4 kws_load_i4(const int32_t* p) { return vldrwq_s32(p); }
static inline void kws_store_i4(int32_t* p, kws_i4 v) { vstrwq_s32(p, v); }
static inline kws_i4 kws_set_i4(int32_t v) { return vdupq_n_s32(v); }
static inline kws_i4 kws_add_i4(kws_i4 a, kws_i4 b) { return vaddq_s32(a, b); }
static inline kws_i4 kws_sub_i4(kws_i4 a, kws_i4 b) { return vsubq_s32(a, b); }
static inline kws_i4 kws_mul_i4(kws_i4 a, kws_i4 b) { return vmulq_s32(a, b); }
static inline kws_f4 kws_power_f4(kws_i4 n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_n_s32(n, 127), 23)); }
static inline kws_i4 kws_load_bytes(const uint8_t* p) { return vldrbq_s32((const int8_t*)p); }
static inline kws_i4 kws_load_shorts(const uint8_t* p) {
  int16_t four[4]; /* vectors of int16 must be aligned */
  memcpy(four, p, sizeof four);
  return vldrhq_s32(four);
}
static inline void kws_store_bytes(int8_t* p, kws_i4 v) { vstrbq_s32(p, v); }
static inline void kws_store_16(int8_t* p, kws_i4 a, kws_i4 b, kws_i4 c, kws_i4 d) {
  vstrbq_s32(p, a);
  vstrbq_s32(p + 4, b);
  vstrbq_s32(p + 8, c);
  vstrbq_s32(p + 12, d);
}
static inline void kws_store_shorts(int16_t* p, kws_i4 v) { vstrhq_s32(p, v); }
#define KWS_DIVIDE_LANES
#undef KWS_VECTORS_FLUSH
#define KWS_VECTORS_FLUSH 1
#define KWS_MAX_I4 vmaxq_s32
#define KWS_MAX_U4 vmaxq_u32
#define KWS_MIN_U4 vminq_u32
static inline kws_u4 kws_bits_f4(kws_f4 v) { return vreinterpretq_u32_f32(v); }
static inline kws_i4 kws_signed_u4(kws_u4 v) { return vreinterpretq_s32_u32(v); }
static inline kws_u4 kws_set_u4(uint32_t v) { return vdupq_n_u32(v); }
static inline void kws_store_u4(uint32_t* p, kws_u4 v) { vstrwq_u32(p, v); }
#else
#undef KWS_FLOAT_VECTORS
#define KWS_FLOAT_VECTORS 0
#endif

#elif defined(__x86_64__)
#include <immintrin.h>

typedef __m128 kws_f4;
typedef __m128i kws_i4;

static inline kws_f4 kws_load_f4(const float* p) { return _mm_loadu_ps(p); }
static inline void kws_store_f4(float* p, kws_f4 v) { _mm_storeu_ps(p, v); }
static inline kws_f4 kws_set_f4(float v) { return _mm_set1_ps(v); }
static inline kws_f4 kws_add_f4(kws_f4 a, kws_f4 b) { return _mm_add_ps(a, b); }
static inline kws_f4 kws_sub_f4(kws_f4 a, kws_f4 b) { return _mm_sub_ps(a, b); }
static inline kws_f4 kws_mul_f4(kws_f4 a, kws_f4 b) { return _mm_mul_ps(a, b); }
static inline kws_f4 kws_div_f4(kws_f4 a, kws_f4 b) { return _mm_div_ps(a, b); }
static inline kws_f4 kws_minus_f4(kws_f4 a) { return _mm_xor_ps(a, _mm_set1_ps(-0.0f)); }
static inline kws_f4 kws_greater_f4(kws_f4 a, kws_f4 b, kws_f4 yes, kws_f4 no) {
  const __m128 mask = _mm_cmpgt_ps(a, b);
  return _mm_or_ps(_mm_and_ps(mask, yes), _mm_andnot_ps(mask, no));
}
static inline kws_i4 kws_whole_f4(kws_f4 v) { return _mm_cvttps_epi32(v); }
static inline kws_f4 kws_float_i4(kws_i4 v) { return _mm_cvtepi32_ps(v); }
static inline kws_i4 kws_load_i4(const int32_t* p) { return _mm_loadu_si128((const __m128i*)(const void*)p); }
static inline void kws_store_i4(int32_t* p, kws_i4 v) { _mm_storeu_si128((__m128i*)(void*)p, v); }
static inline kws_i4 kws_set_i4(int32_t v) { return _mm_set1_epi32(v); }
static inline kws_i4 kws_add_i4(kws_i4 a, kws_i4 b) { return _mm_add_epi32(a, b); }
static inline kws_i4 kws_sub_i4(kws_i4 a, kws_i4 b) { return _mm_sub_epi32(a, b); }
static inline kws_i4 kws_mul_i4(kws_i4 a, kws_i4 b) {
  const __m128i even = _mm_mul_epu32(a, b), odd = _mm_mul_epu32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32));
  return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0x08), _mm_shuffle_epi32(odd, 0x08));
}
static inline kws_f4 kws_power_f4(kws_i4 n) {
  return _mm_castsi128_ps(_mm_slli_epi32(_mm_add_epi32(n, _mm_set1_epi32(127)), 23));
}
static inline kws_i4 kws_load_bytes(const uint8_t* p) {
  int32_t word;
  memcpy(&word, p, sizeof word);
  const __m128i v = _mm_cvtsi32_si128(word), twice = _mm_unpacklo_epi8(v, v);
  return _mm_srai_epi32(_mm_unpacklo_epi16(twice, twice), 24);
}
static inline kws_i4 kws_load_shorts(const uint8_t* p) {
  const __m128i v = _mm_loadl_epi64((const __m128i*)(const void*)p);
  return _mm_srai_epi32(_mm_unpacklo_epi16(v, v), 16);
}
static inline void kws_store_16(int8_t* p, kws_i4 a, kws_i4 b, kws_i4 c, kws_i4 d) {
  _mm_storeu_si128((__m128i*)(void*)p, _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)));
}
static inline void kws_store_bytes(int8_t* p, kws_i4 v) {
  const __m128i half = _mm_packs_epi32(v, v);
  const int32_t word = _mm_cvtsi128_si32(_mm_packs_epi16(half, half));
  memcpy(p, &word, sizeof word);
}
static inline void kws_store_shorts(int16_t* p, kws_i4 v) {
  _mm_storel_epi64((__m128i*)(void*)p, _mm_packs_epi32(v, v));
}

#else
#undef KWS_FLOAT_VECTORS
#define KWS_FLOAT_VECTORS 0
#endif

#if KWS_FLOAT_VECTORS
#if defined(KWS_DIVIDE_LANES)
static inline kws_f4 kws_div_f4(kws_f4 a, kws_f4 b) {
  float above[4], below[4];
  kws_store_f4(above, a);
  kws_store_f4(below, b);
  for (int i = 0; i < 4; ++i) above[i] = above[i] / below[i];
  return kws_load_f4(above);
}
#endif

/* kws_exp_of_minus() and kws_activate() of four. */
static inline kws_f4 kws_exp_of_minus_f4(kws_f4 a) {
  static const float taylor[7] = {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
  const kws_f4 most = kws_set_f4(87.0f);
  a = kws_greater_f4(most, a, a, most);
  const kws_i4 whole = kws_whole_f4(kws_add_f4(kws_mul_f4(a, kws_set_f4(1.44269504f)), kws_set_f4(0.5f)));
  const kws_f4 n = kws_float_i4(whole);
  kws_f4 r = kws_sub_f4(kws_mul_f4(n, kws_set_f4(0.693359375f)), a);
  r = kws_add_f4(r, kws_mul_f4(n, kws_set_f4(-2.12194440e-4f)));
  kws_f4 p = kws_set_f4(taylor[0]);
  for (int i = 1; i < 7; ++i) p = kws_add_f4(kws_mul_f4(p, r), kws_set_f4(taylor[i]));
  return kws_mul_f4(p, kws_power_f4(kws_sub_i4(kws_set_i4(0), whole)));
}

static inline kws_f4 kws_activate_f4(kws_f4 y, int function) {
  const kws_f4 zero = kws_set_f4(0), one = kws_set_f4(1), six = kws_set_f4(6);
  if (function == KWS_LINEAR) return y;
  if (function == KWS_RELU || function == KWS_RELU6) {
    y = kws_greater_f4(y, zero, y, zero);
    return function == KWS_RELU ? y : kws_greater_f4(six, y, y, six);
  }
  const kws_f4 a = kws_greater_f4(y, zero, y, kws_greater_f4(zero, y, kws_minus_f4(y), zero));
  if (function == KWS_SIGMOID) {
    const kws_f4 e = kws_exp_of_minus_f4(a);
    return kws_div_f4(kws_greater_f4(y, zero, one, e), kws_add_f4(one, e));
  }
  const kws_f4 e = kws_exp_of_minus_f4(kws_add_f4(a, a));
  const kws_f4 value = kws_div_f4(kws_sub_f4(one, e), kws_add_f4(one, e));
  return kws_greater_f4(y, zero, value, kws_minus_f4(value));
}
#endif

#endif
