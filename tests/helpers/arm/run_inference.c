/* Runs generated inference on every example of inputs.bin and writes outputs.bin; prints the sizes. Both files are
 * little-endian; INPUT_BYTES and OUTPUT_BYTES, 1 where they are not given, are those of an element. */
#include <stdio.h>
#include <string.h>

#include "kws_inference.h"

#ifndef INPUT_BYTES
#define INPUT_BYTES 1
#endif
#ifndef OUTPUT_BYTES
#define OUTPUT_BYTES 1
#endif

/* From little-endian elements to the machine's own, or back. */
static void turn(uint8_t* bytes, size_t size, size_t width) {
  const uint16_t probe = 1;
  if (*(const uint8_t*)&probe) return;
  for (uint8_t* const end = bytes + size; bytes < end; bytes += width) {
    for (size_t i = 0; i < width / 2; ++i) {
      const uint8_t low = bytes[i];
      bytes[i] = bytes[width - 1 - i];
      bytes[width - 1 - i] = low;
    }
  }
}

static uint8_t arena[KWS_INFERENCE_ARENA_BYTES] __attribute__((aligned(16)));

int main(void) {
  FILE* in = fopen("inputs.bin", "rb");
  FILE* out = fopen("outputs.bin", "wb");
  long examples = 0;
  if (!in || !out) return 3;
#ifdef KWS_INFERENCE_STATE_BYTES
  memset(arena, 0x55, sizeof arena);
  kws_inference_reset(arena);
#endif
  for (;; ++examples) {
#ifdef KWS_INFERENCE_STATE_BYTES /* all but what rings keep may be lost between two runs */
    memset(arena, 0x55, KWS_INFERENCE_STATE_OFFSET);
    memset(arena + KWS_INFERENCE_STATE_OFFSET + KWS_INFERENCE_STATE_BYTES, 0x55,
           sizeof arena - KWS_INFERENCE_STATE_OFFSET - KWS_INFERENCE_STATE_BYTES);
#else
    memset(arena, 0x55, sizeof arena);
#endif
    if (fread(arena + KWS_INFERENCE_INPUT_0_OFFSET, 1, KWS_INFERENCE_INPUT_0_BYTES, in) != KWS_INFERENCE_INPUT_0_BYTES)
      break;
#ifdef KWS_INFERENCE_INPUT_1_BYTES
    if (fread(arena + KWS_INFERENCE_INPUT_1_OFFSET, 1, KWS_INFERENCE_INPUT_1_BYTES, in) != KWS_INFERENCE_INPUT_1_BYTES)
      return 3;
#endif
    turn(arena + KWS_INFERENCE_INPUT_0_OFFSET, KWS_INFERENCE_INPUT_0_BYTES, INPUT_BYTES);
#ifdef KWS_INFERENCE_INPUT_1_BYTES
    turn(arena + KWS_INFERENCE_INPUT_1_OFFSET, KWS_INFERENCE_INPUT_1_BYTES, INPUT_BYTES);
#endif
    if (!kws_inference_run(arena)) {
      printf("a layer was refused\n");
      return 2;
    }
    turn(arena + KWS_INFERENCE_OUTPUT_0_OFFSET, KWS_INFERENCE_OUTPUT_0_BYTES, OUTPUT_BYTES);
    fwrite(arena + KWS_INFERENCE_OUTPUT_0_OFFSET, 1, KWS_INFERENCE_OUTPUT_0_BYTES, out);
#ifdef KWS_INFERENCE_OUTPUT_1_BYTES
    turn(arena + KWS_INFERENCE_OUTPUT_1_OFFSET, KWS_INFERENCE_OUTPUT_1_BYTES, OUTPUT_BYTES);
    fwrite(arena + KWS_INFERENCE_OUTPUT_1_OFFSET, 1, KWS_INFERENCE_OUTPUT_1_BYTES, out);
#endif
  }
  fclose(in);
  fclose(out);
  printf("examples %ld arena %lu\n", examples, (unsigned long)sizeof arena);
  return 0;
}
