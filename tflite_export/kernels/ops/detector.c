#include "../include/detector.h"

#include <string.h>

static bool within(int32_t value, int32_t low, int32_t high) { return low <= value && value <= high; }

static bool good_keywords(const kws_detector_config* c) {
  for (int32_t i = 0; i < c->keyword_count; ++i) {
    if (!within(c->keywords[i], 0, c->classes - 1)) return false;
    for (int32_t j = 0; j < i; ++j) {
      if (c->keywords[i] == c->keywords[j]) return false;
    }
  }
  return true;
}

bool kws_detector_init(kws_detector* detector, const kws_detector_config* c, int16_t* history, size_t history_count) {
  if (!detector || !c || !c->keywords || !c->thresholds || !history) return false;
  if (!within(c->classes, c->margin ? 2 : 1, KWS_DETECTOR_CLASSES)) return false;
  if (!within(c->keyword_count, 1, KWS_DETECTOR_KEYWORDS) || !within(c->window, 1, KWS_DETECTOR_WINDOW)) return false;
  if (c->refractory < 0 || !within(c->zero_point, -128, 127) || !good_keywords(c)) return false;
  if (history_count < KWS_DETECTOR_HISTORY(c->keyword_count, c->window)) return false;
  detector->classes = c->classes;
  detector->keyword_count = c->keyword_count;
  detector->window = c->window;
  detector->refractory = c->refractory;
  detector->zero_point = c->zero_point;
  detector->margin = c->margin;
  memcpy(detector->keywords, c->keywords, (size_t)c->keyword_count * sizeof c->keywords[0]);
  memcpy(detector->thresholds, c->thresholds, (size_t)c->keyword_count * sizeof c->thresholds[0]);
  detector->history = history;
  kws_detector_reset(detector);
  return true;
}

void kws_detector_reset(kws_detector* detector) {
  detector->seen = detector->next = detector->wait = 0;
  memset(detector->sums, 0, sizeof detector->sums);
  const size_t count = KWS_DETECTOR_HISTORY(detector->keyword_count, detector->window);
  memset(detector->history, 0, count * sizeof detector->history[0]);
}

/* Adds the step's scores to the sums and takes those out that leave the window. */
static void slide(kws_detector* d, const int8_t* outputs) {
  int32_t best = -1, most = -256, second = -256;
  for (int32_t i = 0; d->margin && i < d->classes; ++i) {
    if (outputs[i] > most) {
      second = most;
      most = outputs[i];
      best = i;
    } else if (outputs[i] > second) {
      second = outputs[i];
    }
  }
  int16_t* row = d->history + (size_t)d->next * (size_t)d->keyword_count;
  for (int32_t k = 0; k < d->keyword_count; ++k) {
    const int32_t other = !d->margin ? d->zero_point : d->keywords[k] == best ? second : most;
    const int32_t score = outputs[d->keywords[k]] - other;
    d->sums[k] += score - row[k];
    row[k] = (int16_t)score;
  }
  d->next = d->next + 1 < d->window ? d->next + 1 : 0;
  if (d->seen < d->window) ++d->seen;
}

int32_t kws_detector_step(kws_detector* d, const int8_t* outputs) {
  slide(d, outputs);
  if (d->wait > 0) {
    --d->wait;
    return -1;
  }
  if (d->seen < d->window) return -1;
  int32_t winner = -1;
  uint32_t furthest = 0;
  for (int32_t k = 0; k < d->keyword_count; ++k) {
    if (d->sums[k] < d->thresholds[k]) continue;
    /* Not negative and below 2^32, which a signed difference may not hold. */
    const uint32_t above = (uint32_t)d->sums[k] - (uint32_t)d->thresholds[k];
    if (winner < 0 || above > furthest) {
      winner = k;
      furthest = above;
    }
  }
  if (winner >= 0) d->wait = d->refractory;
  return winner;
}

int32_t kws_detector_sum(const kws_detector* detector, int32_t keyword) {
  return within(keyword, 0, detector->keyword_count - 1) ? detector->sums[keyword] : 0;
}
