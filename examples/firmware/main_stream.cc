// main_stream.c in TensorFlow Lite Micro: the same file, its rings are our op and its states are variable tensors.
#include <cstdint>
#include <cstdio>

#include "detections.h"
#include "frames.h"
#include "kws_inference.h"  // for when the stream takes frames and gives rows; nothing of kws_inference.c is linked
#include "model_data.h"
#include "shims/tflm/micro_ops.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

#ifndef ARENA_BYTES
#define ARENA_BYTES (24 * 1024)
#endif

namespace {
constexpr int kHop = KWS_INFERENCE_STREAM_HOP, kRows = KWS_INFERENCE_STREAM_ROWS;
constexpr int kFrameBytes = KWS_INFERENCE_INPUT_0_BYTES / kHop, kRowBytes = KWS_INFERENCE_OUTPUT_0_BYTES / kRows;

alignas(16) std::uint8_t arena[ARENA_BYTES];

int Fail(const char* what) {
  std::printf("%s\n", what);
  return 1;
}

// The frames of a run, behind `ahead` places that are left as they are.
bool ReadHop(std::int8_t* frames, int ahead) {
  for (int i = ahead; i < kHop; ++i)
    if (!frames_next(frames + i * kFrameBytes)) return false;
  return true;
}
}  // namespace

int main() {
#include "resolver.inc"  // tflite::MicroMutableOpResolver<N> resolver; and the ops of this model
  tflite::MicroInterpreter interpreter(tflite::GetModel(model_data), resolver, arena, sizeof arena);
  if (interpreter.AllocateTensors() != kTfLiteOk) return Fail("the model does not fit; see the lines above");
  if (!frames_open()) return 1;
  if (!detections_begin()) return Fail("the detector's settings are wrong");
  std::int8_t* input = interpreter.input(0)->data.int8;
  int early = KWS_INFERENCE_STREAM_LAG;  // rows that mean nothing yet
  for (int ahead = KWS_INFERENCE_STREAM_LEAD; ReadHop(input, ahead); ahead = 0) {
    if (interpreter.Invoke() != kTfLiteOk) return Fail("Invoke failed");
    for (int row = 0; row < kRows; ++row) {
      if (early > 0)
        --early;
      else
        detections_row(interpreter.output(0)->data.int8 + row * kRowBytes);
    }
  }
  detections_end();
  return 0;
}
