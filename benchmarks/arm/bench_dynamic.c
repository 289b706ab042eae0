/* Runs the fastest kernel of dynamic quantization on some layers, between markers that benchmarks/arm/count.c counts;
 * prints a line for each region, in order:
 *
 *     KERNEL BITS INPUTS OUTPUTS FUNCTION BATCH
 *
 * Weights are random bytes. Outputs must equal those of the reference kernel.
 *
 * With BENCH_CELLS, a list of {inputs, outputs, batch}, it runs these instead, at 1 to 8 bits, linear and with a
 * sigmoid, and all that kws_invoke() does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "kernels/core/options.h"
#include "marks.h"
#include "packed_kernels.h"

enum { MOST_INPUTS = 640, MOST_OUTPUTS = 256, MOST_WEIGHTS = 2 * 256 * 256 };
#ifdef BENCH_CELLS
enum { MOST_BATCH = 16 };
#else
enum { MOST_BATCH = 1 };
#endif

static uint8_t weights[MOST_WEIGHTS] __attribute__((aligned(16)));
static uint8_t channels[16 * MOST_OUTPUTS] __attribute__((aligned(16)));
static float x[MOST_BATCH * MOST_INPUTS] __attribute__((aligned(16)));
static float y[MOST_BATCH * MOST_OUTPUTS], expected[MOST_BATCH * MOST_OUTPUTS];
static uint8_t scratch[32 * MOST_INPUTS] __attribute__((aligned(16)));

static void layer(int bits, uint32_t inputs, uint32_t outputs, int function, int batch) {
  uint8_t options[KWS_OPTIONS_BYTES] = {0};
  const float units[2] = {1.0f / 4194304, 1.0f / 32768};
  uint32_t bits_of[2];
  memcpy(bits_of, units, sizeof units);
  options[0] = KWS_OPTIONS_VERSION;
  options[1] = KWS_PACKED_DENSE;
  options[2] = KWS_MODE_DYNAMIC;
  options[3] = KWS_OPTIONS_BYTES;
  options[9] = (uint8_t)bits;
  options[10] = KWS_LINEAR_GRID;
  options[11] = options[12] = 2;
  options[53] = bits > 8 ? 4 : 2;
  options[54] = bits > 8 ? 16 : 8;
  options[55] = (uint8_t)function;
  put_u32(options + 16, bits_of[0]);
  put_u32(options + 20, bits_of[1]);
  put_u32(options + 24, outputs);
  put_u32(options + 28, inputs);
  const int32_t dims[2] = {batch, (int32_t)inputs};
  const int32_t sizes[2] = {(int32_t)kws_tight_size(outputs, inputs, bits),
                            (int32_t)kws_channels_size(outputs, 2, 2, options[53], bits > 8 ? 2 : 1)};
  kws_call call = {.kind = KWS_PACKED_DENSE, .options = options, .options_bytes = sizeof options, .input_count = 3};
  call.inputs[0] = (kws_tensor){KWS_FLOAT32, 2, dims, 4 * inputs * (size_t)batch, x};
  call.inputs[1] = (kws_tensor){KWS_UINT8, 1, &sizes[0], (size_t)sizes[0], weights};
  call.inputs[2] = (kws_tensor){KWS_UINT8, 1, &sizes[1], (size_t)sizes[1], channels};
  kws_op op;
  kws_error error;
  if (!kws_prepare(&op, &call, &error)) {
    printf("refused: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
    exit(2);
  }
  op.scratch = scratch;
  op.y = (int8_t*)(void*)expected;
  kws_dynamic_dense_ref(&op);
  op.y = (int8_t*)(void*)y;
  const kws_kernel* kernel = kws_choose(&op);
#ifdef BENCH_CELLS
  const kws_tensor output = {KWS_FLOAT32, 2, op.dims, 4 * (size_t)batch * outputs, y};
  call.scratch = scratch;
  call.scratch_bytes = sizeof scratch;
  MARK_BEGIN();
  const bool good = kws_invoke(&call, &output, &error);
  MARK_END();
  if (!good) printf("refused: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
#else
  MARK_BEGIN();
  kernel->run(&op);
  MARK_END();
#endif
  printf("%s %d %lu %lu %d %d\n", kernel->name, bits, (unsigned long)inputs, (unsigned long)outputs, function, batch);
  if (memcmp(y, expected, (size_t)batch * outputs * sizeof *y)) {
    printf("wrong outputs\n");
    exit(1);
  }
}

int main(void) {
  for (size_t i = 0; i < sizeof weights; ++i) weights[i] = draw();
  for (size_t i = 0; i < sizeof channels; ++i) channels[i] = draw();
  for (size_t i = 0; i < MOST_BATCH * MOST_INPUTS; ++i) x[i] = (float)(int8_t)draw() + (float)draw() / 256;
#ifdef BENCH_CELLS
  static const uint32_t cells[][3] = {BENCH_CELLS};
  for (size_t c = 0; c < sizeof cells / sizeof cells[0]; ++c)
    for (int bits = 1; bits <= 8; ++bits) {
      layer(bits, cells[c][0], cells[c][1], KWS_LINEAR, (int)cells[c][2]);
      layer(bits, cells[c][0], cells[c][1], KWS_SIGMOID, (int)cells[c][2]);
    }
#else
  static const int widths[] = {4, 8, 16};
  static const uint32_t sizes[][2] = {{620, 39}, {39, 128}, {128, 39}, {256, 256}};
  for (size_t b = 0; b < sizeof widths / sizeof widths[0]; ++b)
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; ++s)
      layer(widths[b], sizes[s][0], sizes[s][1], sizes[s][1] == 39 ? KWS_LINEAR : KWS_SIGMOID, 1);
#endif
  return 0;
}
