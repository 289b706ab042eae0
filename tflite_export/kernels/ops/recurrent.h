/* Sizes of recurrent layers; packed_kernels.h says what lies in their one constant. */
#ifndef TFMOT_KWS_RECURRENT_H_
#define TFMOT_KWS_RECURRENT_H_

#include "../include/packed_kernels.h"

/* Gates of a known cell. */
static inline unsigned kws_cell_gates(int cell) { return cell == KWS_LSTM ? 4 : cell == KWS_SIMPLE_CELL ? 1 : 3; }

/* Bytes of the constant; 0 where a size would overflow. */
size_t kws_recurrent_bytes(const kws_options* options);

/* Whether this build has a kernel for each of its products. */
bool kws_recurrent_runs(const kws_op* op);

/* Scratch bytes of a prepared op, whichever kernel runs it. */
size_t kws_recurrent_scratch(const kws_op* op);

#endif
