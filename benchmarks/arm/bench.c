/* Runs every dense kernel of this build, a float32 loop and an int8 loop once each, between markers that
 * benchmarks/arm/count.c counts. Prints one line for each region, in order:
 *
 *     KERNEL LAYOUT BITS ZERO_POINT INPUTS OUTPUTS BATCH
 *
 * Weights are random bytes, which nearly always are packed codes. Outputs must equal those of the reference kernel.
 *
 * With BENCH_CELLS, a list of {inputs, outputs, batch}, it runs these instead, as layers behind a ReLU: of each layout
 * the fastest kernel, and all that kws_invoke() does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "draw_weights.h"
#include "kernels/core/options.h"
#include "kernels/core/requantize.h"
#include "kernels/core/weight_layout.h"
#include "loops.h"
#include "marks.h"

enum { MOST_INPUTS = 640, MOST_OUTPUTS = 256, MOST_WEIGHTS = 640 * 128 };
#ifdef BENCH_CELLS
enum { MOST_BATCH = 16 };
#else
enum { MOST_BATCH = 4 };
#endif

static uint8_t weights[2 * MOST_WEIGHTS] __attribute__((aligned(16)));
static uint8_t channels[4 * MOST_OUTPUTS];
static int8_t x[MOST_BATCH * MOST_INPUTS] __attribute__((aligned(16)));
static int8_t y[MOST_BATCH * MOST_OUTPUTS], expected[MOST_BATCH * MOST_OUTPUTS];
static uint8_t scratch[32 * MOST_INPUTS] __attribute__((aligned(16)));
#ifndef BENCH_CELLS
static float float_weights[MOST_WEIGHTS] __attribute__((aligned(16)));
static float float_x[MOST_INPUTS] __attribute__((aligned(16))), float_y[MOST_OUTPUTS], float_bias[MOST_OUTPUTS];
#endif

static kws_call call;

/* A layer as the exporter makes them: gains and biases of one byte; the zero point is 0, or -128 behind a ReLU. */
static kws_op layer(int bits, int layout, int zero_point, uint32_t inputs, uint32_t outputs, int batch) {
  static uint8_t options[KWS_OPTIONS_BYTES];
  static int32_t dims[2], sizes[2];
  memset(options, 0, sizeof options);
  options[0] = KWS_OPTIONS_VERSION;
  options[1] = KWS_PACKED_DENSE;
  options[3] = KWS_OPTIONS_BYTES;
  options[4] = 0x80;
  options[5] = 0x7F;
  options[6] = (uint8_t)zero_point;
  options[8] = 0x80;
  options[9] = (uint8_t)bits;
  options[10] = bits == 8 ? KWS_MID_TREAD : KWS_MID_RISE;
  options[11] = options[12] = 1;
  options[13] = (uint8_t)(24 + bits / 2);
  options[14] = (uint8_t)(26 + bits);
  options[52] = (uint8_t)layout;
  options[53] = zero_point ? 2 : 0;
  put_u32(options + 16, 40000);
  put_u32(options + 24, outputs);
  put_u32(options + 28, inputs);
  dims[0] = batch;
  dims[1] = (int32_t)inputs;
  sizes[0] = (int32_t)kws_packed_size(outputs, inputs, bits, layout);
  sizes[1] = (int32_t)((zero_point ? 4 : 2) * outputs);
  call = (kws_call){.kind = KWS_PACKED_DENSE, .options = options, .options_bytes = sizeof options, .input_count = 3};
  call.inputs[0] = (kws_tensor){KWS_INT8, 2, dims, (size_t)batch * inputs, x};
  call.inputs[1] = (kws_tensor){KWS_UINT8, 1, &sizes[0], (size_t)sizes[0], weights};
  call.inputs[2] = (kws_tensor){KWS_UINT8, 1, &sizes[1], (size_t)sizes[1], channels};
  kws_op op;
  kws_error error;
  if (!kws_prepare(&op, &call, &error)) {
    printf("refused: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
    exit(2);
  }
  op.scratch = scratch;
  return op;
}

static void packed(int bits, int layout, int zero_point, uint32_t inputs, uint32_t outputs, int batch) {
  if (!kws_layout_has(layout, bits)) return;
  kws_op op = layer(bits, layout, zero_point, inputs, outputs, batch);
  const kws_kernel* best = kws_choose(&op);
  if (best == &kws_kernels[0]) return; /* nothing but the reference reads this layout here */
  draw_weights(weights, sizeof weights, bits, layout);
  put_sums(&op, channels + 2 * outputs, 2);
  op.y = expected;
  kws_kernels[0].run(&op);
  op.y = y;
  for (size_t i = 1; i < kws_kernel_count; ++i) {
    if (!kws_kernel_suits(&kws_kernels[i], &op)) continue;
    memset(y, 0, sizeof y);
#ifdef BENCH_CELLS
    if (best != &kws_kernels[i]) continue;
    const kws_tensor output = {KWS_INT8, 2, op.dims, (size_t)batch * outputs, y};
    kws_error error;
    call.scratch = scratch;
    call.scratch_bytes = sizeof scratch;
    MARK_BEGIN();
    const bool good = kws_invoke(&call, &output, &error);
    MARK_END();
    if (!good) printf("refused: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
#else
    MARK_BEGIN();
    kws_kernels[i].run(&op);
    MARK_END();
#endif
    printf("%s %d %d %d %lu %lu %d\n", kws_kernels[i].name, layout, bits, zero_point, (unsigned long)inputs,
           (unsigned long)outputs, batch);
    if (memcmp(y, expected, (size_t)batch * outputs)) {
      printf("wrong outputs\n");
      exit(1);
    }
  }
}

int main(void) {
  for (size_t i = 0; i < sizeof channels; ++i) channels[i] = draw();
  for (size_t i = 0; i < sizeof x; ++i) x[i] = (int8_t)draw();
#ifdef BENCH_CELLS
  static const uint32_t cells[][3] = {BENCH_CELLS};
  for (size_t c = 0; c < sizeof cells / sizeof cells[0]; ++c)
    for (int layout = 0; layout < KWS_LAYOUT_END; ++layout)
      for (int bits = 1; bits <= 8; ++bits) packed(bits, layout, -128, cells[c][0], cells[c][1], (int)cells[c][2]);
  return 0;
#else
  static const uint32_t sizes[][2] = {{640, 128}, {256, 256}, {512, 128}, {128, 128}};
  for (size_t i = 0; i < MOST_WEIGHTS; ++i) float_weights[i] = (float)(int8_t)draw();
  for (size_t i = 0; i < MOST_INPUTS; ++i) float_x[i] = (float)(int8_t)draw();
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; ++s) {
    const uint32_t inputs = sizes[s][0], outputs = sizes[s][1];
    for (int batch = 1; batch <= MOST_BATCH; batch += 3)
      for (int layout = 0; layout < KWS_LAYOUT_END; ++layout)
        for (int bits = 1; bits <= 8; ++bits) {
          packed(bits, layout, 0, inputs, outputs, batch);
          if (inputs == outputs && inputs == 256) packed(bits, layout, -128, inputs, outputs, batch);
        }
    kws_op op = layer(8, KWS_LAYOUT_ROWS, 0, inputs, outputs, 1);
    MARK_BEGIN();
    float_dense(float_weights, float_bias, float_x, inputs, outputs, float_y);
    MARK_END();
    printf("float32 0 32 0 %lu %lu 1\n", (unsigned long)inputs, (unsigned long)outputs);
    MARK_BEGIN();
    int8_dense(&op, (const int8_t*)weights, x, inputs, outputs, y);
    MARK_END();
    printf("int8 0 8 0 %lu %lu 1\n", (unsigned long)inputs, (unsigned long)outputs);
  }
  printf("int8 loop: %s\n", int8_dense_kind);
  return float_y[0] > 1e30f;
#endif
}
