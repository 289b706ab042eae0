/* Sizes of filters over samples. */
#ifndef TFMOT_KWS_WAVEFORM_H_
#define TFMOT_KWS_WAVEFORM_H_

#include "../include/packed_kernels.h"

/* Samples of a frame, from the first to the last. */
static inline uint64_t kws_waveform_span(const kws_options* o) {
  return o->inputs + (uint64_t)(o->average - 1) * o->sample_stride;
}

/* Whether this build has a kernel for its products. */
bool kws_waveform_runs(const kws_op* op);

/* Scratch bytes of a prepared op, whichever kernel runs it. */
size_t kws_waveform_scratch(const kws_op* op);

#endif
