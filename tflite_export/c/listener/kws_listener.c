#include "kws_listener.h"

#include <string.h>

#include "detector.h"
#include "kws_inference.h"
#include "kws_spotter.h"
#include "packed_kernels.h"

enum {
  HOP = KWS_INFERENCE_STREAM_HOP,
  ROWS = KWS_INFERENCE_STREAM_ROWS,
  FRAME_BYTES = KWS_INFERENCE_INPUT_0_BYTES / HOP,
  ROW_BYTES = KWS_INFERENCE_OUTPUT_0_BYTES / ROWS,
  WORDS = (int)(sizeof kws_spotter_words / sizeof kws_spotter_words[0])
};

#if defined(__GNUC__)
static uint8_t arena[KWS_INFERENCE_ARENA_BYTES] __attribute__((aligned(16)));
#else
static _Alignas(16) uint8_t arena[KWS_INFERENCE_ARENA_BYTES];
#endif
static kws_detector detector;
static int16_t history[KWS_SPOTTER_HISTORY];
static int32_t frames; /* of the run to come */
static int32_t early;  /* rows that mean nothing yet */
static uint32_t rows;
#ifdef KWS_SPOTTER_RAW
static int16_t waiting[FRAME_BYTES / 2]; /* samples that do not fill a frame yet */
static size_t waits;
#endif

bool kws_listener_begin(void) {
#ifdef KWS_SELF_TEST
  kws_error error = {0, 0, 0};
  if (!kws_self_test(&error)) return false;
#endif
#ifdef KWS_INFERENCE_STATE_BYTES
  kws_inference_reset(arena);
#endif
  frames = KWS_INFERENCE_STREAM_LEAD;
  early = KWS_INFERENCE_STREAM_LAG;
  rows = 0;
#ifdef KWS_SPOTTER_RAW
  waits = 0;
#endif
  return kws_detector_init(&detector, &kws_spotter_detector, history, KWS_SPOTTER_HISTORY);
}

int32_t kws_listener_frame_bytes(void) { return FRAME_BYTES; }

int32_t kws_listener_hop_ms(void) { return KWS_SPOTTER_HOP_MS; }

int32_t kws_listener_window_ms(void) { return KWS_SPOTTER_WINDOW_MS; }

kws_front_end_settings kws_listener_front_end(void) {
  kws_front_end_settings settings = {0};
#ifdef KWS_SPOTTER_FEATURES
  settings.micro = true;
  settings.pcan = KWS_SPOTTER_PCAN;
#endif
#ifdef KWS_SPOTTER_RAW
  settings.raw = true;
#endif
  settings.sample_rate = KWS_SPOTTER_SAMPLE_RATE;
  settings.window_ms = KWS_SPOTTER_WINDOW_MS;
  settings.hop_ms = KWS_SPOTTER_HOP_MS;
  settings.mel_bins = KWS_SPOTTER_MEL_BINS;
  settings.lower_hz = KWS_SPOTTER_LOWER_HZ;
  settings.upper_hz = KWS_SPOTTER_UPPER_HZ;
  return settings;
}

bool kws_listener_frame(const int8_t* frame, kws_listener_heard heard, void* context) {
  memcpy(arena + KWS_INFERENCE_INPUT_0_OFFSET + frames * FRAME_BYTES, frame, FRAME_BYTES);
  if (++frames < HOP) return true;
  frames = 0;
  if (!kws_inference_run(arena)) return false;
  const int8_t* output = (const int8_t*)arena + KWS_INFERENCE_OUTPUT_0_OFFSET;
  for (int32_t row = 0; row < ROWS; ++row) {
    if (early) {
      --early;
      continue;
    }
    const int32_t keyword = kws_detector_step(&detector, output + row * ROW_BYTES);
    if (keyword >= 0) heard(context, keyword, KWS_SPOTTER_FIRST_MS + rows * KWS_SPOTTER_STEP_MS);
    ++rows;
  }
  return true;
}

bool kws_listener_values(const uint16_t* values, kws_listener_heard heard, void* context) {
#ifdef KWS_SPOTTER_FEATURES
  int8_t frame[FRAME_BYTES];
  for (int32_t i = 0; i < FRAME_BYTES; ++i)
    frame[i] = kws_spotter_features[values[i] < KWS_SPOTTER_FEATURES ? values[i] : KWS_SPOTTER_FEATURES - 1];
  return kws_listener_frame(frame, heard, context);
#else
  (void)values;
  (void)heard;
  (void)context;
  return false;
#endif
}

bool kws_listener_samples(const int16_t* samples, size_t count, kws_listener_heard heard, void* context) {
#ifdef KWS_SPOTTER_RAW
  for (; count; --count) {
    waiting[waits++] = *samples++;
    if (waits < FRAME_BYTES / 2) continue;
    waits = 0;
    if (!kws_listener_frame((const int8_t*)waiting, heard, context)) return false;
  }
  return true;
#else
  (void)samples;
  (void)count;
  (void)heard;
  (void)context;
  return false;
#endif
}

int32_t kws_listener_words(void) { return WORDS; }

const char* kws_listener_word(int32_t keyword) {
  return keyword >= 0 && keyword < WORDS ? kws_spotter_words[keyword] : NULL;
}

double kws_listener_score(int32_t keyword) { return KWS_SPOTTER_SCORE(kws_detector_sum(&detector, keyword)); }

uint32_t kws_listener_rows(void) { return rows; }
