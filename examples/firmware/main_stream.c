/* A spotter that listens: frames in, one line for each detection out. Model and detector are C, without an interpreter.
 *
 * On a product, frames_next() waits for a microphone; here the sound comes from a file of the debugger (semihosting).
 */
#include <stdint.h>
#include <stdio.h>

#include "detections.h"
#include "frames.h"
#include "kws_inference.h"
#include "kws_listener.h"

static long count;

static void heard(void* context, int32_t keyword, uint32_t ms) {
  (void)context;
  detection_print(ms, kws_listener_word(keyword), kws_listener_score(keyword));
  ++count;
}

int main(void) {
  int8_t frame[KWS_INFERENCE_INPUT_0_BYTES / KWS_INFERENCE_STREAM_HOP];
  if (!frames_open()) return 1;
  if (!kws_listener_begin()) {
    printf("the kernels of this build compute wrong numbers, or the detector's settings are wrong\n");
    return 1;
  }
  while (frames_next(frame)) {
    if (!kws_listener_frame(frame, heard, NULL)) {
      printf("this build has no kernel for a layer\n");
      return 1;
    }
  }
  printf("%ld detections in %lu rows\n", count, (unsigned long)kws_listener_rows());
  return 0;
}
