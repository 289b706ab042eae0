/* Dense kernels for Arm cores whose integer registers hold two 16-bit lanes: Cortex-M4, M7, M33.
 *
 * SMLAD multiplies two lanes of weights with two inputs and adds both products. A row of inputs is widened to lanes
 * once (inputs i and i + 2 of each four, as SXTB16 makes them) and then read for all outputs. The loops are in
 * assembly: they need all registers. Sums wrap modulo 2^32 on their way; chunks are so short that what remains is
 * exact.
 *
 * kws_packed_dense_dsp reads the layout KWS_LAYOUT_DSP, kws_packed_dense_dsp_rows the layout for all chips. LDM needs
 * aligned words (KWS_WHOLE_WORDS), and sums of bytes as they are must fit 32 bits (KWS_SHORT_ROWS). */
#include "../../include/packed_kernels.h"

#if KWS_ISA_DSP && (KWS_DENSE_STATIC || KWS_DENSE_DYNAMIC)

#include "../../core/requantize.h"
#include "../dense_row.h"
#include "dense_dsp.h"

/* ---- The row of inputs. */

/* Widens n int8, a multiple of 16, and multiplies them by `factor`, 1 or 4. Returns their sum. */
static inline uint32_t widen_chunk(const int8_t* x, size_t n, const int factor, uint32_t* to) {
  uint32_t sum = 0;
  for (const int8_t* const end = x + n; x != end; x += 8) {
    for (int i = 0; i < 2; ++i) {
      const uint32_t four = load_word(x + 4 * i);
      uint32_t even = sxtb16(four), odd = sxtb16_odd(four);
      sum = smlad(odd, 0x00010001, smlad(even, 0x00010001, sum));
      for (int doubled = 1; doubled < factor; doubled *= 2) {
        even = add_lanes(even, even);
        odd = add_lanes(odd, odd);
      }
      *to++ = even;
      *to++ = odd;
    }
  }
  return sum;
}

#if KWS_DENSE_STATIC

/* Whether there are narrow codes, whose sums are made in chunks. */
enum { NARROW = KWS_HAS_LAYOUT(2) && (KWS_HAS_WIDTH(1) || KWS_HAS_WIDTH(2)) };

/* Widens a row of n int8 to lanes, in the order of SXTB16: of each four, inputs 0 and 2, then 1 and 3. Where there are
 * chunks, the first one is short if one is; each starts with a constant, and all with minus the constants' sum. Inputs
 * of two-bit weights are multiplied by 4, so that the high one of two sums starts at bit 16. Returns the sum of x. */
static uint32_t widen(const int8_t* x, size_t n, int stored, uint32_t* to) {
  if (!NARROW || stored > 2) return widen_chunk(x, n, 1, to);
  const size_t chunk = stored == 1 ? 128 : 32;
  uint32_t* const head = to++;
  uint32_t sum = 0, constants = 0;
  size_t length = (n - 1) % chunk + 1;
  for (; n; n -= length, length = chunk) {
    const uint32_t part = stored == 1 ? widen_chunk(x, length, 1, to + 1) : widen_chunk(x, length, 4, to + 1);
    /* The low sum lies around 1/2 of the sum of x and 3/2 of 4 times it; the low part has 15 and 16 bits. */
    *to = stored == 1 ? 16384u - (uint32_t)((int32_t)part >> 1) : 32768u - 6 * part;
    constants += *to;
    sum += part;
    x += length;
    to += 1 + length / 2;
  }
  *head = 0u - constants;
  return sum;
}

/* The inputs of a place, widened in scratch memory. Returns their sum. */
static uint32_t widen_place(const kws_op* op, size_t place, int stored, uint32_t** row) {
  *row = (uint32_t*)(((uintptr_t)op->scratch + 3) & ~(uintptr_t)3);
  const size_t padded = kws_padded_inputs(op);
  const int8_t* x = kws_row_in_place(op, place);
  if (!x) {
    /* At the end, where what is widened never overtakes what is to be read. */
    int8_t* const narrow = (int8_t*)op->scratch + kws_wide_row_scratch(op) - padded;
    kws_gather_row(op, place, narrow);
    x = narrow;
  }
  return widen(x, padded, stored, *row);
}

/* ---- Outputs. */

enum { BATCH = 24 }; /* most rows that are requantized together: whole blocks of 4, 6 or 8 */

/* What finish() reads. */
typedef struct {
  int32_t multiplier, bias_factor, add, shift;
  uint32_t low, high; /* in each of four bytes */
  int32_t factor, zero;
  int32_t dots[BATCH];
  uint32_t constants[BATCH]; /* of accumulators: all but a D - z L */
  const int8_t *gain, *bias; /* of the next channel */
  int8_t* y;
  const uint8_t* sums; /* int16, at any address; or NULL */
} batch;

/* clang-format off */

/* Takes z L from an accumulator: sums are at lr, z is in r12. */
#define TAKE_SUM(acc) "ldrsh r8, [lr], #2\n mls " acc ", r8, r12, " acc "\n"
/* From accumulator to output: gains are at r1, biases at r2. Only the high half of the product counts. */
#define REQUANTIZE(acc) \
  "ldrsb r12, [r1], #1\n ldrsb lr, [r2], #1\n" \
  "mul r12, r12, r8\n mla lr, lr, r9, r10\n smmla " acc ", " acc ", r12, lr\n" \
  "asr " acc ", " acc ", r11\n ssat " acc ", #8, " acc "\n"
/* Clips four bytes, or one. */
#define CLIP "ldrd r8, r9, [r12, #16]\n ssub8 lr, r4, r8\n sel r4, r4, r8\n ssub8 lr, r9, r4\n sel r4, r4, r9\n"

/* Requantizes so many rows of a batch, four by four while there are four, where kws_only_high_half(). Compilers keep too
 * few of the constants in registers. */
ASSEMBLY_ONLY static void finish(batch* b __attribute__((unused)), int32_t rows __attribute__((unused))) {
  __asm__ volatile(
      "push {r0, r4-r11, lr}\n sub sp, sp, #8\n"  /* [sp]: end of the dots taken four by four; [sp, #4]: of all */
      "mov r12, r0\n adds r0, #32\n"              /* r0: dots, and 96 bytes on the constants; r12: the batch */
      "add r3, r0, r1, lsl #2\n bic r1, r1, #3\n add r2, r0, r1, lsl #2\n strd r2, r3, [sp]\n cmp r0, r2\n"
      "ldrd r1, r2, [r12, #224]\n ldr r3, [r12, #232]\n"
      "beq 3f\n"
      "1:\n ldm r0!, {r4-r7}\n ldrd r8, r9, [r0, #80]\n ldrd r10, r11, [r0, #88]\n"
      "ldr lr, [r12, #24]\n"
      "mla r4, r4, lr, r8\n mla r5, r5, lr, r9\n mla r6, r6, lr, r10\n mla r7, r7, lr, r11\n"
      "ldr lr, [r12, #236]\n cmp lr, #0\n beq 2f\n"
      "ldr r12, [r12, #28]\n" TAKE_SUM("r4") TAKE_SUM("r5") TAKE_SUM("r6") TAKE_SUM("r7")
      "ldr r12, [sp, #8]\n str lr, [r12, #236]\n"
      "2:\n ldm r12, {r8-r11}\n"
      REQUANTIZE("r4") REQUANTIZE("r5") REQUANTIZE("r6") REQUANTIZE("r7")
      "bfi r4, r5, #8, #8\n bfi r4, r6, #16, #8\n bfi r4, r7, #24, #8\n"
      "ldr r12, [sp, #8]\n" CLIP "str r4, [r3], #4\n"
      "ldr lr, [sp]\n cmp r0, lr\n bne 1b\n"
      "3:\n ldr lr, [sp, #4]\n cmp r0, lr\n beq 6f\n"
      "4:\n ldr r4, [r0], #4\n ldr r8, [r0, #92]\n ldr lr, [r12, #24]\n mla r4, r4, lr, r8\n"
      "ldr lr, [r12, #236]\n cmp lr, #0\n beq 5f\n"
      "ldr r12, [r12, #28]\n" TAKE_SUM("r4") "ldr r12, [sp, #8]\n str lr, [r12, #236]\n"
      "5:\n ldm r12, {r8-r11}\n" REQUANTIZE("r4")
      "ldr r12, [sp, #8]\n" CLIP "strb r4, [r3], #1\n"
      "ldr lr, [sp, #4]\n cmp r0, lr\n bne 4b\n"
      "6:\n strd r1, r2, [r12, #224]\n str r3, [r12, #232]\n"
      "add sp, sp, #12\n pop {r4-r11, pc}\n");
}
/* clang-format on */

/* The offsets that finish() is written with. */
typedef char
    check_batch[offsetof(batch, dots) == 32 && offsetof(batch, constants) == 128 && offsetof(batch, sums) == 236 ? 1
                                                                                                                 : -1];

static bool make_scale(batch* b, const kws_op* op) {
  kws_scale s = {0};
  if (!kws_make_scale(&s, op)) return false;
  kws_raise_scale(&s);
  if (!kws_only_high_half(&s)) return false;
  b->multiplier = s.multiplier;
  b->bias_factor = 1 << (s.bias_shift - 32);
  b->add = (int32_t)(s.add >> 32);
  b->shift = s.shift - 32;
  b->low = (uint8_t)s.low * 0x01010101u;
  b->high = (uint8_t)s.high * 0x01010101u;
  b->factor = s.factor;
  b->zero = s.zero;
  b->gain = s.gain;
  b->bias = s.bias;
  b->sums = s.sums;
  return true;
}

/* How the blocks of a layout are read: by `dots`, `most` inputs at a time. */
typedef struct {
  dots_function* dots;
  unsigned rows;
  size_t inputs, most;
} blocks;

/* The dots of so many rows of a batch where the inputs are cut into chunks. */
static KWS_NOINLINE const uint32_t* chunked_dots(const blocks* k, const uint32_t* w, const uint32_t* x, uint32_t rows,
                                                 int32_t* dots) {
  for (const int32_t* const end = dots + rows; dots < end; dots += k->rows) {
    w = k->dots(w, x, k->most, dots);
    for (size_t at = k->most; at < k->inputs; at += k->most) {
      int32_t more[KWS_TILE];
      w = k->dots(w, x + at / 2, k->inputs - at < k->most ? k->inputs - at : k->most, more);
      for (unsigned row = 0; row < k->rows; ++row) dots[row] = (int32_t)((uint32_t)dots[row] + (uint32_t)more[row]);
    }
  }
  return w;
}

/* Rows of a batch one by one, for constants that finish() does not take. */
static KWS_NOINLINE void finish_slowly(const kws_op* op, batch* b, uint32_t first, uint32_t rows) {
  for (uint32_t row = 0; row < rows; ++row) {
    const uint32_t acc = kws_level_factor(&op->options) * (uint32_t)b->dots[row] + b->constants[row];
    kws_store(op, b->y++, acc - kws_zero_point_term(op, first + row), first + row);
  }
}

/* All outputs of a place, whose widened inputs are x. */
static KWS_NOINLINE void all_outputs(const kws_op* op, batch* b, bool quick, const blocks* k, const uint32_t* x) {
  const uint32_t outputs = op->options.outputs, step = k->rows;
  const uint32_t* w = (const uint32_t*)(const void*)op->weights;
  dots_function* const dots_of = k->dots;
  const size_t n = k->inputs;
  for (uint32_t first = 0; first < outputs; first += BATCH) {
    const uint32_t rows = outputs - first < BATCH ? outputs - first : BATCH;
    if (KWS_HAS_LAYOUT(2) && n > k->most) {
      w = chunked_dots(k, w, x, rows, b->dots);
    } else {
      int32_t* dots = b->dots;
      int32_t* const end = dots + rows;
      do {
        w = dots_of(w, x, n, dots);
        dots += step;
      } while (dots < end);
    }
    if (quick)
      finish(b, (int32_t)rows);
    else
      finish_slowly(op, b, first, rows);
  }
}

/* All places. x is widened for codes of `stored` bits; bit r of `flipped` is set where row r of a batch has codes with
 * the top one of `code_bits` flipped. */
static void run(const kws_op* op, const blocks* k, int stored, int code_bits, uint32_t flipped) {
  const kws_options* o = &op->options;
  batch b;
  const bool quick = make_scale(&b, op);
  for (size_t place = 0; place < kws_places(op); ++place) {
    uint32_t* x;
    const uint32_t sum = widen_place(op, place, stored, &x);
    const uint32_t plain = 0u - kws_level_offset(o) * sum, top = plain + kws_level_factor(o) * (sum << (code_bits - 1));
    UNROLL for (unsigned row = 0; row < BATCH; ++row) b.constants[row] = flipped >> row & 1 ? top : plain;
    b.y = op->y + place * o->outputs;
    if (quick) {
      b.gain = (const int8_t*)op->channel_parameters;
      b.bias = b.gain + o->outputs;
      if (b.sums) b.sums = op->channel_parameters + 2 * (size_t)o->outputs;
    }
    all_outputs(op, &b, quick, k, x);
  }
}

#if KWS_HAS_LAYOUT(2)
void kws_packed_dense_dsp(const kws_op* op) {
  static dots_function* const functions[9] = {
      NULL,
      KWS_WITH_WIDTH(1, dots_1),
      KWS_WITH_WIDTH(2, dots_2),
      NULL,
      KWS_WIDTHS & (1 << 3 | 1 << 4) ? dots_4 : NULL,
      KWS_WITH_WIDTH(5, dots_5),
      NULL,
      NULL,
      KWS_WIDTHS & (1 << 6 | 1 << 7 | 1 << 8) ? dots_8 : NULL,
  };
  static const uint32_t flipped[9] = {0, 0xAAAAAA, 0xAAAAAA, 0, 0x888888, 0x924924, 0, 0, 0xAAAAAA};
  const int stored = kws_stored_bits(op->options.bits);
  /* Sums of words as they are stay exact for 511 inputs: 2^12 * (2^3 * 128 * 511) < 2^31. Narrow codes have chunks. */
  const blocks k = {functions[stored], kws_lane_rows(stored), kws_padded_inputs(op), stored < 4 ? 1 << 17 : 480};
  run(op, &k, stored, stored, flipped[stored]);
}
#endif

#endif

/* ---- The layout for all chips: a word is one byte of the tile for four inputs. */

#if (KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)) || KWS_DENSE_DYNAMIC

/* Sums of `count` slots times x. The topmost slot of a byte comes with those below it: its sum is of the whole bytes.
 */
ALWAYS_INLINE void add_slots(const int bits, const int first, const int count, const uint32_t* w, const uint32_t* x,
                             size_t n, uint32_t* sums) {
  uint32_t s[6] = {0};
  for (const uint32_t* const end = x + n / 2; x != end; x += KWS_VECTOR / 2, w += KWS_VECTOR / 4 * bits) {
    UNROLL for (int four = 0; four < KWS_VECTOR / 4; ++four) {
      UNROLL for (int i = 0; i < count; ++i) {
        const kws_slot slot = kws_slots[bits][first + i];
        const uint32_t word = load_weights(w + KWS_VECTOR / 4 * slot.byte + four),
                       mask = ((1u << slot.width) - 1) * 0x00010001;
        const bool top = slot.shift + slot.width == 8;
        s[i] = smlad(top ? sxtb16(word) : word >> slot.shift & mask, x[2 * four], s[i]);
        s[i] = smlad(top ? sxtb16_odd(word) : word >> (slot.shift + 8) & mask, x[2 * four + 1], s[i]);
      }
      __asm__ volatile("" ::: "memory"); /* loads stay in their turn, else registers run out */
    }
  }
  UNROLL for (int i = 0; i < count; ++i) sums[first + i] = s[i];
}

/* Takes the lower slots from the sums of whole bytes, and puts the rows together. */
ALWAYS_INLINE void gather_slots(const int bits, uint32_t* sums, int32_t* dots) {
  memset(dots, 0, KWS_TILE * sizeof *dots);
  uint32_t below = 0;
  UNROLL for (int i = 0; i < kws_slot_counts[bits]; ++i) {
    const kws_slot slot = kws_slots[bits][i];
    if (slot.shift + slot.width == 8) {
      sums[i] = (uint32_t)((int32_t)(sums[i] - below) >> slot.shift);
      below = 0;
    } else {
      below += sums[i] << slot.shift;
    }
    dots[slot.row] = (int32_t)((uint32_t)dots[slot.row] + (sums[i] << slot.low));
  }
}

/* Two or three passes over x, for as many slots as there are registers. */
#define ROWS_FUNCTION(bits, first, second, third)                                                     \
  static const uint32_t* rows_##bits(const uint32_t* w, const uint32_t* x, size_t n, int32_t* dots) { \
    uint32_t sums[KWS_MAX_SLOTS];                                                                     \
    add_slots(bits, 0, first, w, x, n, sums);                                                         \
    add_slots(bits, first, second, w, x, n, sums);                                                    \
    if (third) add_slots(bits, (first) + (second), third, w, x, n, sums);                             \
    gather_slots(bits, sums, dots);                                                                   \
    return w + n / 4 * (bits);                                                                        \
  }
ROWS_FUNCTION(1, 4, 4, 0)
ROWS_FUNCTION(2, 4, 4, 0)
ROWS_FUNCTION(3, 6, 4, 0)
ROWS_FUNCTION(4, 4, 4, 0)
ROWS_FUNCTION(5, 6, 6, 0)
ROWS_FUNCTION(6, 6, 6, 0)
ROWS_FUNCTION(7, 4, 4, 6)
ROWS_FUNCTION(8, 4, 4, 0)

static dots_function* const rows_functions[9] = KWS_BY_WIDTH(rows_);

#endif

#if KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)
void kws_packed_dense_dsp_rows(const kws_op* op) {
  const int bits = op->options.bits;
  const blocks k = {rows_functions[bits], KWS_TILE, kws_padded_inputs(op), 1 << 17};
  run(op, &k, 8, bits, kws_signed_rows(bits) * 0x010101u);
}
#endif

#if KWS_DENSE_DYNAMIC
#include "../dynamic.h"

/* A row of lanes behind the codes: whole words, for the codes fill blocks. */
static uint32_t* wide_row(const kws_op* op) { return (uint32_t*)(void*)((int8_t*)op->scratch + kws_padded_inputs(op)); }

static void begin_row(const kws_op* op, const int8_t* x, size_t padded) { widen_chunk(x, padded, 1, wide_row(op)); }

static void dynamic_dots(const kws_op* op, const uint8_t* w, size_t step, uint32_t tiles, const int8_t* x, size_t n,
                         int32_t* dots) {
  dots_function* const dots_of = rows_functions[op->options.bits];
  const uint32_t* const wide = wide_row(op) + (x - (const int8_t*)op->scratch) / 2;
  for (; tiles; --tiles, w += step, dots += KWS_TILE) dots_of((const uint32_t*)(const void*)w, wide, n, dots);
}

static int64_t dynamic_dot(const uint8_t* w, const int16_t* x, size_t n) {
  int64_t sum = 0;
  const uint32_t *two = (const uint32_t*)(const void*)x, *weights = (const uint32_t*)(const void*)w;
  const uint32_t *const end = two + n / 2, *const fours = end - n / 2 % 4;
#define ADD(i) __asm__("smlald %Q0, %R0, %1, %2" : "+r"(sum) : "r"(load_weights(weights + i)), "r"(two[i]));
  for (; two != fours; two += 4, weights += 4) {
    ADD(0)
    ADD(1)
    ADD(2)
    ADD(3)
  }
  for (; two != end; ++two, ++weights) ADD(0)
#undef ADD
  return n % 2 ? sum + kws_dynamic_dot((const uint8_t*)weights, (const int16_t*)two, 1) : sum;
}

void kws_dynamic_dense_dsp(const kws_op* op) {
  const unsigned signed_rows = op->options.bits > 8 ? 0 : kws_signed_rows(op->options.bits);
  const kws_dynamic_parts parts = {dynamic_dots, signed_rows, dynamic_dot, begin_row};
  kws_run_dynamic(op, &parts);
}
#endif

#endif
