/* Dense layers of dynamic quantization: everything but the dots. */
#include "dynamic.h"

#include "../core/requantize.h"
#include "dense_row.h"
#include "float_math.h"

#if KWS_DENSE_DYNAMIC

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#endif

#include "quantize_row.h"

/* The range of a row that was quantized: x ~ low + scale * u; and the sum of the codes as they are stored. */
typedef struct {
  float low, scale;
  uint32_t sum;
  bool vectors; /* give the same outputs as floats alone */
} quantized;

size_t kws_dynamic_scratch(const kws_op* op) {
  return kws_padded_inputs(op) * (op->options.input_bits > 8 ? sizeof(int16_t) : sizeof(int8_t));
}

int64_t kws_dynamic_dot(const uint8_t* w, const int16_t* x, size_t n) {
#if defined(__thumb__) && !defined(__thumb2__) /* Cortex-M0+ has no products of 64 bits */
  int32_t high = 0, low = 0;
  for (size_t i = 0; i < n; ++i, w += 2) {
    const int32_t product = (w[0] | (int8_t)w[1] * 256) * x[i];
    high += product >> 16;
    low += product & 0xFFFF;
  }
  return (int64_t)high * 65536 + low;
#else
  int64_t sum = 0;
  for (size_t i = 0; i < n; ++i, w += 2) sum += (int64_t)((w[0] | (int8_t)w[1] * 256) * x[i]);
  return sum;
#endif
}

/* Where the inputs of a place lie: runs of floats, or all in one. */
static const float* runs_of(const kws_op* op, size_t place, kws_runs* r) {
  const float* x = (const float*)(const void*)op->x[0];
  if (!kws_windowed(op)) {
    const kws_runs all = {1, 1, 0, 0, 0, 0, 0, 0, op->options.inputs};
    *r = all;
    return x + place * (size_t)op->channels;
  }
  const size_t per_picture = (size_t)op->out_height * (size_t)op->out_width, at = place % per_picture;
  *r = kws_window_runs(op, (int32_t)(at / (size_t)op->out_width), (int32_t)(at % (size_t)op->out_width));
  return x + place / per_picture * (size_t)op->height * (size_t)op->width * (size_t)op->channels;
}

/* Calls DO with each run of inputs: where it lies, and its place in the row. */
#define EACH_RUN(DO)                                                          \
  for (int32_t i = 0; i < r.outer; ++i)                                       \
    for (int32_t j = 0; j < r.inner; ++j)                                     \
  DO(x + r.x_start + (size_t)i * r.x_outer + (size_t)j * r.x_inner, r.length, \
     r.w_start + (size_t)i * r.w_outer + (size_t)j * r.w_inner)

/* Quantizes the inputs of a place into the scratch memory. Padding of a window is the value 0, and part of the row. */
static KWS_NOINLINE quantized quantize_place(const kws_op* op, size_t place) {
  const kws_options* o = &op->options;
  const size_t inputs = o->inputs, padded = kws_padded_inputs(op);
  kws_runs r;
  const float* x = runs_of(op, place, &r);
  const size_t covered = (size_t)r.outer * (size_t)r.inner * r.length;
  kws_seen seen = kws_see_nothing();
  if (covered < inputs) kws_see_bits(&seen, 0);
#define SEE(run, n, first) kws_see(&seen, run, n)
  EACH_RUN(SEE);
#undef SEE
  float low, high;
  const bool all_numbers = kws_seen_range(&seen, &low, &high);
  if (!all_numbers) {
    low = covered < inputs ? 0 : kws_largest;
    high = covered < inputs ? 0 : -kws_largest;
#define WIDEN(run, n, first) kws_widen_range(run, n, &low, &high)
    EACH_RUN(WIDEN);
#undef WIDEN
  }
  kws_quantizer q;
  quantized row;
  row.scale = kws_make_quantizer(&q, low, high, all_numbers, o->input_bits);
  row.low = q.low;
  row.sum = 0;
  const float zero = 0;
  if (KWS_SHORTS && o->input_bits > 8) {
    int16_t* const to = op->scratch;
    memset(to + inputs, 0, sizeof *to * (padded - inputs));
    if (covered < inputs) {
      const int32_t code = kws_code_of(&q, zero);
      for (size_t i = 0; i < inputs; ++i) to[i] = (int16_t)code;
      row.sum = (uint32_t)(inputs - covered) * (uint32_t)code;
    }
#define QUANTIZE(run, n, first) row.sum += kws_quantize_shorts(&q, run, n, to + (first))
    EACH_RUN(QUANTIZE);
#undef QUANTIZE
  } else {
    int8_t* const to = op->scratch;
    memset(to + inputs, 0, padded - inputs);
    if (covered < inputs) {
      const int32_t code = kws_code_of(&q, zero);
      memset(to, code, inputs);
      row.sum = (uint32_t)(inputs - covered) * (uint32_t)code;
    }
#define QUANTIZE(run, n, first) row.sum += kws_quantize_bytes(&q, run, n, to + (first))
    EACH_RUN(QUANTIZE);
#undef QUANTIZE
  }
  /* Where vectors take subnormal numbers for 0, there must be none: see docs/kernels.md. */
  const float magnitude = row.low < 0 ? -row.low : row.low;
  const bool normal = (row.scale == 0 || row.scale >= 1.3877787807814457e-17f) && /* 2^-56 */
                      (magnitude == 0 || magnitude >= 8.673617379884035e-19f) &&  /* 2^-60 */
                      o->unit[0] >= 9.094947017729282e-13f &&                     /* 2^-40 */
                      (!o->bias_bytes || o->unit[1] >= 8.673617379884035e-19f);
  row.vectors = KWS_FLOAT_VECTORS && (!KWS_VECTORS_FLUSH || normal);
  return row;
}

/* ---- From sums to outputs. */

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
static float finish(const kws_options* o, const channels* c, const quantized* row, float total, int32_t sum,
                    uint32_t channel) {
  const float first = row->scale * total, second = row->low * (float)sum;
  const float gain = (float)kws_read_signed(c->gain, channel, o->gain_bytes) * o->unit[0];
  const float value = first + second;
  float y = value * gain;
  if (o->bias_bytes) {
    const float bias = (float)kws_read_signed(c->bias, channel, o->bias_bytes) * o->unit[1];
    y = y + bias;
  }
  return kws_activate(y, o->function);
}

#if KWS_FLOAT_VECTORS
static inline kws_i4 read_four(const uint8_t* bytes, uint32_t index, int width) {
  if (width == 1) return kws_load_bytes(bytes + index);
  if (width == 2) return kws_load_shorts(bytes + 2 * (size_t)index);
  int32_t four[4];
  memcpy(four, bytes + 4 * (size_t)index, sizeof four);
  return kws_load_i4(four);
}

static inline void finish_four(const kws_options* o, const channels* c, const quantized* row, kws_f4 totals,
                               kws_i4 sums, uint32_t channel, float* y) {
  const kws_f4 first = kws_mul_f4(kws_set_f4(row->scale), totals);
  const kws_f4 second = kws_mul_f4(kws_set_f4(row->low), kws_float_i4(sums));
  const kws_f4 gain = kws_mul_f4(kws_float_i4(read_four(c->gain, channel, o->gain_bytes)), kws_set_f4(o->unit[0]));
  kws_f4 value = kws_mul_f4(kws_add_f4(first, second), gain);
  if (o->bias_bytes) {
    const kws_f4 bias = kws_float_i4(read_four(c->bias, channel, o->bias_bytes));
    value = kws_add_f4(value, kws_mul_f4(bias, kws_set_f4(o->unit[1])));
  }
  kws_store_f4(y, kws_activate_f4(value, o->function));
}
#endif

/* With u `half` more than what was multiplied, and codes of some rows less by 2^(bits - 1):
 *
 *     sum(level * u) = a D + base[row] - zero S + half L
 *
 * a: of level = a code - zero; S: the sum of inputs as they were multiplied; L: the sum of levels. */
typedef struct {
  uint32_t factor, half, base[KWS_TILE];
  bool linear; /* every channel has a zero of its own */
} sum_terms;

static sum_terms terms_of(const kws_options* o, unsigned signed_rows, uint32_t sum) {
  sum_terms t;
  t.factor = kws_level_factor(o);
  t.half = 1u << (o->input_bits - 1);
  t.linear = o->grid == KWS_LINEAR_GRID;
  const uint32_t plain = t.linear ? 0 : 0u - kws_level_offset(o) * sum;
  for (int r = 0; r < KWS_TILE; ++r) t.base[r] = plain + (signed_rows >> r & 1 ? t.factor * (sum << (o->bits - 1)) : 0);
  return t;
}

/* The outputs of `rows` channels, from a tile's dots. */
static KWS_NOINLINE void finish_tile(const kws_options* o, const channels* c, const quantized* row, const sum_terms* t,
                                     const int32_t* dots, uint32_t first, uint32_t rows, float* y) {
  uint32_t i = 0;
#if KWS_FLOAT_VECTORS
  for (; row->vectors && i + 4 <= rows; i += 4) {
    const kws_i4 sums = read_four(c->sums, first + i, o->sum_bytes);
    kws_i4 total = kws_mul_i4(kws_load_i4(dots + i), kws_set_i4((int32_t)t->factor));
    total = kws_add_i4(total, kws_load_i4((const int32_t*)t->base + i));
    total = kws_add_i4(total, kws_mul_i4(sums, kws_set_i4((int32_t)t->half)));
    if (t->linear) {
      const uint8_t* z = c->zeros + first + i;
      const int32_t four[4] = {z[0], z[1], z[2], z[3]};
      total = kws_sub_i4(total, kws_mul_i4(kws_load_i4(four), kws_set_i4((int32_t)row->sum)));
    }
    finish_four(o, c, row, kws_float_i4(total), sums, first + i, y + i);
  }
#endif
  for (; i < rows; ++i) {
    const int32_t level_sum = kws_read_signed(c->sums, first + i, o->sum_bytes);
    const uint32_t zero = t->linear ? c->zeros[first + i] : 0;
    const uint32_t total = t->factor * (uint32_t)dots[i] + t->base[i] - zero * row->sum + t->half * (uint32_t)level_sum;
    y[i] = finish(o, c, row, (float)(int32_t)total, level_sum, first + i);
  }
}

/* ---- Codes of up to 8 bits: tiles of 8 rows, of which the last block of inputs is not padded. */

/* What is copied so that blocks are whole: all of a tile of few blocks, else the last one. */
enum { COPIED = 768 };

static inline void copy_vector(uint8_t* to, const uint8_t* from) {
#if defined(__ARM_FEATURE_MVE)
  vstrbq_u8(to, vldrbq_u8(from)); /* compilers copy words */
#else
  memcpy(to, from, KWS_VECTOR);
#endif
}

/* Copies the blocks of a tile, the last one of `rest` inputs to a whole one. What is read beyond a vector of a last
 * block belongs to the next one, and is multiplied by 0; the last bytes before `end` are copied one by one. */
static void copy_blocks(uint8_t* to, const uint8_t* w, size_t whole_bytes, size_t rest, size_t bits,
                        const uint8_t* end) {
  const uint8_t* const last = w + whole_bytes;
  for (; last - w >= 4 * KWS_VECTOR; w += 4 * KWS_VECTOR, to += 4 * KWS_VECTOR)
    for (int i = 0; i < 4; ++i) copy_vector(to + KWS_VECTOR * i, w + KWS_VECTOR * i);
  for (; w != last; w += KWS_VECTOR, to += KWS_VECTOR) copy_vector(to, w);
  const bool near_end = (size_t)(end - w) < rest * (bits - 1) + KWS_VECTOR;
  for (size_t i = 0; i < bits; ++i, w += rest, to += KWS_VECTOR) {
    if (!near_end) {
      copy_vector(to, w);
      continue;
    }
    memset(to, 0, KWS_VECTOR);
    memcpy(to, w, rest);
  }
}

static void add_dots(int32_t* dots, const int32_t* more, uint32_t count) {
  for (uint32_t i = 0; i < count; i += 4)
    for (uint32_t k = 0; k < 4; ++k) dots[i + k] = (int32_t)((uint32_t)dots[i + k] + (uint32_t)more[i + k]);
}

/* x is what quantize_place() left. */
static void finish_tiles(const kws_op* op, const kws_dynamic_parts* parts, const quantized* row, float* y) {
  const kws_options* o = &op->options;
  const channels c = channels_of(op);
  const sum_terms terms = terms_of(o, parts->signed_rows, row->sum);
  const int8_t* const x = op->scratch;
  const size_t bits = (size_t)o->bits, rest = o->inputs % KWS_VECTOR, whole = o->inputs - rest;
  const size_t tile_bytes = o->inputs * bits, padded_bytes = kws_padded_inputs(op) * bits;
  const bool few = padded_bytes <= COPIED / KWS_DYNAMIC_TILES;
  const size_t kept = few ? 0 : whole; /* inputs whose weights are read where they lie */
  const uint8_t* w = op->weights;
  const uint8_t* const end = w + tile_bytes * ((o->outputs + KWS_TILE - 1) / KWS_TILE);
  uint8_t copy[COPIED];
  for (uint32_t first = 0; first < o->outputs; first += KWS_TILE * KWS_DYNAMIC_TILES) {
    const uint32_t left = o->outputs - first, most = KWS_TILE * KWS_DYNAMIC_TILES, rows = left < most ? left : most;
    const uint32_t tiles = (rows + KWS_TILE - 1) / KWS_TILE;
    int32_t dots[KWS_TILE * KWS_DYNAMIC_TILES], more[KWS_TILE * KWS_DYNAMIC_TILES];
    if (rest) {
      const size_t copied = padded_bytes - kept * bits;
      for (uint32_t i = 0; i < tiles; ++i)
        copy_blocks(copy + i * copied, w + i * tile_bytes + kept * bits, (whole - kept) * bits, rest, bits, end);
      parts->dots(op, copy, copied, tiles, x + kept, kws_padded_inputs(op) - kept, dots);
      if (kept) {
        parts->dots(op, w, tile_bytes, tiles, x, kept, more);
        add_dots(dots, more, tiles * KWS_TILE);
      }
    } else {
      parts->dots(op, w, tile_bytes, tiles, x, whole, dots);
    }
    w += tiles * tile_bytes;
    for (uint32_t i = 0; i < rows; i += KWS_TILE)
      finish_tile(o, &c, row, &terms, dots + i, first + i, rows - i < KWS_TILE ? rows - i : KWS_TILE, y + first + i);
  }
}

/* ---- Codes of 16 bits: row by row, sums of 64 bits. */

static KWS_NOINLINE void finish_rows(const kws_op* op, const kws_dynamic_parts* parts, const quantized* row, float* y) {
  const kws_options* o = &op->options;
  const channels c = channels_of(op);
  const uint8_t* w = op->weights;
  const int32_t sum = (int32_t)row->sum;
  for (uint32_t first = 0; first < o->outputs; first += 4) {
    const uint32_t left = o->outputs - first, count = left < 4 ? left : 4;
    float totals[4];
    int32_t sums[4];
    for (uint32_t i = 0; i < count; ++i, w += 2 * (size_t)o->inputs) {
      const int64_t dot = parts->dot(w, op->scratch, o->inputs);
      const int32_t zero = (uint16_t)kws_read_signed(c.zeros, first + i, 2);
      sums[i] = kws_read_signed(c.sums, first + i, o->sum_bytes);
      totals[i] = (float)(dot + (int64_t)(32768 - zero) * sum + (int64_t)32768 * sums[i]);
    }
#if KWS_FLOAT_VECTORS
    if (row->vectors && count == 4) {
      finish_four(o, &c, row, kws_load_f4(totals), kws_load_i4(sums), first, y + first);
      continue;
    }
#endif
    for (uint32_t i = 0; i < count; ++i) y[first + i] = finish(o, &c, row, totals[i], sums[i], first + i);
  }
}

void kws_run_dynamic(const kws_op* op, const kws_dynamic_parts* parts) {
  const kws_options* o = &op->options;
  const size_t places = kws_places(op);
  float* y = (float*)(void*)op->y;
  for (size_t place = 0; place < places; ++place, y += o->outputs) {
    const quantized row = quantize_place(op, place);
    if (KWS_SHORTS && o->bits > 8) {
      finish_rows(op, parts, &row, y);
      continue;
    }
    if (parts->begin_row) parts->begin_row(op, op->scratch, kws_padded_inputs(op));
    finish_tiles(op, parts, &row, y);
  }
}

#endif
