/* From the outputs of a model, step by step, to events: smoothing, threshold, refractory time, several keywords.
 *
 * The C twin of tfmot_kws/evaluation/detector.py, which defines what an event is: the same events at the same steps.
 * Integers only, no allocation, no floating point. The caller owns the state and the memory of the window:
 *
 *     static kws_detector detector;
 *     static int16_t history[KWS_DETECTOR_HISTORY(1, 8)];
 *     kws_detector_init(&detector, &config, history, KWS_DETECTOR_HISTORY(1, 8))
 *     ...
 *     if (kws_detector_step(&detector, outputs) >= 0) wake_up(); */
#ifndef TFMOT_KWS_DETECTOR_H_
#define TFMOT_KWS_DETECTOR_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KWS_DETECTOR_KEYWORDS = 16, KWS_DETECTOR_CLASSES = 32767, KWS_DETECTOR_WINDOW = 32767 };

/* Elements of int16_t that the window of so many keywords takes. */
#define KWS_DETECTOR_HISTORY(keywords, window) ((size_t)(keywords) * (size_t)(window))

/* What counts as an event. Thresholds are for the sum over a window: DetectorConfig.sum_thresholds. */
typedef struct {
  int32_t classes;           /* outputs of the model, 1..KWS_DETECTOR_CLASSES */
  int32_t keyword_count;     /* 1..KWS_DETECTOR_KEYWORDS */
  const int32_t* keywords;   /* [keyword_count] class of each, all different */
  const int32_t* thresholds; /* [keyword_count] */
  int32_t window;            /* steps that are summed, 1..KWS_DETECTOR_WINDOW */
  int32_t refractory;        /* steps after an event without another one, 0 or more */
  int32_t zero_point;        /* of the outputs, -128..127 */
  bool margin;               /* score: output minus the best of the others; else output minus zero point */
} kws_detector_config;

/* State between steps. Its fields are for kws_detector_*() only. */
typedef struct {
  int32_t classes, keyword_count, window, refractory, zero_point;
  bool margin;
  int32_t seen, next, wait; /* steps in the window, the row to write next, steps left without an event */
  int32_t keywords[KWS_DETECTOR_KEYWORDS], thresholds[KWS_DETECTOR_KEYWORDS], sums[KWS_DETECTOR_KEYWORDS];
  int16_t* history; /* [window, keyword_count], a ring */
} kws_detector;

/* Copies the config and resets. False, and nothing is changed, where a pointer is missing, a number is out of range or
 * history has fewer elements than KWS_DETECTOR_HISTORY(keyword_count, window). */
bool kws_detector_init(kws_detector* detector, const kws_detector_config* config, int16_t* history,
                       size_t history_count);

/* Forgets all steps. */
void kws_detector_reset(kws_detector* detector);

/* One step with outputs [classes]. The keyword of the event, 0..keyword_count - 1, or -1 where there is none. */
int32_t kws_detector_step(kws_detector* detector, const int8_t* outputs);

/* Sum over the window of one keyword; 0 where there is no such keyword. Meaningful once `window` steps were seen. */
int32_t kws_detector_sum(const kws_detector* detector, int32_t keyword);

#ifdef __cplusplus
}
#endif
#endif
