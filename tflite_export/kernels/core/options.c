/* Everything that is checked before a kernel runs. Whatever a file says, after kws_prepare() every index that a kernel
 * computes lies inside its tensor. */
#include "options.h"

#include <string.h>

#include "../ops/recurrent.h"
#include "weight_layout.h"

/* Which fields a kind uses, and so which must be zero; and its inputs. */
enum {
  USES_CHANNELS = 1, /* gain_bytes, bias_bytes, bias_shift */
  USES_WEIGHTS = 2,  /* bits, grid */
  USES_SCALE = 4,    /* activation range, multiplier 0, shift, zero points */
  USES_SECOND = 8,   /* zero point of input 1 */
  USES_PAIR = 16,    /* multiplier 1 */
  MAY_WINDOW = 32,
  NEEDS_WINDOW = 64,
  USES_HISTORY = 128, /* outputs, zero point of the output */
  USES_CODES = 256,   /* dynamic mode: units, bits, grid, bytes of gain, bias and sum, bits of inputs */
  USES_SIZES = 512,   /* outputs, inputs */
  USES_FUNCTION = 1024,
  USES_CELL = 2048 /* in the place of a window */
};

/* By mode: inputs and fields. */
static const struct {
  const char* name;
  int inputs[KWS_MODE_END], uses[KWS_MODE_END];
} kinds[KWS_KIND_END] = {
    {0, {0, 0}, {0, 0}},
    {"TfmotKwsPackedDense",
     {3, 3},
     {USES_CHANNELS | USES_SIZES | USES_WEIGHTS | USES_SCALE | MAY_WINDOW,
      USES_CODES | USES_SIZES | USES_FUNCTION | MAY_WINDOW}},
    {"TfmotKwsDepthwise",
     {3, 3},
     {USES_CHANNELS | USES_SIZES | USES_SCALE | MAY_WINDOW, USES_SIZES | USES_FUNCTION | MAY_WINDOW}},
    {"TfmotKwsLookup", {2, 1}, {0, USES_FUNCTION}},
    {"TfmotKwsSoftmax", {2, 1}, {0, 0}},
    {"TfmotKwsAdd", {2, 2}, {USES_SCALE | USES_SECOND | USES_PAIR, USES_FUNCTION}},
    {"TfmotKwsMultiply", {2, 2}, {USES_SCALE | USES_SECOND, USES_FUNCTION}},
    {"TfmotKwsAveragePool", {1, 1}, {USES_SCALE | MAY_WINDOW | NEEDS_WINDOW, MAY_WINDOW | NEEDS_WINDOW}},
    {"TfmotKwsMaxPool", {1, 1}, {MAY_WINDOW | NEEDS_WINDOW, MAY_WINDOW | NEEDS_WINDOW}},
    {"TfmotKwsRing", {2, 2}, {USES_HISTORY, USES_HISTORY}},
    {"TfmotKwsRecurrent", /* or 3, with a state; no dynamic mode */
     {2, 0},
     {USES_CHANNELS | USES_SIZES | USES_WEIGHTS | USES_SCALE | USES_PAIR | USES_CELL, 0}},
};

#define CHECK(condition, text, is, should) \
  do {                                     \
    if (!(condition)) {                    \
      error->message = (text);             \
      error->found = (long)(is);           \
      error->wanted = (long)(should);      \
      return false;                        \
    }                                      \
  } while (0)

const char* kws_op_name(int kind) { return kind > 0 && kind < KWS_KIND_END ? kinds[kind].name : NULL; }

int kws_op_kind(const char* name) {
  for (int kind = 1; name && kind < KWS_KIND_END; ++kind)
    if (!strcmp(name, kinds[kind].name)) return kind;
  return 0;
}

int kws_state_input(kws_kind kind, int input_count) {
  return kind == KWS_RING ? 1 : kind == KWS_RECURRENT && input_count > 2 ? 2 : 0;
}

/* a * b, or 0 where that does not fit. */
static size_t product(size_t a, size_t b) { return b && a > (size_t)-1 / b ? 0 : a * b; }

size_t kws_packed_size(uint32_t outputs, uint32_t inputs, int bits, int layout) {
  if (!outputs || !inputs || bits < 1 || bits > 8 || !kws_layout_has(layout, bits)) return 0;
  const size_t down = (outputs - 1) / kws_block_rows(bits, layout) + 1,
               across = (inputs - 1) / kws_block_inputs(layout) + 1;
  return product(product(down, across), kws_block_bytes(bits, layout));
}

size_t kws_tight_size(uint32_t outputs, uint32_t inputs, int bits) {
  if (!outputs || !inputs || ((bits < 1 || bits > 8) && bits != 16)) return 0;
  if (bits == 16) return product(2 * (size_t)outputs, inputs);
  return product(product((outputs - 1) / KWS_TILE + 1, inputs), (size_t)bits);
}

size_t kws_channels_size(uint32_t outputs, int gain_bytes, int bias_bytes, int sum_bytes, int zero_bytes) {
  return product(outputs, (size_t)(gain_bytes + bias_bytes + sum_bytes + zero_bytes));
}

static uint32_t read_u16(const uint8_t* p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t read_u32(const uint8_t* p) { return read_u16(p) | read_u16(p + 2) << 16; }

static float read_float(const uint8_t* p) {
  const uint32_t bits = read_u32(p);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* What dynamic mode has in the places of multipliers and beyond; and that static mode has nothing there. */
static bool parse_dynamic(kws_options* o, const uint8_t* p, int uses, kws_error* error) {
  o->input_bits = p[54];
  o->function = p[55];
  CHECK(uses & USES_FUNCTION ? o->function < KWS_FUNCTION_END : !o->function, "options: unknown or unused function",
        o->function, KWS_FUNCTION_END - 1);
  if (o->mode == KWS_MODE_DYNAMIC) {
    CHECK(KWS_DYNAMIC, "dynamic quantization, which this build leaves out (KWS_DYNAMIC)", o->mode, KWS_MODE_STATIC);
    o->multiplier[0] = o->multiplier[1] = 0;
  }
  if (!(uses & USES_CODES)) {
    CHECK(!o->input_bits, "options: unused field is not zero", o->input_bits, 0);
    for (int i = 16; i < 24 && o->mode == KWS_MODE_DYNAMIC; ++i)
      CHECK(!p[i], "options: unused field is not zero", i, 0);
    return true;
  }
  for (int i = 0; i < 2; ++i) {
    o->unit[i] = read_float(p + 16 + 4 * i);
    CHECK(o->unit[i] >= 0 && o->unit[i] < 1e38f, "options: a unit is not a number of at least 0", i, 0);
  }
  CHECK(o->gain_bytes == 1 || o->gain_bytes == 2, "options: a gain has one or two bytes", o->gain_bytes, 2);
  CHECK(o->bias_bytes <= 2, "options: a bias has at most two bytes", o->bias_bytes, 2);
  CHECK(o->sum_bytes == 2 || o->sum_bytes == 4, "options: a sum of weights has two or four bytes", o->sum_bytes, 2);
  CHECK(o->grid <= KWS_LINEAR_GRID, "options: unknown grid", o->grid, KWS_LINEAR_GRID);
  CHECK(!o->layout, "options: unknown layout of weights; update the ops", o->layout, 0);
  if (o->bits == 16) {
    CHECK(o->grid == KWS_LINEAR_GRID && o->input_bits == 16, "options: 16-bit weights need 16-bit inputs",
          o->input_bits, 16);
    CHECK(o->inputs < 1u << 15, "options: too many inputs for sums of 16-bit weights", o->inputs, (1 << 15) - 1);
    return true;
  }
  CHECK(o->bits >= 1 && o->bits <= 8, "options: bits out of 1..8", o->bits, 8);
  CHECK(KWS_WIDTHS >> o->bits & 1, "weights of a width that this build leaves out (KWS_WIDTHS)", o->bits, KWS_WIDTHS);
  CHECK(o->input_bits >= 2 && o->input_bits <= 8, "options: bits of inputs out of 2..8", o->input_bits, 8);
  const uint64_t most = ((uint64_t)1 << 31) / (((1u << o->bits) - 1) * ((1u << o->input_bits) - 1));
  CHECK(o->inputs <= most, "options: too many inputs for sums of 32 bits", o->inputs, most);
  return true;
}

static bool parse_window(kws_window* w, const uint8_t* p, kws_error* error) {
  int32_t v[10];
  for (int i = 0; i < 10; ++i) v[i] = (int32_t)read_u16(p + 2 * i);
  for (int i = 0; i < 6; ++i) CHECK(v[i] >= 1, "options: window size, stride or dilation is zero", v[i], 1);
  memcpy(w->size, v, sizeof w->size);
  memcpy(w->stride, v + 2, sizeof w->stride);
  memcpy(w->dilation, v + 4, sizeof w->dilation);
  memcpy(w->padding, v + 6, sizeof w->padding);
  return true;
}

/* What a recurrent layer has in the place of a window. Its output has as many steps below zero as the value 1 has. */
static bool parse_cell(kws_options* o, const uint8_t* p, kws_error* error) {
  o->cell = (int)read_u16(p + 32);
  o->sequences = read_u16(p + 34) == 1;
  o->skip = read_u16(p + 36);
  o->external = read_u16(p + 42) == 1;
  o->recurrent_bias_shift = (int)read_u16(p + 38);
  o->recurrent_shift = (int)read_u16(p + 40);
  CHECK(o->cell >= 1 && o->cell < KWS_CELL_END, "options: unknown cell; update the ops", o->cell, KWS_CELL_END - 1);
  CHECK(read_u16(p + 34) <= 1, "options: whether rows are outputs is neither 0 nor 1", read_u16(p + 34), 1);
  CHECK(o->skip < 0xFFFF, "options: rows to skip out of 0..65534", o->skip, 0xFFFE);
  CHECK(o->recurrent_bias_shift <= 62, "options: bias_shift out of range", o->recurrent_bias_shift, 62);
  CHECK(o->recurrent_shift >= 1 && o->recurrent_shift <= 62, "options: shift out of range", o->recurrent_shift, 62);
  CHECK(read_u16(p + 42) <= 1, "options: whether the state goes in is neither 0 nor 1", read_u16(p + 42), 1);
  for (int i = 44; i < 52; ++i) CHECK(!p[i], "options: unused field is not zero", p[i], 0);
  const int one = o->activation_max + 1;
  CHECK(one >= 2 && !(one & (one - 1)) && o->activation_min == -one,
        "options: a recurrent layer's range is none of -2..1 to -128..127", o->activation_min, -one);
  CHECK(!o->output_zero_point, "options: a recurrent layer's zero point is 0", o->output_zero_point, 0);
  const unsigned gates = kws_cell_gates(o->cell);
  CHECK(o->outputs % gates == 0, "options: rows of weights are no multiple of the gates", o->outputs, gates);
  return true;
}

bool kws_parse_options(kws_options* o, const uint8_t* p, size_t size, kws_error* error) {
  memset(o, 0, sizeof *o);
  CHECK(p && size >= 4, "options are missing or too short", size, KWS_OPTIONS_BYTES);
  CHECK(p[0] == KWS_OPTIONS_VERSION, "options: unknown version; export again or update the ops", p[0],
        KWS_OPTIONS_VERSION);
  CHECK(p[1] > 0 && p[1] < KWS_KIND_END, "options: unknown kind of op; update the ops", p[1], KWS_KIND_END - 1);
  CHECK(p[2] < KWS_MODE_END, "options: unknown mode; update the ops", p[2], KWS_MODE_END - 1);
  CHECK(p[3] == KWS_OPTIONS_BYTES && size == KWS_OPTIONS_BYTES, "options: wrong length", size, KWS_OPTIONS_BYTES);
  const int uses = kinds[p[1]].uses[p[2]];
  CHECK(kinds[p[1]].inputs[p[2]], "options: the op has no such mode", p[2], KWS_MODE_STATIC);
  o->kind = (kws_kind)p[1];
  o->mode = (kws_mode)p[2];
  o->activation_min = (int8_t)p[4];
  o->activation_max = (int8_t)p[5];
  o->input_zero_point[0] = (int8_t)p[6];
  o->input_zero_point[1] = (int8_t)p[7];
  o->output_zero_point = (int8_t)p[8];
  o->bits = p[9];
  o->grid = p[10];
  o->gain_bytes = p[11];
  o->bias_bytes = p[12];
  o->bias_shift = p[13];
  o->shift = p[14];
  o->has_window = p[15] == 1;
  o->multiplier[0] = read_u32(p + 16);
  o->multiplier[1] = read_u32(p + 20);
  o->outputs = read_u32(p + 24);
  o->inputs = read_u32(p + 28);
  o->layout = p[52];
  o->sum_bytes = p[53];
  CHECK(p[15] <= 1, "options: window flag is neither 0 nor 1", p[15], 1);
  for (int i = 32; i < 52 && !o->has_window && !(uses & USES_CELL); ++i)
    CHECK(!p[i], "options: window fields without a window", p[i], 0);
  CHECK(o->has_window ? uses & MAY_WINDOW : !(uses & NEEDS_WINDOW), "options: window flag does not suit the op",
        o->has_window, !o->has_window);
  if (o->has_window && !parse_window(&o->window, p + 32, error)) return false;
  if (!parse_dynamic(o, p, uses, error)) return false;

  if (uses & USES_SCALE) {
    const int most = uses & USES_CHANNELS ? 62 : 46;
    CHECK(o->activation_min <= o->activation_max, "options: activation range is empty", o->activation_min,
          o->activation_max);
    CHECK(o->shift >= 1 && o->shift <= most, "options: shift out of range", o->shift, most);
    CHECK(o->multiplier[0] < 1u << 31, "options: multiplier out of range", o->multiplier[0], 0x7FFFFFFF);
  } else {
    for (int i = 4; i <= (uses & USES_HISTORY ? 7 : 8); ++i) CHECK(!p[i], "options: unused field is not zero", p[i], 0);
    CHECK(!o->shift && !o->multiplier[0], "options: unused field is not zero", o->shift, 0);
  }
  CHECK(uses & USES_SECOND || !p[7], "options: unused field is not zero", p[7], 0);
  CHECK(uses & USES_PAIR ? o->multiplier[1] < 1u << 31 : !o->multiplier[1], "options: multiplier out of range",
        o->multiplier[1], 0);
  if (uses & USES_WEIGHTS) {
    CHECK(o->bits >= 1 && o->bits <= 8, "options: bits out of 1..8", o->bits, 8);
    CHECK(KWS_WIDTHS >> o->bits & 1, "weights of a width that this build leaves out (KWS_WIDTHS)", o->bits, KWS_WIDTHS);
    CHECK(o->grid <= KWS_MID_TREAD, "options: unknown grid", o->grid, KWS_MID_TREAD);
    CHECK(o->layout < KWS_LAYOUT_END, "options: unknown layout of weights; update the ops", o->layout,
          KWS_LAYOUT_END - 1);
    CHECK(kws_layout_has(o->layout, o->bits), "options: a layout for weights of one bit", o->bits, 1);
    const bool sums = o->input_zero_point[0] != 0;
    CHECK(sums ? o->sum_bytes == 2 || o->sum_bytes == 4 : !o->sum_bytes,
          "options: a sum of weights has two or four bytes, and is there if the input's zero point is not 0",
          o->sum_bytes, sums ? 2 : 0);
  } else if (!(uses & USES_CODES)) {
    CHECK(!o->bits && !o->grid && !o->layout && !o->sum_bytes, "options: unused field is not zero", o->bits, 0);
  }
  if (uses & USES_CHANNELS) {
    CHECK(o->gain_bytes == 1 || o->gain_bytes == 2, "options: a gain has one or two bytes", o->gain_bytes, 2);
    CHECK(o->bias_bytes == 1 || o->bias_bytes == 2, "options: a bias has one or two bytes", o->bias_bytes, 2);
    CHECK(o->bias_shift <= 62, "options: bias_shift out of range", o->bias_shift, 62);
  } else {
    CHECK(!p[13], "options: unused field is not zero", p[13], 0);
    CHECK(uses & USES_CODES || (!p[11] && !p[12]), "options: unused field is not zero", p[11], 0);
  }
  if (uses & USES_SIZES) {
    CHECK(o->outputs >= 1 && o->outputs <= 0x7FFFFFFF, "options: outputs out of range", o->outputs, 1);
    CHECK(o->inputs >= 1 && o->inputs <= 0x7FFFFFFF, "options: inputs out of range", o->inputs, 1);
  } else {
    CHECK(!o->inputs, "options: unused field is not zero", o->inputs, 0);
    if (uses & USES_HISTORY)
      CHECK(o->outputs >= 1 && o->outputs < 0xFFFF, "options: frames that a ring keeps out of 1..65534", o->outputs, 1);
    else
      CHECK(!o->outputs, "options: unused field is not zero", o->outputs, 0);
  }
  return !(uses & USES_CELL) || parse_cell(o, p, error);
}

/* Element type of inputs and outputs, and its bytes. */
static int32_t activation_type(const kws_options* o) { return o->mode == KWS_MODE_DYNAMIC ? KWS_FLOAT32 : KWS_INT8; }
static size_t activation_bytes(const kws_options* o) { return o->mode == KWS_MODE_DYNAMIC ? sizeof(float) : 1; }

/* Checks that dims are positive, that no product overflows and that they fill exactly the bytes. */
static bool check_activation(const kws_options* o, const kws_tensor* t, kws_error* error) {
  size_t size = activation_bytes(o);
  CHECK(t->type == activation_type(o), "an input has not the type that the mode has", t->type, activation_type(o));
  CHECK((uintptr_t)t->data % activation_bytes(o) == 0, "a tensor's address is no multiple of its elements' size", 0, 0);
  CHECK(t->rank >= 1 && t->rank <= KWS_MAX_RANK, "a tensor has too few or too many axes", t->rank, KWS_MAX_RANK);
  for (int i = 0; i < t->rank; ++i) {
    CHECK(t->dims[i] >= 1, "a tensor has an empty axis", t->dims[i], 1);
    size = product(size, (size_t)t->dims[i]);
    CHECK(size && size <= 0x7FFFFFFF, "a tensor is too large", i, 0x7FFFFFFF);
  }
  CHECK(t->bytes == size, "a tensor's bytes do not suit its shape", t->bytes, size);
  return true;
}

static bool check_constant(const kws_tensor* t, int32_t type, size_t bytes, const char* what, kws_error* error) {
  CHECK(bytes && t->bytes == bytes && t->type == type, what, t->bytes, bytes);
  CHECK(t->data, "weights, channel parameters and tables must be constant", 0, 1);
  return true;
}

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
    const int64_t count = room / w->stride[axis] + 1;
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

static bool prepare_weighted(kws_op* op, const kws_call* call, kws_error* error) {
  const kws_options* o = &op->options;
  const kws_tensor* x = &call->inputs[0];
  const kws_tensor* w = &call->inputs[1];
  const bool dense = o->kind == KWS_PACKED_DENSE;
  const size_t taps = o->has_window ? (size_t)o->window.size[0] * (size_t)o->window.size[1] : 1;
  const size_t inputs = dense ? product(taps, (size_t)op->channels) : taps;
  CHECK(inputs == o->inputs, "options: inputs do not suit the window and the input's channels", o->inputs, inputs);
  if (dense && o->mode == KWS_MODE_DYNAMIC) {
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
    const size_t levels = product(product(o->inputs, o->outputs), activation_bytes(o));
    if (!check_constant(w, activation_type(o), levels,
                        "depthwise levels have the wrong type or the wrong size in bytes", error))
      return false;
  }
  const bool floats = !dense && o->mode == KWS_MODE_DYNAMIC;
  const int zero_bytes = o->grid != KWS_LINEAR_GRID ? 0 : o->bits > 8 ? 2 : 1;
  const size_t size = floats ? product(o->outputs, sizeof(float))
                             : kws_channels_size(o->outputs, o->gain_bytes, o->bias_bytes, o->sum_bytes, zero_bytes);
  if (!check_constant(&call->inputs[2], floats ? KWS_FLOAT32 : KWS_UINT8, size,
                      "channel parameters have the wrong type or the wrong size in bytes", error))
    return false;
  op->weights = w->data;
  op->channel_parameters = call->inputs[2].data;
  if (o->has_window) return prepare_window(op, x, o->outputs, error);
  op->dims[op->rank - 1] = (int32_t)o->outputs;
  return true;
}

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

/* Keeps the mean's 64-bit numerator and denominator from overflowing, and so from dividing by zero. */
static bool check_mean(const kws_options* o, kws_error* error) {
  const uint64_t taps = (uint64_t)o->window.size[0] * (uint64_t)o->window.size[1]; /* below 2^32 */
  const uint64_t limit = (uint64_t)1 << 62;
  CHECK(taps <= limit >> (o->shift + 1), "average pool: window and shift are too large", o->shift, 46);
  CHECK(!o->multiplier[0] || taps <= limit / 510 / o->multiplier[0], "average pool: multiplier is too large",
        o->multiplier[0], 0);
  return true;
}

/* The state has room for the frames; frames of one recording only follow each other. */
static bool prepare_ring(kws_op* op, const kws_tensor* x, kws_error* error) {
  CHECK(x[0].rank >= 2, "a ring needs [1, time, ...]", x[0].rank, 2);
  CHECK(x[0].dims[0] == 1, "a ring takes one recording, not a batch", x[0].dims[0], 1);
  CHECK(x[1].type == KWS_INT8, "a ring's state is not int8", x[1].type, KWS_INT8);
  const size_t kept = product(op->options.outputs, x[0].bytes / (size_t)x[0].dims[1]);
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
  CHECK(kws_recurrent_scratch(op) <= 0x7FFFFFFF, "a recurrent layer is too large", units, 0);
  op->weights = x[1].data;
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
  const size_t rows = o->sequences ? product((size_t)op->height, units) : units;
  CHECK(rows && rows <= 0x7FFFFFFF - size, "the output is too large", 0, 0);
  op->dims[1] = (int32_t)(rows + size);
  return true;
}

bool kws_prepare(kws_op* op, const kws_call* call, kws_error* error) {
  memset(op, 0, sizeof *op);
  if (!kws_parse_options(&op->options, call->options, call->options_bytes, error)) return false;
  const kws_options* o = &op->options;
  const kws_tensor* x = call->inputs;
  CHECK(o->kind == call->kind, "options belong to another op", o->kind, call->kind);
  const int more = kws_state_input(o->kind, call->input_count) == 2;
  const int inputs = kinds[o->kind].inputs[o->mode] + more;
  CHECK(call->input_count == inputs, "wrong number of inputs", call->input_count, inputs);
  const int activations = o->kind == KWS_ADD || o->kind == KWS_MULTIPLY ? 2 : 1;
  for (int i = 0; i < activations; ++i) {
    if (!check_activation(o, &x[i], error)) return false;
    op->x[i] = x[i].data;
  }
  op->rank = x[0].rank;
  memcpy(op->dims, x[0].dims, sizeof(int32_t) * (size_t)op->rank);
  op->channels = x[0].dims[op->rank - 1];
  op->rows = x[0].bytes / activation_bytes(o) / (size_t)op->channels;
  bool good = true;
  switch (o->kind) {
    case KWS_PACKED_DENSE:
    case KWS_DEPTHWISE:
      good = prepare_weighted(op, call, error);
      break;
    case KWS_LOOKUP:
      if (o->mode == KWS_MODE_DYNAMIC) break;
      good = check_constant(&x[1], KWS_INT8, 256, "the table is not int8 or has the wrong size in bytes", error);
      op->weights = x[1].data;
      break;
    case KWS_SOFTMAX:
      if (o->mode == KWS_MODE_DYNAMIC) break;
      good = check_constant(&x[1], KWS_UINT8, 512, "the table is not uint8 or has the wrong size in bytes", error);
      op->weights = x[1].data;
      break;
    case KWS_ADD:
    case KWS_MULTIPLY:
      good = prepare_pair(op, x, error);
      break;
    case KWS_RING:
      good = prepare_ring(op, x, error);
      break;
    case KWS_RECURRENT:
      good = prepare_recurrent(op, call, error);
      break;
    case KWS_AVERAGE_POOL:
      good =
          (o->mode == KWS_MODE_DYNAMIC || check_mean(o, error)) && prepare_window(op, x, (uint32_t)op->channels, error);
      break;
    default:
      good = prepare_window(op, x, (uint32_t)op->channels, error);
  }
  if (!good) return false;
  op->output_bytes = activation_bytes(o);
  op->output_type = activation_type(o);
  for (int i = 0; i < op->rank; ++i) {
    op->output_bytes = product(op->output_bytes, (size_t)op->dims[i]);
    CHECK(op->output_bytes && op->output_bytes <= 0x7FFFFFFF, "the output is too large", i, 0);
  }
  return true;
}
