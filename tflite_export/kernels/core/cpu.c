/* What the processor has, asked while the program runs. Cortex-M and the like are told at compile time. */
#include "../include/packed_kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* Bits of the kernel's HWCAP words, from the Arm64 ELF hwcaps document. */
enum { HWCAP_DOT = 1 << 20, HWCAP2_INT8_MATRIX = 1 << 13 };

bool kws_cpu_has(kws_cpu feature) {
  if (feature == KWS_CPU_DOTPROD) return getauxval(AT_HWCAP) & HWCAP_DOT;
  if (feature == KWS_CPU_I8MM) return getauxval(AT_HWCAP2) & HWCAP2_INT8_MATRIX;
  return feature == KWS_CPU_ANY;
}

#else

bool kws_cpu_has(kws_cpu feature) {
  switch (feature) {
    case KWS_CPU_ANY:
      return true;
#if defined(__x86_64__)
    case KWS_CPU_AVX2:
      return __builtin_cpu_supports("avx2");
#endif
#if defined(__ARM_FEATURE_DOTPROD)
    case KWS_CPU_DOTPROD:
      return true;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    case KWS_CPU_I8MM:
      return true;
#endif
    default:
      return false;
  }
}

#endif
