/* TensorFlow Lite Micro's fixed-point front end for many frames at once: the twin of frontend/microfrontend.py, which
 * makes all tables and defines every integer. Plain C99 without intrinsics: compilers make vectors of the loops over
 * KWS_FRONTEND_LANES frames. No allocation, no state: calls may run at the same time on memory of their own. */
#ifndef TFMOT_KWS_MICROFRONTEND_H_
#define TFMOT_KWS_MICROFRONTEND_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever an argument or kws_frontend_tables changes: a library of other sources is refused, not misread. */
#define KWS_FRONTEND_VERSION 1

/* Entries of tables that do not depend on the configuration. */
enum { KWS_FRONTEND_LOG_ENTRIES = 130, KWS_FRONTEND_GAIN_ENTRIES = 33 * 3 };

enum { KWS_FRONTEND_MIN_FFT = 2, KWS_FRONTEND_MAX_FFT = 1 << 15, KWS_FRONTEND_MAX_MEL = 1 << 12 };

typedef enum {
  KWS_FRONTEND_OK = 0,
  KWS_FRONTEND_BAD_TABLES = 1,   /* sizes that do not belong together, or beyond the limits above */
  KWS_FRONTEND_BAD_SIZES = 2,    /* of the sound, the hop, the features or the noise estimate */
  KWS_FRONTEND_BAD_ESTIMATE = 3, /* a noise estimate outside of 0..2^32 - 1 */
  KWS_FRONTEND_BAD_SCRATCH = 4   /* too little of it */
} kws_frontend_status;

/* microfrontend.Tables. Every array comes with what it holds, which is checked before anything is read. */
typedef struct {
  const int16_t* window;      /* [window_count], in 1/4096 */
  const int16_t* turns;       /* [2][turns_count / 2], cosines and sines around the circle, in 1/32767 */
  const int16_t* last_turns;  /* [2][last_turns_count / 2], those of the last step of a transform of real numbers */
  const uint16_t* weights;    /* [weights_count], of all filters, one after the other, in 1/4096 */
  const int32_t* first_bin;   /* [first_bin_count], first bin of a filter, counted from `start` */
  const int32_t* first_entry; /* [first_entry_count], where a filter's weights begin; the last is weights_count */
  const int32_t* gain;        /* [gain_count], value and two coefficients per octave; none without the gain */
  const int32_t* gain_01;     /* [gain_01_count], at an estimate of 0 and of 1 */
  const int32_t* log_table;   /* [log_table_count] */
  int64_t window_count;
  int64_t turns_count;
  int64_t last_turns_count;
  int64_t weights_count;
  int64_t first_bin_count;
  int64_t first_entry_count;
  int64_t gain_count;
  int64_t gain_01_count;
  int64_t log_table_count;
  int32_t fft_size;
  int32_t start; /* first bin of all filters */
  int32_t bins;  /* and how many follow */
  int32_t mel;
  int32_t correction_bits;
  int32_t even_smoothing; /* of channels 0, 2, ..., in 1/16384 */
  int32_t odd_smoothing;
  int32_t min_signal; /* what is left of the signal at least, in 1/16384 */
} kws_frontend_tables;

/* KWS_FRONTEND_VERSION of this library. */
int32_t kws_frontend_version(void);

/* Bytes of scratch memory, at any address, that a call needs; 0 where the tables are not as they should be. */
int64_t kws_frontend_scratch(const kws_frontend_tables* tables);

/* Features of clips of equal length, `audio` [clips][samples]. `estimate` is the noise estimate [clips][mel] before the
 * first frame of each clip and becomes that after its last one. `features` is [clips][frames][mel], frames = 1 +
 * (samples - window) / hop, and 0 where a clip is shorter than the window. Nothing is written unless KWS_FRONTEND_OK is
 * returned. */
int32_t kws_frontend_features(const kws_frontend_tables* tables, const int16_t* audio, int64_t audio_count,
                              int64_t clips, int64_t samples, int64_t hop, int64_t* estimate, int64_t estimate_count,
                              uint16_t* features, int64_t features_count, void* scratch, int64_t scratch_bytes);

#ifdef __cplusplus
}
#endif

#endif
