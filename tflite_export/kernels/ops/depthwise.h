/* What the kernels of the depthwise op share: the taps of a window that lie inside the picture, and the walk over all
 * output places. A kernel supplies what is done at one place. */
#ifndef TFMOT_KWS_DEPTHWISE_H_
#define TFMOT_KWS_DEPTHWISE_H_

#include "../core/window.h"
#include "../include/packed_kernels.h"

#if defined(__GNUC__)
#define KWS_DEPTHWISE_INLINE __attribute__((always_inline)) static inline
#else
#define KWS_DEPTHWISE_INLINE static inline
#endif

/* Taps under a window: where the first reads and where its levels lie, and steps to the next. Nothing is read where
 * rows or columns are 0. */
typedef struct {
  uint32_t rows, columns;
  const int8_t *x, *levels;
  size_t x_row, x_column, level_row, level_column;
} kws_taps;

static inline kws_taps kws_taps_at(const kws_op* op, const int8_t* picture, const kws_span* v, const kws_span* h) {
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

/* Whether each channel has one output: what these kernels are for; the reference takes any. */
static inline bool kws_one_output_a_channel(const kws_op* op) { return op->options.outputs == (uint32_t)op->channels; }

/* Sum of level * (x - zero) of one channel. */
static inline uint32_t kws_sum_of_channel(const kws_taps* t, size_t channel, int32_t zero) {
  uint32_t acc = 0;
  for (uint32_t i = 0; i < t->rows; ++i)
    for (uint32_t j = 0; j < t->columns; ++j) {
      const int8_t x = t->x[i * t->x_row + j * t->x_column + channel];
      acc += (uint32_t)(t->levels[i * t->level_row + j * t->level_column + channel] * (x - zero));
    }
  return acc;
}

/* All outputs of one place, at y. `own` is what a kernel keeps of an op. */
typedef void kws_depthwise_place(const kws_op* op, void* own, const kws_taps* taps, int8_t* y);

/* Every place of the output, in order. Without a window each row is a place under a window of one tap. */
KWS_DEPTHWISE_INLINE void kws_depthwise_places(const kws_op* op, kws_depthwise_place* place, void* own) {
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
      const kws_span v = kws_window_span(w, 0, row, op->height);
      for (int32_t column = 0; column < op->out_width; ++column, y += channels) {
        const kws_span h = kws_window_span(w, 1, column, op->width);
        const kws_taps taps = kws_taps_at(op, x, &v, &h);
        place(op, own, &taps, y);
      }
    }
}

#endif
