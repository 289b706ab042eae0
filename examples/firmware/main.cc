// A keyword spotter in TensorFlow Lite Micro: reads features, prints posteriors.
//
// features.bin holds int8 features, one example after another; README.md says how to make it. Files and the console are
// the debugger's (semihosting): on a product, features come from a microphone and a front end.
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "model_data.h"
#include "shims/tflm/micro_ops.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

#ifndef ARENA_BYTES
#define ARENA_BYTES (24 * 1024)
#endif

namespace {
alignas(16) std::uint8_t arena[ARENA_BYTES];

int Fail(const char* what) {
  std::printf("%s\n", what);
  return 1;
}
}  // namespace

int main() {
#include "resolver.inc"  // tflite::MicroMutableOpResolver<N> resolver; and the ops of this model
  tflite::MicroInterpreter interpreter(tflite::GetModel(model_data), resolver, arena, sizeof arena);
  if (interpreter.AllocateTensors() != kTfLiteOk) return Fail("the model does not fit; see the lines above");
  auto* input = interpreter.input(0);
  auto* output = interpreter.output(0);
  std::printf("arena %u of %u bytes\n", static_cast<unsigned>(interpreter.arena_used_bytes()),
              static_cast<unsigned>(sizeof arena));

  std::FILE* file = std::fopen("features.bin", "rb");
  if (file == nullptr) return Fail("features.bin is missing; README.md says how to make it");
  for (int example = 0; std::fread(input->data.int8, 1, input->bytes, file) == input->bytes; ++example) {
    if (interpreter.Invoke() != kTfLiteOk) return Fail("Invoke failed");
    std::printf("%d:", example);
    for (std::size_t i = 0; i < output->bytes; ++i) std::printf(" %d", output->data.int8[i]);
    std::printf("\n");
  }
  std::fclose(file);
  return 0;
}
