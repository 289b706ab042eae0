/* Runs the fastest kernel of filters over samples, one frame at a time, between markers that benchmarks/arm/count.c
 * counts; prints a line for each region, in order:
 *
 *     BITS LAYOUT TAPS FILTERS SUMS
 *
 * BENCH_CELLS is a list of {taps, filters, sums}; BENCH_STRIDE samples lie between two sums. Counted is all that
 * kws_invoke() does. Outputs must equal those of the reference kernel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "draw_weights.h"
#include "kernels/core/options.h"
#include "marks.h"
#include "packed_kernels.h"

enum { MOST_TAPS = 400, MOST_FILTERS = 64, MOST_SAMPLES = 1600, MOST_SCRATCH = 1 << 15 };

static uint8_t weights[MOST_TAPS * MOST_FILTERS * 2], channels[8 * MOST_FILTERS];
static int16_t x[MOST_SAMPLES];
static int8_t y[MOST_FILTERS], expected[MOST_FILTERS];
static uint8_t scratch[MOST_SCRATCH] __attribute__((aligned(16)));

static void frame(int bits, int layout, uint32_t taps, uint32_t filters, uint32_t sums) {
  uint8_t options[KWS_OPTIONS_BYTES] = {0};
  options[0] = KWS_OPTIONS_VERSION;
  options[1] = KWS_WAVEFORM;
  options[3] = KWS_OPTIONS_BYTES;
  options[4] = options[8] = 0x80;
  options[5] = 0x7F;
  options[9] = (uint8_t)bits;
  options[10] = bits == 8;
  options[11] = options[12] = 2;
  options[13] = 10;
  options[14] = 24;
  put_u32(options + 16, 200);
  put_u32(options + 20, 4000);
  put_u32(options + 24, filters);
  put_u32(options + 28, taps);
  options[32] = BENCH_STRIDE;
  options[34] = (uint8_t)sums;
  options[52] = (uint8_t)layout;
  options[53] = 4;
  const size_t size = kws_packed_size(filters, taps, bits, layout);
  const int32_t samples = (int32_t)(taps + (sums - 1) * BENCH_STRIDE), dims[3] = {1, samples, 1};
  if (!size) return; /* a layout of other widths */
  draw_weights(weights, sizeof weights, bits, layout);
  if (size > sizeof weights || samples > MOST_SAMPLES || 8 * filters > sizeof channels) exit(4);
  const int32_t sizes[2] = {(int32_t)size, (int32_t)(8 * filters)};
  kws_call call = {.kind = KWS_WAVEFORM, .options = options, .options_bytes = sizeof options, .input_count = 3};
  call.inputs[0] = (kws_tensor){KWS_INT16, 3, dims, 2 * (size_t)samples, x};
  call.inputs[1] = (kws_tensor){KWS_UINT8, 1, &sizes[0], size, weights};
  call.inputs[2] = (kws_tensor){KWS_UINT8, 1, &sizes[1], (size_t)sizes[1], channels};
  kws_op op;
  kws_error error;
  if (!kws_prepare(&op, &call, &error)) {
    printf("refused: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
    exit(2);
  }
  put_sums(&op, channels + 4 * filters, 4);
  op.scratch = scratch;
  op.y = expected;
  for (size_t i = 0; i < kws_kernel_count; ++i)
    if (kws_kernel_suits(&kws_kernels[i], &op)) { /* the first is the reference */
      if (kws_scratch_bytes(&kws_kernels[i], &op) > sizeof scratch) exit(4);
      kws_kernels[i].run(&op);
      break;
    }
  call.scratch = scratch;
  call.scratch_bytes = sizeof scratch;
  const kws_tensor output = {KWS_INT8, 3, op.dims, filters, y};
  MARK_BEGIN();
  const bool good = kws_invoke(&call, &output, &error);
  MARK_END();
  if (!good) printf("refused: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
  printf("%d %d %lu %lu %lu\n", bits, layout, (unsigned long)taps, (unsigned long)filters, (unsigned long)sums);
  if (memcmp(y, expected, filters)) {
    printf("wrong outputs\n");
    exit(1);
  }
}

int main(void) {
  static const uint32_t cells[][3] = {BENCH_CELLS};
  for (size_t i = 0; i < sizeof channels; ++i) channels[i] = draw();
  for (size_t i = 0; i < MOST_SAMPLES; ++i) x[i] = (int16_t)(draw() | draw() << 8);
  for (size_t c = 0; c < sizeof cells / sizeof cells[0]; ++c)
    for (int layout = 0; layout < KWS_LAYOUT_END; ++layout)
      for (int bits = 1; bits <= 8; ++bits) frame(bits, layout, cells[c][0], cells[c][1], cells[c][2]);
  return 0;
}
