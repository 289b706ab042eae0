// The part of TensorFlow Lite Micro's C types that our ops use, for tests without a TFLM tree: as they stood until
// October 2026, or with TYPES_IN_NAMESPACE as they have stood since. As there, a node is another one without
// TF_LITE_STATIC_MEMORY.
#ifndef TFMOT_KWS_TESTS_MICRO_COMMON_H_
#define TFMOT_KWS_TESTS_MICRO_COMMON_H_

#include <cstddef>
#include <cstdint>

#ifdef TYPES_IN_NAMESPACE
namespace tflite {
namespace micro {
#endif

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType { kTfLiteFloat32 = 1, kTfLiteUInt8 = 3, kTfLiteInt16 = 7, kTfLiteInt8 = 9 };
union TfLitePtrUnion {
  void* data;
  std::int8_t* int8;
};
struct TfLiteIntArray {
  int size;
  int data[8];
};
struct TfLiteEvalTensor {
  TfLitePtrUnion data;
  TfLiteIntArray* dims;
  TfLiteType type;
};
struct TfLiteNode {
  TfLiteIntArray *inputs, *outputs, *intermediates;
#ifndef TF_LITE_STATIC_MEMORY
  TfLiteIntArray* temporaries;
#endif
  void* user_data;
};
struct TfLiteContext {
  void* (*AllocatePersistentBuffer)(TfLiteContext*, std::size_t);
  TfLiteStatus (*RequestScratchBufferInArena)(TfLiteContext*, std::size_t, int*);
  void* (*GetScratchBuffer)(TfLiteContext*, int);
  TfLiteEvalTensor* (*GetEvalTensor)(const TfLiteContext*, int);
};
struct TFLMRegistration {
  void* (*init)(TfLiteContext*, const char*, std::size_t);
  void (*free)(TfLiteContext*, void*);
  TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
  void (*reset)(TfLiteContext*, void*);
  std::int32_t builtin_code;
  const char* custom_name;
};

#ifdef TYPES_IN_NAMESPACE
}  // namespace micro
}  // namespace tflite
#endif

#endif  // TFMOT_KWS_TESTS_MICRO_COMMON_H_
