/* A spotter that listens: frames in, one line for each detection out. Model and detector are C, without an interpreter.
 *
 * On a product, frames_next() waits for a microphone; here the sound comes from a file of the debugger (semihosting).
 */
#include <stdint.h>
#include <stdio.h>

#include "detections.h"
#include "frames.h"
#include "kws_inference.h"
#include "packed_kernels.h"

enum {
  HOP = KWS_INFERENCE_STREAM_HOP,
  ROWS = KWS_INFERENCE_STREAM_ROWS,
  FRAME_BYTES = KWS_INFERENCE_INPUT_0_BYTES / HOP,
  ROW_BYTES = KWS_INFERENCE_OUTPUT_0_BYTES / ROWS
};

static uint8_t arena[KWS_INFERENCE_ARENA_BYTES] __attribute__((aligned(16)));

/* The frames of a run, behind `ahead` places that are left as they are. */
static bool read_hop(int8_t* frames, int ahead) {
  for (int i = ahead; i < HOP; ++i)
    if (!frames_next(frames + i * FRAME_BYTES)) return false;
  return true;
}

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
  if (!frames_open()) return 1;
  if (!detections_begin()) {
    printf("the detector's settings are wrong\n");
    return 1;
  }
#ifdef KWS_INFERENCE_STATE_BYTES
  kws_inference_reset(arena);
#endif
  int early = KWS_INFERENCE_STREAM_LAG; /* rows that mean nothing yet */
  for (int ahead = KWS_INFERENCE_STREAM_LEAD; read_hop(input, ahead); ahead = 0) {
    if (!kws_inference_run(arena)) {
      printf("this build has no kernel for a layer\n");
      return 1;
    }
    for (int row = 0; row < ROWS; ++row) {
      if (early)
        --early;
      else
        detections_row(output + row * ROW_BYTES);
    }
  }
  detections_end();
  return 0;
}
