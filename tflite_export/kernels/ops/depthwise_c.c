/* Per-channel convolution where each channel has one output: few sums at a time, which stay in registers. */
#include "../core/requantize.h"
#include "../core/window.h"
#include "depthwise.h"

#if KWS_STATIC && KWS_HAS_KIND(2)

static inline kws_taps taps_at(const kws_op* op, const int8_t* picture, const kws_span* v, const kws_span* h) {
  const kws_window* w = &op->options.window;
  const size_t channels = (size_t)op->channels, width = (size_t)op->width;
  kws_taps t;
  t.rows = (uint32_t)(v->last - v->first);
  t.columns = (uint32_t)(h->last - h->first);
  t.x = t.rows && t.columns ? picture + ((size_t)v->start * width + (size_t)h->start) * channels : picture;
  t.levels = (const int8_t*)op->weights + ((size_t)v->first * (size_t)w->size[1] + (size_t)h->first) * channels;
  t.x_row = (size_t)w->dilation[0] * width * channels;
  t.x_column = (size_t)w->dilation[1] * channels;
  t.level_row = (size_t)w->size[1] * channels;
  t.level_column = channels;
  if (t.columns == 1) { /* a window over time: one loop instead of two */
    t.columns = t.rows;
    t.rows = 1;
    t.x_column = t.x_row;
    t.level_column = t.level_row;
  }
  return t;
}

/* kws_window_span(). Most windows lie inside, which takes no division: small cores call a function for one. */
static kws_span span_at(const kws_window* w, int axis, int32_t index, int32_t length) {
  const int64_t origin = (int64_t)index * w->stride[axis] - w->padding[2 * axis];
  const int64_t last = origin + (int64_t)(w->size[axis] - 1) * w->dilation[axis];
  if (origin >= 0 && last < length) return (kws_span){0, w->size[axis], origin};
  return kws_window_span(w, axis, index, length);
}

void kws_depthwise_places(const kws_op* op, kws_depthwise_place* place, void* own) {
  const kws_window* w = &op->options.window;
  const size_t channels = (size_t)op->channels;
  int8_t* y = op->y;
  if (!op->options.has_window) {
    kws_taps t = {1, 1, op->x[0], (const int8_t*)op->weights, 0, 0, 0, 0};
    for (size_t left = op->rows; left; --left, y += channels, t.x += channels) place(op, own, &t, y);
    return;
  }
  const size_t picture = (size_t)op->height * (size_t)op->width * channels;
  const int8_t* x = op->x[0];
  for (int32_t i = 0; i < op->batch; ++i, x += picture)
    for (int32_t row = 0; row < op->out_height; ++row) {
      const kws_span v = span_at(w, 0, row, op->height);
      for (int32_t column = 0; column < op->out_width; ++column, y += channels) {
        const kws_span h = span_at(w, 1, column, op->width);
        const kws_taps taps = taps_at(op, x, &v, &h);
        place(op, own, &taps, y);
      }
    }
}

#if defined(__GNUC__)
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE
#endif

#if defined(__thumb__) && !defined(__ARM_FEATURE_MVE)
enum { BLOCK = 4 }; /* as many as a Cortex-M has registers for */
#define EACH(DO) DO(0) DO(1) DO(2) DO(3)
#else
enum { BLOCK = 16 }; /* the compiler makes vectors of them */
#define EACH(DO) \
  for (int k = 0; k < BLOCK; ++k) DO(k)
#endif

enum { CHUNK = 64 }; /* channels whose sums are kept until they are requantized; a multiple of BLOCK */

/* Sums of level * (x - zero) of BLOCK channels. */
KWS_DEPTHWISE_INLINE void sums_of_block(const kws_taps* t, size_t first, int32_t zero, uint32_t* sums) {
  uint32_t acc[BLOCK] = {0};
  const int8_t *x_row = t->x + first, *level_row = t->levels + first;
  for (uint32_t i = t->rows; i; --i, x_row += t->x_row, level_row += t->level_row) {
    const int8_t *x = x_row, *level = level_row;
    for (uint32_t j = t->columns; j; --j, x += t->x_column, level += t->level_column) {
#define ADD(k) acc[k] += (uint32_t)(level[k] * (x[k] - zero));
      EACH(ADD)
#undef ADD
    }
  }
#define STORE(k) sums[k] = acc[k];
  EACH(STORE)
#undef STORE
}

/* What kws_requantize() computes, where only the high half of the product matters. */
static NOINLINE void finish(const kws_scale* s, const uint32_t* sums, size_t first, size_t count, int8_t* y) {
  const int8_t *gain = s->gain + first, *bias = s->bias + first;
  const int32_t multiplier = s->multiplier, low = s->low, high = s->high;
  const uint32_t add = (uint32_t)((uint64_t)s->add >> 32);
  const int bias_shift = s->bias_shift - 32, shift = s->shift - 32;
  for (size_t k = 0; k < count; ++k) {
    const int64_t product = (int64_t)(int32_t)sums[k] * (gain[k] * multiplier);
    const uint32_t total = (uint32_t)((uint64_t)product >> 32) + ((uint32_t)bias[k] << bias_shift) + add;
    const int32_t v = (int32_t)total >> shift;
    y[k] = (int8_t)(v < low ? low : v > high ? high : v);
  }
}

/* own: a kws_scale, or NULL where finish() does not take the op's constants. */
static void one_place(const kws_op* op, void* own, const kws_taps* taps, int8_t* y) {
  const kws_taps t = *taps;
  const size_t channels = (size_t)op->channels;
  const int32_t zero = op->options.input_zero_point[0];
  uint32_t sums[CHUNK];
  for (size_t first = 0; first < channels; first += CHUNK) {
    const size_t count = channels - first < CHUNK ? channels - first : CHUNK;
    size_t k = 0;
    for (; k + BLOCK <= count; k += BLOCK) sums_of_block(&t, first + k, zero, sums + k);
    for (; k < count; ++k) sums[k] = kws_sum_of_channel(&t, first + k, zero);
    if (own)
      finish(own, sums, first, count, y + first);
    else
      for (k = 0; k < count; ++k) y[first + k] = kws_requantize(op, sums[k], (uint32_t)(first + k));
  }
}

static NOINLINE void all_places(const kws_op* op) {
  kws_scale scale = {0};
  bool quick = kws_make_scale(&scale, op);
  if (quick) {
    kws_raise_scale(&scale);
    quick = kws_only_high_half(&scale);
  }
  kws_depthwise_places(op, one_place, quick ? &scale : NULL);
}

/* All that takes stack is in other functions: the reference may follow. */
void kws_depthwise_c(const kws_op* op) {
#if KWS_DEPTHWISE_ANY
  if (!kws_one_output_a_channel(op)) {
    kws_depthwise_ref(op);
    return;
  }
#endif
  all_places(op);
}

#endif
