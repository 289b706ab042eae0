/* Makes our custom ops known to the interpreter in the tflite-micro wheel, which has no way to add one and no headers.
 *
 * The wheel calls a symbol of a library that was loaded RTLD_GLOBAL and hands it the op resolver. We give that object a
 * copy of its own vtable with one slot changed: FindOp by name. TfLiteContext stays opaque, because its layout differs
 * between releases; the one accessor that we need is looked up in the wheel's library. Firmware needs none of this: it
 * has TFLM's own headers and AddCustom.
 *
 * The ops take no arena memory but their outputs: user_data points to the options inside the model. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/packed_kernels.h"

#define EXPORT __attribute__((visibility("default")))

typedef struct Context Context;

typedef struct {
  int size;
  int data[];
} IntArray;

typedef struct {
  void* data;
  IntArray* dims;
  int32_t type;
} EvalTensor;

/* The first members of a node. */
typedef struct {
  IntArray *inputs, *outputs, *intermediates;
  void* user_data;
} Node;

typedef struct {
  void* (*init)(Context*, const char*, size_t);
  void (*free)(Context*, void*);
  int (*prepare)(Context*, Node*);
  int (*invoke)(Context*, Node*);
  void (*reset)(Context*, void*);
  int32_t builtin_code;
  const char* custom_name;
  void* room[4]; /* zeros for what later versions may read */
} Registration;

enum { CUSTOM = 32, OK = 0, ERROR = 1, VTABLE_HEAD = 2, VTABLE_SLOTS = 8, FIND_BY_NAME = 1 };

static EvalTensor* (*get_eval_tensor)(const Context*, int);

static int refuse(int kind, const kws_error* error) {
  const char* name = kws_op_name(kind);
  fprintf(stderr, "%s: %s (found %ld, wanted %ld)\n", name ? name : "TfmotKws", error->message, error->found,
          error->wanted);
  return ERROR;
}

static bool view(kws_tensor* to, const Context* context, const IntArray* indices, int i) {
  const EvalTensor* from = indices->data[i] >= 0 ? get_eval_tensor(context, indices->data[i]) : NULL;
  if (!from || !from->dims) return false;
  to->type = from->type;
  to->rank = from->dims->size;
  to->dims = from->dims->data;
  to->data = from->data;
  to->bytes = 1; /* TFLM keeps no size; ours have one byte an element, and anything else is refused by type */
  for (int k = 0; k < to->rank; ++k) to->bytes *= to->dims[k] > 0 ? (size_t)to->dims[k] : 0;
  return true;
}

static bool make_call(kws_call* call, const Context* context, const Node* node, kws_error* error) {
  const uint8_t* options = node->user_data;
  memset(call, 0, sizeof *call);
  error->message = "options are missing, too short, or those of another op";
  error->found = 0;
  error->wanted = 1;
  if (!options) return false;
  call->kind = (kws_kind)options[1];
  call->options = options;
  call->options_bytes = options[3]; /* init compared it with the true length */
  call->input_count = node->inputs ? node->inputs->size : 0;
  error->message = "wrong number of inputs or outputs, or an input is missing";
  error->found = call->input_count;
  if (call->input_count < 1 || call->input_count > KWS_MAX_INPUTS || node->outputs->size != 1) return false;
  for (int i = 0; i < call->input_count; ++i)
    if (!view(&call->inputs[i], context, node->inputs, i)) return false;
  return true;
}

static void* check_header(const char* buffer, size_t length, int kind) {
  const uint8_t* options = (const uint8_t*)buffer;
  return options && length >= 4 && options[3] == length && options[1] == kind ? (void*)(uintptr_t)options : NULL;
}

static int prepare(Context* context, Node* node) {
  kws_call call;
  kws_op op;
  kws_tensor output;
  kws_error error;
  if (!make_call(&call, context, node, &error) || !kws_prepare(&op, &call, &error))
    return refuse(node->user_data ? call.kind : 0, &error);
  error.message = "the output is not int8 or has the wrong size";
  if (!view(&output, context, node->outputs, 0) || output.type != KWS_INT8 || output.bytes != op.output_bytes)
    return refuse(call.kind, &error);
  return OK;
}

static int invoke(Context* context, Node* node) {
  kws_call call;
  kws_tensor output;
  kws_error error;
  if (!make_call(&call, context, node, &error) || !view(&output, context, node->outputs, 0) ||
      !kws_invoke(&call, &output, &error))
    return refuse(call.kind, &error);
  return OK;
}

/* One init for each kind: it is the only function that is told the length of the options. */
#define OPS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#define DEFINE_INIT(kind)                                                    \
  static void* init_##kind(Context* context, const char* buffer, size_t n) { \
    (void)context;                                                           \
    return check_header(buffer, n, kind);                                    \
  }
OPS(DEFINE_INIT)
#define INIT(kind) [kind] = init_##kind,
static void* (*const inits[KWS_KIND_END])(Context*, const char*, size_t) = {OPS(INIT)};

static Registration registrations[KWS_KIND_END];
static void* vtable[VTABLE_HEAD + VTABLE_SLOTS];
static const void* (*find_original)(const void*, const char*);

static const void* find_by_name(const void* resolver, const char* name) {
  const int kind = kws_op_kind(name);
  return kind ? &registrations[kind] : find_original(resolver, name);
}

/* The accessor's mangled name has had three forms as TFLM moved its C types into a namespace in October 2026. */
static bool find_accessor(void* anything_in_the_library) {
  static const char* const names[] = {
      "_ZN6tflite5micro25MicroContextGetEvalTensorEPKNS0_13TfLiteContextEi",
      "_ZN6tflite25MicroContextGetEvalTensorEPKNS_5micro13TfLiteContextEi",
      "_ZN6tflite5micro25MicroContextGetEvalTensorEPK13TfLiteContexti",
      "_ZN6tflite25MicroContextGetEvalTensorEPK13TfLiteContexti",
  };
  Dl_info info;
  if (!dladdr(anything_in_the_library, &info) || !info.dli_fname) return false;
  void* library = dlopen(info.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
  if (!library) return false;
  void* symbol = NULL;
  for (size_t i = 0; i < sizeof names / sizeof names[0] && !symbol; ++i) symbol = dlsym(library, names[i]);
  memcpy(&get_eval_tensor, &symbol, sizeof symbol);
  dlclose(library);
  return symbol != NULL;
}

EXPORT bool TfmotKwsRegisterTflm(void* resolver) {
  void*** object = resolver;
  void** original = *object;
  if (original == vtable + VTABLE_HEAD) return true;
  if (!find_accessor(original[FIND_BY_NAME])) {
    fprintf(stderr, "tflite_export: this tflite-micro has no MicroContextGetEvalTensor that we know\n");
    return false;
  }
  for (int kind = 1; kind < KWS_KIND_END; ++kind) {
    Registration* r = &registrations[kind];
    r->init = inits[kind];
    r->prepare = prepare;
    r->invoke = invoke;
    r->builtin_code = CUSTOM;
    r->custom_name = kws_op_name(kind);
  }
  memcpy(vtable, original - VTABLE_HEAD, sizeof vtable);
  memcpy(&find_original, &vtable[VTABLE_HEAD + FIND_BY_NAME], sizeof find_original);
  const void* (*replacement)(const void*, const char*) = find_by_name;
  memcpy(&vtable[VTABLE_HEAD + FIND_BY_NAME], &replacement, sizeof replacement);
  *object = vtable + VTABLE_HEAD;
  return true;
}
