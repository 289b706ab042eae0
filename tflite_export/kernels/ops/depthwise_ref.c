/* Per-channel convolution, and the per-channel affine map. */
#include "../core/requantize.h"
#include "../core/window.h"
#include "../include/packed_kernels.h"

#if KWS_STATIC && KWS_HAS_KIND(2) && (KWS_DEPTHWISE_ANY || KWS_REFERENCE)

enum { BLOCK = 16 };

/* acc[k] += sum over taps of level * (x - zero) for the outputs first .. first + count - 1 of one window. */
static void add_taps(const kws_op* op, const int8_t* x, const kws_span* v, const kws_span* h, uint32_t first, int count,
                     uint32_t* acc) {
  const kws_options* o = &op->options;
  const uint32_t multiple = o->outputs / (uint32_t)op->channels;
  const int zero = o->input_zero_point[0];
  for (int32_t i = v->first; i < v->last; ++i) {
    for (int32_t j = h->first; j < h->last; ++j) {
      const size_t row = (size_t)(v->start + (int64_t)(i - v->first) * o->window.dilation[0]);
      const size_t column = (size_t)(h->start + (int64_t)(j - h->first) * o->window.dilation[1]);
      const int8_t* place = x + (row * (size_t)op->width + column) * (size_t)op->channels;
      const size_t tap = (size_t)i * (size_t)o->window.size[1] + (size_t)j;
      const int8_t* level = (const int8_t*)op->weights + tap * o->outputs + first;
      if (multiple == 1) {
        for (int k = 0; k < count; ++k) acc[k] += (uint32_t)(level[k] * (place[first + (uint32_t)k] - zero));
      } else {
        for (int k = 0; k < count; ++k)
          acc[k] += (uint32_t)(level[k] * (place[(first + (uint32_t)k) / multiple] - zero));
      }
    }
  }
}

static void one_place(const kws_op* op, const int8_t* x, const kws_span* v, const kws_span* h, int8_t* y) {
  const uint32_t outputs = op->options.outputs;
  for (uint32_t first = 0; first < outputs; first += BLOCK) {
    const int count = outputs - first < BLOCK ? (int)(outputs - first) : BLOCK;
    uint32_t acc[BLOCK] = {0};
    add_taps(op, x, v, h, first, count, acc);
    for (int k = 0; k < count; ++k) y[first + (uint32_t)k] = kws_requantize(op, acc[k], first + (uint32_t)k);
  }
}

void kws_depthwise_ref(const kws_op* op) {
  const kws_options* o = &op->options;
  int8_t* y = op->y;
  if (!o->has_window) {
    kws_op row = *op; /* a 1 x 1 window at the only place of a picture */
    const kws_span only = {0, 1, 0};
    row.width = row.height = 1;
    row.options.window.size[0] = row.options.window.size[1] = 1;
    for (size_t i = 0; i < op->rows; ++i, y += o->outputs)
      one_place(&row, op->x[0] + i * (size_t)op->channels, &only, &only, y);
    return;
  }
  const size_t picture = (size_t)op->height * (size_t)op->width * (size_t)op->channels;
  for (int32_t i = 0; i < op->batch; ++i) {
    for (int32_t row = 0; row < op->out_height; ++row) {
      const kws_span v = kws_window_span(&o->window, 0, row, op->height);
      for (int32_t column = 0; column < op->out_width; ++column, y += o->outputs) {
        const kws_span h = kws_window_span(&o->window, 1, column, op->width);
        one_place(op, op->x[0] + (size_t)i * picture, &v, &h, y);
      }
    }
  }
}

#endif
