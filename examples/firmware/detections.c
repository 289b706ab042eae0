#include "detections.h"

#include <math.h>
#include <stdio.h>

#include "detector.h"
#include "kws_spotter.h"

static kws_detector detector;
static int16_t history[KWS_SPOTTER_HISTORY];
static long rows, count;

bool detections_begin(void) {
  rows = count = 0;
  return kws_detector_init(&detector, &kws_spotter_detector, history, KWS_SPOTTER_HISTORY);
}

void detection_print(uint32_t ms, const char* word, double score) {
  const long hundredths = lrint(ms / 1000.0 * 100), minutes = hundredths / 6000;
  if (minutes >= 60) printf("%ld:", minutes / 60);
  printf("%02ld:%02ld.%02ld  %s  %.2f\n", minutes % 60, hundredths / 100 % 60, hundredths % 100, word, score);
}

void detections_row(const int8_t* outputs) {
  const int32_t word = kws_detector_step(&detector, outputs);
  if (word >= 0) {
    detection_print((uint32_t)(KWS_SPOTTER_FIRST_MS + rows * KWS_SPOTTER_STEP_MS), kws_spotter_words[word],
                    KWS_SPOTTER_SCORE(kws_detector_sum(&detector, word)));
    ++count;
  }
  ++rows;
}

void detections_end(void) { printf("%ld detections in %ld rows\n", count, rows); }
