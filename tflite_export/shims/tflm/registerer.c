/* Makes our custom ops known to the interpreter in the tflite-micro wheel, which has no way to add one and no headers.
 *
 * The wheel calls a symbol of a library that was loaded RTLD_GLOBAL and hands it the op resolver. We give that object a
 * copy of its own vtable with one slot changed: FindOp by name. TfLiteContext stays opaque, because its layout differs
 * between releases; the accessors that we need are looked up in the wheel's library. Firmware needs none of this: it
 * has TFLM's own headers and AddCustom.
 *
 * The ops take 16 bytes of arena memory each, and where a kernel needs it a row of inputs, shared by all. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/include/packed_kernels.h"

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
static void* (*allocate)(Context*, size_t);
static int (*request_scratch)(Context*, size_t, int*);
static void* (*get_scratch)(Context*, int);

/* What an op keeps: its options inside the model, and the handle of its scratch memory. */
typedef struct {
  const uint8_t* options;
  int32_t scratch_bytes, scratch;
} OpData;

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
  /* TFLM keeps no size; ours have bytes, samples or floats, and anything else is refused by type */
  to->bytes = from->type == KWS_FLOAT32 ? sizeof(float) : from->type == KWS_INT16 ? 2 : 1;
  for (int k = 0; k < to->rank; ++k) to->bytes *= to->dims[k] > 0 ? (size_t)to->dims[k] : 0;
  return true;
}

static bool make_call(kws_call* call, const Context* context, const Node* node, kws_error* error) {
  const OpData* data = node->user_data;
  const uint8_t* options = data ? data->options : NULL;
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

static void* keep_options(Context* context, const char* buffer, size_t length, int kind) {
  const uint8_t* options = (const uint8_t*)buffer;
  if (!options || length < 4 || options[3] != length || options[1] != kind) return NULL;
  OpData* data = allocate(context, sizeof *data);
  if (data) *data = (OpData){options, 0, -1};
  return data;
}

static int prepare(Context* context, Node* node) {
  kws_call call;
  kws_op op;
  kws_tensor output;
  kws_error error;
  if (!make_call(&call, context, node, &error) || !kws_prepare(&op, &call, &error))
    return refuse(node->user_data ? call.kind : 0, &error);
  error.message = "the output has the wrong type or the wrong size";
  if (!view(&output, context, node->outputs, 0) || output.type != op.output_type || output.bytes != op.output_bytes)
    return refuse(call.kind, &error);
  /* Both are written to. Before memory is planned only constants have an address: they lie in the model. */
  error.message = output.data ? "the output is a constant" : NULL;
  const int state = kws_state_input(call.kind, call.input_count);
  if (state && call.inputs[state].data) error.message = "the state is no variable";
  if (error.message) return refuse(call.kind, &error);
  OpData* data = node->user_data;
  const size_t scratch = kws_scratch_bytes(kws_choose(&op), &op);
  error.message = "no memory for a row of inputs";
  if (scratch > INT32_MAX || (scratch && request_scratch(context, scratch, &data->scratch) != OK))
    return refuse(call.kind, &error);
  data->scratch_bytes = (int32_t)scratch;
  return OK;
}

static int invoke(Context* context, Node* node) {
  kws_call call;
  kws_tensor output;
  kws_error error;
  if (!make_call(&call, context, node, &error) || !view(&output, context, node->outputs, 0))
    return refuse(call.kind, &error);
  const OpData* data = node->user_data;
  call.scratch_bytes = (size_t)data->scratch_bytes;
  if (call.scratch_bytes) call.scratch = get_scratch(context, data->scratch);
  return kws_invoke(&call, &output, &error) ? OK : refuse(call.kind, &error);
}

/* One init for each kind: it is the only function that is told the length of the options. */
#define OPS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define DEFINE_INIT(kind)                                                    \
  static void* init_##kind(Context* context, const char* buffer, size_t n) { \
    return keep_options(context, buffer, n, kind);                           \
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

/* Mangled names have had three forms as TFLM moved its C types into a namespace in October 2026: the function and the
 * context both in tflite::micro, the context alone, and neither. `before` and `after` surround the context's type. */
static void find(void* library, const char* function, const char* before, const char* after, void* pointer) {
  static const char* const forms[] = {
      "_ZN6tflite5micro%zu%sE%sNS0_13TfLiteContextE%s",
      "_ZN6tflite%zu%sE%sNS_5micro13TfLiteContextE%s",
      "_ZN6tflite5micro%zu%sE%s13TfLiteContext%s",
      "_ZN6tflite%zu%sE%s13TfLiteContext%s",
  };
  void* symbol = NULL;
  for (size_t i = 0; i < sizeof forms / sizeof forms[0] && !symbol; ++i) {
    char name[160];
    snprintf(name, sizeof name, forms[i], strlen(function), function, before, after);
    symbol = dlsym(library, name);
  }
  memcpy(pointer, &symbol, sizeof symbol);
}

static bool find_accessors(void* anything_in_the_library) {
  Dl_info info;
  if (!dladdr(anything_in_the_library, &info) || !info.dli_fname) return false;
  void* library = dlopen(info.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
  if (!library) return false;
  find(library, "MicroContextGetEvalTensor", "PK", "i", &get_eval_tensor);
  find(library, "MicroContextAllocatePersistentBuffer", "P", "m", &allocate);
  find(library, "MicroContextRequestScratchBufferInArena", "P", "mPi", &request_scratch);
  find(library, "MicroContextGetScratchBuffer", "P", "i", &get_scratch);
  dlclose(library);
  return get_eval_tensor && allocate && request_scratch && get_scratch;
}

EXPORT bool TfmotKwsRegisterTflm(void* resolver) {
  void*** object = resolver;
  void** original = *object;
  if (original == vtable + VTABLE_HEAD) return true;
  if (!find_accessors(original[FIND_BY_NAME])) {
    fprintf(stderr, "tflite_export: this tflite-micro lacks an accessor of MicroContext that we know\n");
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
