#include "fft.h"

/* One number of every frame, which no other pointer of a function reaches. */
#define ROW int16_t* restrict

/* A number in 1/32768 as one of 16 bits, rounded; what does not fit wraps around. */
static inline int16_t rounded(int32_t x) { return (int16_t)((x + (1 << 14)) >> 15); }

static inline int16_t plus(int16_t a, int16_t b) { return (int16_t)(a + b); }

static inline int16_t minus(int16_t a, int16_t b) { return (int16_t)(a - b); }

/* (real, imag) / parts, then times (factor_r, factor_i). */
static inline void scale(ROW real, ROW imag, int32_t part) {
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) {
    real[i] = rounded(real[i] * part);
    imag[i] = rounded(imag[i] * part);
  }
}

static inline void turn(ROW real, ROW imag, int16_t factor_r, int16_t factor_i) {
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) {
    const int16_t r = real[i], m = imag[i];
    real[i] = rounded(r * factor_r - m * factor_i);
    imag[i] = rounded(r * factor_i + m * factor_r);
  }
}

static void sum_2(ROW r0, ROW i0, ROW r1, ROW i1) {
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) {
    const int16_t r = r1[i], m = i1[i];
    r1[i] = minus(r0[i], r);
    i1[i] = minus(i0[i], m);
    r0[i] = plus(r0[i], r);
    i0[i] = plus(i0[i], m);
  }
}

static void sum_4(ROW r0, ROW i0, ROW r1, ROW i1, ROW r2, ROW i2, ROW r3, ROW i3) {
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) {
    const int16_t minus_r = minus(r0[i], r2[i]), minus_i = minus(i0[i], i2[i]);
    const int16_t plus_r = plus(r0[i], r2[i]), plus_i = plus(i0[i], i2[i]);
    const int16_t sum_r = plus(r1[i], r3[i]), sum_i = plus(i1[i], i3[i]);
    const int16_t diff_r = minus(r1[i], r3[i]), diff_i = minus(i1[i], i3[i]);
    r0[i] = plus(plus_r, sum_r);
    i0[i] = plus(plus_i, sum_i);
    r1[i] = plus(minus_r, diff_i);
    i1[i] = minus(minus_i, diff_r);
    r2[i] = minus(plus_r, sum_r);
    i2[i] = minus(plus_i, sum_i);
    r3[i] = minus(minus_r, diff_i);
    i3[i] = plus(minus_i, diff_r);
  }
}

/* Makes transforms of n numbers of `radix` transforms of m each, which lie one after the other, in their place. */
static void stage(kws_lanes* real, kws_lanes* imag, int32_t half, int32_t n, int32_t radix, const int16_t* turns) {
  const int32_t m = n / radix, step = half / n, part = 32767 / radix;
  for (int32_t block = 0; block < half; block += n) {
    for (int32_t j = 0; j < m; j++) {
      kws_lanes *r = real + block + j, *im = imag + block + j;
      for (int32_t k = 0; k < radix; k++) {
        scale(r[k * m], im[k * m], part);
        /* A turn by nothing, a product with 32767/32768, changes no number that was scaled. */
        if (k && j) turn(r[k * m], im[k * m], turns[step * j * k], turns[half + step * j * k]);
      }
      if (radix == 2)
        sum_2(r[0], im[0], r[m], im[m]);
      else
        sum_4(r[0], im[0], r[m], im[m], r[2 * m], im[2 * m], r[3 * m], im[3 * m]);
    }
  }
}

void kws_fft_places(uint16_t* places, int32_t half) {
  for (int32_t i = 0; i < half; i++) {
    int32_t rest = i, place = 0;
    for (int32_t n = half; n > 1;) {
      const int32_t radix = n % 4 == 0 ? 4 : 2;
      n /= radix;
      place += rest % radix * n;
      rest /= radix;
    }
    places[i] = (uint16_t)place;
  }
}

/* Bins k and half - k of real numbers of those of a complex transform; both are the same row where k is half / 2. */
static void split(int16_t* near_r, int16_t* near_i, int16_t* far_r, int16_t* far_i, int16_t factor_r,
                  int16_t factor_i) {
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) {
    const int16_t a_r = rounded(near_r[i] * 16383), a_i = rounded(near_i[i] * 16383);
    const int16_t b_r = rounded(far_r[i] * 16383), b_i = rounded((int16_t)-far_i[i] * 16383);
    const int16_t even_r = plus(a_r, b_r), even_i = plus(a_i, b_i);
    const int16_t diff_r = minus(a_r, b_r), diff_i = minus(a_i, b_i);
    const int16_t odd_r = rounded(diff_r * factor_r - diff_i * factor_i);
    const int16_t odd_i = rounded(diff_r * factor_i + diff_i * factor_r);
    near_r[i] = (int16_t)((even_r + odd_r) >> 1);
    near_i[i] = (int16_t)((even_i + odd_i) >> 1);
    far_r[i] = (int16_t)((even_r - odd_r) >> 1);
    far_i[i] = (int16_t)((odd_i - even_i) >> 1);
  }
}

void kws_fft_real(kws_lanes* real, kws_lanes* imag, int32_t half, const int16_t* turns, const int16_t* last_turns) {
  int32_t inner = half; /* transforms that are not made yet: the innermost has a radix of 2 where half is 2 * 4^k */
  while (inner % 4 == 0) inner /= 4;
  int32_t n = inner;
  if (n == 2) stage(real, imag, half, 2, 2, turns);
  while (n < half) {
    n *= 4;
    stage(real, imag, half, n, 4, turns);
  }
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) real[0][i] = imag[0][i] = 0;
  for (int32_t k = 1; k <= half / 2; k++)
    split(real[k], imag[k], real[half - k], imag[half - k], last_turns[k - 1], last_turns[half / 2 + k - 1]);
}
