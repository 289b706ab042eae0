/* Frames that TensorFlow Lite Micro's front end (microfrontend, from your own tree) makes of sound.wav: 16 bits, mono,
 * at the rate that the model wants. Settings are those that the model was trained on, and so are the values.
 */
#include <stdio.h>
#include <string.h>

#include "frames.h"
#include "kws_spotter.h"
#include "tensorflow/lite/experimental/microfrontend/lib/frontend.h"
#include "tensorflow/lite/experimental/microfrontend/lib/frontend_util.h"

#ifndef KWS_SPOTTER_FEATURES
#error "the model was trained on features of another front end than TFLM's; use frames_file.c"
#endif

enum { BLOCK = 160, FORMAT_BYTES = 16 };

static FILE* file;
static struct FrontendState frontend;
static int16_t block[BLOCK];
static size_t filled, used; /* of the block */
static uint32_t left;       /* samples of the file */

static uint32_t number(const uint8_t* bytes, int count) {
  uint32_t value = 0;
  while (count--) value = value << 8 | bytes[count];
  return value;
}

/* Goes to the samples and counts them. */
static bool read_header(void) {
  uint8_t head[12], format[FORMAT_BYTES] = {0};
  if (fread(head, 1, 12, file) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4)) return false;
  while (fread(head, 1, 8, file) == 8) {
    const uint32_t bytes = number(head + 4, 4);
    if (!memcmp(head, "data", 4)) {
      left = bytes / 2;
      return number(format, 2) == 1 && number(format + 2, 2) == 1 && number(format + 14, 2) == 16 &&
             number(format + 4, 4) == KWS_SPOTTER_SAMPLE_RATE;
    }
    const bool is_format = !memcmp(head, "fmt ", 4) && bytes >= FORMAT_BYTES;
    if (is_format && fread(format, 1, FORMAT_BYTES, file) != FORMAT_BYTES) return false;
    if (fseek(file, (long)(bytes + bytes % 2 - (is_format ? FORMAT_BYTES : 0)), SEEK_CUR)) return false;
  }
  return false;
}

bool frames_open(void) {
  file = fopen("sound.wav", "rb");
  if (!file || !read_header()) {
    printf("sound.wav is missing, or not mono with 16 bits at %d Hz\n", KWS_SPOTTER_SAMPLE_RATE);
    return false;
  }
  struct FrontendConfig config;
  FrontendFillConfigWithDefaults(&config);
  config.window.size_ms = KWS_SPOTTER_WINDOW_MS;
  config.window.step_size_ms = KWS_SPOTTER_HOP_MS;
  config.filterbank.num_channels = KWS_SPOTTER_MEL_BINS;
  config.filterbank.lower_band_limit = KWS_SPOTTER_LOWER_HZ;
  config.filterbank.upper_band_limit = KWS_SPOTTER_UPPER_HZ;
  config.pcan_gain_control.enable_pcan = KWS_SPOTTER_PCAN;
  return FrontendPopulateState(&config, &frontend, KWS_SPOTTER_SAMPLE_RATE);
}

/* The next samples of the file. */
static bool fill(void) {
  const size_t wanted = left < BLOCK ? left : BLOCK;
  filled = fread(block, sizeof block[0], wanted, file);
  left = filled < wanted ? 0 : left - (uint32_t)filled;
  used = 0;
  return filled;
}

bool frames_next(int8_t* frame) {
  while (used < filled || fill()) {
    size_t taken = 0;
    const struct FrontendOutput made = FrontendProcessSamples(&frontend, block + used, filled - used, &taken);
    used += taken;
    for (size_t i = 0; i < made.size; ++i) {
      const size_t last = KWS_SPOTTER_FEATURES - 1;
      frame[i] = kws_spotter_features[made.values[i] < last ? made.values[i] : last];
    }
    if (made.size) return true;
  }
  return false;
}
