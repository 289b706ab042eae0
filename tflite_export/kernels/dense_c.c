/* Dense kernel in plain C for machines without vectors: each byte of weights is multiplied as it lies. */
#include "dense_row.h"
#include "requantize.h"

static uint32_t sum_row(const int8_t* x, size_t n) {
  uint32_t sum = 0;
  for (size_t i = 0; i < n; ++i) sum += (uint32_t)x[i];
  return sum;
}

/* dots of one tile whose width is a constant for the compiler. */
static inline const uint8_t* dots_of(const int bits, const uint8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  uint32_t parts[KWS_MAX_SLOTS] = {0};
  const int8_t* const end = x + n;
  for (; x != end; x += KWS_VECTOR, w += KWS_VECTOR * bits) {
    for (int i = 0; i < KWS_VECTOR; ++i) {
      const int32_t value = x[i];
      for (int slot = 0; slot < kws_slot_counts[bits]; ++slot) {
        const kws_slot s = kws_slots[bits][slot];
        parts[slot] += (uint32_t)(((int8_t)w[KWS_VECTOR * s.byte + i] >> s.shift) * value);
      }
    }
  }
  for (int row = 0; row < KWS_TILE; ++row) dots[row] = 0;
  for (int slot = 0; slot < kws_slot_counts[bits]; ++slot) {
    const kws_slot s = kws_slots[bits][slot];
    if (s.shift + s.width < 8) parts[slot] -= parts[slot + 1] << s.width;
    dots[s.row] = (int32_t)((uint32_t)dots[s.row] + (parts[slot] << s.low));
  }
  return w;
}

static const uint8_t* dots_of_width(int bits, const uint8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  switch (bits) {
    case 1:
      return dots_of(1, w, x, n, dots);
    case 2:
      return dots_of(2, w, x, n, dots);
    case 3:
      return dots_of(3, w, x, n, dots);
    case 4:
      return dots_of(4, w, x, n, dots);
    case 5:
      return dots_of(5, w, x, n, dots);
    case 6:
      return dots_of(6, w, x, n, dots);
    case 7:
      return dots_of(7, w, x, n, dots);
    default:
      return dots_of(8, w, x, n, dots);
  }
}

#define KWS_DENSE_NAME kws_packed_dense_c
#define KWS_DENSE_ROWS KWS_TILE
#define KWS_DENSE_PLACES 1
#define KWS_DENSE_SUM sum_row
#define KWS_DENSE_DOTS(bits, places, w, x, stride, n, dots) dots_of_width(bits, w, x, n, dots)
#define KWS_DENSE_FINISH(scale, dots, constants, first, y) kws_dense_finish(op, dots, constants, first, KWS_TILE, y)
#include "dense_body.inc"
