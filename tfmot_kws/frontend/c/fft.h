/* The FFT of TensorFlow Lite Micro's front end: 16 bits, a decimation in time with a rounding after every product. */
#ifndef TFMOT_KWS_FFT_H_
#define TFMOT_KWS_FFT_H_

#include <stdint.h>

/* Frames that are transformed at once; one 16-bit number of each lies beside those of the others. */
enum { KWS_FRONTEND_LANES = 16 };

typedef int16_t kws_lanes[KWS_FRONTEND_LANES];

/* Where sample pair i of a transform of `half` complex numbers belongs: places[i], a permutation of 0..half - 1. */
void kws_fft_places(uint16_t* places, int32_t half);

/* Transforms the real numbers x[2i], in real[places[i]], and x[2i + 1], in imag[places[i]]; bin 0 becomes 0.
 * `half` is a power of two; `turns` and `last_turns` are those of kws_frontend_tables. */
void kws_fft_real(kws_lanes* real, kws_lanes* imag, int32_t half, const int16_t* turns, const int16_t* last_turns);

#endif
