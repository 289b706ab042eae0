/* Depthwise kernel for the DSP extension: Cortex-M4, M7, M33.
 *
 * A word has four channels. SXTAB16 widens two bytes of x and takes the zero point from them, SXTB16 widens two levels,
 * and SMLABB and SMLATT add one product each: three instructions a multiply-accumulate with what the loop takes. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_DSP && KWS_STATIC && KWS_HAS_KIND(2)

#include "../../core/requantize.h"
#include "../depthwise.h"

enum { LANES = 4, CHUNK = 16 /* channels whose sums are kept where requantization is not quick */ };

/* What run_blocks() reads, at fixed offsets; pointers step on in here, four channels at a time. The order is that of
 * the registers of LDM. */
typedef struct {
  const int8_t *gain, *bias;
  int32_t multiplier, shift, add, bias_factor;
  int8_t* y;
  const int8_t *x, *levels;
  size_t x_column, level_column; /* from one tap to the next */
  uint32_t columns;              /* taps of a row; at least one */
  uint32_t minus_zero;           /* in both halves */
  uint32_t low, high;            /* in all bytes */
  size_t x_row, level_row;       /* from where a row of taps is left, which is a whole number of pairs, to the next */
  uint32_t rows, rows_left;      /* of taps; at least one */
  const int8_t* end;             /* x behind the last channel */
  uint32_t* sums;                /* where sums go instead of outputs; or NULL */
} job;

/* The offsets that run_blocks() is written with. */
typedef char check_job[offsetof(job, y) == 24 && offsetof(job, x) == 28 && offsetof(job, low) == 52 &&
                               offsetof(job, x_row) == 60 && offsetof(job, rows) == 68 && offsetof(job, sums) == 80
                           ? 1
                           : -1];

/* clang-format off */

/* One tap of four channels, which lie at r0 and r1 and what is added to them. */
#define TAP(x_more, levels_more) \
  "ldr r8, [r0" x_more "]\n ldr r9, [r1" levels_more "]\n" \
  "sxtab16 r10, lr, r8\n sxtb16 r11, r9\n" \
  "smlabb r4, r10, r11, r4\n smlatt r6, r10, r11, r6\n" \
  "sxtab16 r8, lr, r8, ror #8\n sxtb16 r9, r9, ror #8\n" \
  "smlabb r5, r8, r9, r5\n smlatt r7, r8, r9, r7\n"

#define TWO_TAPS TAP("", "") TAP(", r2", ", r3") "add r0, r0, r2, lsl #1\n add r1, r1, r3, lsl #1\n"

/* An output before it is clipped, but to a byte: the high half of sum * scale, and bias * bias_factor + add, shifted.
 */
#define SCALE(sum) \
  "ldrsb r10, [r1], #1\n ldrsb r11, [r2], #1\n" \
  "mul r10, r10, r3\n mla r11, r11, r12, r9\n" \
  "smmla " sum ", " sum ", r10, r11\n" \
  "asr " sum ", " sum ", r8\n ssat " sum ", #8, " sum "\n"

/* Outputs, or sums, of all blocks. The assembly itself keeps the registers that functions must keep, so that no flag (a
 * frame pointer, a canary) is in its way. */
static __attribute__((noinline)) void run_blocks(job* j) {
  register job* r0 __asm__("r0") = j;
  __asm__ volatile(
      "push {r0, r4-r11}\n"
      /* Four channels. */
      "1:\n"
      "ldr r4, [r0, #68]\n str r4, [r0, #72]\n"
      "add r4, r0, #28\n ldm r4, {r0, r1, r2, r3, r12, lr}\n"
      "movs r4, #0\n movs r5, #0\n movs r6, #0\n movs r7, #0\n"
      /* A row of taps, four at a time; then two and one, as the low bits of their number say. */
      "2:\n"
      "subs r12, r12, #4\n blt 4f\n"
      "3:\n" TWO_TAPS TWO_TAPS
      "subs r12, r12, #4\n bge 3b\n"
      "4:\n"
      "lsls r12, r12, #31\n bcc 5f\n" TWO_TAPS
      "5:\n"
      "beq 6f\n" TAP("", "")
      "6:\n"
      "ldr r8, [sp]\n ldr r9, [r8, #72]\n subs r9, r9, #1\n bne 9f\n"
      "mov r0, r8\n"
      /* Their sums. */
      "ldr r1, [r0, #80]\n cbz r1, 7f\n"
      "stm r1!, {r4-r7}\n str r1, [r0, #80]\n b 8f\n"
      /* Their outputs. */
      "7:\n"
      "ldm r0, {r1, r2, r3, r8, r9, r12, lr}\n"
      SCALE("r4") SCALE("r5") SCALE("r6") SCALE("r7")
      "strd r1, r2, [r0]\n"
      "bfi r4, r5, #8, #24\n bfi r6, r7, #8, #24\n pkhbt r4, r4, r6, lsl #16\n"
      /* Clipped: SEL chooses by the flags that the differences leave. */
      "ldrd r2, r3, [r0, #52]\n"
      "ssub8 r5, r4, r2\n sel r4, r4, r2\n ssub8 r5, r4, r3\n sel r4, r3, r4\n"
      "str r4, [lr], #4\n str lr, [r0, #24]\n"
      "8:\n"
      "ldrd r1, r2, [r0, #28]\n ldr r3, [r0, #76]\n"
      "adds r1, #4\n adds r2, #4\n strd r1, r2, [r0, #28]\n"
      "cmp r1, r3\n bne 1b\n"
      "b 10f\n"
      /* The next row of taps. */
      "9:\n"
      "str r9, [r8, #72]\n ldrd r10, r11, [r8, #60]\n ldr r12, [r8, #44]\n"
      "add r0, r0, r10\n add r1, r1, r11\n b 2b\n"
      "10:\n"
      "pop {r0, r4-r11}\n"
      : "+r"(r0)
      :
      : "r1", "r2", "r3", "r12", "lr", "cc", "memory");
}
/* clang-format on */

/* What a kernel keeps of an op. */
typedef struct {
  job j;
  kws_scale scale;
  bool quick; /* whether run_blocks() makes the outputs */
} state;

/* For any constants. Once in flash: it is long, and seldom runs. */
static __attribute__((noinline)) int8_t any_output(const kws_op* op, uint32_t acc, size_t channel) {
  return kws_requantize(op, acc, (uint32_t)channel);
}

/* Outputs of `count` channels, a multiple of LANES. */
static void some_channels(const kws_op* op, state* s, const kws_taps* t, size_t first, size_t count, int8_t* y) {
  job* const j = &s->j;
  const size_t pairs = (size_t)t->columns & ~(size_t)1;
  j->x = t->x + first;
  j->levels = t->levels + first;
  j->x_column = t->x_column;
  j->level_column = t->level_column;
  j->columns = t->columns;
  j->x_row = t->x_row - pairs * t->x_column;
  j->level_row = t->level_row - pairs * t->level_column;
  j->rows = t->rows;
  if (s->quick) {
    j->gain = s->scale.gain + first;
    j->bias = s->scale.bias + first;
    j->y = y + first;
    j->sums = NULL;
    j->end = j->x + count;
    run_blocks(j);
    return;
  }
  for (const size_t end = first + count; first < end;) {
    uint32_t sums[CHUNK];
    const size_t some = end - first < CHUNK ? end - first : CHUNK;
    j->sums = sums;
    j->end = j->x + some;
    run_blocks(j);
    for (size_t k = 0; k < some; ++k, ++first) y[first] = any_output(op, sums[k], first);
  }
}

/* The last four channels may lie over others: their outputs are computed twice, and nothing beyond a tensor is touched.
 */
static void one_place(const kws_op* op, void* own, const kws_taps* taps, int8_t* y) {
  const size_t channels = (size_t)op->channels;
  const bool empty = !taps->rows || !taps->columns; /* a window that lies in the padding */
  if (channels < LANES || empty) {
    for (size_t k = 0; k < channels; ++k)
      y[k] = any_output(op, kws_sum_of_channel(taps, k, op->options.input_zero_point[0]), k);
    return;
  }
  some_channels(op, own, taps, 0, channels / LANES * LANES, y);
  if (channels % LANES) some_channels(op, own, taps, channels - LANES, LANES, y);
}

static __attribute__((noinline)) void all_places(const kws_op* op) {
  state s;
  s.quick = kws_make_scale(&s.scale, op);
  if (s.quick) {
    kws_raise_scale(&s.scale);
    s.quick = kws_only_high_half(&s.scale);
  }
  s.j.minus_zero = ((uint32_t)-op->options.input_zero_point[0] & 0xFFFF) * 0x00010001u;
  if (s.quick) {
    s.j.multiplier = s.scale.multiplier;
    s.j.shift = s.scale.shift - 32;
    s.j.add = (int32_t)(s.scale.add >> 32);
    s.j.bias_factor = 1 << (s.scale.bias_shift - 32);
    s.j.low = (uint8_t)s.scale.low * 0x01010101u;
    s.j.high = (uint8_t)s.scale.high * 0x01010101u;
  }
  kws_depthwise_places(op, one_place, &s);
}

void kws_depthwise_dsp(const kws_op* op) {
  if (kws_one_output_a_channel(op))
    all_places(op);
  else
    kws_depthwise_c(op);
}

#endif
