// See micro_interpreter.h.
#ifndef MICRO_MUTABLE_OP_RESOLVER_H_
#define MICRO_MUTABLE_OP_RESOLVER_H_

#include "tensorflow/lite/micro/micro_common.h"

namespace tflite {
class MicroOpResolver {};

template <unsigned int kCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  TfLiteStatus AddConcatenation() { return kTfLiteOk; }
  TfLiteStatus AddConv2D() { return kTfLiteOk; }
  TfLiteStatus AddEthosU() { return kTfLiteOk; }
  TfLiteStatus AddFullyConnected() { return kTfLiteOk; }
  TfLiteStatus AddMean() { return kTfLiteOk; }
  TfLiteStatus AddReshape() { return kTfLiteOk; }
  TfLiteStatus AddStridedSlice() { return kTfLiteOk; }
  TfLiteStatus AddCustom(const char* name, const TFLMRegistration* registration);
};
}  // namespace tflite

#endif
