/* External delegate that runs our custom ops in the TFLite and LiteRT interpreters as they come.
 *
 * Every node with one of our custom codes is replaced by a delegate kernel of its own. The kernel keeps a copy of the
 * node, whose arrays and options stay where they are for the life of the interpreter. */
#include <stdlib.h>
#include <string.h>

#include "../../kernels/include/packed_kernels.h"
#include "tflite_abi.h"

#define EXPORT __attribute__((visibility("default")))

typedef struct {
  TfLiteNode node;
  kws_kind kind;
  void* scratch;
  size_t scratch_bytes;
} kernel_data;

static TfLiteTensor* tensor_at(const TfLiteContext* context, const TfLiteIntArray* indices, int i) {
  const int index = indices->data[i];
  return index >= 0 && (size_t)index < context->tensors_size ? &context->tensors[index] : NULL;
}

static bool view(kws_tensor* to, const TfLiteTensor* from, bool constant) {
  if (!from || !from->dims) return false;
  to->type = from->type;
  to->rank = from->dims->size;
  to->dims = from->dims->data;
  to->bytes = from->bytes;
  to->data = constant && from->allocation_type != TFLITE_MMAP_RO ? NULL : from->data;
  return true;
}

static int refuse(TfLiteContext* context, kws_kind kind, const kws_error* error) {
  context->ReportError(context, "%s: %s (found %ld, wanted %ld)", kws_op_name((int)kind), error->message, error->found,
                       error->wanted);
  return TFLITE_ERROR;
}

static bool make_call(kws_call* call, TfLiteContext* context, const kernel_data* kernel, kws_error* error) {
  const TfLiteNode* node = &kernel->node;
  const bool pair = kernel->kind == KWS_ADD || kernel->kind == KWS_MULTIPLY;
  const int state = kws_state_input(kernel->kind, node->inputs->size);
  memset(call, 0, sizeof *call);
  call->kind = kernel->kind;
  call->options = node->custom_initial_data;
  call->options_bytes = node->custom_initial_data_size > 0 ? (size_t)node->custom_initial_data_size : 0;
  call->input_count = node->inputs->size;
  call->scratch = kernel->scratch;
  call->scratch_bytes = kernel->scratch_bytes;
  error->message = "wrong number of inputs or outputs, or an input is missing";
  error->found = node->inputs->size;
  error->wanted = 1;
  if (node->inputs->size < 1 || node->inputs->size > KWS_MAX_INPUTS || node->outputs->size != 1) return false;
  for (int i = 0; i < node->inputs->size; ++i)
    if (!view(&call->inputs[i], tensor_at(context, node->inputs, i), i > 0 && !pair && i != state)) return false;
  return true;
}

static void* kernel_init(TfLiteContext* context, const char* buffer, size_t length) {
  (void)length;
  const TfLiteDelegateParams* params = (const TfLiteDelegateParams*)(const void*)buffer;
  TfLiteNode* node;
  TfLiteRegistration* registration;
  if (params->nodes_to_replace->size != 1 ||
      context->GetNodeAndRegistration(context, params->nodes_to_replace->data[0], &node, &registration) != TFLITE_OK)
    return NULL;
  kernel_data* kernel = calloc(1, sizeof *kernel);
  if (!kernel) return NULL;
  kernel->node = *node;
  kernel->kind = (kws_kind)kws_op_kind(registration->custom_name);
  return kernel;
}

static void kernel_free(TfLiteContext* context, void* data) {
  (void)context;
  if (data) free(((kernel_data*)data)->scratch);
  free(data);
}

static int kernel_prepare(TfLiteContext* context, TfLiteNode* node) {
  kernel_data* kernel = node->user_data;
  kws_call call;
  kws_op op;
  kws_error error = {"the delegate kernel could not be made", 0, 1};
  if (!kernel || !kernel->kind) return refuse(context, KWS_PACKED_DENSE, &error);
  if (!make_call(&call, context, kernel, &error) || !kws_prepare(&op, &call, &error))
    return refuse(context, kernel->kind, &error);
  kernel->scratch_bytes = kws_scratch_bytes(kws_choose(&op), &op);
  free(kernel->scratch);
  kernel->scratch = malloc(kernel->scratch_bytes + 1);
  error.message = "no memory for a row of inputs";
  if (!kernel->scratch) return refuse(context, kernel->kind, &error);
  TfLiteTensor* output = tensor_at(context, kernel->node.outputs, 0);
  TfLiteIntArray* dims = malloc(sizeof(TfLiteIntArray) + sizeof(int) * KWS_MAX_RANK);
  if (!output || output->type != op.output_type || !dims) {
    free(dims);
    error.message = "the output has another type than the mode says";
    return refuse(context, kernel->kind, &error);
  }
  /* Both are written to, and a constant lies in the file. */
  error.message = output->allocation_type == TFLITE_MMAP_RO ? "the output is a constant" : NULL;
  const int state = kws_state_input(kernel->kind, kernel->node.inputs->size);
  if (state && !op.options.external && !tensor_at(context, kernel->node.inputs, state)->is_variable)
    error.message = "the state is no variable";
  if (error.message) {
    free(dims);
    return refuse(context, kernel->kind, &error);
  }
  dims->size = op.rank;
  for (int i = 0; i < op.rank; ++i) dims->data[i] = op.dims[i];
  return context->ResizeTensor(context, output, dims); /* takes dims */
}

static int kernel_invoke(TfLiteContext* context, TfLiteNode* node) {
  const kernel_data* kernel = node->user_data;
  kws_call call;
  kws_tensor output;
  kws_error error = {"the output is missing", 0, 1};
  if (!make_call(&call, context, kernel, &error) ||
      !view(&output, tensor_at(context, kernel->node.outputs, 0), false) || !kws_invoke(&call, &output, &error))
    return refuse(context, kernel->kind, &error);
  return TFLITE_OK;
}

/* The tensor that a node keeps its state in; -1 where it has none, or is none of ours. */
static int state_of(TfLiteContext* context, int number) {
  TfLiteNode* node;
  TfLiteRegistration* registration;
  if (context->GetNodeAndRegistration(context, number, &node, &registration) != TFLITE_OK) return -1;
  if (registration->builtin_code != TFLITE_CUSTOM) return -1;
  const int state = kws_state_input((kws_kind)kws_op_kind(registration->custom_name), node->inputs->size);
  const TfLiteTensor* tensor = state && state < node->inputs->size ? tensor_at(context, node->inputs, state) : NULL;
  return tensor && tensor->is_variable ? node->inputs->data[state] : -1;
}

/* Whether two of the first `count` nodes keep their state in the same tensor, which would mix it. */
static bool share_a_state(TfLiteContext* context, const int* nodes, int count) {
  for (int i = 0; i < count; ++i) {
    const int state = state_of(context, nodes[i]);
    for (int j = 0; j < i && state >= 0; ++j)
      if (state_of(context, nodes[j]) == state) return true;
  }
  return false;
}

static int replace_ours(TfLiteContext* context, TfLiteDelegate* delegate) {
  TfLiteIntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != TFLITE_OK) return TFLITE_ERROR;
  const int count = plan->size;
  int* nodes = malloc(sizeof(int) * (size_t)(count + 1)); /* replacing a node changes the plan that we walk */
  if (!nodes) return TFLITE_ERROR;
  memcpy(nodes, plan->data, sizeof(int) * (size_t)count);
  int status = TFLITE_OK;
  if (share_a_state(context, nodes, count)) {
    const kws_error error = {"two ops keep their state in the same variable", 2, 1};
    status = refuse(context, KWS_RING, &error);
  }
  for (int i = 0; i < count && status == TFLITE_OK; ++i) {
    TfLiteNode* node;
    TfLiteRegistration* registration;
    status = context->GetNodeAndRegistration(context, nodes[i], &node, &registration);
    if (status != TFLITE_OK || registration->builtin_code != TFLITE_CUSTOM) continue;
    if (!kws_op_kind(registration->custom_name)) continue;
    TfLiteRegistration kernel = {0};
    kernel.init = kernel_init;
    kernel.free = kernel_free;
    kernel.prepare = kernel_prepare;
    kernel.invoke = kernel_invoke;
    kernel.builtin_code = TFLITE_DELEGATE;
    kernel.custom_name = "TfmotKws";
    kernel.version = 1;
    /* one call for each node, so that each keeps its place in the order of execution */
    int subset[2] = {1, nodes[i]};
    status =
        context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, (const TfLiteIntArray*)(void*)subset, delegate);
  }
  free(nodes);
  return status;
}

EXPORT TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                                     void (*report_error)(const char*)) {
  (void)keys;
  (void)values;
  (void)count;
  TfLiteDelegate* delegate = TFMOT_KWS_ABI_IS_SANE ? calloc(1, sizeof *delegate) : NULL;
  if (!delegate) {
    if (report_error)
      report_error("tflite_export: this machine's ABI is not the one that the delegate was written for");
    return NULL;
  }
  delegate->prepare = replace_ours;
  delegate->flags = TFLITE_ALLOW_DYNAMIC_TENSORS;
  return delegate;
}

EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) { free(delegate); }
