/* Prints what TensorFlow Lite Micro's front end makes of 16-bit samples on stdin, as uint16 on stdout.
 * Arguments: rate, window and hop in ms, mel channels, lower and upper Hz, 1 or 0 for PCAN. See make_golden.py.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tensorflow/lite/experimental/microfrontend/lib/frontend.h"
#include "tensorflow/lite/experimental/microfrontend/lib/frontend_util.h"

int main(int count, char** values) {
  if (count != 8) return 2;
  struct FrontendConfig config;
  struct FrontendState state;
  FrontendFillConfigWithDefaults(&config);
  config.window.size_ms = (size_t)atoi(values[2]);
  config.window.step_size_ms = (size_t)atoi(values[3]);
  config.filterbank.num_channels = atoi(values[4]);
  config.filterbank.lower_band_limit = (float)atof(values[5]);
  config.filterbank.upper_band_limit = (float)atof(values[6]);
  config.pcan_gain_control.enable_pcan = atoi(values[7]);
  if (!FrontendPopulateState(&config, &state, atoi(values[1]))) return 3;
  int16_t samples[160];
  size_t filled, used, taken;
  while ((filled = fread(samples, sizeof samples[0], 160, stdin))) {
    for (used = 0; used < filled; used += taken) {
      const struct FrontendOutput made = FrontendProcessSamples(&state, samples + used, filled - used, &taken);
      if (made.size) fwrite(made.values, sizeof made.values[0], made.size, stdout);
    }
  }
  FrontendFreeStateContents(&state);
  return 0;
}
