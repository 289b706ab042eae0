// Our custom ops for firmware with TensorFlow Lite Micro: for use with AddCustom.
//
//     tflite::MicroMutableOpResolver<2> resolver;
//     resolver.AddCustom("TfmotKwsPackedDense", tfmot_kws::Register_TfmotKwsPackedDense());
//
// `tfmot-kws export --c-array` prints these lines for a model. Compile micro_ops.cc and the C files of kernels/ with
// your own TFLM tree on the include path; nothing else of it is needed. Structs of that tree depend on
// TF_LITE_STATIC_MEMORY: define it wherever its headers are included if its library was built so, as it is as a rule.
#ifndef TFMOT_KWS_MICRO_OPS_H_
#define TFMOT_KWS_MICRO_OPS_H_

#include <type_traits>
#include <utility>

#include "tensorflow/lite/micro/micro_common.h"

namespace tflite {
namespace micro {}
}  // namespace tflite

namespace tfmot_kws {

// TFLM moved its C types from the global namespace to tflite::micro in October 2026: both are found.
using namespace tflite;         // NOLINT
using namespace tflite::micro;  // NOLINT

// A node has temporaries in headers that are read without TF_LITE_STATIC_MEMORY, and all that lies behind them is then
// at another place than where the library has it.
template <typename Node, typename = void>
struct HasTemporaries : std::false_type {};
template <typename Node>
struct HasTemporaries<Node, decltype(static_cast<void>(std::declval<Node&>().temporaries))> : std::true_type {};
#if !defined(TFMOT_KWS_FULL_STRUCTS)
static_assert(!HasTemporaries<TfLiteNode>::value,
              "these TensorFlow Lite Micro headers describe other structs than its libraries have: compile all that "
              "includes them with -DTF_LITE_STATIC_MEMORY; or, if your library was built without it, with "
              "-DTFMOT_KWS_FULL_STRUCTS");
#endif

const TFLMRegistration* Register_TfmotKwsPackedDense();
const TFLMRegistration* Register_TfmotKwsDepthwise();
const TFLMRegistration* Register_TfmotKwsLookup();
const TFLMRegistration* Register_TfmotKwsSoftmax();
const TFLMRegistration* Register_TfmotKwsAdd();
const TFLMRegistration* Register_TfmotKwsMultiply();
const TFLMRegistration* Register_TfmotKwsAveragePool();
const TFLMRegistration* Register_TfmotKwsMaxPool();
const TFLMRegistration* Register_TfmotKwsRing();
const TFLMRegistration* Register_TfmotKwsRecurrent();
const TFLMRegistration* Register_TfmotKwsWaveform();

}  // namespace tfmot_kws

#endif  // TFMOT_KWS_MICRO_OPS_H_
