#include "micro_ops.h"

#include <cstdint>

#include "../../kernels/include/packed_kernels.h"
#include "tensorflow/lite/micro/micro_log.h"

namespace tfmot_kws {
namespace {

// What an op keeps: its options inside the model, and the handle of its scratch memory.
struct OpData {
  const std::uint8_t* options;
  std::int32_t scratch_bytes;
  int scratch;
};

TfLiteStatus Refuse(int kind, const kws_error& error) {
  const char* name = kws_op_name(kind);
  MicroPrintf("%s: %s (found %d, wanted %d)", name ? name : "TfmotKws", error.message, static_cast<int>(error.found),
              static_cast<int>(error.wanted));
  return kTfLiteError;
}

bool View(TfLiteContext* context, const TfLiteIntArray* indices, int i, kws_tensor* to) {
  const TfLiteEvalTensor* from = indices->data[i] >= 0 ? context->GetEvalTensor(context, indices->data[i]) : nullptr;
  if (from == nullptr || from->dims == nullptr) return false;
  to->type = from->type;
  to->rank = from->dims->size;
  to->dims = reinterpret_cast<const std::int32_t*>(from->dims->data);
  to->data = from->data.data;
  // TFLM keeps no size; our tensors have bytes, samples or floats, and anything else is refused by its type.
  to->bytes = from->type == kTfLiteFloat32 ? sizeof(float) : from->type == kTfLiteInt16 ? 2 : 1;
  for (int k = 0; k < to->rank; ++k) to->bytes *= to->dims[k] > 0 ? static_cast<std::size_t>(to->dims[k]) : 0;
  return true;
}

bool MakeCall(TfLiteContext* context, const TfLiteNode* node, kws_call* call, kws_error* error) {
  const OpData* data = static_cast<const OpData*>(node->user_data);
  *call = kws_call();
  *error = {"options are missing, too short, or those of another op", 0, 1};
  if (data == nullptr) return false;
  call->kind = static_cast<kws_kind>(data->options[1]);
  call->options = data->options;
  call->options_bytes = data->options[3];  // Init compared it with the true length
  call->input_count = node->inputs->size;
  *error = {"wrong number of inputs or outputs, or an input is missing", call->input_count, 1};
  if (call->input_count < 1 || call->input_count > KWS_MAX_INPUTS || node->outputs->size != 1) return false;
  for (int i = 0; i < call->input_count; ++i)
    if (!View(context, node->inputs, i, &call->inputs[i])) return false;
  return true;
}

// Only this function is told the length of the options: one for each kind, so that a file cannot mix them up.
template <int kKind>
void* Init(TfLiteContext* context, const char* buffer, size_t length) {
  const auto* options = reinterpret_cast<const std::uint8_t*>(buffer);
  if (options == nullptr || length < 4 || options[1] != kKind || options[3] != length) return nullptr;
  auto* data = static_cast<OpData*>(context->AllocatePersistentBuffer(context, sizeof(OpData)));
  if (data != nullptr) *data = {options, 0, -1};
  return data;
}

TfLiteStatus Prepare(TfLiteContext* context, TfLiteNode* node) {
  kws_call call;
  kws_op op;
  kws_tensor output;
  kws_error error;
  if (!MakeCall(context, node, &call, &error) || !kws_prepare(&op, &call, &error)) return Refuse(call.kind, error);
  error = {"the output has the wrong type or the wrong size", 0, 1};
  if (!View(context, node->outputs, 0, &output) || output.type != op.output_type || output.bytes != op.output_bytes)
    return Refuse(call.kind, error);
  // Both are written to. Before memory is planned only constants have an address: they lie in the model.
  error = {"the output is a constant", 0, 1};
  if (output.data != nullptr) return Refuse(call.kind, error);
  error = {"the state is no variable", 0, 1};
  const int state = kws_state_input(call.kind, call.input_count);
  if (state != 0 && call.inputs[state].data != nullptr) return Refuse(call.kind, error);
  auto* data = static_cast<OpData*>(node->user_data);
  const std::size_t scratch = kws_scratch_bytes(kws_choose(&op), &op);
  error = {"no memory for a row of inputs", static_cast<long>(scratch), 0};
  if (scratch > INT32_MAX) return Refuse(call.kind, error);
  if (scratch != 0 && context->RequestScratchBufferInArena(context, scratch, &data->scratch) != kTfLiteOk)
    return Refuse(call.kind, error);
  data->scratch_bytes = static_cast<std::int32_t>(scratch);
  return kTfLiteOk;
}

TfLiteStatus Invoke(TfLiteContext* context, TfLiteNode* node) {
  kws_call call;
  kws_tensor output;
  kws_error error;
  if (!MakeCall(context, node, &call, &error)) return Refuse(call.kind, error);
  error = {"the output is missing", 0, 1};
  if (!View(context, node->outputs, 0, &output)) return Refuse(call.kind, error);
  const auto* data = static_cast<const OpData*>(node->user_data);
  call.scratch_bytes = static_cast<std::size_t>(data->scratch_bytes);
  if (data->scratch_bytes != 0) call.scratch = context->GetScratchBuffer(context, data->scratch);
  return kws_invoke(&call, &output, &error) ? kTfLiteOk : Refuse(call.kind, error);
}

template <int kKind>
const TFLMRegistration* Register() {
  static const TFLMRegistration registration = {Init<kKind>, nullptr, Prepare, Invoke, nullptr, 0, nullptr};
  return &registration;
}

}  // namespace

const TFLMRegistration* Register_TfmotKwsPackedDense() { return Register<KWS_PACKED_DENSE>(); }
const TFLMRegistration* Register_TfmotKwsDepthwise() { return Register<KWS_DEPTHWISE>(); }
const TFLMRegistration* Register_TfmotKwsLookup() { return Register<KWS_LOOKUP>(); }
const TFLMRegistration* Register_TfmotKwsSoftmax() { return Register<KWS_SOFTMAX>(); }
const TFLMRegistration* Register_TfmotKwsAdd() { return Register<KWS_ADD>(); }
const TFLMRegistration* Register_TfmotKwsMultiply() { return Register<KWS_MULTIPLY>(); }
const TFLMRegistration* Register_TfmotKwsAveragePool() { return Register<KWS_AVERAGE_POOL>(); }
const TFLMRegistration* Register_TfmotKwsMaxPool() { return Register<KWS_MAX_POOL>(); }
const TFLMRegistration* Register_TfmotKwsRing() { return Register<KWS_RING>(); }
const TFLMRegistration* Register_TfmotKwsRecurrent() { return Register<KWS_RECURRENT>(); }
const TFLMRegistration* Register_TfmotKwsWaveform() { return Register<KWS_WAVEFORM>(); }

}  // namespace tfmot_kws
