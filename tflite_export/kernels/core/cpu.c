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

#if defined(__x86_64__)
#include <cpuid.h>

/* Not every compiler's __builtin_cpu_supports() knows it. Its registers are those of AVX2. */
static bool has_avxvnni(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1;
}
#endif

bool kws_cpu_has(kws_cpu feature) {
  switch (feature) {
    case KWS_CPU_ANY:
      return true;
#if defined(__x86_64__)
    case KWS_CPU_AVX2:
      return __builtin_cpu_supports("avx2");
    case KWS_CPU_AVXVNNI:
      return has_avxvnni();
    case KWS_CPU_AVX512VNNI:
      return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
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
