/* Everything that is checked before a kernel runs. Whatever a file says, after kws_prepare() every index that a kernel
 * computes lies inside its tensor. */
#include <string.h>

#include "../ops/recurrent.h"
#include "../ops/waveform.h"
#include "check.h"
#include "options.h"

/* Element type of an input, and bytes of an element. A ring keeps samples, too. */
static int32_t input_type(const kws_options* o, const kws_tensor* t) {
  if (KWS_DYNAMIC && o->mode == KWS_MODE_DYNAMIC) return KWS_FLOAT32;
  if (KWS_HAS_WAVEFORM && o->kind == KWS_WAVEFORM) return KWS_INT16;
  return KWS_HAS_KIND(9) && o->kind == KWS_RING && t->type == KWS_INT16 ? KWS_INT16 : KWS_INT8;
}
static size_t type_bytes(int32_t type) {
  if (KWS_DYNAMIC && type == KWS_FLOAT32) return sizeof(float);
  return (KWS_HAS_WAVEFORM || KWS_HAS_KIND(9)) && type == KWS_INT16 ? 2 : 1;
}

/* Checks that dims are positive, that no product overflows and that they fill exactly the bytes. */
static bool check_activation(const kws_options* o, const kws_tensor* t, kws_error* error) {
  const int32_t type = input_type(o, t);
  size_t size = type_bytes(type);
  CHECK(t->type == type, "an input has not the type that the mode has", t->type, type);
  CHECK((uintptr_t)t->data % size == 0, "a tensor's address is no multiple of its elements' size", 0, 0);
  CHECK(t->rank >= 1 && t->rank <= KWS_MAX_RANK, "a tensor has too few or too many axes", t->rank, KWS_MAX_RANK);
  for (int i = 0; i < t->rank; ++i) {
    CHECK(t->dims[i] >= 1, "a tensor has an empty axis", t->dims[i], 1);
    size = kws_product(size, (size_t)t->dims[i]);
    CHECK(size && size <= 0x7FFFFFFF, "a tensor is too large", i, 0x7FFFFFFF);
  }
  CHECK(t->bytes == size, "a tensor's bytes do not suit its shape", t->bytes, size);
  return true;
}

/* Where a build has no kernel that reads some weights: the only fast one needs other addresses or shorter rows. */
static const char no_kernel[] =
    "no kernel of this build reads such weights (KWS_LAYOUTS, KWS_LONG_ROWS, KWS_REFERENCE)";

#if KWS_HAS_KIND(1) || KWS_HAS_KIND(2) || KWS_HAS_KIND(3) || KWS_HAS_KIND(4) || KWS_HAS_RECURRENT || KWS_HAS_WAVEFORM
static bool check_constant(const kws_tensor* t, int32_t type, size_t bytes, const char* what, kws_error* error) {
  (void)what; /* where nothing is said */
  CHECK(bytes && t->bytes == bytes && t->type == type, what, t->bytes, bytes);
  CHECK(t->data, "weights, channel parameters and tables must be constant", 0, 1);
  return true;
}
#endif

#if KWS_WINDOWS
/* Shape of a windowed op; also its picture. */
static bool prepare_window(kws_op* op, const kws_tensor* x, uint32_t channels, kws_error* error) {
  const kws_window* w = &op->options.window;
  int32_t out[2];
  CHECK(x->rank == 3 || x->rank == 4, "a window needs [batch, time, channels] or a picture", x->rank, 4);
  const int32_t picture[2] = {x->dims[1], x->rank == 4 ? x->dims[2] : 1};
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t extent = (int64_t)(w->size[axis] - 1) * w->dilation[axis] + 1;
    const int64_t room = (int64_t)picture[axis] + w->padding[2 * axis] + w->padding[2 * axis + 1] - extent;
    CHECK(room >= 0, "the window is larger than the padded picture", extent, extent + room);
    const int64_t count = (int64_t)((uint32_t)room / (uint32_t)w->stride[axis]) + 1; /* room < 2^32 */
    CHECK(count <= 0x7FFFFFFF, "the output is too large", 0, 0);
    out[axis] = (int32_t)count;
  }
  CHECK(x->rank == 4 || (w->size[1] == 1 && out[1] == 1), "a window over [time, channels] must be one wide", w->size[1],
        1);
  op->batch = x->dims[0];
  op->height = picture[0];
  op->width = picture[1];
  op->out_height = out[0];
  op->out_width = out[1];
  op->dims[1] = out[0];
  if (x->rank == 4) op->dims[2] = out[1];
  op->dims[x->rank - 1] = (int32_t)channels;
  return true;
}

#endif

#if KWS_HAS_KIND(1) || KWS_HAS_KIND(2)
static bool prepare_weighted(kws_op* op, const kws_call* call, kws_error* error) {
  const kws_options* o = &op->options;
  const kws_tensor* x = &call->inputs[0];
  const kws_tensor* w = &call->inputs[1];
  const bool dense = KWS_HAS_KIND(1) && (!KWS_HAS_KIND(2) || o->kind == KWS_PACKED_DENSE);
  const bool dynamic = KWS_DYNAMIC && o->mode == KWS_MODE_DYNAMIC;
  const size_t taps = KWS_WINDOWS && o->has_window ? (size_t)o->window.size[0] * (size_t)o->window.size[1] : 1;
  const size_t inputs = dense ? kws_product(taps, (size_t)op->channels) : taps;
  CHECK(inputs == o->inputs, "options: inputs do not suit the window and the input's channels", o->inputs, inputs);
  if (dense && dynamic) {
    if (!check_constant(w, KWS_UINT8, kws_tight_size(o->outputs, o->inputs, o->bits),
                        "packed weights are not uint8 or have the wrong size in bytes", error))
      return false;
  } else if (dense) {
    if (!check_constant(w, KWS_UINT8, kws_packed_size(o->outputs, o->inputs, o->bits, o->layout),
                        "packed weights are not uint8 or have the wrong size in bytes", error))
      return false;
  } else {
    CHECK(o->outputs % (uint32_t)op->channels == 0, "outputs are no multiple of the input's channels", o->outputs,
          op->channels);
    CHECK_BUILT(KWS_DEPTHWISE_ANY || dynamic || o->outputs == (uint32_t)op->channels,
                "a depthwise layer with several outputs a channel, which this build leaves out (KWS_DEPTHWISE_ANY)",
                o->outputs, op->channels);
    const size_t levels = kws_product(kws_product(o->inputs, o->outputs), type_bytes(x->type));
    if (!check_constant(w, x->type, levels, "depthwise levels have the wrong type or the wrong size in bytes", error))
      return false;
  }
  const bool floats = !dense && dynamic;
  const int zero_bytes = !KWS_DYNAMIC || o->grid != KWS_LINEAR_GRID ? 0 : o->bits > 8 ? 2 : 1;
  const size_t size = floats ? kws_product(o->outputs, sizeof(float))
                             : kws_channels_size(o->outputs, o->gain_bytes, o->bias_bytes, o->sum_bytes, zero_bytes);
  if (!check_constant(&call->inputs[2], floats ? KWS_FLOAT32 : KWS_UINT8, size,
                      "channel parameters have the wrong type or the wrong size in bytes", error))
    return false;
  op->weights = w->data;
  op->channel_parameters = call->inputs[2].data;
#if KWS_WINDOWS
  if (o->has_window) return prepare_window(op, x, o->outputs, error);
#endif
  op->dims[op->rank - 1] = (int32_t)o->outputs;
  return true;
}
#endif

#if KWS_HAS_KIND(5) || KWS_HAS_KIND(6)
/* Shapes are aligned at the batch axis on the left and at the last axis on the right, as numpy would per sample. */
static bool prepare_pair(kws_op* op, const kws_tensor* x, kws_error* error) {
  const int rank = x[0].rank > x[1].rank ? x[0].rank : x[1].rank;
  size_t step[2] = {1, 1};
  op->rank = rank;
  for (int i = rank - 1; i >= 0; --i) {
    int32_t size[2];
    for (int k = 0; k < 2; ++k) {
      const int axis = i == 0 ? 0 : i - (rank - x[k].rank);
      size[k] = i == 0 || axis >= 1 ? x[k].dims[axis] : 1;
    }
    CHECK(size[0] == size[1] || size[0] == 1 || size[1] == 1, "two shapes do not broadcast", size[0], size[1]);
    op->dims[i] = size[0] > size[1] ? size[0] : size[1];
    for (int k = 0; k < 2; ++k) {
      op->stride[k][i] = size[k] == 1 ? 0 : step[k];
      step[k] *= (size_t)size[k];
    }
  }
  return true;
}

#endif

#if KWS_HAS_KIND(7)
/* Keeps the mean's 64-bit numerator and denominator from overflowing, and so from dividing by zero. */
static bool check_mean(const kws_options* o, kws_error* error) {
  const uint64_t taps = (uint64_t)o->window.size[0] * (uint64_t)o->window.size[1]; /* below 2^32 */
  const uint64_t limit = (uint64_t)1 << 62;
  CHECK(taps <= limit >> (o->shift + 1), "average pool: window and shift are too large", o->shift, 46);
  CHECK(!o->multiplier[0] || taps <= limit / 510 / o->multiplier[0], "average pool: multiplier is too large",
        o->multiplier[0], 0);
  return true;
}

#endif

#if KWS_HAS_KIND(9)
/* The state has room for the frames; frames of one recording only follow each other. */
static bool prepare_ring(kws_op* op, const kws_tensor* x, kws_error* error) {
  CHECK(x[0].rank >= 2, "a ring needs [1, time, ...]", x[0].rank, 2);
  CHECK(x[0].dims[0] == 1, "a ring takes one recording, not a batch", x[0].dims[0], 1);
  CHECK(x[0].type != KWS_INT16 || !op->options.output_zero_point, "the zero point of samples is 0",
        op->options.output_zero_point, 0);
  CHECK(x[1].type == KWS_INT8, "a ring's state is not int8", x[1].type, KWS_INT8);
  const size_t kept = kws_product(op->options.outputs, x[0].bytes / (size_t)x[0].dims[1]);
  CHECK(kept && kept < 0x7FFFFFFF && x[1].bytes == kept + KWS_RING_HEAD, "a ring's state has the wrong size in bytes",
        x[1].bytes, kept + KWS_RING_HEAD);
  const int64_t frames = (int64_t)x[0].dims[1] + op->options.outputs;
  CHECK(frames <= 0x7FFFFFFF, "the output is too large", 0, 0);
  op->dims[1] = (int32_t)frames;
  op->height = x[0].dims[1];
  op->state = x[1].data;
  op->x[1] = x[1].data;
  return true;
}

#endif

#if KWS_HAS_RECURRENT
/* One constant has both kernels; rows follow each other along the axis behind the batch. */
static bool prepare_recurrent(kws_op* op, const kws_call* call, kws_error* error) {
  const kws_options* o = &op->options;
  const kws_tensor* x = call->inputs;
  const uint32_t units = o->outputs / kws_cell_gates(o->cell);
  CHECK(x->rank == 3, "a recurrent layer needs [batch, time, channels]", x->rank, 3);
  CHECK((uint32_t)op->channels == o->inputs, "options: inputs do not suit the input's channels", o->inputs,
        op->channels);
  if (!check_constant(&x[1], KWS_UINT8, kws_recurrent_bytes(o),
                      "weights and channel parameters are not uint8 or have the wrong size in bytes", error))
    return false;
  op->weights = x[1].data;
  CHECK_BUILT(KWS_REFERENCE || kws_recurrent_runs(op), no_kernel, o->layout, KWS_LAYOUTS);
  CHECK(kws_recurrent_scratch(op) <= 0x7FFFFFFF, "a recurrent layer is too large", units, 0);
  op->batch = x->dims[0];
  op->height = x->dims[1];
  if (!o->sequences) op->rank = 2;
  op->dims[op->rank - 1] = (int32_t)units;
  if (call->input_count < 3) {
    CHECK(!o->external, "wrong number of inputs", call->input_count, 3);
    CHECK(!o->skip, "options: only a recurrent layer with a state skips rows", o->skip, 0);
    return true;
  }
  const size_t size = KWS_RECURRENT_HEAD + 3 * (size_t)units;
  CHECK(op->batch == 1, "a recurrent layer with a state takes one recording, not a batch", op->batch, 1);
  CHECK(x[2].type == KWS_INT8, "a recurrent layer's state is not int8", x[2].type, KWS_INT8);
  CHECK(x[2].bytes == size, "a recurrent layer's state has the wrong size in bytes", x[2].bytes, size);
  if (!o->external) {
    op->state = x[2].data;
    return true;
  }
  op->x[1] = x[2].data;
  op->rank = 2;
  const size_t rows = o->sequences ? kws_product((size_t)op->height, units) : units;
  CHECK(rows && rows <= 0x7FFFFFFF - size, "the output is too large", 0, 0);
  op->dims[1] = (int32_t)(rows + size);
  return true;
}
#endif

#if KWS_HAS_WAVEFORM
/* Samples [batch, samples, 1] become frames [batch, frames, outputs]. */
static bool prepare_waveform(kws_op* op, const kws_call* call, kws_error* error) {
  const kws_options* o = &op->options;
  const kws_tensor* x = call->inputs;
  const int32_t span = (int32_t)kws_waveform_span(o), hop = (int32_t)(o->sample_stride * o->average);
  CHECK(x->rank == 3 && x->dims[2] == 1, "filters over samples need [batch, samples, 1]", x->rank, 3);
  CHECK(x->dims[1] >= span, "fewer samples than a frame spans", x->dims[1], span);
  if (!check_constant(&x[1], KWS_UINT8, kws_packed_size(o->outputs, o->inputs, o->bits, o->layout),
                      "packed weights are not uint8 or have the wrong size in bytes", error))
    return false;
  if (!check_constant(&x[2], KWS_UINT8, kws_channels_size(o->outputs, o->gain_bytes, o->bias_bytes, o->sum_bytes, 0),
                      "channel parameters have the wrong type or the wrong size in bytes", error))
    return false;
  const size_t sums = kws_product(kws_product(o->outputs, o->average), 2 * sizeof(int32_t));
  CHECK(sums && sums <= 0x3FFFFFFF, "filters over samples are too many", o->outputs, 0);
  op->weights = x[1].data;
  op->channel_parameters = x[2].data;
  op->batch = x->dims[0];
  op->height = x->dims[1];
  op->width = op->out_width = 1;
  op->out_height = op->dims[1] = (x->dims[1] - span) / hop + 1;
  op->dims[2] = (int32_t)o->outputs;
  CHECK_BUILT(KWS_REFERENCE || kws_waveform_runs(op), no_kernel, o->layout, KWS_LAYOUTS);
  return true;
}
#endif

bool kws_prepare(kws_op* op, const kws_call* call, kws_error* error) {
  memset(op, 0, sizeof *op);
  if (!kws_parse_options(&op->options, call->options, call->options_bytes, error)) return false;
  const kws_options* o = &op->options;
  const kws_tensor* x = call->inputs;
  CHECK(o->kind == call->kind, "options belong to another op", o->kind, call->kind);
  const int more = KWS_HAS_RECURRENT && kws_state_input(o->kind, call->input_count) == 2;
  const int inputs = kws_input_count(o->kind, o->mode) + more;
  CHECK(call->input_count == inputs, "wrong number of inputs", call->input_count, inputs);
  const int activations =
      (KWS_HAS_KIND(5) && o->kind == KWS_ADD) || (KWS_HAS_KIND(6) && o->kind == KWS_MULTIPLY) ? 2 : 1;
  for (int i = 0; i < activations; ++i) {
    if (!check_activation(o, &x[i], error)) return false;
    op->x[i] = x[i].data;
  }
  op->rank = x[0].rank;
  memcpy(op->dims, x[0].dims, sizeof(int32_t) * (size_t)op->rank);
  op->channels = x[0].dims[op->rank - 1];
  op->rows = x[0].bytes / type_bytes(x[0].type) / (size_t)op->channels;
  const bool dynamic = KWS_DYNAMIC && o->mode == KWS_MODE_DYNAMIC;
  (void)dynamic; /* where no kind asks */
  bool good = true;
  switch (o->kind) {
#if KWS_HAS_KIND(1) || KWS_HAS_KIND(2)
    case KWS_PACKED_DENSE:
    case KWS_DEPTHWISE:
      good = prepare_weighted(op, call, error);
      break;
#endif
#if KWS_HAS_KIND(3)
    case KWS_LOOKUP:
      if (dynamic) break;
      good = check_constant(&x[1], KWS_INT8, 256, "the table is not int8 or has the wrong size in bytes", error);
      op->weights = x[1].data;
      break;
#endif
#if KWS_HAS_KIND(4)
    case KWS_SOFTMAX:
      if (dynamic) break;
      good = check_constant(&x[1], KWS_UINT8, 512, "the table is not uint8 or has the wrong size in bytes", error);
      op->weights = x[1].data;
      break;
#endif
#if KWS_HAS_KIND(5) || KWS_HAS_KIND(6)
    case KWS_ADD:
    case KWS_MULTIPLY:
      good = prepare_pair(op, x, error);
      break;
#endif
#if KWS_HAS_KIND(9)
    case KWS_RING:
      good = prepare_ring(op, x, error);
      break;
#endif
#if KWS_HAS_RECURRENT
    case KWS_RECURRENT:
      good = prepare_recurrent(op, call, error);
      break;
#endif
#if KWS_HAS_WAVEFORM
    case KWS_WAVEFORM:
      good = prepare_waveform(op, call, error);
      break;
#endif
#if KWS_HAS_KIND(7) && KWS_WINDOWS
    case KWS_AVERAGE_POOL:
      good = (dynamic || check_mean(o, error)) && prepare_window(op, x, (uint32_t)op->channels, error);
      break;
#endif
#if KWS_HAS_KIND(8) && KWS_WINDOWS
    case KWS_MAX_POOL:
      good = prepare_window(op, x, (uint32_t)op->channels, error);
      break;
#endif
    default:
      CHECK_BUILT(false, "an op that this build leaves out (KWS_KINDS)", o->kind, KWS_KINDS);
  }
  if (!good) return false;
  CHECK_BUILT(KWS_REFERENCE || kws_choose(op), no_kernel, o->layout, KWS_LAYOUTS);
  op->output_type = KWS_HAS_WAVEFORM && o->kind == KWS_WAVEFORM ? KWS_INT8 : x[0].type;
  op->output_bytes = type_bytes(op->output_type);
  for (int i = 0; i < op->rank; ++i) {
    op->output_bytes = kws_product(op->output_bytes, (size_t)op->dims[i]);
    CHECK(op->output_bytes && op->output_bytes <= 0x7FFFFFFF, "the output is too large", i, 0);
  }
  return true;
}
