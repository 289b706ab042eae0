/* Dense kernel for x86 processors with the dot products of AVX-512, in vectors of 256 bits: Ice Lake and later, Zen 4.
 */
#include "../../include/packed_kernels.h"

#if defined(__x86_64__) && ((KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)) || KWS_DENSE_DYNAMIC)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,avx512f,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC target("avx2,avx512f,avx512vl,avx512vnni")
#endif

#define KWS_VNNI_DOT _mm256_dpbusd_epi32
#define KWS_VNNI_NAME kws_packed_dense_avx512vnni
#define KWS_VNNI_DYNAMIC_NAME kws_dynamic_dense_avx512vnni
#include "dense_vnni.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
