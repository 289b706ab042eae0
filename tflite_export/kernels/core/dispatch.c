/* The table of kernels, and the choice of one. */
#include "../dense/dense_row.h"
#include "../dense/dynamic.h"
#include "../ops/recurrent.h"
#include "../ops/waveform.h"

const kws_kernel kws_kernels[] = {
#define KWS_KERNEL(kind, function, layouts, cpu, scratch) {kind, #function, function, layouts, cpu, scratch},
#include "kernels.inc"
#undef KWS_KERNEL
};

const size_t kws_kernel_count = sizeof kws_kernels / sizeof kws_kernels[0];

bool kws_kernel_suits(const kws_kernel* kernel, const kws_op* op) {
  const bool floats = kernel->layouts & KWS_FLOATS;
  if (floats != (op->options.mode == KWS_MODE_DYNAMIC)) return false;
  return kernel->kind == op->options.kind && kernel->layouts >> op->options.layout & 1 && kws_cpu_has(kernel->cpu);
}

const kws_kernel* kws_choose(const kws_op* op) {
  size_t i = kws_kernel_count - 1;
  while (i && !kws_kernel_suits(&kws_kernels[i], op)) --i;
  return &kws_kernels[i];
}

size_t kws_scratch_bytes(const kws_kernel* kernel, const kws_op* op) {
#if KWS_DYNAMIC
  if (kernel->scratch == KWS_SCRATCH_CODES) return kws_dynamic_scratch(op);
  if (kernel->scratch == KWS_SCRATCH_CODES_AND_WIDE) return kws_dynamic_scratch(op) + kws_wide_row_scratch(op);
#endif
  if (kernel->scratch == KWS_SCRATCH_RECURRENT) return kws_recurrent_scratch(op);
  if (kernel->scratch == KWS_SCRATCH_WAVEFORM) return kws_waveform_scratch(op);
  if (kernel->scratch == KWS_SCRATCH_WIDE_ROW) return kws_wide_row_scratch(op);
  return kernel->scratch == KWS_SCRATCH_ROW ? kws_row_scratch(op) : 0;
}

bool kws_invoke_kernel(const kws_kernel* kernel, const kws_call* call, const kws_tensor* y, kws_error* error) {
  kws_op op;
  if (!kws_prepare(&op, call, error)) return false;
  if (!kernel) kernel = kws_choose(&op);
  error->message = "the kernel cannot run this op";
  error->found = (long)kernel->kind;
  error->wanted = (long)op.options.kind;
  if (!kws_kernel_suits(kernel, &op)) return false;
  const size_t scratch = kws_scratch_bytes(kernel, &op);
  error->message = "too little scratch memory";
  error->found = (long)call->scratch_bytes;
  error->wanted = (long)scratch;
  if (scratch && (!call->scratch || call->scratch_bytes < scratch)) return false;
  error->message = "the output has the wrong type or the wrong size in bytes";
  error->found = (long)y->bytes;
  error->wanted = (long)op.output_bytes;
  if (y->type != op.output_type || y->bytes != op.output_bytes) return false;
  error->message = "an output or scratch memory is not aligned";
  if (op.options.mode == KWS_MODE_DYNAMIC && (((uintptr_t)y->data | (uintptr_t)(scratch ? call->scratch : 0)) & 3))
    return false;
  op.y = y->data;
  op.scratch = call->scratch;
  error->message = "a tensor has no memory";
  if (!op.x[0] || !op.y || (!op.x[1] && call->input_count == 2 && !op.weights)) return false;
  if (kws_state_input(call->kind, call->input_count) && !op.state && !op.x[1]) return false;
  kernel->run(&op);
  return true;
}

bool kws_invoke(const kws_call* call, const kws_tensor* output, kws_error* error) {
  return kws_invoke_kernel(NULL, call, output, error);
}
