/* The bytes of options: what they say, and whether it is allowed. */
#include "options.h"

#include <string.h>

#include "../ops/recurrent.h"
#include "../ops/waveform.h"
#include "check.h"
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
  USES_CELL = 2048,  /* in the place of a window */
  USES_FRAMES = 4096 /* likewise; and sums of weights whatever the zero point */
};

/* KIND(number, name, inputs, fields, inputs and fields of the dynamic mode), where 0 inputs are no such mode. */
#define KINDS                                                                                                          \
  KIND(1, "TfmotKwsPackedDense", 3, USES_CHANNELS | USES_SIZES | USES_WEIGHTS | USES_SCALE | MAY_WINDOW, 3,            \
       USES_CODES | USES_SIZES | USES_FUNCTION | MAY_WINDOW)                                                           \
  KIND(2, "TfmotKwsDepthwise", 3, USES_CHANNELS | USES_SIZES | USES_SCALE | MAY_WINDOW, 3,                             \
       USES_SIZES | USES_FUNCTION | MAY_WINDOW)                                                                        \
  KIND(3, "TfmotKwsLookup", 2, 0, 1, USES_FUNCTION)                                                                    \
  KIND(4, "TfmotKwsSoftmax", 2, 0, 1, 0)                                                                               \
  KIND(5, "TfmotKwsAdd", 2, USES_SCALE | USES_SECOND | USES_PAIR, 2, USES_FUNCTION)                                    \
  KIND(6, "TfmotKwsMultiply", 2, USES_SCALE | USES_SECOND, 2, USES_FUNCTION)                                           \
  KIND(7, "TfmotKwsAveragePool", 1, USES_SCALE | MAY_WINDOW | NEEDS_WINDOW, 1, MAY_WINDOW | NEEDS_WINDOW)              \
  KIND(8, "TfmotKwsMaxPool", 1, MAY_WINDOW | NEEDS_WINDOW, 1, MAY_WINDOW | NEEDS_WINDOW)                               \
  KIND(9, "TfmotKwsRing", 2, USES_HISTORY, 2, USES_HISTORY)                                                            \
  /* or 3, with a state */                                                                                             \
  KIND(10, "TfmotKwsRecurrent", 2, USES_CHANNELS | USES_SIZES | USES_WEIGHTS | USES_SCALE | USES_PAIR | USES_CELL, 0,  \
       0)                                                                                                              \
  KIND(11, "TfmotKwsWaveform", 3, USES_CHANNELS | USES_SIZES | USES_WEIGHTS | USES_SCALE | USES_PAIR | USES_FRAMES, 0, \
       0)

#define KIND(number, name, inputs, fields, dynamic_inputs, dynamic_fields) name,
static const char* const names[KWS_KIND_END] = {NULL, KINDS};
#undef KIND

/* By mode. */
#define KIND(number, name, inputs, fields, dynamic_inputs, dynamic_fields) \
  , { inputs, dynamic_inputs }
static const uint8_t input_counts[KWS_KIND_END][KWS_MODE_END] = {{0, 0} KINDS};
#undef KIND
#define KIND(number, name, inputs, fields, dynamic_inputs, dynamic_fields) \
  , { fields, dynamic_fields }
static const uint16_t fields_used[KWS_KIND_END][KWS_MODE_END] = {{0, 0} KINDS};
#undef KIND

/* Fields that some op of this build uses, and those that all of its ops do: compilers leave out the rest. */
#define SOME(condition, fields) ((condition) ? (fields) : 0)
#define ALL(condition, fields) ((condition) ? (fields) : 0xFFFF)
#define KIND(number, name, inputs, fields, dynamic_inputs, dynamic_fields) \
  | SOME(KWS_HAS_KIND(number) && KWS_STATIC, fields) | SOME(KWS_HAS_KIND(number) && KWS_DYNAMIC, dynamic_fields)
enum { FIELDS_OF_SOME = 0 KINDS };
#undef KIND
#define KIND(number, name, inputs, fields, dynamic_inputs, dynamic_fields) \
  &ALL(KWS_HAS_KIND(number) && KWS_STATIC, fields) & ALL(KWS_HAS_KIND(number) && KWS_DYNAMIC, dynamic_fields)
enum { FIELDS_OF_ALL = 0xFFFF KINDS };
#undef KIND

const char* kws_op_name(int kind) { return kind > 0 && kind < KWS_KIND_END ? names[kind] : NULL; }

int kws_op_kind(const char* name) {
  for (int kind = 1; name && kind < KWS_KIND_END; ++kind)
    if (!strcmp(name, names[kind])) return kind;
  return 0;
}

int kws_input_count(kws_kind kind, kws_mode mode) { return input_counts[kind][mode]; }

#if !KWS_MESSAGES
bool kws_refuse(kws_error* error) {
  error->message = "a check failed, and this build does not say which: compile with -DKWS_MESSAGES=1";
  error->found = error->wanted = 0;
  return false;
}
#endif

int kws_state_input(kws_kind kind, int input_count) {
  return kind == KWS_RING ? 1 : kind == KWS_RECURRENT && input_count > 2 ? 2 : 0;
}

size_t kws_packed_size(uint32_t outputs, uint32_t inputs, int bits, int layout) {
  if (!outputs || !inputs || bits < 1 || bits > 8 || !kws_layout_has(layout, bits)) return 0;
  const size_t down = (outputs - 1) / kws_block_rows(bits, layout) + 1,
               across = (inputs - 1) / kws_block_inputs(layout) + 1;
  return kws_product(kws_product(down, across), kws_block_bytes(bits, layout));
}

size_t kws_tight_size(uint32_t outputs, uint32_t inputs, int bits) {
  if (!outputs || !inputs || ((bits < 1 || bits > 8) && bits != 16)) return 0;
  if (bits == 16) return kws_product(2 * (size_t)outputs, inputs);
  return kws_product(kws_product((outputs - 1) / KWS_TILE + 1, inputs), (size_t)bits);
}

size_t kws_channels_size(uint32_t outputs, int gain_bytes, int bias_bytes, int sum_bytes, int zero_bytes) {
  return kws_product(outputs, (size_t)(gain_bytes + bias_bytes + sum_bytes + zero_bytes));
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
  if (o->mode == KWS_MODE_DYNAMIC) o->multiplier[0] = o->multiplier[1] = 0;
  CHECK_BUILT(!(uses & USES_FUNCTION) || KWS_FUNCTIONS >> o->function & 1,
              "a function that this build leaves out (KWS_FUNCTIONS)", o->function, KWS_FUNCTIONS);
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
    CHECK_BUILT(KWS_SHORTS, "weights of 16 bits, which this build leaves out (KWS_SHORTS)", o->bits, KWS_WIDTHS);
    CHECK(o->grid == KWS_LINEAR_GRID && o->input_bits == 16, "options: 16-bit weights need 16-bit inputs",
          o->input_bits, 16);
    CHECK(o->inputs < 1u << 15, "options: too many inputs for sums of 16-bit weights", o->inputs, (1 << 15) - 1);
    return true;
  }
  CHECK(o->bits >= 1 && o->bits <= 8, "options: bits out of 1..8", o->bits, 8);
  CHECK_BUILT(KWS_HAS_WIDTH(o->bits), "weights of a width that this build leaves out (KWS_WIDTHS)", o->bits,
              KWS_WIDTHS);
  CHECK(o->input_bits >= 2 && o->input_bits <= 8, "options: bits of inputs out of 2..8", o->input_bits, 8);
  const uint32_t most = ((uint32_t)1 << 31) / (((1u << o->bits) - 1) * ((1u << o->input_bits) - 1));
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
  CHECK_BUILT(KWS_CELLS >> o->cell & 1, "a cell that this build leaves out (KWS_CELLS)", o->cell, KWS_CELLS);
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

/* What filters over samples have in the place of a window. */
static bool parse_frames(kws_options* o, const uint8_t* p, kws_error* error) {
  o->sample_stride = read_u16(p + 32);
  o->average = read_u16(p + 34);
  CHECK(o->sample_stride >= 1, "options: samples from one sum to the next are none", o->sample_stride, 1);
  CHECK(o->average >= 1, "options: a frame without a sum", o->average, 1);
  for (int i = 36; i < 52; ++i) CHECK(!p[i], "options: unused field is not zero", p[i], 0);
  CHECK(o->multiplier[1] >= 1, "options: the logarithm has no floor", o->multiplier[1], 1);
  CHECK(!o->input_zero_point[0], "options: the zero point of samples is 0", o->input_zero_point[0], 0);
  CHECK(o->sample_stride * o->average <= 0xFFFF, "options: more samples from one frame to the next than 65535",
        o->sample_stride * o->average, 0xFFFF);
  CHECK(kws_waveform_span(o) <= 0xFFFF, "options: more samples in a frame than 65535", kws_waveform_span(o), 0xFFFF);
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
  CHECK_BUILT(KWS_KINDS >> p[1] & 1, "an op that this build leaves out (KWS_KINDS)", p[1], KWS_KINDS);
  CHECK_BUILT(KWS_DYNAMIC || p[2] == KWS_MODE_STATIC, "dynamic quantization, which this build leaves out (KWS_DYNAMIC)",
              p[2], KWS_MODE_STATIC);
  CHECK_BUILT(KWS_STATIC || p[2] == KWS_MODE_DYNAMIC, "static quantization, which this build leaves out (KWS_STATIC)",
              p[2], KWS_MODE_DYNAMIC);
  const int uses = (fields_used[p[1]][p[2]] & FIELDS_OF_SOME) | FIELDS_OF_ALL;
  CHECK(input_counts[p[1]][p[2]], "options: the op has no such mode", p[2], KWS_MODE_STATIC);
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
  for (int i = 32; i < 52 && !o->has_window && !(uses & (USES_CELL | USES_FRAMES)); ++i)
    CHECK(!p[i], "options: window fields without a window", p[i], 0);
  CHECK(o->has_window ? uses & MAY_WINDOW : !(uses & NEEDS_WINDOW), "options: window flag does not suit the op",
        o->has_window, !o->has_window);
  CHECK_BUILT(KWS_WINDOWS || !o->has_window, "a window, which this build leaves out (KWS_WINDOWS)", o->has_window, 0);
  if (KWS_WINDOWS && o->has_window && !parse_window(&o->window, p + 32, error)) return false;
  if (KWS_DYNAMIC) {
    if (!parse_dynamic(o, p, uses, error)) return false;
  } else {
    CHECK(!p[54] && !p[55], "options: unused field is not zero", p[54], 0);
  }

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
    CHECK_BUILT(KWS_HAS_WIDTH(o->bits), "weights of a width that this build leaves out (KWS_WIDTHS)", o->bits,
                KWS_WIDTHS);
    CHECK(o->grid <= KWS_MID_TREAD, "options: unknown grid", o->grid, KWS_MID_TREAD);
    CHECK(o->layout < KWS_LAYOUT_END, "options: unknown layout of weights; update the ops", o->layout,
          KWS_LAYOUT_END - 1);
    CHECK(kws_layout_has(o->layout, o->bits), "options: a layout for weights of one bit", o->bits, 1);
    CHECK_BUILT(KWS_HAS_LAYOUT(o->layout), "weights of a layout that this build leaves out (KWS_LAYOUTS)", o->layout,
                KWS_LAYOUTS);
    const bool sums = o->input_zero_point[0] != 0 || uses & USES_FRAMES;
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
  if (uses & USES_FRAMES) return parse_frames(o, p, error);
  return !(uses & USES_CELL) || parse_cell(o, p, error);
}
