// Stands in for TFLM's front end: takes samples as that does, and reads each frame's values from values.bin,
// or without PCAN from values_without_pcan.bin.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/lite/experimental/microfrontend/lib/frontend_util.h"

void FrontendFillConfigWithDefaults(struct FrontendConfig* config) { memset(config, 0, sizeof *config); }

int FrontendPopulateState(const struct FrontendConfig* config, struct FrontendState* state, int sample_rate) {
  state->pcan = config->pcan_gain_control.enable_pcan;
  if (config->filterbank.lower_band_limit != 125.0f) return 0;
  if (config->filterbank.upper_band_limit != 7500.0f) return 0;
  state->window = config->window.size_ms * (size_t)sample_rate / 1000;
  state->step = config->window.step_size_ms * (size_t)sample_rate / 1000;
  state->channels = (size_t)config->filterbank.num_channels;
  state->waiting = 0;
  return 1;
}

struct FrontendOutput FrontendProcessSamples(struct FrontendState* state, const int16_t* samples, size_t num_samples,
                                             size_t* num_samples_read) {
  static uint16_t values[64];
  static FILE* file;
  struct FrontendOutput output = {NULL, 0};
  const size_t room = state->window - state->waiting;
  (void)samples;
  *num_samples_read = num_samples < room ? num_samples : room;
  state->waiting += *num_samples_read;
  if (state->waiting < state->window) return output;
  state->waiting -= state->step;
  if (!file) file = fopen(state->pcan ? "values.bin" : "values_without_pcan.bin", "rb");
  if (!file || fread(values, 2, state->channels, file) != state->channels) exit(3);
  output.values = values;
  output.size = state->channels;
  return output;
}
