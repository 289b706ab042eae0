/* Which places of a picture lie under a window, without copying them. */
#ifndef TFMOT_KWS_WINDOW_H_
#define TFMOT_KWS_WINDOW_H_

#include "../include/packed_kernels.h"

/* Taps first .. last-1 of a window lie inside the picture; tap `first` at place `start`. */
typedef struct {
  int32_t first, last;
  int64_t start;
} kws_span;

/* Window at output `index` along axis 0 (height) or 1 (width) of a picture of `length` places. */
static inline kws_span kws_window_span(const kws_window* w, int axis, int32_t index, int32_t length) {
  const int64_t origin = (int64_t)index * w->stride[axis] - w->padding[2 * axis];
  const uint32_t step = (uint32_t)w->dilation[axis], size = (uint32_t)w->size[axis];
  /* Dividends are below 2^32, for windows lie inside the padded picture. */
  const uint32_t first = origin >= 0 ? 0 : ((uint32_t)-origin + step - 1) / step;
  const uint32_t fit = length > origin ? ((uint32_t)(length - origin) + step - 1) / step : 0;
  kws_span span;
  span.last = (int32_t)(fit < size ? fit : size);
  span.first = first < (uint32_t)span.last ? (int32_t)first : span.last;
  span.start = origin + (int64_t)span.first * step;
  return span;
}

/* Runs of input that lie together in memory and in the weights: outer x inner runs of `length` values.
 * Offsets count values from the start of the picture and of the weight row. */
typedef struct {
  int32_t outer, inner;
  size_t x_start, x_outer, x_inner;
  size_t w_start, w_outer, w_inner;
  size_t length;
} kws_runs;

/* The runs under the window at (row, column) of the output. Padded places are in no run: they add nothing. */
static inline kws_runs kws_window_runs(const kws_op* op, int32_t row, int32_t column) {
  const kws_window* w = &op->options.window;
  const kws_span v = kws_window_span(w, 0, row, op->height);
  const kws_span h = kws_window_span(w, 1, column, op->width);
  const size_t c = (size_t)op->channels, width = (size_t)op->width, taps = (size_t)w->size[1];
  kws_runs r;
  r.outer = v.last - v.first;
  r.inner = h.last - h.first;
  r.length = c;
  r.x_start = r.outer && r.inner ? ((size_t)v.start * width + (size_t)h.start) * c : 0;
  r.x_outer = (size_t)w->dilation[0] * width * c;
  r.x_inner = (size_t)w->dilation[1] * c;
  r.w_start = ((size_t)v.first * taps + (size_t)h.first) * c;
  r.w_outer = taps * c;
  r.w_inner = c;
  if (r.inner > 1 && r.x_inner == c) { /* neighbouring taps of one row: one run */
    r.length = c * (size_t)r.inner;
    r.inner = 1;
  }
  if (r.outer > 1 && r.inner == 1 && r.length == r.x_outer && r.length == r.w_outer) { /* whole rows: one run */
    r.length *= (size_t)r.outer;
    r.outer = 1;
  }
  return r;
}

#endif
