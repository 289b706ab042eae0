/* The part of the TFLite C ABI that an external delegate needs. The wheels of TensorFlow and LiteRT ship no headers,
 * and these structs only ever grow at their ends, so that one library serves TensorFlow 2.16 and 2.21 and LiteRT alike.
 * A 64-bit machine is assumed; TFMOT_KWS_ABI_IS_SANE checks it when the delegate is made. */
#ifndef TFMOT_KWS_TFLITE_ABI_H_
#define TFMOT_KWS_TFLITE_ABI_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TFLITE_OK = 0, TFLITE_ERROR = 1, TFLITE_CUSTOM = 32, TFLITE_DELEGATE = 51 };
enum { TFLITE_MMAP_RO = 1 };               /* allocation type of constants that lie in the file */
enum { TFLITE_ALLOW_DYNAMIC_TENSORS = 1 }; /* without it a delegate's output can never be resized */

typedef struct {
  int size;
  int data[];
} TfLiteIntArray;

typedef struct {
  int32_t type;
  void* data;
  TfLiteIntArray* dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int32_t allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  void* delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  struct {
    int32_t type;
    void* params;
  } quantization;
  void* sparsity;
  const TfLiteIntArray* dims_signature;
} TfLiteTensor;

typedef struct {
  TfLiteIntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data, *builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  void* delegate;
  bool might_have_side_effect;
} TfLiteNode;

typedef struct TfLiteContext TfLiteContext;
typedef struct TfLiteDelegate TfLiteDelegate;

typedef struct {
  void* (*init)(TfLiteContext*, const char*, size_t);
  void (*free)(TfLiteContext*, void*);
  int (*prepare)(TfLiteContext*, TfLiteNode*);
  int (*invoke)(TfLiteContext*, TfLiteNode*);
  const char* (*profiling_string)(const TfLiteContext*, const TfLiteNode*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
  void* room[6]; /* passed by value: zeros for what later versions may read */
} TfLiteRegistration;

struct TfLiteDelegate {
  void* data;
  int (*prepare)(TfLiteContext*, TfLiteDelegate*);
  void *copy_from_buffer, *copy_to_buffer, *free_buffer;
  int64_t flags;
  void* builder;
  void* room[6];
};

struct TfLiteContext {
  size_t tensors_size;
  int (*GetExecutionPlan)(TfLiteContext*, TfLiteIntArray**);
  TfLiteTensor* tensors;
  void* impl;
  int (*ResizeTensor)(TfLiteContext*, TfLiteTensor*, TfLiteIntArray*);
  void (*ReportError)(TfLiteContext*, const char*, ...);
  int (*AddTensors)(TfLiteContext*, int, int*);
  int (*GetNodeAndRegistration)(TfLiteContext*, int, TfLiteNode**, TfLiteRegistration**);
  int (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext*, TfLiteRegistration, const TfLiteIntArray*,
                                               TfLiteDelegate*);
};

typedef struct {
  TfLiteDelegate* delegate;
  TfLiteIntArray *nodes_to_replace, *input_tensors, *output_tensors;
} TfLiteDelegateParams;

#define TFMOT_KWS_ABI_IS_SANE                                                                            \
  (sizeof(TfLiteTensor) == 112 && offsetof(TfLiteTensor, bytes) == 40 && sizeof(void*) == 8 &&           \
   offsetof(TfLiteNode, custom_initial_data) == 48 && offsetof(TfLiteRegistration, custom_name) == 48 && \
   offsetof(TfLiteDelegate, flags) == 40)

#endif
