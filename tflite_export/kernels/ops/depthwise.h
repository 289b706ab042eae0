/* What the kernels of the depthwise op share: the taps of a window that lie inside the picture, and the walk over all
 * output places, in depthwise_c.c. A kernel supplies what is done at one place. */
#ifndef TFMOT_KWS_DEPTHWISE_H_
#define TFMOT_KWS_DEPTHWISE_H_

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
void kws_depthwise_places(const kws_op* op, kws_depthwise_place* place, void* own);

#endif
