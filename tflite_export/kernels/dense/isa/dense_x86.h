/* Code of 256-bit vectors that the x86 kernels share: loads and requantization. Includers say what it is compiled for.
 */
#ifndef TFMOT_KWS_DENSE_X86_H_
#define TFMOT_KWS_DENSE_X86_H_

#include <immintrin.h>

#include "../dense_vector.h"

KWS_INLINE __m256i load(const void* from) { return _mm256_loadu_si256((const __m256i*)from); }
KWS_INLINE __m128i load_half(const void* from) { return _mm_loadu_si128((const __m128i*)from); }
KWS_INLINE __m128i load_eight(const void* from) { return _mm_loadl_epi64((const __m128i*)from); }

KWS_INLINE int32_t sum_lanes(__m256i v) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  sum = _mm_add_epi32(sum, _mm_srli_si128(sum, 8));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_srli_si128(sum, 4)));
}

static uint32_t sum_row(const int8_t* x, size_t n) {
  __m256i sums = _mm256_setzero_si256();
  for (const int8_t* const end = x + n; x != end; x += KWS_VECTOR)
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_cvtepi8_epi16(load_half(x)), _mm256_set1_epi16(1)));
  return (uint32_t)sum_lanes(sums);
}

/* The high halves of acc * scale + bias * bias_factor + add of lanes 0, 2, 4 and 6. */
KWS_INLINE __m256i totals(__m256i acc, __m256i scale, __m256i bias, __m256i bias_factor, __m256i add) {
  return _mm256_add_epi64(_mm256_add_epi64(_mm256_mul_epi32(acc, scale), _mm256_mul_epi32(bias, bias_factor)), add);
}

/* Eight outputs; the terms of kws_scale in vectors. */
KWS_INLINE void finish(const kws_scale* s, __m256i dots, __m256i constants, uint32_t first, int8_t* y) {
  __m256i acc = _mm256_add_epi32(_mm256_mullo_epi32(dots, _mm256_set1_epi32(s->factor)), constants);
  if (s->sums) {
    const __m256i sums = _mm256_cvtepi16_epi32(load_half(s->sums + 2 * (size_t)first));
    acc = _mm256_sub_epi32(acc, _mm256_mullo_epi32(sums, _mm256_set1_epi32(s->zero)));
  }
  const __m256i gain = _mm256_cvtepi8_epi32(load_eight(s->gain + first));
  const __m256i scale = _mm256_mullo_epi32(gain, _mm256_set1_epi32(s->multiplier));
  const __m256i bias = _mm256_slli_epi32(_mm256_cvtepi8_epi32(load_eight(s->bias + first)), 16);
  const __m256i bias_factor = _mm256_set1_epi32(1 << (s->bias_shift - 16)), add = _mm256_set1_epi64x(s->add);
  const __m256i even = totals(acc, scale, bias, bias_factor, add);
  const __m256i odd =
      totals(_mm256_srli_epi64(acc, 32), _mm256_srli_epi64(scale, 32), _mm256_srli_epi64(bias, 32), bias_factor, add);
  __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  high = _mm256_sra_epi32(high, _mm_cvtsi32_si128(s->shift - 32));
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  __m128i bytes = _mm_packs_epi16(words, words);
  bytes = _mm_max_epi8(bytes, _mm_set1_epi8((char)s->low));
  bytes = _mm_min_epi8(bytes, _mm_set1_epi8((char)s->high));
  _mm_storel_epi64((__m128i*)(void*)y, bytes);
}

#if KWS_DENSE_DYNAMIC
#include "../dynamic.h"

/* As on NEON: pairs of products are made positive, so that their largest sum, 2^31, is no negative number. */
static int64_t dynamic_dot(const uint8_t* w, const int16_t* x, size_t n) {
  const __m256i offset = _mm256_set1_epi32(0x7FFF0000);
  __m256i even = _mm256_setzero_si256(), odd = even;
  size_t left = n;
  for (; left >= 16; left -= 16, w += 32, x += 16) {
    const __m256i pairs = _mm256_add_epi32(_mm256_madd_epi16(load(w), load(x)), offset);
    even = _mm256_add_epi64(even, _mm256_blend_epi32(pairs, _mm256_setzero_si256(), 0xAA));
    odd = _mm256_add_epi64(odd, _mm256_srli_epi64(pairs, 32));
  }
  int64_t sums[4];
  _mm256_storeu_si256((__m256i*)(void*)sums, _mm256_add_epi64(even, odd));
  const int64_t added = (int64_t)(n - left) / 2 * 0x7FFF0000;
  return sums[0] + sums[1] + sums[2] + sums[3] - added + kws_dynamic_dot(w, x, left);
}

#endif

#endif
