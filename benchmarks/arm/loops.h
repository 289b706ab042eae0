/* Dense layers of the usual kind, to stand beside the packed kernels. Weights are [outputs, inputs]. */
#ifndef TFMOT_KWS_LOOPS_H_
#define TFMOT_KWS_LOOPS_H_

#include "packed_kernels.h"

/* float32 with bias and ReLU. inputs is a multiple of 16, outputs of 4. */
void float_dense(const float* w, const float* bias, const float* x, size_t inputs, size_t outputs, float* y);

/* int8 weights in 8-bit containers; requantization as in the packed kernels, for op's channel parameters. */
void int8_dense(const kws_op* op, const int8_t* w, const int8_t* x, size_t inputs, size_t outputs, int8_t* y);

/* How int8_dense multiplies here. */
extern const char* const int8_dense_kind;

#endif
