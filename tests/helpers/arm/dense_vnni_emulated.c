/* The kernel for AVX-VNNI on any processor with AVX2: the instruction is put together of others. It takes the places of
 * dense_avxvnni.c and of cpu.c. */
#include <immintrin.h>

#include "packed_kernels.h"

bool kws_cpu_has(kws_cpu feature) { return feature == KWS_CPU_ANY || feature == KWS_CPU_AVXVNNI; }

#pragma GCC target("avx2")

/* Four products of bytes without a sign and signed ones, added to a sum: two by two in lanes of 16 bits, which is
 * exact. */
static inline __m256i dot(__m256i sum, __m256i bytes, __m256i inputs) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(inputs, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(bytes, 8), _mm256_srai_epi16(inputs, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

#define KWS_VNNI_DOT dot
#define KWS_VNNI_NAME kws_packed_dense_avxvnni
#define KWS_VNNI_DYNAMIC_NAME kws_dynamic_dense_avxvnni
#include "kernels/dense/isa/dense_vnni.inc"
