/* Ops on float tensors, for what lies between the dense layers of dynamic quantization. Sums are made in the order in
 * which values lie, so that every machine gives the same bits. */
#include "../core/requantize.h"
#include "../core/window.h"
#include "../dense/float_math.h"

#if KWS_DYNAMIC

#if KWS_HAS_KIND(2) || KWS_HAS_KIND(3) || KWS_HAS_KIND(4) || KWS_HAS_KIND(5) || KWS_HAS_KIND(6) || KWS_HAS_KIND(7) || \
    KWS_HAS_KIND(8)
static const float* input(const kws_op* op, int i) { return (const float*)(const void*)op->x[i]; }
static float* output(const kws_op* op) { return (float*)(void*)op->y; }

#endif

#if KWS_HAS_KIND(2)
/* Constants are little-endian, and lie at any address. */
static float constant(const uint8_t* values, size_t i) {
  const uint32_t bits = (uint32_t)kws_read_signed(values, i, 4);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

#endif

#if KWS_HAS_KIND(3)
void kws_float_function(const kws_op* op) {
  const float* x = input(op, 0);
  float* y = output(op);
  for (size_t i = 0; i < op->output_bytes / sizeof *y; ++i) y[i] = kws_activate(x[i], op->options.function);
}

#endif

#if KWS_HAS_KIND(4)
void kws_float_softmax(const kws_op* op) {
  const float* x = input(op, 0);
  float* y = output(op);
  const size_t n = (size_t)op->channels;
  for (size_t row = 0; row < op->rows; ++row, x += n, y += n) {
    float most = x[0], total = 0;
    for (size_t i = 1; i < n; ++i) most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; ++i) {
      y[i] = kws_exp_of_minus(most - x[i]);
      total = total + y[i];
    }
    for (size_t i = 0; i < n; ++i) y[i] = y[i] / total;
  }
}

#endif

#if KWS_HAS_KIND(5) || KWS_HAS_KIND(6)
/* Two inputs whose shapes broadcast. */
static void run_pair(const kws_op* op, bool add) {
  const float *a = input(op, 0), *b = input(op, 1);
  float* y = output(op);
  int32_t at[KWS_MAX_RANK] = {0};
  size_t i = 0, j = 0;
  for (size_t k = 0; k < op->output_bytes / sizeof *y; ++k) {
    const float value = add ? a[i] + b[j] : a[i] * b[j];
    y[k] = kws_activate(value, op->options.function);
    for (int axis = op->rank - 1; axis >= 0; --axis) { /* the next place, like an odometer */
      i += op->stride[0][axis];
      j += op->stride[1][axis];
      if (++at[axis] < op->dims[axis]) break;
      i -= op->stride[0][axis] * (size_t)at[axis];
      j -= op->stride[1][axis] * (size_t)at[axis];
      at[axis] = 0;
    }
  }
}

#if KWS_HAS_KIND(5)
void kws_float_add(const kws_op* op) { run_pair(op, true); }
#endif
#if KWS_HAS_KIND(6)
void kws_float_multiply(const kws_op* op) { run_pair(op, false); }
#endif
#endif

#if KWS_HAS_KIND(2) || KWS_HAS_KIND(7) || KWS_HAS_KIND(8)
/* The places under a window that lie inside the picture: a first one and steps, in values, down and across. */
typedef struct {
  kws_span v, h;
  size_t first, down, across;
} places;

static places places_under(const kws_op* op, size_t place) {
  const kws_window* w = &op->options.window;
  const size_t width = (size_t)op->out_width, per_picture = (size_t)op->out_height * width, at = place % per_picture;
  const size_t c = (size_t)op->channels, row = (size_t)op->width * c;
  places p;
  p.v = kws_window_span(w, 0, (int32_t)(at / width), op->height);
  p.h = kws_window_span(w, 1, (int32_t)(at % width), op->width);
  p.first = place / per_picture * (size_t)op->height * row;
  if (p.v.first < p.v.last && p.h.first < p.h.last) p.first += (size_t)p.v.start * row + (size_t)p.h.start * c;
  p.down = (size_t)w->dilation[0] * row;
  p.across = (size_t)w->dilation[1] * c;
  return p;
}

static size_t count_places(const kws_op* op) {
  return (size_t)op->batch * (size_t)op->out_height * (size_t)op->out_width;
}

#endif

#if KWS_HAS_KIND(7) || KWS_HAS_KIND(8)
static void run_pool(const kws_op* op, bool average) {
  const size_t c = (size_t)op->channels;
  float* y = output(op);
  for (size_t place = 0; place < count_places(op); ++place, y += c) {
    const places p = places_under(op, place);
    const int32_t down = p.v.last - p.v.first, across = p.h.last - p.h.first;
    const float count = down > 0 && across > 0 ? (float)down * (float)across : 1.0f;
    for (size_t channel = 0; channel < c; ++channel) {
      const float* const x = input(op, 0) + p.first + channel;
      float sum = 0, most = -INFINITY;
      for (int32_t i = 0; i < down; ++i) {
        for (int32_t j = 0; j < across; ++j) {
          const float value = x[(size_t)i * p.down + (size_t)j * p.across];
          sum = sum + value;
          most = value > most ? value : most;
        }
      }
      y[channel] = average ? sum / count : most;
    }
  }
}

#if KWS_HAS_KIND(7)
void kws_float_average_pool(const kws_op* op) { run_pool(op, true); }
#endif
#if KWS_HAS_KIND(8)
void kws_float_max_pool(const kws_op* op) { run_pool(op, false); }
#endif
#endif

#if KWS_HAS_KIND(2)
void kws_float_depthwise(const kws_op* op) {
  const kws_options* o = &op->options;
  const size_t c = (size_t)op->channels, outputs = o->outputs, multiple = outputs / c;
  const size_t count = o->has_window ? count_places(op) : op->rows;
  float* y = output(op);
  for (size_t place = 0; place < count; ++place, y += outputs) {
    places p = {{0, 1, 0}, {0, 1, 0}, place * c, 0, 0};
    if (o->has_window) p = places_under(op, place);
    const size_t taps = o->has_window ? (size_t)o->window.size[1] : 1;
    for (size_t k = 0; k < outputs; ++k) {
      const float* const x = input(op, 0) + p.first + k / multiple;
      float sum = 0;
      for (int32_t i = p.v.first; i < p.v.last; ++i) {
        for (int32_t j = p.h.first; j < p.h.last; ++j) {
          const float weight = constant(op->weights, ((size_t)i * taps + (size_t)j) * outputs + k);
          const float product = x[(size_t)(i - p.v.first) * p.down + (size_t)(j - p.h.first) * p.across] * weight;
          sum = sum + product;
        }
      }
      y[k] = kws_activate(sum + constant(op->channel_parameters, k), o->function);
    }
  }
}

#endif

#endif
