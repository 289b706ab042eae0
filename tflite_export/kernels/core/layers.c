#include "../include/layers.h"

#include <string.h>

#include "check.h"

static kws_tensor view(const kws_operand* operand, uint8_t* arena) {
  kws_tensor t;
  t.type = operand->type;
  t.rank = operand->rank;
  t.dims = operand->dims;
  t.bytes = operand->bytes;
  t.data = operand->data ? (void*)(uintptr_t)operand->data : arena + operand->offset;
  return t;
}

#if KWS_COPIES
static void run_move(const kws_move* m, uint8_t* arena) {
  int32_t at[KWS_MAX_RANK] = {0};
  const uint8_t* from = arena + m->from;
  uint8_t* to = arena + m->to;
  for (;;) {
    int axis = KWS_MAX_RANK - 1;
    if (m->from_step[axis] == 1 && m->to_step[axis] == 1)
      memcpy(to, from, (size_t)m->dims[axis]);
    else
      for (int32_t i = 0; i < m->dims[axis]; ++i) to[i * m->to_step[axis]] = from[i * m->from_step[axis]];
    /* the next place of the outer axes: like an odometer */
    for (--axis; axis >= 0; --axis) {
      from += m->from_step[axis];
      to += m->to_step[axis];
      if (++at[axis] < m->dims[axis]) break;
      from -= m->from_step[axis] * m->dims[axis];
      to -= m->to_step[axis] * m->dims[axis];
      at[axis] = 0;
    }
    if (axis < 0) return;
  }
}

#endif

#if KWS_RINGS
static void run_ring(const kws_layer* layer, uint8_t* arena) {
  const kws_operand *x = &layer->inputs[0], *state = &layer->inputs[1], *y = &layer->output;
  const size_t fresh = (size_t)x->dims[1], kept = (size_t)y->dims[1] - fresh;
  kws_ring_step(arena + state->offset, (const int8_t*)arena + x->offset, (int8_t*)arena + y->offset, kept, fresh,
                x->bytes / fresh, layer->fill);
}
#endif

/* Copies and rings: without options, for their sizes were checked when the table was made. */
static bool run_simple(const kws_layer* layer, uint8_t* arena, kws_error* error) {
  if (layer->kind == KWS_RING) {
    CHECK_BUILT(KWS_RINGS, "a ring, which this build leaves out (KWS_RINGS)", KWS_RING, KWS_RINGS);
#if KWS_RINGS
    run_ring(layer, arena);
#endif
    return true;
  }
  CHECK_BUILT(KWS_COPIES, "a copy, which this build leaves out (KWS_COPIES)", layer->move_count, KWS_COPIES);
#if KWS_COPIES
  memset(arena + layer->output.offset, layer->fill, layer->output.bytes);
  for (int k = 0; k < layer->move_count; ++k) run_move(&layer->moves[k], arena);
#endif
  (void)arena;
  return true;
}

bool kws_run_layers(const kws_layer* layers, size_t count, uint8_t* arena, size_t scratch, size_t scratch_bytes,
                    size_t* failed, kws_error* error) {
  for (size_t i = 0; i < count; ++i) {
    const kws_layer* layer = &layers[i];
    *failed = i;
    if (!layer->options) {
      if (!run_simple(layer, arena, error)) return false;
      continue;
    }
    const kws_tensor output = view(&layer->output, arena);
    kws_call call;
    memset(&call, 0, sizeof call);
    call.kind = (kws_kind)layer->kind;
    call.options = layer->options;
    call.options_bytes = layer->options[3]; /* their own length */
    call.input_count = layer->input_count;
    for (int k = 0; k < layer->input_count; ++k) call.inputs[k] = view(&layer->inputs[k], arena);
    call.scratch = arena + scratch;
    call.scratch_bytes = scratch_bytes;
    if (!kws_invoke(&call, &output, error)) return false;
  }
  return true;
}
