// See frontend.h.
#ifndef FRONTEND_UTIL_H_
#define FRONTEND_UTIL_H_

#include "tensorflow/lite/experimental/microfrontend/lib/frontend.h"

struct FrontendConfig {
  struct {
    size_t size_ms, step_size_ms;
  } window;
  struct {
    int num_channels;
    float upper_band_limit, lower_band_limit;
  } filterbank;
  struct {
    int enable_pcan;
  } pcan_gain_control;
};

void FrontendFillConfigWithDefaults(struct FrontendConfig* config);
int FrontendPopulateState(const struct FrontendConfig* config, struct FrontendState* state, int sample_rate);

#endif
