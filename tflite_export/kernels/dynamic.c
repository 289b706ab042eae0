/* Dense layers of dynamic quantization: everything but the dots. */
#include "dynamic.h"

#include "dense_row.h"
#include "float_math.h"
#include "requantize.h"

#if KWS_DYNAMIC

static const float largest = 8.507059173023462e37f;        /* 2^126 */
static const float smallest_span = 7.888609052210118e-31f; /* 2^-100 */

size_t kws_dynamic_scratch(const kws_op* op) {
  return kws_padded_inputs(op) * (op->options.input_bits > 8 ? sizeof(int16_t) : sizeof(int8_t));
}

/* Where the inputs of a place lie: runs of floats, or all in one. */
static const float* runs_of(const kws_op* op, size_t place, kws_runs* r) {
  const float* x = (const float*)(const void*)op->x[0];
  if (!op->options.has_window) {
    const kws_runs all = {1, 1, 0, 0, 0, 0, 0, 0, op->options.inputs};
    *r = all;
    return x + place * (size_t)op->channels;
  }
  const size_t per_picture = (size_t)op->out_height * (size_t)op->out_width, at = place % per_picture;
  *r = kws_window_runs(op, (int32_t)(at / (size_t)op->out_width), (int32_t)(at % (size_t)op->out_width));
  return x + place / per_picture * (size_t)op->height * (size_t)op->width * (size_t)op->channels;
}

/* Widens low..high to a run of values; NaN changes nothing. Four at a time, which compilers make vectors of. */
static void widen_range(const float* x, size_t n, float* low, float* high) {
  float least[4] = {*low, *low, *low, *low}, most[4] = {*high, *high, *high, *high};
  for (; n >= 4; n -= 4, x += 4) {
    for (int i = 0; i < 4; ++i) {
      least[i] = x[i] < least[i] ? x[i] : least[i];
      most[i] = x[i] > most[i] ? x[i] : most[i];
    }
  }
  for (size_t i = 0; i < n; ++i) {
    least[0] = x[i] < least[0] ? x[i] : least[0];
    most[0] = x[i] > most[0] ? x[i] : most[0];
  }
  for (int i = 0; i < 4; ++i) {
    *low = least[i] < *low ? least[i] : *low;
    *high = most[i] > *high ? most[i] : *high;
  }
}

/* What a value is quantized with. */
typedef struct {
  float low, high, inverse;
  int32_t half; /* codes are stored less by it */
} quantizer;

static inline int32_t code_of(const quantizer* q, float x) {
  float v = x >= q->low ? x : q->low;
  v = v > q->high ? q->high : v;
  return (int32_t)((v - q->low) * q->inverse + 0.5f) - q->half;
}

static inline void store_code(const kws_op* op, size_t place, int32_t code) {
  if (op->options.input_bits > 8)
    ((int16_t*)op->scratch)[place] = (int16_t)code;
  else
    ((int8_t*)op->scratch)[place] = (int8_t)code;
}

/* Codes of a run, from place `first` of the row; their sum. */
static uint32_t quantize_run(const kws_op* op, const quantizer* from, const float* x, size_t n, size_t first) {
  const quantizer q = *from;
  uint32_t sum = 0;
  if (op->options.input_bits > 8) {
    int16_t* const to = (int16_t*)op->scratch + first;
    for (size_t i = 0; i < n; ++i) sum += (uint32_t)(to[i] = (int16_t)code_of(&q, x[i]));
  } else {
    int8_t* const to = (int8_t*)op->scratch + first;
    for (size_t i = 0; i < n; ++i) sum += (uint32_t)(to[i] = (int8_t)code_of(&q, x[i]));
  }
  return sum;
}

/* Quantizes the inputs of a place into the scratch memory. Padding of a window is the value 0, and part of the row. */
static uint32_t quantize_place(const kws_op* op, size_t place, kws_range* range) {
  const kws_options* o = &op->options;
  const size_t inputs = o->inputs, padded = kws_padded_inputs(op);
  kws_runs r;
  const float* x = runs_of(op, place, &r);
  const size_t covered = (size_t)r.outer * (size_t)r.inner * r.length;
  float low = largest, high = -largest;
  for (int32_t i = 0; i < r.outer; ++i)
    for (int32_t j = 0; j < r.inner; ++j)
      widen_range(x + r.x_start + (size_t)i * r.x_outer + (size_t)j * r.x_inner, r.length, &low, &high);
  const float zero = 0;
  if (covered < inputs) widen_range(&zero, 1, &low, &high);
  low = low < -largest ? -largest : low;
  high = high > largest ? largest : high;
  if (low > high) low = high = 0;
  const float steps = (float)((1 << o->input_bits) - 1), span = high - low;
  const bool constant = span < smallest_span;
  const quantizer q = {low, high, constant ? 0 : steps / span, 1 << (o->input_bits - 1)};
  range->low = low;
  range->scale = constant ? 0 : span / steps;

  const size_t size = o->input_bits > 8 ? sizeof(int16_t) : sizeof(int8_t);
  memset((uint8_t*)op->scratch + size * inputs, 0, size * (padded - inputs));
  uint32_t sum = 0;
  if (covered < inputs) {
    const int32_t code = code_of(&q, 0);
    for (size_t i = 0; i < inputs; ++i) store_code(op, i, code);
    sum = (uint32_t)(inputs - covered) * (uint32_t)code;
  }
  for (int32_t i = 0; i < r.outer; ++i)
    for (int32_t j = 0; j < r.inner; ++j)
      sum += quantize_run(op, &q, x + r.x_start + (size_t)i * r.x_outer + (size_t)j * r.x_inner, r.length,
                          r.w_start + (size_t)i * r.w_outer + (size_t)j * r.w_inner);
  return sum;
}

/* Where the parameters of channels lie. */
typedef struct {
  const uint8_t *gain, *bias, *sums, *zeros;
} channels;

static channels channels_of(const kws_op* op) {
  const kws_options* o = &op->options;
  channels c;
  c.gain = op->channel_parameters;
  c.bias = c.gain + (size_t)o->outputs * (size_t)o->gain_bytes;
  c.sums = c.bias + (size_t)o->outputs * (size_t)o->bias_bytes;
  c.zeros = c.sums + (size_t)o->outputs * (size_t)o->sum_bytes;
  return c;
}

/* The output of a channel from its T. */
static float finish(const kws_op* op, const channels* c, const kws_range* range, float total, int32_t sum,
                    uint32_t channel) {
  const kws_options* o = &op->options;
  const float first = range->scale * total, second = range->low * (float)sum;
  const float gain = (float)kws_read_signed(c->gain, channel, o->gain_bytes) * o->unit[0];
  float y = (first + second) * gain;
  if (o->bias_bytes) {
    const float bias = (float)kws_read_signed(c->bias, channel, o->bias_bytes) * o->unit[1];
    y = y + bias;
  }
  return kws_activate(y, o->function);
}

/* Codes of up to 8 bits: tiles of 8 rows. x is what quantize_place() left, and so is the sum of its codes. */
static void finish_tiles(const kws_op* op, const kws_dynamic_parts* parts, const kws_range* range, uint32_t sum,
                         float* y) {
  const kws_options* o = &op->options;
  const channels c = channels_of(op);
  const int8_t* const x = op->scratch;
  const size_t rest = o->inputs % KWS_VECTOR, whole = o->inputs - rest, bits = (size_t)o->bits;
  const uint32_t a = kws_level_factor(o), half = 1u << (o->input_bits - 1);
  const uint8_t* w = op->weights;
  for (uint32_t tile = 0; tile < o->outputs; tile += KWS_TILE) {
    int32_t dots[KWS_TILE] = {0}, more[KWS_TILE];
    if (whole) parts->dots(op, w, x, whole, 0, dots);
    w += whole * bits;
    if (rest) {
      uint8_t last[KWS_VECTOR * 8] = {0};
      for (size_t i = 0; i < bits; ++i, w += rest) memcpy(last + KWS_VECTOR * i, w, rest);
      parts->dots(op, last, x + whole, KWS_VECTOR, whole, more);
      for (int row = 0; row < KWS_TILE; ++row) dots[row] = (int32_t)((uint32_t)dots[row] + (uint32_t)more[row]);
    }
    const uint32_t left = o->outputs - tile, rows = left < KWS_TILE ? left : KWS_TILE;
    for (uint32_t row = 0; row < rows; ++row) {
      const uint32_t channel = tile + row;
      const uint32_t zero = o->grid == KWS_LINEAR_GRID ? c.zeros[channel] : kws_level_offset(o);
      const uint32_t flipped = parts->signed_rows >> row & 1 ? 1u << (o->bits - 1) : 0;
      const int32_t level_sum = kws_read_signed(c.sums, channel, o->sum_bytes);
      /* sum(level * u): u is `half` more than what was multiplied, and a code may be stored less by `flipped` */
      const uint32_t total = a * (uint32_t)dots[row] + (a * flipped - zero) * sum + half * (uint32_t)level_sum;
      y[channel] = finish(op, &c, range, (float)(int32_t)total, level_sum, channel);
    }
  }
}

/* Codes of 16 bits: row by row, sums of 64 bits. */
static void finish_rows(const kws_op* op, const kws_dynamic_parts* parts, const kws_range* range, int32_t sum,
                        float* y) {
  const kws_options* o = &op->options;
  const channels c = channels_of(op);
  for (uint32_t channel = 0; channel < o->outputs; ++channel) {
    const int64_t dot = parts->dot(op->weights + 2 * (size_t)channel * o->inputs, op->scratch, o->inputs);
    const int32_t zero = (uint16_t)kws_read_signed(c.zeros, channel, 2);
    const int32_t level_sum = kws_read_signed(c.sums, channel, o->sum_bytes);
    const int64_t total = dot + (int64_t)(32768 - zero) * sum + (int64_t)32768 * level_sum;
    y[channel] = finish(op, &c, range, (float)total, level_sum, channel);
  }
}

void kws_run_dynamic(const kws_op* op, const kws_dynamic_parts* parts) {
  const kws_options* o = &op->options;
  const size_t places = kws_places(op);
  float* y = (float*)(void*)op->y;
  for (size_t place = 0; place < places; ++place, y += o->outputs) {
    kws_range range;
    const uint32_t sum = quantize_place(op, place, &range);
    if (o->bits > 8) {
      finish_rows(op, parts, &range, (int32_t)sum, y);
      continue;
    }
    if (parts->begin_row) parts->begin_row(op, op->scratch, kws_padded_inputs(op));
    finish_tiles(op, parts, &range, sum, y);
  }
}

#endif
