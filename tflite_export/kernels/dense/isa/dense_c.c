/* Dense kernel in plain C for machines without vectors. Each byte of weights is multiplied as it lies, or two rows of
 * few bits with one multiplication. */
#include "../../core/requantize.h"
#include "../dense_row.h"

#if KWS_NEEDS_C && (KWS_DENSE_STATIC || KWS_DENSE_DYNAMIC)

#if defined(__GNUC__)
#define INLINE __attribute__((always_inline)) static inline
#else
#define INLINE static inline
#endif

#if defined(__thumb__) && !defined(__thumb2__) /* Cortex-M0+ */
enum { FEW_REGISTERS = 1 };
#else
enum { FEW_REGISTERS = 0 };
#endif

/* Inputs between two tests of a loop's end. */
INLINE int at_once(const int bits) { return !FEW_REGISTERS ? 4 : bits == 4 ? 2 : 1; }

/* Hides what a value is made of: compilers would add the products of several inputs first, and run out of registers. */
#if defined(__GNUC__)
#define SETTLE(value) __asm__("" : "+r"(value))
#else
#define SETTLE(value) (void)(value)
#endif

#if KWS_DENSE_STATIC
static uint32_t sum_row(const int8_t* x, size_t n) {
  uint32_t sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t input = (uint32_t)x[i];
    sum += input;
  }
  return sum;
}

#endif

/* Sums of `count` slots, each with those above it in its byte, times x. Few at a time: they must stay in registers. */
INLINE void add_slots(const int bits, const int first, const int count, const uint8_t* w, const int8_t* x, size_t n,
                      uint32_t* sums) {
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4)
#define SLOT(i) kws_slots[bits][first + i < KWS_MAX_SLOTS ? first + i : 0]
#define ADD(i)                                                                                \
  if (i < count) {                                                                            \
    s##i += (uint32_t)(((int8_t)w[KWS_VECTOR * SLOT(i).byte + at] >> SLOT(i).shift) * input); \
    if (at_once(bits) > 1) SETTLE(s##i);                                                      \
  }
#define ADD_ALL(i)              \
  {                             \
    const int at = i;           \
    const int32_t input = x[i]; \
    EACH(ADD)                   \
  }
#define STORE(i) \
  if (i < count) sums[first + i] = s##i;
  uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0;
  for (const int8_t* const end = x + n; x != end; w += KWS_VECTOR * (bits - 1)) {
    const int8_t* const next = x + KWS_VECTOR;
    for (; x != next; x += at_once(bits), w += at_once(bits)) {
      ADD_ALL(0)
      if (at_once(bits) > 1) {
        ADD_ALL(1)
      }
      if (at_once(bits) > 2) {
        ADD_ALL(2) ADD_ALL(3)
      }
    }
  }
  EACH(STORE)
#undef EACH
#undef SLOT
#undef ADD
#undef ADD_ALL
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
SUMS_OF(3, 3, 3, 4, 0)
SUMS_OF(4, 4, 4, 0, 0)
SUMS_OF(5, 4, 5, 3, 0)
SUMS_OF(6, 4, 4, 4, 0)
SUMS_OF(7, 4, 4, 4, 2)
SUMS_OF(8, 4, 4, 0, 0)

/* Codes of few bits: two rows lie in a word, 16 bits apart, and one multiplication does both. No top bits are flipped
 * then: all codes count from 0. Four bits fit only 16 inputs, which pays where a product costs two instructions. */
INLINE bool in_lanes(const int bits) { return bits == 1 || bits == 2 || (bits == 4 && FEW_REGISTERS); }

/* Inputs, in whole blocks, whose sum fits a lane: n * 128 * (2^bits - 1) <= 2^15. */
INLINE size_t lane_inputs(const int bits) { return bits == 1 ? 256 : bits == 2 ? 80 : 16; }

/* What makes words of the bytes of one input, two of them for four bits. */
INLINE uint32_t lane_word(const int bits, const uint8_t* w) {
  const uint32_t flipped = bits == 1 ? 0x00080000 : 0x00800080;
  return (bits == 1 ? w[0] | (uint32_t)w[0] << 12 : w[0] | (uint32_t)w[KWS_VECTOR] << 16) ^ flipped;
}

/* dots[row] = sum(u * x) of a tile, u the code as it is. */
INLINE void add_lanes(const int bits, const uint8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  uint32_t mask = ((1u << bits) - 1) * 0x00010001;
  SETTLE(mask); /* in a register, so that one instruction shifts and masks */
  for (int row = 0; row < KWS_TILE; ++row) dots[row] = 0;
  for (const int8_t* const end = x + n; x != end;) {
    const size_t left = (size_t)(end - x), now = left < lane_inputs(bits) ? left : lane_inputs(bits);
    uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (const int8_t* const last = x + now; x != last; w += KWS_VECTOR * (bits - 1)) {
      for (const int8_t* const next = x + KWS_VECTOR; x != next; x += at_once(bits), w += at_once(bits)) {
#define ADD(i)                                                                           \
  {                                                                                      \
    const uint32_t input = (uint32_t)x[i], first = lane_word(bits, w + i);               \
    s0 += (first & mask) * input;                                                        \
    s1 += (first >> bits & mask) * input;                                                \
    const uint32_t second = bits == 4 ? lane_word(bits, w + 2 * KWS_VECTOR + i) : first; \
    s2 += (second >> (bits == 4 ? 0 : 2 * bits) & mask) * input;                         \
    s3 += (second >> (bits == 4 ? 4 : 3 * bits) & mask) * input;                         \
    if (at_once(bits) > 1) {                                                             \
      SETTLE(s0);                                                                        \
      SETTLE(s1);                                                                        \
      SETTLE(s2);                                                                        \
      SETTLE(s3);                                                                        \
    }                                                                                    \
  }
        ADD(0)
        if (at_once(bits) > 1) {
          ADD(1)
        }
        if (at_once(bits) > 2) {
          ADD(2) ADD(3)
        }
#undef ADD
      }
    }
    /* Rows of the low lanes, and how much further on those of the high ones are. */
    const int apart = bits == 1 ? 4 : 1, step = bits == 4 ? 4 : bits, second = bits == 4 ? 2 : 2 * bits;
#define SEPARATE(s, row)                                     \
  {                                                          \
    const int32_t low = (int16_t)s;                          \
    dots[row] += low;                                        \
    dots[row + apart] += (int32_t)(s - (uint32_t)low) >> 16; \
  }
    SEPARATE(s0, 0)
    SEPARATE(s1, step)
    SEPARATE(s2, second)
    SEPARATE(s3, second + step)
#undef SEPARATE
  }
}

#define DOTS_OF_LANES(bits)                                                                 \
  static void lanes_of_##bits(const uint8_t* w, const int8_t* x, size_t n, int32_t* dots) { \
    add_lanes(bits, w, x, n, dots);                                                         \
  }
DOTS_OF_LANES(1)
DOTS_OF_LANES(2)
DOTS_OF_LANES(4)

/* Rows whose codes are stored as signed numbers and not taken for others. */
INLINE unsigned signed_rows(int bits) { return in_lanes(bits) ? 0 : kws_signed_rows(bits); }

static KWS_NOINLINE const uint8_t* dots_of(int bits, const uint8_t* w, const int8_t* x, size_t n, int32_t* dots) {
  static void (*const lanes_of[5])(const uint8_t*, const int8_t*, size_t, int32_t*) = {
      NULL,
      KWS_WITH_WIDTH(1, lanes_of_1),
      KWS_WITH_WIDTH(2, lanes_of_2),
      NULL,
      KWS_WITH_WIDTH(4, FEW_REGISTERS ? lanes_of_4 : NULL),
  };
  static void (*const sums_of[9])(const uint8_t*, const int8_t*, size_t, uint32_t*) = {
      NULL,
      NULL,
      NULL,
      KWS_WITH_WIDTH(3, sums_of_3),
      KWS_WITH_WIDTH(4, FEW_REGISTERS ? NULL : sums_of_4),
      KWS_WITH_WIDTH(5, sums_of_5),
      KWS_WITH_WIDTH(6, sums_of_6),
      KWS_WITH_WIDTH(7, sums_of_7),
      KWS_WITH_WIDTH(8, sums_of_8),
  };
  if (in_lanes(bits)) {
    lanes_of[bits](w, x, n, dots);
  } else {
    uint32_t sums[KWS_MAX_SLOTS];
    sums_of[bits](w, x, n, sums);
    gather_slots(bits, sums, dots);
  }
  return w + n * (size_t)bits;
}

#if KWS_DENSE_STATIC
/* Products of 64 bits of which the high half alone is needed. */
static bool make_scale(kws_scale* s, const kws_op* op) {
  if (!kws_make_scale(s, op)) return false;
  kws_raise_scale(s);
  return kws_only_high_half(s);
}

/* The outputs of a tile. */
static void finish(const kws_scale* s, const int32_t* dots, const uint32_t* constants, uint32_t first, int8_t* y) {
  const int32_t bias_factor = (int32_t)(1u << (s->bias_shift - 32)), add = (int32_t)(s->add >> 32),
                shift = s->shift - 32;
  const int8_t *gain = s->gain + first, *bias = s->bias + first;
  for (unsigned row = 0; row < KWS_TILE; ++row) {
    uint32_t acc = (uint32_t)s->factor * (uint32_t)dots[row] + constants[row];
    if (s->sums) acc -= (uint32_t)s->zero * (uint32_t)kws_read_signed(s->sums, first + row, 2);
    const int64_t product = (int64_t)(int32_t)acc * (gain[row] * s->multiplier);
    const int32_t value = ((int32_t)(product >> 32) + bias[row] * bias_factor + add) >> shift;
    y[row] = (int8_t)(value < s->low ? s->low : value > s->high ? s->high : value);
  }
}

#define KWS_DENSE_NAME kws_packed_dense_c
#define KWS_DENSE_ROWS KWS_TILE
#define KWS_DENSE_PLACES 1
#define KWS_DENSE_SUM sum_row
#define KWS_DENSE_SIGNED_ROWS signed_rows
#define KWS_DENSE_DOTS(bits, places, w, x, stride, n, dots) dots_of(bits, w, x, n, dots)
#define KWS_DENSE_MAKE_SCALE make_scale
#define KWS_DENSE_FINISH finish
#include "../dense_body.inc"
#endif

#if KWS_DENSE_DYNAMIC
#include "../dynamic.h"

static void dynamic_dots(const kws_op* op, const uint8_t* w, size_t step, uint32_t tiles, const int8_t* x, size_t n,
                         int32_t* dots) {
  for (; tiles; --tiles, w += step, dots += KWS_TILE) dots_of(op->options.bits, w, x, n, dots);
}

void kws_dynamic_dense_c(const kws_op* op) {
  const unsigned rows = op->options.bits > 8 ? 0 : signed_rows(op->options.bits);
  const kws_dynamic_parts parts = {dynamic_dots, rows, kws_dynamic_dot, NULL};
  kws_run_dynamic(op, &parts);
}
#endif

#endif
