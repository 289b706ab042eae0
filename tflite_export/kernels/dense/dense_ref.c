/* The dense kernel as it is defined: any layout, one code at a time, no scratch. Others are measured against it. */
#include "../core/requantize.h"
#include "dense_row.h"

#if KWS_DENSE_STATIC && KWS_NEEDS_REFERENCE

/* sum(level * (x - zero)) of one output over the runs of a window. */
static uint32_t accumulate(const kws_op* op, const int8_t* x, const kws_runs* runs, uint32_t row) {
  const kws_options* o = &op->options;
  const uint32_t a = kws_level_factor(o), b = kws_level_offset(o);
  uint32_t acc = 0;
  for (int32_t i = 0; i < runs->outer; ++i) {
    for (int32_t j = 0; j < runs->inner; ++j) {
      const int8_t* run = x + (size_t)i * runs->x_outer + (size_t)j * runs->x_inner;
      const size_t first = runs->w_start + (size_t)i * runs->w_outer + (size_t)j * runs->w_inner;
      for (size_t k = 0; k < runs->length; ++k)
        acc += (a * kws_code(o, op->weights, row, (uint32_t)(first + k)) - b) *
               (uint32_t)(run[k] - o->input_zero_point[0]);
    }
  }
  return acc;
}

void kws_packed_dense_ref(const kws_op* op) {
  const uint32_t outputs = op->options.outputs;
  const size_t places = kws_places(op);
  for (size_t place = 0; place < places; ++place) {
    kws_runs runs = {1, 1, 0, 0, 0, 0, 0, 0, op->options.inputs};
    const int8_t* x = op->x[0] + place * (size_t)op->channels;
    if (kws_windowed(op)) {
      x = kws_picture(op, place, &runs);
      x += runs.x_start;
    }
    for (uint32_t row = 0; row < outputs; ++row)
      kws_store(op, op->y + place * outputs + row, accumulate(op, x, &runs, row), row);
  }
}

#endif
