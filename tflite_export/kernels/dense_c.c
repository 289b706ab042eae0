/* Dense kernel in plain C for machines without vectors: each byte of weights is multiplied as it lies. */
#include "dense_row.h"
#include "requantize.h"

#if defined(__GNUC__)
#define INLINE __attribute__((always_inline)) static inline
#else
#define INLINE static inline
#endif

static uint32_t sum_row(const int8_t* x, size_t n) {
  uint32_t sum = 0;
  for (size_t i = 0; i < n; ++i) sum += (uint32_t)x[i];
  return sum;
}

/* Sums of `count` slots, each with those above it in its byte, times x. Few at a time: they must stay in registers. */
INLINE void add_slots(const int bits, const int first, const int count, const uint8_t* w, const int8_t* x, size_t n,
                      uint32_t* sums) {
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4)
#define SLOT(i) kws_slots[bits][first + i < KWS_MAX_SLOTS ? first + i : 0]
#define ADD(i) \
  if (i < count) s##i += (uint32_t)(((int8_t)w[KWS_VECTOR * SLOT(i).byte] >> SLOT(i).shift) * input);
#define STORE(i) \
  if (i < count) sums[first + i] = s##i;
  uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0;
  for (const int8_t* const end = x + n; x != end; w += KWS_VECTOR * (bits - 1)) {
    const int8_t* const next = x + KWS_VECTOR;
    for (; x != next; ++x, ++w) {
      const int32_t input = *x;
      EACH(ADD)
    }
  }
  EACH(STORE)
#undef EACH
#undef SLOT
#undef ADD
#undef STORE
}

/* Separates the slots of each byte, and puts the rows together. */
static void gather_slots(int bits, uint32_t* sums, int32_t* dots) {
  for (int row = 0; row < KWS_TILE; ++row) dots[row] = 0;
  for (int i = 0; i < kws_slot_counts[bits]; ++i) {
    const kws_slot s = kws_slots[bits][i];
    if (s.shift + s.width < 8) sums[i] -= sums[i + 1] << s.width;
    dots[s.row] = (int32_t)((uint32_t)dots[s.row] + (sums[i] << s.low));
  }
}

/* sums_of_4() and so on: two to four passes over x, cut between bytes where a byte has no more than 5 slots. */
#define SUMS_OF(bits, a, b, c, d)                                                           \
  static void sums_of_##bits(const uint8_t* w, const int8_t* x, size_t n, uint32_t* sums) { \
    add_slots(bits, 0, a, w, x, n, sums);                                                   \
    add_slots(bits, a, b, w, x, n, sums);                                                   \
    if (c) add_slots(bits, a + b, c, w, x, n, sums);                                        \
    if (d) add_slots(bits, a + b + c, d, w, x, n, sums);                                    \
  }
SUMS_OF(1, 4, 4, 0, 0)
SUMS_OF(2, 4, 4, 0, 0)
SUMS_OF(3, 3, 3, 4, 0)
SUMS_OF(4, 4, 4, 0, 0)
SUMS_OF(5, 4, 5, 3, 0)
SUMS_OF(6, 4, 4, 4, 0)
SUMS_OF(7, 4, 4, 4, 2)
SUMS_OF(8, 4, 4, 0, 0)

static KWS_NOINLINE const uint8_t* dots_of(int bits, const uint8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  static void (*const sums_of[9])(const uint8_t*, const int8_t*, size_t, uint32_t*) = {
      NULL,
      KWS_WITH_WIDTH(1, sums_of_1),
      KWS_WITH_WIDTH(2, sums_of_2),
      KWS_WITH_WIDTH(3, sums_of_3),
      KWS_WITH_WIDTH(4, sums_of_4),
      KWS_WITH_WIDTH(5, sums_of_5),
      KWS_WITH_WIDTH(6, sums_of_6),
      KWS_WITH_WIDTH(7, sums_of_7),
      KWS_WITH_WIDTH(8, sums_of_8),
  };
  uint32_t sums[KWS_MAX_SLOTS];
  sums_of[bits](w, x, n, sums);
  gather_slots(bits, sums, dots);
  return w + n * (size_t)bits;
}

#define KWS_DENSE_NAME kws_packed_dense_c
#define KWS_DENSE_ROWS KWS_TILE
#define KWS_DENSE_PLACES 1
#define KWS_DENSE_SUM sum_row
#define KWS_DENSE_DOTS(bits, places, w, x, stride, n, dots) dots_of(bits, w, x, n, dots)
#define KWS_DENSE_FINISH(scale, dots, constants, first, y) kws_dense_finish(op, dots, constants, first, KWS_TILE, y)
#include "dense_body.inc"
