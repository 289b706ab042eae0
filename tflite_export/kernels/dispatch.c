/* The table of kernels, and the choice of one. */
#include "packed_kernels.h"

const kws_kernel kws_kernels[] = {
#define KWS_KERNEL(kind, function) {kind, #function, function},
#include "kernels.inc"
#undef KWS_KERNEL
};

const size_t kws_kernel_count = sizeof kws_kernels / sizeof kws_kernels[0];

bool kws_invoke(const kws_call* call, const kws_tensor* output, kws_error* error) {
  for (size_t i = kws_kernel_count; i-- > 0;)
    if (kws_kernels[i].kind == call->kind) return kws_invoke_kernel(&kws_kernels[i], call, output, error);
  error->message = "this build has no kernel for the op";
  error->found = error->wanted = (long)call->kind;
  return false;
}
