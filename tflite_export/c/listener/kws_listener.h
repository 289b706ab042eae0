/* A spotter that listens: frames of features in, keywords out. What 'tfmot-kws firmware' wrote is all that it needs.
 *
 *     static void heard(void* context, int32_t keyword, uint32_t ms) { wake_up(kws_listener_word(keyword)); }
 *     ...
 *     if (!kws_listener_begin()) stop();
 *     for (;;) if (!kws_listener_frame(next_frame(), heard, NULL)) stop();
 *
 * One model in a program, called from one thread. No allocation, no interpreter. */
#ifndef KWS_LISTENER_H_
#define KWS_LISTENER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is called for each keyword: its number, and the milliseconds of sound until then. */
typedef void (*kws_listener_heard)(void* context, int32_t keyword, uint32_t ms);

/* Forgets all sound. False where the kernels of this build compute wrong numbers (with -DKWS_SELF_TEST) or where the
 * detector's settings are wrong. */
bool kws_listener_begin(void);

/* Bytes of a frame. */
int32_t kws_listener_frame_bytes(void);

/* Milliseconds of sound from frame to frame, and that a frame is made of. */
int32_t kws_listener_hop_ms(void);
int32_t kws_listener_window_ms(void);

/* The front end that the model was trained on, and where each setting goes in TFLM's struct FrontendConfig, once
 * FrontendFillConfigWithDefaults has filled that. What is not here stays as it is filled. */
typedef struct {
  bool micro;                /* Whether it is TFLM's. */
  bool raw;                  /* Whether it is none: kws_listener_samples() takes sound. */
  int32_t sample_rate;       /* FrontendPopulateState's */
  int32_t window_ms, hop_ms; /* window.size_ms, window.step_size_ms */
  int32_t mel_bins;          /* filterbank.num_channels */
  float lower_hz, upper_hz;  /* filterbank.lower_band_limit, filterbank.upper_band_limit */
  bool pcan;                 /* pcan_gain_control.enable_pcan, which is off by default */
} kws_front_end_settings;
kws_front_end_settings kws_listener_front_end(void);

/* The next frame [kws_listener_frame_bytes()], int8 as the model takes it. False where this build has no kernel for a
 * layer, which is so for every frame or for none. */
bool kws_listener_frame(const int8_t* frame, kws_listener_heard heard, void* context);

/* The same of what TFLM's front end gives: values [count], count as kws_listener_frame_bytes(). False as well where the
 * model was trained on another front end. */
bool kws_listener_values(const uint16_t* values, kws_listener_heard heard, void* context);

/* Sound for a model that makes features of it itself: samples of 16 bits, mono, kws_listener_front_end().sample_rate a
 * second, as many at once as there are. False as kws_listener_frame() is, and where the model was trained on features.
 */
bool kws_listener_samples(const int16_t* samples, size_t count, kws_listener_heard heard, void* context);

/* Number of keywords, and the name of one; NULL where there is no such keyword. */
int32_t kws_listener_words(void);
const char* kws_listener_word(int32_t keyword);

/* The mean score of a keyword over the detector's window, in the model's real units. */
double kws_listener_score(int32_t keyword);

/* Rows of the model's output so far that the detector has seen. */
uint32_t kws_listener_rows(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_LISTENER_H_ */
