// A spotter whose network runs on an Ethos-U, by TensorFlow Lite Micro's op for it, and remembers nothing: what it has
// to remember goes out of one run and into the next (kws_external.h). Without KWS_ETHOS_U the same program runs the
// file of stock ops by TFLM's own kernels. 'tfmot-kws npu --stream --c-array' makes kws_npu*, and kws_spotter.h.
#include <cstdint>
#include <cstdio>

#include "detections.h"
#include "frames.h"
#include "kws_external.h"
#include "kws_npu.h"
#include "kws_npu_model.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

#ifdef KWS_ETHOS_U
#include <ethosu_driver.h>
#if !defined(KWS_ETHOS_U_BASE) || !defined(KWS_ETHOS_U_HANDLER)
#error "define KWS_ETHOS_U_BASE, the address of the NPU's registers, and KWS_ETHOS_U_HANDLER, its interrupt's function"
#endif
#endif

#ifndef ARENA_BYTES
#define ARENA_BYTES (24 * 1024)
#endif

namespace {
alignas(16) std::uint8_t arena[ARENA_BYTES];
std::int8_t memory[KWS_NPU_MEMORY_BYTES];

#ifdef KWS_ETHOS_U
ethosu_driver npu;

// Secure and privileged, as after a reset. The board has to switch the interrupt on, and the clocks of the NPU.
bool BeginNpu() { return ethosu_init(&npu, reinterpret_cast<void*>(KWS_ETHOS_U_BASE), nullptr, 0, 1, 1) == 0; }
#else
bool BeginNpu() { return true; }
#endif

tflite::MicroInterpreter* Of(void* context) { return static_cast<tflite::MicroInterpreter*>(context); }
std::int8_t* Input(void* context, std::int32_t index) { return Of(context)->input(index)->data.int8; }
const std::int8_t* Output(void* context, std::int32_t index) { return Of(context)->output(index)->data.int8; }
bool Run(void* context) { return Of(context)->Invoke() == kTfLiteOk; }

int Fail(const char* what) {
  std::printf("%s\n", what);
  return 1;
}
}  // namespace

#ifdef KWS_ETHOS_U
extern "C" void KWS_ETHOS_U_HANDLER() { ethosu_irq_handler(&npu); }
#endif

int main() {
  if (!BeginNpu()) return Fail("the Ethos-U does not start: is KWS_ETHOS_U_BASE its address?");
#include "kws_npu_ops.inc"  // tflite::MicroMutableOpResolver<N> resolver; and the ops of this model
  tflite::MicroInterpreter interpreter(tflite::GetModel(kws_npu_model), resolver, arena, sizeof arena);
  if (interpreter.AllocateTensors() != kTfLiteOk) return Fail("the model does not fit; see the lines above");
  if (!frames_open()) return 1;
  if (!detections_begin()) return Fail("the detector's settings are wrong");
  const kws_external_network network = {&interpreter, Input, Output, Run};
  kws_external stream;
  if (!kws_external_begin(&stream, &kws_npu_stream, memory, sizeof memory)) return Fail("too little memory");
  for (std::int8_t frame[KWS_NPU_FRAME_BYTES]; frames_next(frame);) {
    const std::int8_t* rows = nullptr;
    const std::int32_t count = kws_external_frame(&stream, &network, frame, &rows);
    if (count < 0) return Fail("Invoke failed");
    for (std::int32_t i = 0; i < count; ++i) detections_row(rows + i * kws_npu_stream.row_bytes);
  }
  detections_end();
  return 0;
}
