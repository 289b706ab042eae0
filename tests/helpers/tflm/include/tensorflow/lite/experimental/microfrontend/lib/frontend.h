// What frames_audio.c needs of TFLM's front end; tests/tflm/front_end.c stands in for it.
#ifndef FRONTEND_H_
#define FRONTEND_H_

#include <stddef.h>
#include <stdint.h>

struct FrontendState {
  size_t window, step, channels, waiting;
  int pcan;
};

struct FrontendOutput {
  const uint16_t* values;
  size_t size;
};

struct FrontendOutput FrontendProcessSamples(struct FrontendState* state, const int16_t* samples, size_t num_samples,
                                             size_t* num_samples_read);

#endif
