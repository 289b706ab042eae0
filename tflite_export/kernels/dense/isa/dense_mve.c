/* Dense kernel for Arm's M-profile vectors (Helium): Cortex-M55, M85.
 *
 * VMLADAVA multiplies 16 bytes and adds all products to one of the even registers, so the 8 of them hold 8 sums of
 * weights times x, and 8 sums share each load of x. Multiplications alternate with loads or shifts: a core with two
 * beats a cycle runs the two at the same time. Widths of more than 8 slots take two passes over x. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_MVE && ((KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)) || KWS_DENSE_DYNAMIC)

/* The assembly takes all registers, and code that is not optimized keeps one for itself. */
#if !defined(__OPTIMIZE__) && !defined(__clang__)
#pragma GCC optimize("O1", "omit-frame-pointer")
#endif

#include <arm_mve.h>

#include "../../core/requantize.h"
#include "../dense_row.h"

#if KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)
static uint32_t sum_row(const int8_t* x, size_t n) {
  int32_t sum = 0;
  const int8_t* const end = x + n;
  if (n & KWS_VECTOR) {
    sum = vaddvq_s8(vldrbq_s8(x));
    x += KWS_VECTOR;
  }
  for (; x != end; x += 2 * KWS_VECTOR) sum = vaddvaq_s8(vaddvaq_s8(sum, vldrbq_s8(x)), vldrbq_s8(x + KWS_VECTOR));
  return (uint32_t)sum;
}

#endif

/* The eight sums. */
#define S0 "r0"
#define S1 "r2"
#define S2 "r4"
#define S3 "r6"
#define S4 "r8"
#define S5 "r10"
#define S6 "r12"
#define S7 "lr"

/* One instruction each; x lies in q0. FIRST loads a vector of a block and steps to the next block, BACK loads another
 * one, counted back from there. */
#define INPUTS "vldrb.u8 q0, [%[x]], #16\n"
#define FIRST(q, step) "vldrb.u8 " q ", [%[w]], #" step "\n"
#define BACK(q, bytes) "vldrb.u8 " q ", [%[w], #-" bytes "]\n"
#define SHIFT(to, from, by) "vshr.s8 " to ", " from ", #" by "\n"
#define MULTIPLY(sum, q) "vmladava.s8 " sum ", " q ", q0\n"
/* Takes the slot above, which starts `width` bits higher, from a sum. */
#define SEPARATE(sum, above, width) "sub " sum ", " sum ", " above ", lsl #" width "\n"
#define STORE_4 "stm %[sums], {r0, r2, r4, r6}\n"
#define STORE_6 "stm %[sums], {r0, r2, r4, r6, r8, r10}\n"
#define STORE_8 "stm %[sums], {r0, r2, r4, r6, r8, r10, r12, lr}\n"

static const uint32_t zeros[8] = {0};

/* Runs `BLOCK`, the code for 16 inputs, along n inputs, four at a time while there are four; then `THEN`, which stores
 * the sums at `to`. In fixed registers: r7 is left to compilers that keep a frame pointer. Clang, which does so before
 * version 22 if it is not told otherwise, then finds no places by itself. */
#define PASS(to, BLOCK, THEN)                                                                        \
  do {                                                                                               \
    register const uint8_t* weights __asm__("r5") = w;                                               \
    register const int8_t* from __asm__("r1") = x;                                                   \
    register const void* fours __asm__("r9") = zeros; /* then the end of the groups of four */       \
    register size_t end __asm__("r11") = n;           /* then the end of x */                        \
    register int32_t* const sums_at __asm__("r3") = (to);                                            \
    __asm__ volatile(                                                                                \
        "ldm %[fours], {r0, r2, r4, r6, r8, r10, r12, lr}\n"                                         \
        "bic %[fours], %[end], #63\n add %[fours], %[x]\n add %[end], %[x]\n"                        \
        "cmp %[x], %[fours]\n beq 2f\n"                                                              \
        "1:\n" BLOCK BLOCK BLOCK BLOCK                                                               \
        "cmp %[x], %[fours]\n bne 1b\n"                                                              \
        "2:\n cmp %[x], %[end]\n beq 4f\n"                                                           \
        "3:\n" BLOCK                                                                                 \
        "cmp %[x], %[end]\n bne 3b\n"                                                                \
        "4:\n" THEN                                                                                  \
        : [w] "+r"(weights), [x] "+r"(from), [fours] "+r"(fours), [end] "+r"(end)                    \
        : [sums] "r"(sums_at)                                                                        \
        : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "cc", "memory"); \
    w = weights;                                                                                     \
    x = from;                                                                                        \
  } while (0)

/* Two passes over x. `SKIP` bytes of each block and `SLOTS` slots belong to the first. */
#define TWO_PASSES(bits, BLOCK_1, THEN_1, SKIP, SLOTS, BLOCK_2, THEN_2) \
  const int8_t* const inputs = x;                                       \
  const uint8_t* const start = w;                                       \
  int32_t sums[KWS_MAX_SLOTS];                                          \
  PASS(sums, BLOCK_1, THEN_1);                                          \
  x = inputs;                                                           \
  w = start + (SKIP);                                                   \
  PASS(sums + (SLOTS), BLOCK_2, THEN_2);                                \
  gather_slots(bits, sums, dots);                                       \
  return w - (SKIP)

/* Puts together the codes of a width whose slots are scattered. */
static inline void gather_slots(const int bits, const int32_t* sums, int32_t* dots) {
  uint32_t rows[KWS_TILE] = {0};
  for (int slot = 0; slot < kws_slot_counts[bits]; ++slot)
    rows[kws_slots[bits][slot].row] += (uint32_t)sums[slot] << kws_slots[bits][slot].low;
  for (int row = 0; row < KWS_TILE; ++row) dots[row] = (int32_t)rows[row];
}

/* The dots of a block row of n inputs. Returns the weights of the next block row. */
typedef const uint8_t* dots_function(const uint8_t* w, const int8_t* x, size_t n, int32_t* dots);
#define DOTS_FUNCTION(name) static const uint8_t* name(const uint8_t* w, const int8_t* x, size_t n, int32_t* dots)

/* clang-format off */
DOTS_FUNCTION(dots_of_1) {
  PASS(dots,
       INPUTS FIRST("q1", "16")
       SHIFT("q2", "q1", "1") MULTIPLY(S0, "q1")
       SHIFT("q3", "q1", "2") MULTIPLY(S1, "q2")
       SHIFT("q2", "q1", "3") MULTIPLY(S2, "q3")
       SHIFT("q3", "q1", "4") MULTIPLY(S3, "q2")
       SHIFT("q2", "q1", "5") MULTIPLY(S4, "q3")
       SHIFT("q3", "q1", "6") MULTIPLY(S5, "q2")
       SHIFT("q2", "q1", "7") MULTIPLY(S6, "q3")
       MULTIPLY(S7, "q2"),
       SEPARATE(S0, S1, "1") SEPARATE(S1, S2, "1") SEPARATE(S2, S3, "1") SEPARATE(S3, S4, "1")
       SEPARATE(S4, S5, "1") SEPARATE(S5, S6, "1") SEPARATE(S6, S7, "1") STORE_8);
  return w;
}

DOTS_FUNCTION(dots_of_2) {
  PASS(dots,
       INPUTS FIRST("q1", "32")
       SHIFT("q2", "q1", "2") MULTIPLY(S0, "q1")
       SHIFT("q3", "q1", "4") MULTIPLY(S2, "q2")
       SHIFT("q2", "q1", "6") MULTIPLY(S4, "q3")
       BACK("q1", "16") MULTIPLY(S6, "q2")
       SHIFT("q2", "q1", "2") MULTIPLY(S1, "q1")
       SHIFT("q3", "q1", "4") MULTIPLY(S3, "q2")
       SHIFT("q2", "q1", "6") MULTIPLY(S5, "q3")
       MULTIPLY(S7, "q2"),
       SEPARATE(S0, S2, "2") SEPARATE(S1, S3, "2") SEPARATE(S2, S4, "2") SEPARATE(S3, S5, "2")
       SEPARATE(S4, S6, "2") SEPARATE(S5, S7, "2") STORE_8);
  return w;
}

DOTS_FUNCTION(dots_of_3) {
  TWO_PASSES(3,
             INPUTS FIRST("q1", "48")
             SHIFT("q2", "q1", "2") MULTIPLY(S0, "q1")
             SHIFT("q3", "q1", "5") MULTIPLY(S1, "q2")
             BACK("q1", "32") MULTIPLY(S2, "q3")
             SHIFT("q2", "q1", "2") MULTIPLY(S3, "q1")
             SHIFT("q3", "q1", "5") MULTIPLY(S4, "q2")
             MULTIPLY(S5, "q3"),
             SEPARATE(S0, S1, "2") SEPARATE(S1, S2, "3") SEPARATE(S3, S4, "2") SEPARATE(S4, S5, "3")
             STORE_6,
             32, 6,
             INPUTS FIRST("q1", "48")
             SHIFT("q2", "q1", "1") MULTIPLY(S0, "q1")
             SHIFT("q3", "q1", "2") MULTIPLY(S1, "q2")
             SHIFT("q2", "q1", "5") MULTIPLY(S2, "q3")
             MULTIPLY(S3, "q2"),
             SEPARATE(S0, S1, "1") SEPARATE(S1, S2, "1") SEPARATE(S2, S3, "3")
             STORE_4);
}

DOTS_FUNCTION(dots_of_4) {
  PASS(dots,
       INPUTS FIRST("q1", "64")
       SHIFT("q3", "q1", "4") MULTIPLY(S0, "q1") BACK("q2", "48") MULTIPLY(S4, "q3")
       SHIFT("q3", "q2", "4") MULTIPLY(S1, "q2") BACK("q1", "32") MULTIPLY(S5, "q3")
       SHIFT("q3", "q1", "4") MULTIPLY(S2, "q1") BACK("q2", "16") MULTIPLY(S6, "q3")
       SHIFT("q3", "q2", "4") MULTIPLY(S3, "q2")
       MULTIPLY(S7, "q3"),
       SEPARATE(S0, S4, "4") SEPARATE(S1, S5, "4") SEPARATE(S2, S6, "4") SEPARATE(S3, S7, "4") STORE_8);
  return w;
}

/* Three bytes of two slots each, `width` bits below a code; the other bytes lie `second` and `third` bytes back. */
#define THREE_PAIRS(step, width, second, third)                                     \
  INPUTS FIRST("q1", step)                                                          \
  SHIFT("q3", "q1", width) MULTIPLY(S0, "q1") BACK("q2", second) MULTIPLY(S1, "q3") \
  SHIFT("q3", "q2", width) MULTIPLY(S2, "q2") BACK("q1", third) MULTIPLY(S3, "q3")  \
  SHIFT("q3", "q1", width) MULTIPLY(S4, "q1")                                       \
  MULTIPLY(S5, "q3")
#define SEPARATE_PAIRS(width)                                                       \
  SEPARATE(S0, S1, width) SEPARATE(S2, S3, width) SEPARATE(S4, S5, width)           \
  STORE_6

DOTS_FUNCTION(dots_of_5) {
  TWO_PASSES(5,
             THREE_PAIRS("80", "3", "64", "48"), SEPARATE_PAIRS("3"),
             48, 6,
             INPUTS FIRST("q1", "80")
             SHIFT("q2", "q1", "2") MULTIPLY(S0, "q1")
             SHIFT("q3", "q1", "3") MULTIPLY(S1, "q2")
             BACK("q1", "64") MULTIPLY(S2, "q3")
             SHIFT("q2", "q1", "2") MULTIPLY(S3, "q1")
             SHIFT("q3", "q1", "3") MULTIPLY(S4, "q2")
             MULTIPLY(S5, "q3"),
             SEPARATE(S0, S1, "2") SEPARATE(S1, S2, "1") SEPARATE(S3, S4, "2") SEPARATE(S4, S5, "1")
             STORE_6);
}

DOTS_FUNCTION(dots_of_6) {
  TWO_PASSES(6,
             THREE_PAIRS("96", "2", "80", "64"), SEPARATE_PAIRS("2"),
             48, 6,
             THREE_PAIRS("96", "2", "80", "64"), SEPARATE_PAIRS("2"));
}

DOTS_FUNCTION(dots_of_7) {
  TWO_PASSES(7,
             INPUTS FIRST("q1", "112")
             SHIFT("q3", "q1", "1") MULTIPLY(S0, "q1") BACK("q2", "96") MULTIPLY(S1, "q3")
             SHIFT("q3", "q2", "1") MULTIPLY(S2, "q2") BACK("q1", "80") MULTIPLY(S3, "q3")
             SHIFT("q3", "q1", "1") MULTIPLY(S4, "q1") BACK("q2", "64") MULTIPLY(S5, "q3")
             SHIFT("q3", "q2", "1") MULTIPLY(S6, "q2")
             MULTIPLY(S7, "q3"),
             SEPARATE(S0, S1, "1") SEPARATE(S2, S3, "1") SEPARATE(S4, S5, "1") SEPARATE(S6, S7, "1") STORE_8,
             64, 8,
             THREE_PAIRS("112", "1", "96", "80"), SEPARATE_PAIRS("1"));
}

DOTS_FUNCTION(dots_of_8) {
  /* A load reaches back less than a block, so the block is stepped over in two halves. */
  PASS(dots,
       INPUTS FIRST("q1", "64")
       BACK("q2", "48") MULTIPLY(S0, "q1") BACK("q1", "32") MULTIPLY(S1, "q2")
       BACK("q2", "16") MULTIPLY(S2, "q1") FIRST("q1", "64") MULTIPLY(S3, "q2")
       BACK("q2", "48") MULTIPLY(S4, "q1") BACK("q1", "32") MULTIPLY(S5, "q2")
       BACK("q2", "16") MULTIPLY(S6, "q1")
       MULTIPLY(S7, "q2"),
       STORE_8);
  return w;
}
/* clang-format on */

static dots_function* const dots_functions[9] = KWS_BY_WIDTH(dots_of_);

#if KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)

/* What requantize_8() reads: six constants that one LDM loads, and the sums. */
typedef struct {
  int32_t factor, multiplier, bias_factor, add, shift, minus_zero;
  int32_t dots[KWS_TILE];
  uint32_t constants[KWS_TILE];
} tile;

static bool make_scale(kws_scale* s, const kws_op* op) {
  if (!kws_make_scale(s, op) || (uintptr_t)s->sums % 2) return false; /* vectors of int16 must be aligned */
  kws_raise_scale(s);
  return true;
}

/* Channel parameters and outputs of the next channels. */
typedef struct {
  const int8_t *gain, *bias;
  const int16_t* sums; /* or NULL */
  int8_t* y;
} channels;

/* Eight outputs where kws_only_high_half(). In assembly, because it takes as long as 30 inputs. Constants lie in high
 * registers: loads that widen need low ones for their addresses. */
static inline void requantize_8(const tile* t, channels* c, int32x4_t low, int32x4_t high) {
  __asm__ volatile(
      "ldm %[t]!, {r8, r9, r10, r11, r12, lr}\n"
      "vldrw.u32 q0, [%[t], #32]\n"
      "vldrw.u32 q1, [%[t]]\n"
      "vmla.s32 q0, q1, r8\n"
      "vldrw.u32 q2, [%[t], #48]\n"
      "vldrw.u32 q3, [%[t], #16]\n"
      "vmla.s32 q2, q3, r8\n"
      "cmp %[sums], #0\n"
      "beq 1f\n"
      "vldrh.s32 q1, [%[sums]], #8\n"
      "vmla.s32 q0, q1, lr\n"
      "vldrh.s32 q3, [%[sums]], #8\n"
      "vmla.s32 q2, q3, lr\n"
      "1:\n"
      "vldrb.s32 q1, [%[gain]], #4\n"
      "vmul.i32 q1, q1, r9\n"
      "vldrb.s32 q3, [%[gain]], #4\n"
      "vmul.i32 q3, q3, r9\n"
      "vmulh.s32 q0, q0, q1\n"
      "vldrb.s32 q1, [%[bias]], #4\n"
      "vmulh.s32 q2, q2, q3\n"
      "vldrb.s32 q3, [%[bias]], #4\n"
      "vmla.s32 q0, q1, r10\n"
      "vmla.s32 q2, q3, r10\n"
      "vadd.i32 q0, q0, r11\n"
      "vshl.s32 q0, r12\n"
      "vadd.i32 q2, q2, r11\n"
      "vshl.s32 q2, r12\n"
      "vmin.s32 q0, q0, %q[high]\n"
      "vmin.s32 q2, q2, %q[high]\n"
      "vmax.s32 q0, q0, %q[low]\n"
      "vstrb.32 q0, [%[y]], #4\n"
      "vmax.s32 q2, q2, %q[low]\n"
      "vstrb.32 q2, [%[y]], #4\n"
      : [t] "+r"(t), [gain] "+l"(c->gain), [bias] "+l"(c->bias), [sums] "+l"(c->sums), [y] "+l"(c->y)
      : [low] "w"(low), [high] "w"(high)
      : "r8", "r9", "r10", "r11", "r12", "lr", "q0", "q1", "q2", "q3", "cc", "memory");
}

/* Four outputs from what their accumulators have without the zero point, for all constants of kws_scale. */
static void requantize_4(const kws_scale* s, int32x4_t acc, channels* c) {
  if (c->sums) {
    acc = vmlaq_n_s32(acc, vldrhq_s32(c->sums), -s->zero);
    c->sums += 4;
  }
  const int32x4_t scale = vmulq_n_s32(vldrbq_s32(c->gain), s->multiplier);
  const int32x4_t bias = vldrbq_s32(c->bias);
  const uint32x4_t low = vreinterpretq_u32_s32(vmulq_s32(acc, scale));
  const uint32x4_t sum = vaddq_u32(low, vreinterpretq_u32_s32(vshlq_r_s32(bias, s->bias_shift)));
  int32x4_t high = vaddq_s32(vmulhq_s32(acc, scale), vshlq_r_s32(bias, s->bias_shift - 32));
  high = vaddq_m_n_s32(high, high, 1, vcmphiq_u32(low, sum)); /* the carry */
  /* What rounds is the top bit of the low half, or lies in the high one. */
  if (s->shift == 32) high = vaddq_s32(high, vreinterpretq_s32_u32(vshrq_n_u32(sum, 31)));
  high = vshlq_r_s32(vaddq_n_s32(high, (int32_t)(s->add >> 32)), 32 - s->shift);
  high = vmaxq_s32(vminq_s32(high, vdupq_n_s32(s->high)), vdupq_n_s32(s->low));
  vstrbq_s32(c->y, high);
  c->gain += 4;
  c->bias += 4;
  c->y += 4;
}

/* `rows` outputs, a multiple of 8 and more than 0. */
static const uint8_t* blocks(const kws_scale* s, int bits, const uint8_t* w, const int8_t* x, size_t n,
                             const uint32_t* constants, uint32_t rows, int8_t* y) {
  dots_function* const dots = dots_functions[bits];
  int8_t* const end = y + rows;
  channels c = {s->gain, s->bias, (const int16_t*)(const void*)s->sums, y};
  tile t;
  t.factor = s->factor;
  t.multiplier = s->multiplier;
  t.add = (int32_t)(s->add >> 32);
  t.shift = 32 - s->shift;
  t.minus_zero = -s->zero;
  vstrwq_u32(t.constants, vldrwq_u32(constants));
  vstrwq_u32(t.constants + 4, vldrwq_u32(constants + 4));
  if (kws_only_high_half(s)) {
    const int32x4_t low = vdupq_n_s32(s->low), high = vdupq_n_s32(s->high);
    t.bias_factor = 1 << (s->bias_shift - 32);
    do {
      w = dots(w, x, n, t.dots);
      requantize_8(&t, &c, low, high);
    } while (c.y != end);
    return w;
  }
  do {
    w = dots(w, x, n, t.dots);
    for (int i = 0; i < KWS_TILE; i += 4)
      requantize_4(s, vmlaq_n_s32(vreinterpretq_s32_u32(vldrwq_u32(t.constants + i)), vldrwq_s32(t.dots + i), t.factor),
                   &c);
  } while (c.y != end);
  return w;
}

#define KWS_DENSE_NAME kws_packed_dense_mve
#define KWS_DENSE_ROWS KWS_TILE
#define KWS_DENSE_PLACES 1
#define KWS_DENSE_MAKE_SCALE make_scale
#define KWS_DENSE_SUM sum_row
#define KWS_DENSE_DOTS(bits, places, w, x, stride, n, dots) dots_functions[bits](w, x, n, dots)
#define KWS_DENSE_BLOCKS blocks
#include "../dense_body.inc"

#endif

#if KWS_DENSE_DYNAMIC
#include "../dynamic.h"

static void dynamic_dots(const kws_op* op, const uint8_t* w, size_t step, uint32_t tiles, const int8_t* x, size_t n,
                         int32_t* dots) {
  dots_function* const dots_of = dots_functions[op->options.bits];
  for (; tiles; --tiles, w += step, dots += KWS_TILE) dots_of(w, x, n, dots);
}

/* Vectors of int16 must be aligned, those of bytes not. */
static int64_t dynamic_dot(const uint8_t* w, const int16_t* x, size_t n) {
  int64_t sum = 0;
  size_t left = n;
  for (; left >= 32; left -= 32, w += 64, x += 32) {
    sum = vmlaldavaq_s16(sum, vreinterpretq_s16_u8(vldrbq_u8(w)), vldrhq_s16(x));
    sum = vmlaldavaq_s16(sum, vreinterpretq_s16_u8(vldrbq_u8(w + 16)), vldrhq_s16(x + 8));
    sum = vmlaldavaq_s16(sum, vreinterpretq_s16_u8(vldrbq_u8(w + 32)), vldrhq_s16(x + 16));
    sum = vmlaldavaq_s16(sum, vreinterpretq_s16_u8(vldrbq_u8(w + 48)), vldrhq_s16(x + 24));
  }
  for (; left >= 8; left -= 8, w += 16, x += 8)
    sum = vmlaldavaq_s16(sum, vreinterpretq_s16_u8(vldrbq_u8(w)), vldrhq_s16(x));
  if (left) {
    const uint8x16_t last = vldrbq_z_u8(w, vctp8q((uint32_t)(2 * left)));
    sum = vmlaldavaq_s16(sum, vreinterpretq_s16_u8(last), vldrhq_s16(x));
  }
  return sum;
}

void kws_dynamic_dense_mve(const kws_op* op) {
  const unsigned signed_rows = op->options.bits > 8 ? 0 : kws_signed_rows(op->options.bits);
  const kws_dynamic_parts parts = {dynamic_dots, signed_rows, dynamic_dot, NULL};
  kws_run_dynamic(op, &parts);
}
#endif

#endif
