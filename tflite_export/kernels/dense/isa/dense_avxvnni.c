/* Dense kernel for x86 processors with AVX-VNNI: Alder Lake and later without AVX-512, Zen 5. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_AVXVNNI && ((KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)) || KWS_DENSE_DYNAMIC)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,avxvnni")
#endif

#define KWS_VNNI_DOT _mm256_dpbusd_avx_epi32
#define KWS_VNNI_NAME kws_packed_dense_avxvnni
#define KWS_VNNI_DYNAMIC_NAME kws_dynamic_dense_avxvnni
#include "dense_vnni.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
