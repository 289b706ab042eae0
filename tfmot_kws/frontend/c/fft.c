#include "fft.h"

/* One number of every frame, which no other pointer of a function reaches. */
#define ROW int16_t* restrict

/* A number in 1/32768 as one of 16 bits, rounded; what does not fit wraps around. */
static inline int16_t rounded(int32_t x) { return (int16_t)((x + (1 << 14)) >> 15); }

static inline int16_t plus(int16_t a, int16_t b) { return (int16_t)(a + b); }

static inline int16_t minus(int16_t a, int16_t b) { return (int16_t)(a - b); }

/* rounded(x * twice / 2) by halves of the product, which vector units have for every number of 16 bits at once. */
static inline int16_t scaled(int16_t x, int16_t twice) {
  const int32_t product = x * twice;
  const uint16_t low = (uint16_t)product;
  return (int16_t)((product >> 16) + (low >> 15));
}

static inline int16_t halved(int16_t x) { return scaled(x, 2 * 16383); }

/* Two transforms of one number each to one of two. */
static void pairs(ROW r0, ROW i0, ROW r1, ROW i1) {
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) {
    const int16_t a_r = halved(r0[i]), a_i = halved(i0[i]), b_r = halved(r1[i]), b_i = halved(i1[i]);
    r0[i] = plus(a_r, b_r);
    i0[i] = plus(a_i, b_i);
    r1[i] = minus(a_r, b_r);
    i1[i] = minus(a_i, b_i);
  }
}

typedef struct {
  int16_t r, i;
} number;

static inline number quartered(int16_t r, int16_t i) { return (number){scaled(r, 2 * 8191), scaled(i, 2 * 8191)}; }

static inline number turned(number x, int16_t factor_r, int16_t factor_i) {
  return (number){rounded(x.r * factor_r - x.i * factor_i), rounded(x.r * factor_i + x.i * factor_r)};
}

static inline number added(number a, number b) { return (number){plus(a.r, b.r), plus(a.i, b.i)}; }

static inline number taken(number a, number b) { return (number){minus(a.r, b.r), minus(a.i, b.i)}; }

typedef struct {
  number bins[4];
} four_bins;

/* A bin of each of four transforms to four of one. */
static inline four_bins combined(number a, number b, number c, number d) {
  const number low = added(a, c), high = taken(a, c), sum = added(b, d), difference = taken(b, d);
  const number turn = {difference.i, minus(0, difference.r)};
  return (four_bins){{added(low, sum), added(high, turn), taken(low, sum), taken(high, turn)}};
}

#define STORE(k, x) (r##k[i] = (x).r, i##k[i] = (x).i)

/* The first bins, of which none is turned: a product with 32767/32768 changes no number that was quartered. */
static void fours(ROW r0, ROW i0, ROW r1, ROW i1, ROW r2, ROW i2, ROW r3, ROW i3) {
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) {
    const four_bins sums =
        combined(quartered(r0[i], i0[i]), quartered(r1[i], i1[i]), quartered(r2[i], i2[i]), quartered(r3[i], i3[i]));
    STORE(0, sums.bins[0]);
    STORE(1, sums.bins[1]);
    STORE(2, sums.bins[2]);
    STORE(3, sums.bins[3]);
  }
}

/* The others; `f` are the factors (real, imag) of the second, third and fourth. */
static void turned_fours(ROW r0, ROW i0, ROW r1, ROW i1, ROW r2, ROW i2, ROW r3, ROW i3, const int16_t f[6]) {
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) {
    const number b = turned(quartered(r1[i], i1[i]), f[0], f[1]), c = turned(quartered(r2[i], i2[i]), f[2], f[3]);
    const four_bins sums = combined(quartered(r0[i], i0[i]), b, c, turned(quartered(r3[i], i3[i]), f[4], f[5]));
    STORE(0, sums.bins[0]);
    STORE(1, sums.bins[1]);
    STORE(2, sums.bins[2]);
    STORE(3, sums.bins[3]);
  }
}

/* Makes transforms of n numbers of four of n / 4 each, which lie one after the other, in their place. */
static void stage_4(kws_lanes* real, kws_lanes* imag, int32_t half, int32_t n, const int16_t* turns) {
  const int32_t m = n / 4, step = half / n;
  for (int32_t block = 0; block < half; block += n) {
    kws_lanes *r = real + block, *s = imag + block;
    fours(r[0], s[0], r[m], s[m], r[2 * m], s[2 * m], r[3 * m], s[3 * m]);
    for (int32_t j = 1; j < m; j++) {
      const int32_t a = step * j;
      const int16_t f[6] = {turns[a],     turns[half + a],    turns[2 * a], turns[half + 2 * a],
                            turns[3 * a], turns[half + 3 * a]};
      r++;
      s++;
      turned_fours(r[0], s[0], r[m], s[m], r[2 * m], s[2 * m], r[3 * m], s[3 * m], f);
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
    const int16_t a_r = halved(near_r[i]), a_i = halved(near_i[i]);
    const int16_t b_r = halved(far_r[i]), b_i = halved((int16_t)-far_i[i]);
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
  if (n == 2)
    for (int32_t i = 0; i < half; i += 2) pairs(real[i], imag[i], real[i + 1], imag[i + 1]);
  while (n < half) {
    n *= 4;
    stage_4(real, imag, half, n, turns);
  }
  for (int i = 0; i < KWS_FRONTEND_LANES; i++) real[0][i] = imag[0][i] = 0;
  for (int32_t k = 1; k <= half / 2; k++)
    split(real[k], imag[k], real[half - k], imag[half - k], last_turns[k - 1], last_turns[half / 2 + k - 1]);
}
