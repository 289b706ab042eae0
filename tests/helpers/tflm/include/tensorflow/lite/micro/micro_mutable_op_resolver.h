// See micro_interpreter.h.
#ifndef MICRO_MUTABLE_OP_RESOLVER_H_
#define MICRO_MUTABLE_OP_RESOLVER_H_

#include "tensorflow/lite/micro/micro_common.h"

namespace tflite {
class MicroOpResolver {};

template <unsigned int kCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  TfLiteStatus AddReshape();
  TfLiteStatus AddCustom(const char* name, const TFLMRegistration* registration);
};
}  // namespace tflite

#endif
