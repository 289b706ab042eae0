/* The table of kernels, and the choice of one. */
#include "../dense/dense_row.h"
#include "../dense/dynamic.h"
#include "../ops/recurrent.h"
#include "../ops/waveform.h"
#include "check.h"

const kws_kernel kws_kernels[] = {
#define KWS_KERNEL(kind, function, layouts, cpu, scratch) {kind, #function, function, layouts, cpu, scratch},
#include "kernels.inc"
#undef KWS_KERNEL
};

const size_t kws_kernel_count = sizeof kws_kernels / sizeof kws_kernels[0];

bool kws_kernel_suits(const kws_kernel* kernel, const kws_op* op) {
  if (kernel->kind != op->options.kind) return false; /* first, for most are of other kinds */
  const bool floats = kernel->layouts & KWS_FLOATS;
  if (floats != (op->options.mode == KWS_MODE_DYNAMIC)) return false;
  if (kernel->layouts & KWS_WHOLE_WORDS && (uintptr_t)op->weights % 4) return false;
  if (kernel->layouts & KWS_SHORT_ROWS && op->options.inputs > KWS_SHORT_ROW) return false;
  return kernel->layouts >> op->options.layout & 1 && kws_cpu_has(kernel->cpu);
}

const kws_kernel* kws_choose(const kws_op* op) {
  for (size_t i = kws_kernel_count; i; --i)
    if (kws_kernel_suits(&kws_kernels[i - 1], op)) return &kws_kernels[i - 1];
  return NULL;
}

size_t kws_scratch_bytes(const kws_kernel* kernel, const kws_op* op) {
  (void)op; /* where no kernel needs any */
  switch (kernel ? kernel->scratch : KWS_SCRATCH_NONE) {
#if KWS_DENSE_DYNAMIC
    case KWS_SCRATCH_CODES:
      return kws_dynamic_scratch(op);
    case KWS_SCRATCH_CODES_AND_WIDE:
      return kws_dynamic_scratch(op) + kws_wide_row_scratch(op);
#endif
#if KWS_HAS_RECURRENT
    case KWS_SCRATCH_RECURRENT:
      return kws_recurrent_scratch(op);
#endif
#if KWS_HAS_WAVEFORM
    case KWS_SCRATCH_WAVEFORM:
      return kws_waveform_scratch(op);
#endif
#if KWS_DENSE_STATIC
    case KWS_SCRATCH_WIDE_ROW:
      return kws_wide_row_scratch(op);
    case KWS_SCRATCH_ROW:
      return kws_row_scratch(op);
#endif
    default:
      return 0;
  }
}

bool kws_invoke_kernel(const kws_kernel* kernel, const kws_call* call, const kws_tensor* y, kws_error* error) {
  kws_op op;
  if (!kws_prepare(&op, call, error)) return false;
  if (!kernel)
    kernel = kws_choose(&op);
  else
    CHECK(kws_kernel_suits(kernel, &op), "the kernel cannot run this op", kernel->kind, op.options.kind);
  const size_t scratch = kws_scratch_bytes(kernel, &op);
  CHECK(!scratch || (call->scratch && call->scratch_bytes >= scratch), "too little scratch memory", call->scratch_bytes,
        scratch);
  CHECK(y->type == op.output_type && y->bytes == op.output_bytes,
        "the output has the wrong type or the wrong size in bytes", y->bytes, op.output_bytes);
  if (KWS_DYNAMIC && op.options.mode == KWS_MODE_DYNAMIC)
    CHECK(!(((uintptr_t)y->data | (uintptr_t)(scratch ? call->scratch : 0)) & 3),
          "an output or scratch memory is not aligned", 0, 0);
  op.y = y->data;
  op.scratch = call->scratch;
  CHECK(op.x[0] && op.y && (op.x[1] || call->input_count != 2 || op.weights) &&
            (op.state || op.x[1] || !kws_state_input(call->kind, call->input_count)),
        "a tensor has no memory", 0, 1);
  kernel->run(&op);
  return true;
}

bool kws_invoke(const kws_call* call, const kws_tensor* output, kws_error* error) {
  return kws_invoke_kernel(NULL, call, output, error);
}
