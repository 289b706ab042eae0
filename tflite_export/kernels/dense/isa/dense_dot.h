/* Functions of arm_neon.h for dot products and products of matrices of bytes, where a compiler hides them. To be
 * included by files that are compiled for processors that have them, behind what says so. */
#ifndef TFMOT_KWS_DENSE_DOT_H_
#define TFMOT_KWS_DENSE_DOT_H_

#include "dense_arm.h"

/* Clang before version 16 declares them only where the whole program is compiled for such processors. */
#if defined(__clang__) && __clang_major__ < 16
#if !defined(__ARM_FEATURE_DOTPROD)
KWS_INLINE int32x4_t kws_dot(int32x4_t sum, int8x16_t a, int8x16_t b) {
  __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
  return sum;
}
#define vdotq_s32 kws_dot
#endif
#if defined(KWS_DENSE_PAIRS) && !defined(__ARM_FEATURE_MATMUL_INT8)
KWS_INLINE int32x4_t kws_matrix_product(int32x4_t sum, int8x16_t a, int8x16_t b) {
  __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
  return sum;
}
#define vmmlaq_s32 kws_matrix_product
#endif
#endif

#endif
