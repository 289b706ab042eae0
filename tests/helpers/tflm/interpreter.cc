// Stands in for TFLM's interpreter, and for Arm's driver: runs a stream as C that 'python -m tflite_export inference'
// made of it. All inputs lie in the bytes of all outputs, from the other end, which an interpreter's planner may do:
// who copies an output straight into an input destroys another.
#include <cstring>

#include "kws_inference.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#ifdef KWS_ETHOS_U
#include "ethosu_driver.h"
#endif

namespace {
struct Place {
  int offset, bytes;
};

// Four of each: the frames and three states, the rows and three states.
constexpr Place kInputs[] = {{KWS_INFERENCE_INPUT_0_OFFSET, KWS_INFERENCE_INPUT_0_BYTES},
                             {KWS_INFERENCE_INPUT_1_OFFSET, KWS_INFERENCE_INPUT_1_BYTES},
                             {KWS_INFERENCE_INPUT_2_OFFSET, KWS_INFERENCE_INPUT_2_BYTES},
                             {KWS_INFERENCE_INPUT_3_OFFSET, KWS_INFERENCE_INPUT_3_BYTES}};
constexpr Place kOutputs[] = {{KWS_INFERENCE_OUTPUT_0_OFFSET, KWS_INFERENCE_OUTPUT_0_BYTES},
                              {KWS_INFERENCE_OUTPUT_1_OFFSET, KWS_INFERENCE_OUTPUT_1_BYTES},
                              {KWS_INFERENCE_OUTPUT_2_OFFSET, KWS_INFERENCE_OUTPUT_2_BYTES},
                              {KWS_INFERENCE_OUTPUT_3_OFFSET, KWS_INFERENCE_OUTPUT_3_BYTES}};
#ifdef KWS_INFERENCE_INPUT_4_OFFSET
#error "this stand-in knows streams of three states"
#endif

constexpr int kShared = 64 * 1024;
alignas(16) uint8_t network[KWS_INFERENCE_ARENA_BYTES];
alignas(16) int8_t shared[kShared];
TfLiteTensor tensors[2];

// The first at the start, the next behind it; or, backwards, the last at the start.
int8_t* Find(const Place* places, size_t index, bool backwards) {
  int8_t* found = shared;
  for (size_t i = 0; i < 4; ++i)
    if (backwards ? i > index : i < index) found += places[i].bytes;
  return found;
}

bool started = true;
}  // namespace

#ifdef KWS_ETHOS_U
int ethosu_init(ethosu_driver* driver, void* base, const void*, size_t, uint32_t secure, uint32_t privileged) {
  driver->base = base;
  started = secure && privileged && base != nullptr;
  return started ? 0 : -1;
}
void ethosu_irq_handler(ethosu_driver*) {}
#endif

namespace tflite {
const Model* GetModel(const void* data) { return static_cast<const Model*>(data); }
MicroInterpreter::MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t*, size_t) {}
TfLiteStatus MicroInterpreter::AllocateTensors() { return started ? kTfLiteOk : kTfLiteError; }

TfLiteStatus MicroInterpreter::Invoke() {
  for (size_t i = 0; i < 4; ++i) std::memcpy(network + kInputs[i].offset, Find(kInputs, i, true), kInputs[i].bytes);
  if (!kws_inference_run(network)) return kTfLiteError;
  for (size_t i = 0; i < 4; ++i) std::memcpy(Find(kOutputs, i, false), network + kOutputs[i].offset, kOutputs[i].bytes);
  return kTfLiteOk;
}

TfLiteTensor* MicroInterpreter::input(size_t index) {
  tensors[0].data.int8 = Find(kInputs, index, true);
  return &tensors[0];
}

TfLiteTensor* MicroInterpreter::output(size_t index) {
  tensors[1].data.int8 = Find(kOutputs, index, false);
  return &tensors[1];
}
}  // namespace tflite
