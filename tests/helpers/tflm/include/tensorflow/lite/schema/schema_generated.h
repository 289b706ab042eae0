// See micro_interpreter.h.
#ifndef SCHEMA_GENERATED_H_
#define SCHEMA_GENERATED_H_

namespace tflite {
struct Model;
const Model* GetModel(const void* data);
}  // namespace tflite

#endif
