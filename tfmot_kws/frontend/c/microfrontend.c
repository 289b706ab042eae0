#include "microfrontend.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "fft.h"

enum {
  LANES = KWS_FRONTEND_LANES,
  WINDOW_BITS = 12,
  FILTER_BITS = 12,
  NOISE_BITS = 14,
  SMOOTHING_BITS = 10,
  PCAN_GAIN_BITS = 21,
  PCAN_SNR_BITS = 12,
  PCAN_OUTPUT_BITS = 6,
  LOG_SEGMENT_BITS = 7,
  LOG_SCALE_BITS = 16,
  LN2_16 = 45426, /* round(ln(2) * 2^16) */
  LOG_OUTPUT_SHIFT = 6,
  ALIGNMENT = 64
};

/* Bits of a number, 0 of 0. */
static inline int32_t bit_length(uint32_t x) {
#if defined(__GNUC__)
  return x ? 32 - __builtin_clz(x) : 0;
#else
  int32_t bits = 0;
  for (int step = 16; step; step /= 2)
    if (x >> bits >> step) bits += step;
  return x ? bits + 1 : 0;
#endif
}

static bool in_order(const kws_frontend_tables* t) {
  if (t->first_bin_count != t->mel || t->first_entry_count != t->mel + 1) return false;
  if (t->first_entry[0] != 0 || t->first_entry[t->mel] != t->weights_count) return false;
  for (int32_t c = 0; c < t->mel; c++) {
    const int64_t count = (int64_t)t->first_entry[c + 1] - t->first_entry[c];
    if (count < 0 || t->first_bin[c] < 0 || t->first_bin[c] + count > t->bins) return false;
  }
  return true;
}

static bool fits(const kws_frontend_tables* t) {
  const int32_t fft = t->fft_size;
  if (fft < KWS_FRONTEND_MIN_FFT || fft > KWS_FRONTEND_MAX_FFT || (fft & (fft - 1))) return false;
  if (t->window_count < 1 || t->window_count > fft || t->turns_count != fft) return false;
  if (t->last_turns_count != fft / 4 * 2 || t->mel < 1 || t->mel > KWS_FRONTEND_MAX_MEL) return false;
  if (t->start < 0 || t->bins < 0 || t->start > fft / 2 || t->bins > fft / 2 - t->start) return false;
  if (t->correction_bits != bit_length((uint32_t)fft) - 1 - FILTER_BITS / 2) return false;
  const bool gain = t->gain_count == KWS_FRONTEND_GAIN_ENTRIES && t->gain_01_count == 2;
  if (!gain && (t->gain_count || t->gain_01_count)) return false;
  if (t->log_table_count != KWS_FRONTEND_LOG_ENTRIES) return false;
  const int32_t one = 1 << NOISE_BITS;
  if (t->even_smoothing < 0 || t->even_smoothing > one || t->odd_smoothing < 0 || t->odd_smoothing > one) return false;
  return t->min_signal >= 0 && t->min_signal <= one && in_order(t);
}

/* Scratch memory of a call. */
typedef struct {
  kws_lanes *real, *imag; /* [fft / 2] */
  uint64_t* energy;       /* [bins][LANES] */
  uint32_t* signal;       /* [LANES][mel], roots of the filtered energies */
  uint16_t* places;       /* [fft / 2], of kws_fft_places */
  int16_t* row;           /* [window], a frame behind the window */
} workspace;

static int64_t aligned(int64_t size) { return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* Places its parts from `base` on; returns the bytes that they take. */
static int64_t divide(const kws_frontend_tables* t, char* base, workspace* w) {
  const int64_t half = t->fft_size / 2;
  const int64_t sizes[] = {
      half * (int64_t)sizeof(kws_lanes),
      half * (int64_t)sizeof(kws_lanes),
      t->bins * LANES * (int64_t)sizeof(uint64_t),
      t->mel * LANES * (int64_t)sizeof(uint32_t),
      half * (int64_t)sizeof(uint16_t),
      t->window_count * (int64_t)sizeof(int16_t),
  };
  enum { PARTS = sizeof sizes / sizeof sizes[0] };
  int64_t total = 0;
  void* parts[PARTS] = {NULL};
  for (int i = 0; i < PARTS; i++) {
    if (base) parts[i] = base + total;
    total += aligned(sizes[i]);
  }
  if (w)
    *w = (workspace){(kws_lanes*)parts[0], (kws_lanes*)parts[1], (uint64_t*)parts[2],
                     (uint32_t*)parts[3],  (uint16_t*)parts[4],  (int16_t*)parts[5]};
  return total;
}

/* A frame behind the window, as loud as 16 bits allow, into a lane; returns by how many bits it was shifted. */
static int32_t load(const kws_frontend_tables* t, const int16_t* restrict samples, int lane, const workspace* w) {
  const int32_t window = (int32_t)t->window_count;
  const int16_t* restrict weights = t->window;
  int16_t* restrict row = w->row;
  int16_t peak = 0; /* |-32768| wraps and does not count */
  for (int32_t i = 0; i < window; i++) {
    const int16_t x = (int16_t)((samples[i] * weights[i]) >> WINDOW_BITS);
    const int16_t size = (int16_t)(x < 0 ? -x : x);
    row[i] = x;
    peak = size > peak ? size : peak;
  }
  const int32_t shift = 15 - bit_length((uint32_t)peak), factor = 1 << shift;
  for (int32_t i = 0; i < window; i++) row[i] = (int16_t)(row[i] * factor);
  int32_t i = 0;
  for (; i < window / 2; i++) {
    const uint16_t place = w->places[i];
    w->real[place][lane] = row[2 * i];
    w->imag[place][lane] = row[2 * i + 1];
  }
  for (; i < t->fft_size / 2; i++) {
    const uint16_t place = w->places[i];
    w->real[place][lane] = 2 * i < window ? row[2 * i] : 0;
    w->imag[place][lane] = 0;
  }
  return shift;
}

static void clear(const kws_frontend_tables* t, int lane, const workspace* w) {
  for (int32_t i = 0; i < t->fft_size / 2; i++) w->real[i][lane] = w->imag[i][lane] = 0;
}

static uint32_t rounded_root(uint64_t x) {
  uint64_t root = (uint64_t)sqrt((double)x);
  root -= root * root > x;
  const bool up = x - root * root > root && !(x <= UINT32_MAX && root == UINT16_MAX);
  return (uint32_t)(root + up);
}

/* Roots of the energies of all filters and lanes. */
static void filter(const kws_frontend_tables* t, const int32_t* shifts, const workspace* w) {
  for (int32_t bin = 0; bin < t->bins; bin++) {
    const int16_t *real = w->real[t->start + bin], *imag = w->imag[t->start + bin];
    uint64_t* restrict energy = w->energy + bin * LANES;
    for (int i = 0; i < LANES; i++) energy[i] = (uint32_t)(real[i] * real[i]) + (uint32_t)(imag[i] * imag[i]);
  }
  for (int32_t c = 0; c < t->mel; c++) {
    uint64_t sums[LANES] = {0};
    const uint16_t* weights = t->weights + t->first_entry[c];
    const uint64_t* energy = w->energy + t->first_bin[c] * LANES;
    const int32_t count = t->first_entry[c + 1] - t->first_entry[c];
    for (int32_t k = 0; k < count; k++, energy += LANES)
      for (int i = 0; i < LANES; i++) sums[i] += (uint64_t)(uint32_t)energy[i] * weights[k];
    for (int i = 0; i < LANES; i++) w->signal[i * t->mel + c] = rounded_root(sums[i]) >> shifts[i];
  }
}

static uint32_t gain_control(const kws_frontend_tables* t, uint32_t signal, uint32_t estimate) {
  int64_t gain;
  if (estimate < 2) {
    gain = t->gain_01[estimate];
  } else {
    const int32_t octave = bit_length(estimate);
    const int32_t* entry = t->gain + 3 * octave;
    const int64_t value = entry[0], linear = entry[1], square = entry[2];
    const int64_t fraction = (octave < 11 ? estimate << (11 - octave) : estimate >> (octave - 11)) & 0x3FF;
    gain = (((square * fraction) >> 5) + linear * 32) * fraction;
    gain = ((gain + (1 << 14)) >> 15) + value;
  }
  const int32_t shift = PCAN_GAIN_BITS - t->correction_bits - PCAN_SNR_BITS;
  const uint64_t snr = (uint32_t)((signal * (uint64_t)gain) >> shift);
  if (snr < 2 << PCAN_SNR_BITS) return (uint32_t)((snr * snr) >> (2 + 2 * PCAN_SNR_BITS - PCAN_OUTPUT_BITS));
  return (uint32_t)(snr >> (PCAN_SNR_BITS - PCAN_OUTPUT_BITS)) - (1 << PCAN_OUTPUT_BITS);
}

/* 64 ln(signal), a table of log2 with straight lines between its entries. */
static uint16_t logarithm(const kws_frontend_tables* t, uint32_t signal) {
  const uint32_t value = t->correction_bits >= 0 ? signal << t->correction_bits : signal >> -t->correction_bits;
  if (value <= 1) return 0;
  const int32_t whole = bit_length(value) - 1;
  const uint32_t rest = value - ((uint32_t)1 << whole);
  const uint32_t fraction =
      whole < LOG_SCALE_BITS ? rest << (LOG_SCALE_BITS - whole) : rest >> (whole - LOG_SCALE_BITS);
  enum { SEGMENT_BITS = LOG_SCALE_BITS - LOG_SEGMENT_BITS };
  const uint32_t segment = fraction >> SEGMENT_BITS, along = fraction & ((1 << SEGMENT_BITS) - 1);
  const int64_t low = t->log_table[segment], high = t->log_table[segment + 1];
  const int64_t log2 =
      (int64_t)whole * (1 << LOG_SCALE_BITS) + fraction + low + (((high - low) * along) >> LOG_SCALE_BITS);
  const int64_t half = 1 << (LOG_SCALE_BITS - 1), natural = (LN2_16 * log2 + half) >> LOG_SCALE_BITS;
  const int64_t scaled = (natural * (1 << LOG_OUTPUT_SHIFT) + half) >> LOG_SCALE_BITS;
  return (uint16_t)(scaled < UINT16_MAX ? scaled : UINT16_MAX);
}

/* A frame: noise reduction, gain, logarithm. Moves the estimate on. */
static void normalize(const kws_frontend_tables* t, const uint32_t* signal, int64_t* estimates, uint16_t* out) {
  for (int32_t c = 0; c < t->mel; c++) {
    const uint32_t now = signal[c], scaled = now << SMOOTHING_BITS;
    const uint64_t smoothing = (uint64_t)(c % 2 ? t->odd_smoothing : t->even_smoothing);
    const uint64_t rest = (1 << NOISE_BITS) - smoothing;
    const uint32_t estimate = (uint32_t)((scaled * smoothing + (uint64_t)estimates[c] * rest) >> NOISE_BITS);
    estimates[c] = estimate;
    uint32_t clean = (scaled - (estimate < scaled ? estimate : scaled)) >> SMOOTHING_BITS;
    const uint32_t least = (uint32_t)((now * (uint64_t)t->min_signal) >> NOISE_BITS);
    clean = clean > least ? clean : least;
    if (t->gain_count) clean = gain_control(t, clean, estimate);
    out[c] = logarithm(t, clean);
  }
}

int32_t kws_frontend_version(void) { return KWS_FRONTEND_VERSION; }

int64_t kws_frontend_scratch(const kws_frontend_tables* tables) {
  return fits(tables) ? divide(tables, NULL, NULL) + ALIGNMENT : 0;
}

int32_t kws_frontend_features(const kws_frontend_tables* tables, const int16_t* audio, int64_t audio_count,
                              int64_t clips, int64_t samples, int64_t hop, int64_t* estimate, int64_t estimate_count,
                              uint16_t* features, int64_t features_count, void* scratch, int64_t scratch_bytes) {
  const kws_frontend_tables* t = tables;
  if (!fits(t)) return KWS_FRONTEND_BAD_TABLES;
  if (clips < 0 || samples < 0 || hop < 1) return KWS_FRONTEND_BAD_SIZES;
  if ((samples && clips > INT64_MAX / samples) || audio_count != clips * samples) return KWS_FRONTEND_BAD_SIZES;
  const int64_t frames = samples < t->window_count ? 0 : 1 + (samples - t->window_count) / hop;
  if (clips > INT64_MAX / t->mel || estimate_count != clips * t->mel) return KWS_FRONTEND_BAD_SIZES;
  if (frames && estimate_count > INT64_MAX / frames) return KWS_FRONTEND_BAD_SIZES;
  if (features_count != estimate_count * frames) return KWS_FRONTEND_BAD_SIZES;
  if (scratch_bytes < kws_frontend_scratch(t)) return KWS_FRONTEND_BAD_SCRATCH;
  for (int64_t i = 0; i < estimate_count; i++)
    if (estimate[i] < 0 || estimate[i] > UINT32_MAX) return KWS_FRONTEND_BAD_ESTIMATE;
  char* base = (char*)scratch;
  workspace w;
  divide(t, base + (ALIGNMENT - (uintptr_t)base % ALIGNMENT) % ALIGNMENT, &w);
  kws_fft_places(w.places, t->fft_size / 2);
  const int64_t total = clips * frames; /* frames of all clips, one after the other: lanes hold those of several */
  for (int64_t first = 0; first < total; first += LANES) {
    const int used = total - first < LANES ? (int)(total - first) : LANES;
    int32_t shifts[LANES] = {0};
    for (int lane = 0; lane < used; lane++) {
      const int64_t clip = (first + lane) / frames, frame = (first + lane) % frames;
      shifts[lane] = load(t, audio + clip * samples + frame * hop, lane, &w);
    }
    for (int lane = used; lane < LANES; lane++) clear(t, lane, &w);
    kws_fft_real(w.real, w.imag, t->fft_size / 2, t->turns, t->last_turns);
    filter(t, shifts, &w);
    for (int lane = 0; lane < used; lane++) {
      const int64_t index = first + lane;
      normalize(t, w.signal + lane * t->mel, estimate + index / frames * t->mel, features + index * t->mel);
    }
  }
  return KWS_FRONTEND_OK;
}
