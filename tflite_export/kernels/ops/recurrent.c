/* Recurrent layers: the packed dense kernels multiply, what lies between the products is integers and one table. The
 * twin of tflite_export/reference/recurrent.py, which says what a step of each number is worth. */
#include "recurrent.h"

#include <string.h>

#include "../core/requantize.h"

#if KWS_HAS_RECURRENT

/* round(2^15 tanh(i / 32)): a half, for tanh is odd. */
static const uint16_t tanh_table[257] = {
    /* clang-format off */
    0, 1024, 2045, 3063, 4075, 5079, 6073, 7056, 8025, 8980, 9919, 10840, 11743, 12625, 13486, 14326,
    15143, 15936, 16706, 17452, 18173, 18870, 19542, 20189, 20813, 21411, 21986, 22538, 23066, 23571, 24054, 24516,
    24956, 25376, 25776, 26157, 26519, 26864, 27191, 27502, 27797, 28076, 28341, 28592, 28830, 29055, 29268, 29470,
    29660, 29840, 30010, 30170, 30322, 30465, 30600, 30727, 30847, 30960, 31067, 31167, 31262, 31351, 31435, 31515,
    31589, 31659, 31726, 31788, 31846, 31901, 31953, 32002, 32048, 32091, 32132, 32170, 32206, 32240, 32271, 32301,
    32329, 32356, 32381, 32404, 32426, 32447, 32466, 32484, 32501, 32517, 32532, 32547, 32560, 32573, 32584, 32596,
    32606, 32616, 32625, 32634, 32642, 32649, 32657, 32663, 32670, 32676, 32681, 32686, 32691, 32696, 32700, 32704,
    32708, 32712, 32715, 32718, 32721, 32724, 32727, 32729, 32732, 32734, 32736, 32738, 32740, 32741, 32743, 32745,
    32746, 32747, 32749, 32750, 32751, 32752, 32753, 32754, 32755, 32755, 32756, 32757, 32758, 32758, 32759, 32759,
    32760, 32760, 32761, 32761, 32762, 32762, 32762, 32763, 32763, 32763, 32764, 32764, 32764, 32764, 32765, 32765,
    32765, 32765, 32765, 32766, 32766, 32766, 32766, 32766, 32766, 32766, 32766, 32767, 32767, 32767, 32767, 32767,
    32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32768, 32768, 32768,
    32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768,
    32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768,
    32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768,
    32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768, 32768,
    32768,
    /* clang-format on */
};

/* 2^15 tanh(x / 2^12), straight between the table's entries. */
static int32_t tanh_of(int32_t x) {
  const int32_t size = x < -32768 || x > 32768 ? 32768 : x < 0 ? -x : x;
  const int32_t place = size >> 7 > 255 ? 255 : size >> 7, low = tanh_table[place];
  const int32_t value = low + (((tanh_table[place + 1] - low) * (size - place * 128) + 64) >> 7);
  return x < 0 ? -value : value;
}

#if KWS_CELLS >> 1 & 7
/* 2^15 sigmoid(x / 2^11). */
static int32_t sigmoid_of(int32_t x) { return (32768 + tanh_of(x) + 1) >> 1; }
#endif

/* floor(total / 2^shift + 1/2) */
static int64_t rounded(int64_t total, int shift) { return kws_rounding_shift((uint64_t)total, shift); }

static int32_t sum(int32_t a, int32_t b) { return kws_narrow((int64_t)a + b); }

/* A kernel of the layer, as a dense layer of its own: where its bytes begin and how many there are. */
typedef struct {
  uint32_t outputs, inputs;
  size_t weights, channels;
  bool recurrent;
} part;

enum { MOST_PARTS = 3 };

static size_t plus(size_t a, size_t b) { return a + b < a ? 0 : a + b; }

/* The parts, and all of their bytes; 0 where a size would overflow. */
static size_t find_parts(const kws_options* o, part* parts, int* count) {
  const uint32_t units = o->outputs / kws_cell_gates(o->cell);
  const bool split = o->cell == KWS_GRU;
  size_t at = 0;
  *count = split ? 3 : 2;
  parts[0] = (part){o->outputs, o->inputs, 0, 0, false};
  parts[1] = (part){split ? 2 * units : o->outputs, units, 0, 0, true};
  parts[2] = (part){units, units, 0, 0, true};
  for (int i = 0; i < *count; ++i) {
    const size_t size = kws_packed_size(parts[i].outputs, parts[i].inputs, o->bits, o->layout);
    parts[i].weights = at;
    at = size ? plus(at, size) : 0;
    if (!at) return 0;
  }
  for (int i = 0; i < *count; ++i) {
    const int sum_bytes = parts[i].recurrent ? 0 : o->sum_bytes;
    const size_t size = kws_channels_size(parts[i].outputs, o->gain_bytes, o->bias_bytes, sum_bytes, 0);
    parts[i].channels = at;
    at = size ? plus(at, size) : 0;
    if (!at) return 0;
  }
  return at;
}

size_t kws_recurrent_bytes(const kws_options* o) {
  part parts[MOST_PARTS];
  int count;
  return find_parts(o, parts, &count);
}

/* A part as an op of one row. */
static kws_op dense_op(const kws_op* op, const part* p) {
  kws_op dense;
  memset(&dense, 0, sizeof dense);
  dense.options = op->options;
  kws_options* o = &dense.options;
  o->kind = KWS_PACKED_DENSE;
  o->outputs = p->outputs;
  o->inputs = p->inputs;
  if (p->recurrent) {
    o->input_zero_point[0] = o->sum_bytes = 0;
    o->multiplier[0] = o->multiplier[1];
    o->bias_shift = o->recurrent_bias_shift;
    o->shift = o->recurrent_shift;
  }
  dense.channels = (int32_t)p->inputs;
  dense.rows = 1;
  if (op->weights) {
    dense.weights = op->weights + p->weights;
    dense.channel_parameters = op->weights + p->channels;
  }
  return dense;
}

bool kws_recurrent_runs(const kws_op* op) {
  part parts[MOST_PARTS];
  int count;
  if (!find_parts(&op->options, parts, &count)) return false;
  for (int i = 0; i < count; ++i) {
    const kws_op dense = dense_op(op, &parts[i]);
    if (!kws_choose(&dense)) return false;
  }
  return true;
}

static size_t aligned(size_t size) { return (size + 15) / 16 * 16; }

/* Where things lie in scratch memory. */
typedef struct {
  size_t rows, products, c, h, kept, dense, total;
} places;

static places find_places(const kws_op* op) {
  const size_t units = op->options.outputs / kws_cell_gates(op->options.cell), rows = op->options.outputs;
  part parts[MOST_PARTS];
  int count;
  places at;
  at.rows = 0;
  at.products = at.rows + aligned(2 * rows);
  at.c = at.products + aligned(2 * rows);
  at.h = at.c + aligned(2 * units);
  at.kept = at.h + aligned(units);
  at.dense = at.kept + aligned(units);
  size_t most = 0;
  if (!find_parts(&op->options, parts, &count)) count = 0;
  for (int i = 0; i < count; ++i) {
    const kws_op dense = dense_op(op, &parts[i]);
    const size_t size = kws_scratch_bytes(kws_choose(&dense), &dense);
    most = size > most ? size : most;
  }
  at.total = at.dense + most + 15; /* and what aligns the beginning */
  return at;
}

size_t kws_recurrent_scratch(const kws_op* op) { return find_places(op).total; }

/* What a layer works with from row to row. */
typedef struct {
  kws_op dense[MOST_PARTS];
  kws_kernel_fn run[MOST_PARTS];
  int16_t *rows, *products, *c;
  int8_t *h, *kept;
  uint32_t units;
  int32_t one;
} layer;

static void multiply(layer* l, int i, const int8_t* x, int16_t* to) {
  l->dense[i].x[0] = x;
  l->dense[i].wide = to;
  l->dense[i].y = (int8_t*)to;
  l->run[i](&l->dense[i]);
}

/* A real value of 2^-shift a step as an output. */
static int8_t output(const layer* l, int64_t value, int shift) {
  return kws_saturate(rounded(value * l->one, shift), 0, -l->one, l->one - 1);
}

#if KWS_CELLS >> 4 & 1
static void simple_step(layer* l) {
  for (uint32_t i = 0; i < l->units; ++i) l->h[i] = output(l, tanh_of(2 * sum(l->rows[i], l->products[i])), 15);
}

#endif

#if KWS_CELLS >> 1 & 1
static void lstm_step(layer* l) {
  const uint32_t units = l->units;
  for (uint32_t i = 0; i < units; ++i) {
#define PRE_ACTIVATION(gate) sum(l->rows[i + (gate) * units], l->products[i + (gate) * units])
    const int32_t in = sigmoid_of(PRE_ACTIVATION(0)), forget = sigmoid_of(PRE_ACTIVATION(1)),
                  new = tanh_of(2 * PRE_ACTIVATION(2)), out = sigmoid_of(PRE_ACTIVATION(3));
#undef PRE_ACTIVATION
    l->c[i] = kws_narrow(rounded((int64_t)forget * l->c[i] * 16 + in * new, 19));
    l->h[i] = output(l, out * tanh_of(2 * l->c[i]), 30);
  }
}

#endif

#if KWS_CELLS >> 2 & 3
/* Gates of the update lie at rows[i] from here on, and candidates' pre-activations at rows[i + 2 * units]. */
static void gru_step(layer* l, bool reset_after) {
  const uint32_t units = l->units;
  for (uint32_t i = 0; i < units; ++i) {
    const int32_t reset = sigmoid_of(sum(l->rows[i + units], l->products[i + units]));
    if (reset_after)
      l->products[i + 2 * units] = kws_narrow(rounded((int64_t)reset * l->products[i + 2 * units], 15));
    else
      l->kept[i] = output(l, (int64_t)reset * l->c[i], 30);
  }
  if (!reset_after) multiply(l, 2, l->kept, l->products + 2 * units);
  for (uint32_t i = 0; i < units; ++i) {
    const int32_t update = sigmoid_of(sum(l->rows[i], l->products[i]));
    const int32_t new = tanh_of(2 * sum(l->rows[i + 2 * units], l->products[i + 2 * units]));
    l->c[i] = kws_narrow(rounded((int64_t)update * l->c[i] + (int64_t)(32768 - update) * new, 15));
    l->h[i] = output(l, l->c[i], 15);
  }
}

#endif

static void step(layer* l, int cell, const int8_t* x) {
  multiply(l, 0, x, l->rows);
  multiply(l, 1, l->h, l->products);
  switch (cell) {
#if KWS_CELLS >> 1 & 1
    case KWS_LSTM:
      lstm_step(l);
      break;
#endif
#if KWS_CELLS >> 4 & 1
    case KWS_SIMPLE_CELL:
      simple_step(l);
      break;
#endif
    default:
#if KWS_CELLS >> 2 & 3
      gru_step(l, cell == KWS_GRU_RESET_AFTER);
#endif
      break;
  }
}

/* The state comes from the last call and goes to the next, byte by byte: it lies at any address. Returns the rows that
 * were skipped. */
static uint32_t load_state(layer* l, const uint8_t* state) {
  memcpy(l->h, state + KWS_RECURRENT_HEAD, l->units);
  for (uint32_t i = 0; i < l->units; ++i)
    l->c[i] = (int16_t)kws_read_signed(state + KWS_RECURRENT_HEAD + l->units, i, 2);
  return state[0] | (uint32_t)state[1] << 8;
}

static void store_state(const layer* l, uint32_t skipped, uint8_t* state) {
  state[0] = (uint8_t)skipped;
  state[1] = (uint8_t)(skipped >> 8);
  memcpy(state + KWS_RECURRENT_HEAD, l->h, l->units);
  uint8_t* to = state + KWS_RECURRENT_HEAD + l->units;
  for (uint32_t i = 0; i < l->units; ++i) {
    to[2 * i] = (uint8_t)l->c[i];
    to[2 * i + 1] = (uint8_t)((uint16_t)l->c[i] >> 8);
  }
}

/* All rows, by the reference or, where that is NULL, by the fastest kernel of dense layers. */
static void run_rows(const kws_op* op, kws_kernel_fn reference) {
  const kws_options* o = &op->options;
  const places at = find_places(op);
  uint8_t* const scratch = (uint8_t*)op->scratch + (16 - (uintptr_t)op->scratch % 16) % 16;
  part parts[MOST_PARTS];
  int count;
  layer l;
  find_parts(o, parts, &count);
  for (int i = 0; i < count; ++i) {
    l.dense[i] = dense_op(op, &parts[i]);
    l.dense[i].scratch = scratch + at.dense;
    l.run[i] = reference ? reference : kws_choose(&l.dense[i])->run;
  }
  l.rows = (int16_t*)(void*)(scratch + at.rows);
  l.products = (int16_t*)(void*)(scratch + at.products);
  l.c = (int16_t*)(void*)(scratch + at.c);
  l.h = (int8_t*)(scratch + at.h);
  l.kept = (int8_t*)(scratch + at.kept);
  l.units = o->outputs / kws_cell_gates(o->cell);
  l.one = o->activation_max + 1;
  const int8_t* x = op->x[0];
  int8_t* y = op->y;
  for (int32_t sample = 0; sample < op->batch; ++sample) {
    memset(l.h, 0, l.units);
    memset(l.c, 0, sizeof *l.c * l.units);
    const uint8_t* state = o->external ? (const uint8_t*)op->x[1] : op->state;
    uint32_t skipped = state ? load_state(&l, state) : 0;
    for (int32_t row = 0; row < op->height; ++row, x += o->inputs) {
      if (skipped < o->skip)
        ++skipped;
      else
        step(&l, o->cell, x);
      if (o->sequences || row == op->height - 1) {
        memcpy(y, l.h, l.units);
        y += l.units;
      }
    }
    if (state) store_state(&l, skipped, o->external ? (uint8_t*)y : op->state);
  }
}

#if KWS_REFERENCE
void kws_recurrent_ref(const kws_op* op) { run_rows(op, kws_packed_dense_ref); }
#endif

void kws_recurrent(const kws_op* op) { run_rows(op, NULL); }

#endif
