/* The same spotter without TensorFlow: C that tflite_export made of the model, on the bare kernels. */
#include <stdint.h>
#include <stdio.h>

#include "kws_inference.h"
#include "packed_kernels.h"

static uint8_t arena[KWS_INFERENCE_ARENA_BYTES] __attribute__((aligned(16)));

int main(void) {
#ifdef KWS_SELF_TEST
  kws_error error = {0, 0, 0};
  if (!kws_self_test(&error)) {
    printf("self-test: %s (%ld, %ld)\n", error.message, error.found, error.wanted);
    return 1;
  }
#endif
  int8_t* input = (int8_t*)arena + KWS_INFERENCE_INPUT_0_OFFSET;
  const int8_t* output = (const int8_t*)arena + KWS_INFERENCE_OUTPUT_0_OFFSET;
  FILE* file = fopen("features.bin", "rb");
  if (!file) {
    printf("features.bin is missing; README.md says how to make it\n");
    return 1;
  }
  printf("arena %lu bytes\n", (unsigned long)sizeof arena);
  for (int example = 0; fread(input, 1, KWS_INFERENCE_INPUT_0_BYTES, file) == KWS_INFERENCE_INPUT_0_BYTES; ++example) {
    if (!kws_inference_run(arena)) {
      printf("this build has no kernel for a layer\n");
      return 1;
    }
    printf("%d:", example);
    for (int i = 0; i < KWS_INFERENCE_OUTPUT_0_BYTES; ++i) printf(" %d", output[i]);
    printf("\n");
  }
  fclose(file);
  return 0;
}
