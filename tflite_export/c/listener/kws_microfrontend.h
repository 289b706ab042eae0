/* From a microphone's samples to keywords: TensorFlow Lite Micro's front end ("microfrontend", of your own tree or
 * library), set up as this model was trained, in front of kws_listener. Nothing else includes this file.
 *
 *     static struct FrontendState front_end;
 *     if (!kws_listener_begin() || !kws_microfrontend_begin(&front_end)) stop();
 *     for (;;) if (!kws_microfrontend_samples(&front_end, samples, count, heard, NULL)) stop();
 *
 * Samples are 16 bits, mono, kws_listener_front_end().sample_rate a second, as many at once as there are. */
#ifndef KWS_MICROFRONTEND_H_
#define KWS_MICROFRONTEND_H_

#include "kws_listener.h"
#include "tensorflow/lite/experimental/microfrontend/lib/frontend.h"
#include "tensorflow/lite/experimental/microfrontend/lib/frontend_util.h"

/* Allocates, as the library does. False where there is no memory, or the model was trained on another front end. */
static inline bool kws_microfrontend_begin(struct FrontendState* state) {
  const kws_front_end_settings settings = kws_listener_front_end();
  struct FrontendConfig config;
  if (!settings.micro) return false;
  FrontendFillConfigWithDefaults(&config);
  config.window.size_ms = (size_t)settings.window_ms;
  config.window.step_size_ms = (size_t)settings.hop_ms;
  config.filterbank.num_channels = settings.mel_bins;
  config.filterbank.lower_band_limit = settings.lower_hz;
  config.filterbank.upper_band_limit = settings.upper_hz;
  config.pcan_gain_control.enable_pcan = settings.pcan;
  return FrontendPopulateState(&config, state, settings.sample_rate) != 0;
}

/* False as kws_listener_values() is, which gets every frame that the samples complete. */
static inline bool kws_microfrontend_samples(struct FrontendState* state, const int16_t* samples, size_t count,
                                             kws_listener_heard heard, void* context) {
  while (count) {
    size_t taken = 0;
    const struct FrontendOutput made = FrontendProcessSamples(state, samples, count, &taken);
    if (made.size && !kws_listener_values(made.values, heard, context)) return false;
    samples += taken;
    count -= taken;
  }
  return true;
}

#endif /* KWS_MICROFRONTEND_H_ */
