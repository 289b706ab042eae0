/* The inputs of one output place, side by side: where they lie already, or gathered into scratch memory. */
#ifndef TFMOT_KWS_DENSE_ROW_H_
#define TFMOT_KWS_DENSE_ROW_H_

#include <string.h>

#include "../core/weight_layout.h"
#include "../core/window.h"
#include "../include/packed_kernels.h"

#if defined(__GNUC__)
#define KWS_NOINLINE __attribute__((noinline))
#else
#define KWS_NOINLINE
#endif

/* Whether a dense op has a window; one that no op of this build has needs no code. */
static inline bool kws_windowed(const kws_op* op) { return KWS_DENSE_WINDOWS && op->options.has_window; }

/* Places (rows of a matrix, or windows) of a dense op. */
static inline size_t kws_places(const kws_op* op) {
  return kws_windowed(op) ? (size_t)op->batch * (size_t)op->out_height * (size_t)op->out_width : op->rows;
}

/* Inputs of one output, rounded up to whole vectors: what kernels read. */
static inline size_t kws_padded_inputs(const kws_op* op) {
  return ((size_t)op->options.inputs + KWS_VECTOR - 1) / KWS_VECTOR * KWS_VECTOR;
}

static inline const int8_t* kws_picture(const kws_op* op, size_t place, kws_runs* runs) {
  const size_t per_picture = (size_t)op->out_height * (size_t)op->out_width, at = place % per_picture;
  *runs = kws_window_runs(op, (int32_t)(at / (size_t)op->out_width), (int32_t)(at % (size_t)op->out_width));
  return op->x[0] + place / per_picture * (size_t)op->height * (size_t)op->width * (size_t)op->channels;
}

/* The place's inputs where they lie, if they lie side by side and fill whole vectors; else NULL. */
static inline const int8_t* kws_row_in_place(const kws_op* op, size_t place) {
  if (op->options.inputs % KWS_VECTOR) return NULL;
  if (!kws_windowed(op)) return op->x[0] + place * (size_t)op->channels;
  kws_runs r;
  const int8_t* picture = kws_picture(op, place, &r);
  const bool whole = r.outer == 1 && r.inner == 1 && r.length == op->options.inputs;
  return whole ? picture + r.x_start : NULL;
}

/* Copies the place's inputs to `row`, which has room for kws_padded_inputs(). Padding of the window is the zero point,
 * which stands for the real value 0; the inputs beyond the last are 0, so that they add nothing. */
static inline void kws_gather_row(const kws_op* op, size_t place, int8_t* row) {
  const size_t inputs = op->options.inputs;
  memset(row + inputs, 0, kws_padded_inputs(op) - inputs);
  if (!kws_windowed(op)) {
    memcpy(row, op->x[0] + place * (size_t)op->channels, inputs);
    return;
  }
  kws_runs r;
  const int8_t* picture = kws_picture(op, place, &r);
  memset(row, op->options.input_zero_point[0], inputs);
  for (int32_t i = 0; i < r.outer; ++i)
    for (int32_t j = 0; j < r.inner; ++j)
      memcpy(row + r.w_start + (size_t)i * r.w_outer + (size_t)j * r.w_inner,
             picture + r.x_start + (size_t)i * r.x_outer + (size_t)j * r.x_inner, r.length);
}

/* Whether so many rows from `place` on lie in place and equally far apart. */
static inline bool kws_evenly_spaced_rows(const kws_op* op, size_t place, int count, ptrdiff_t* stride) {
  const int8_t* first = kws_row_in_place(op, place);
  const int8_t* second = first ? kws_row_in_place(op, place + 1) : NULL;
  if (!second) return false;
  *stride = second - first;
  for (int i = 2; i < count; ++i)
    if (kws_row_in_place(op, place + (size_t)i) != first + i * *stride) return false;
  return true;
}

/* Scratch for kernels that read rows of int8: none where all rows can be read in place, else one row. */
static inline size_t kws_row_scratch(const kws_op* op) {
  const kws_options* o = &op->options;
  if (o->inputs % KWS_VECTOR) return kws_padded_inputs(op);
  if (!kws_windowed(op)) return 0;
  const kws_window* w = &o->window;
  const bool padded = w->padding[0] | w->padding[1] | w->padding[2] | w->padding[3];
  const bool one_row = w->size[0] == 1 && (w->size[1] == 1 || w->dilation[1] == 1);
  const bool whole_rows = w->size[1] == op->width && w->dilation[0] == 1 && (w->size[1] == 1 || w->dilation[1] == 1);
  return !padded && (one_row || whole_rows) ? 0 : kws_padded_inputs(op);
}

/* Scratch for kernels that widen rows: two bytes an input, a word at the start and one for every 32 inputs, and what
 * aligns it to words. */
static inline size_t kws_wide_row_scratch(const kws_op* op) {
  const size_t padded = kws_padded_inputs(op);
  return 2 * padded + 4 * ((padded + 31) / 32) + 8;
}

/* A row of int8, `kws_padded_inputs` long. */
static inline const int8_t* kws_row(const kws_op* op, size_t place) {
  const int8_t* row = kws_row_in_place(op, place);
  if (row) return row;
  kws_gather_row(op, place, op->scratch);
  return op->scratch;
}

#endif
