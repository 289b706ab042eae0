/* Runs the fastest depthwise kernel, of bytes and of floats, on some windows over time, between markers that
 * benchmarks/arm/count.c counts; prints a line for each region, in order:
 *
 *     KERNEL FLOATS TAPS CHANNELS PLACES
 *
 * BENCH_CELLS is a list of {taps, channels, places}. Counted is all that kws_invoke() does. Outputs must equal those of
 * the reference kernel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "kernels/core/options.h"
#include "marks.h"
#include "packed_kernels.h"

enum { MOST_CHANNELS = 128, MOST_TAPS = 16, MOST_PLACES = 16, MOST_FRAMES = MOST_PLACES + MOST_TAPS };

static int8_t levels[MOST_TAPS * MOST_CHANNELS], x[MOST_FRAMES * MOST_CHANNELS];
static int8_t y[MOST_PLACES * MOST_CHANNELS], expected[MOST_PLACES * MOST_CHANNELS];
static float float_levels[MOST_TAPS * MOST_CHANNELS], float_x[MOST_FRAMES * MOST_CHANNELS], bias[MOST_CHANNELS];
static float float_y[MOST_PLACES * MOST_CHANNELS], float_expected[MOST_PLACES * MOST_CHANNELS];
static uint8_t channels_of[2 * MOST_CHANNELS];

static void layer(bool floats, uint32_t taps, uint32_t channels, int32_t places) {
  uint8_t options[KWS_OPTIONS_BYTES] = {0};
  options[0] = KWS_OPTIONS_VERSION;
  options[1] = KWS_DEPTHWISE;
  options[2] = floats ? KWS_MODE_DYNAMIC : 0;
  options[3] = KWS_OPTIONS_BYTES;
  options[15] = 1;
  if (!floats) {
    options[4] = options[6] = 0x80;
    options[5] = 0x7F;
    options[11] = options[12] = 1;
    options[13] = 24;
    options[14] = 27;
    put_u32(options + 16, 40000);
  }
  put_u32(options + 24, channels);
  put_u32(options + 28, taps);
  options[32] = (uint8_t)taps;
  options[34] = options[36] = options[38] = options[40] = options[42] = 1; /* one wide; stride and dilation 1 */
  const size_t size = floats ? sizeof(float) : 1;
  const int32_t dims[3] = {1, places + (int32_t)taps - 1, (int32_t)channels};
  const int32_t sizes[2] = {(int32_t)(taps * channels), (int32_t)(floats ? channels : 2 * channels)};
  const int32_t type = floats ? KWS_FLOAT32 : KWS_INT8;
  kws_call call = {.kind = KWS_DEPTHWISE, .options = options, .options_bytes = sizeof options, .input_count = 3};
  call.inputs[0] = (kws_tensor){type, 3, dims, (size_t)dims[1] * channels * size, floats ? (void*)float_x : (void*)x};
  call.inputs[1] =
      (kws_tensor){type, 1, &sizes[0], (size_t)sizes[0] * size, floats ? (void*)float_levels : (void*)levels};
  call.inputs[2] = (kws_tensor){floats ? KWS_FLOAT32 : KWS_UINT8, 1, &sizes[1], (size_t)sizes[1] * size,
                                floats ? (void*)bias : (void*)channels_of};
  kws_op op;
  kws_error error;
  if (!kws_prepare(&op, &call, &error)) {
    printf("refused: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
    exit(2);
  }
  const size_t bytes = (size_t)places * channels * size;
  op.y = floats ? (int8_t*)(void*)float_expected : expected;
  for (size_t i = 0; i < kws_kernel_count; ++i)
    if (kws_kernel_suits(&kws_kernels[i], &op)) { /* the first is the reference */
      kws_kernels[i].run(&op);
      break;
    }
  op.y = floats ? (int8_t*)(void*)float_y : y;
  const kws_kernel* kernel = kws_choose(&op);
  const kws_tensor output = {type, 3, op.dims, bytes, op.y};
  MARK_BEGIN();
  const bool good = kws_invoke(&call, &output, &error);
  MARK_END();
  if (!good) printf("refused: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
  printf("%s %d %lu %lu %ld\n", kernel->name, floats, (unsigned long)taps, (unsigned long)channels, (long)places);
  if (memcmp(floats ? (void*)float_y : (void*)y, floats ? (void*)float_expected : (void*)expected, bytes)) {
    printf("wrong outputs\n");
    exit(1);
  }
}

int main(void) {
  static const uint32_t cells[][3] = {BENCH_CELLS};
  for (size_t i = 0; i < sizeof levels; ++i) levels[i] = (int8_t)draw();
  for (size_t i = 0; i < sizeof x; ++i) x[i] = (int8_t)draw();
  for (size_t i = 0; i < sizeof channels_of; ++i) channels_of[i] = draw();
  for (size_t i = 0; i < sizeof float_levels / sizeof *float_levels; ++i) float_levels[i] = (float)(int8_t)draw();
  for (size_t i = 0; i < sizeof float_x / sizeof *float_x; ++i) float_x[i] = (float)(int8_t)draw();
  for (size_t i = 0; i < MOST_CHANNELS; ++i) bias[i] = (float)(int8_t)draw();
  for (size_t c = 0; c < sizeof cells / sizeof cells[0]; ++c)
    for (int floats = 0; floats < 2; ++floats) layer(floats, cells[c][0], cells[c][1], (int32_t)cells[c][2]);
  return 0;
}
