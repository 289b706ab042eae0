/* Depthwise kernel for x86 processors with AVX2: 16 or 8 channels at a time, whose sums stay in registers. */
#include "../../include/packed_kernels.h"

#if defined(__x86_64__) && KWS_STATIC && KWS_HAS_KIND(2)

#include <immintrin.h>

#include "../../core/requantize.h"
#include "../depthwise.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

/* Constants of an op. */
typedef struct {
  kws_scale scale;
  __m256i zero;
} constants_of_op;

/* 16 or 8 bytes as numbers of 16 bits; the rest is 0. */
KWS_DEPTHWISE_INLINE __m256i load(const int lanes, const int8_t* from) {
  const __m128i* bytes = (const __m128i*)(const void*)from;
  return _mm256_cvtepi8_epi16(lanes == 8 ? _mm_loadl_epi64(bytes) : _mm_loadu_si128(bytes));
}

/* 8 bytes as numbers of 32 bits. */
KWS_DEPTHWISE_INLINE __m256i load_eight(const int8_t* from) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(const void*)from));
}

/* level * (x - zero) of two taps, added up by pairs: of channels 0..3 and 8..11, and of the others. */
KWS_DEPTHWISE_INLINE void add_taps(__m256i x0, __m256i x1, __m256i levels0, __m256i levels1, __m256i* sums) {
  const __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), _mm256_unpacklo_epi16(levels0, levels1));
  const __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), _mm256_unpackhi_epi16(levels0, levels1));
  sums[0] = _mm256_add_epi32(sums[0], low);
  sums[1] = _mm256_add_epi32(sums[1], high);
}

/* The high halves of acc * scale + bias * bias_factor + add of lanes 0, 2, 4 and 6. */
KWS_DEPTHWISE_INLINE __m256i totals(__m256i acc, __m256i scale, __m256i bias, __m256i bias_factor, __m256i add) {
  return _mm256_add_epi64(_mm256_add_epi64(_mm256_mul_epi32(acc, scale), _mm256_mul_epi32(bias, bias_factor)), add);
}

/* Eight outputs before they are clipped. */
KWS_DEPTHWISE_INLINE __m256i scaled(const kws_scale* s, __m256i acc, size_t first) {
  const __m256i scale = _mm256_mullo_epi32(load_eight(s->gain + first), _mm256_set1_epi32(s->multiplier));
  const __m256i bias = _mm256_slli_epi32(load_eight(s->bias + first), 16);
  const __m256i bias_factor = _mm256_set1_epi32(1 << (s->bias_shift - 16)), add = _mm256_set1_epi64x(s->add);
  const __m256i even = totals(acc, scale, bias, bias_factor, add);
  const __m256i odd =
      totals(_mm256_srli_epi64(acc, 32), _mm256_srli_epi64(scale, 32), _mm256_srli_epi64(bias, 32), bias_factor, add);
  const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  return _mm256_sra_epi32(high, _mm_cvtsi32_si128(s->shift - 32));
}

/* `lanes` outputs: 8 or 16. */
KWS_DEPTHWISE_INLINE void block(const int lanes, const constants_of_op* c, const kws_taps* t, size_t first, int8_t* y) {
  const __m256i zero = c->zero, none = _mm256_setzero_si256();
  __m256i sums[2] = {none, none};
  const int8_t *x_row = t->x + first, *level_row = t->levels + first;
  for (uint32_t i = t->rows; i; --i, x_row += t->x_row, level_row += t->level_row) {
    const int8_t *x = x_row, *levels = level_row;
    uint32_t j = t->columns;
    for (; j > 1; j -= 2, x += 2 * t->x_column, levels += 2 * t->level_column)
      add_taps(_mm256_sub_epi16(load(lanes, x), zero), _mm256_sub_epi16(load(lanes, x + t->x_column), zero),
               load(lanes, levels), load(lanes, levels + t->level_column), sums);
    if (j) /* a last tap alone */
      add_taps(_mm256_sub_epi16(load(lanes, x), zero), none, load(lanes, levels), none, sums);
  }
  const kws_scale* s = &c->scale;
  const __m256i y0 = scaled(s, _mm256_permute2x128_si256(sums[0], sums[1], 0x20), first);
  const __m256i y1 = lanes == 8 ? none : scaled(s, _mm256_permute2x128_si256(sums[0], sums[1], 0x31), first + 8);
  /* Packing works on halves of vectors; their quarters go back into order. */
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(y0, y1), 0xD8);
  __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  bytes = _mm_max_epi8(bytes, _mm_set1_epi8((char)s->low));
  bytes = _mm_min_epi8(bytes, _mm_set1_epi8((char)s->high));
  __m128i* const to = (__m128i*)(void*)(y + first);
  if (lanes == 8)
    _mm_storel_epi64(to, bytes);
  else
    _mm_storeu_si128(to, bytes);
}

/* The last block may lie over the one before: its outputs are computed twice, and nothing beyond a tensor is touched.
 */
static void one_place(const kws_op* op, void* own, const kws_taps* taps, int8_t* y) {
  const constants_of_op c = *(const constants_of_op*)own; /* which y does not overlap */
  const kws_taps t = *taps;
  const size_t channels = (size_t)op->channels;
  size_t first = 0;
  if (channels < 8) {
    for (; first < channels; ++first)
      y[first] = kws_requantize(op, kws_sum_of_channel(&t, first, op->options.input_zero_point[0]), (uint32_t)first);
    return;
  }
  for (; channels - first >= 16; first += 16) block(16, &c, &t, first, y);
  for (; first < channels; first += 8) block(8, &c, &t, first + 8 < channels ? first : channels - 8, y);
}

void kws_depthwise_avx2(const kws_op* op) {
  constants_of_op c;
  if (!kws_one_output_a_channel(op) || !kws_make_scale(&c.scale, op)) {
    kws_depthwise_c(op);
    return;
  }
  c.zero = _mm256_set1_epi16((short)op->options.input_zero_point[0]);
  kws_depthwise_places(op, one_place, &c);
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
