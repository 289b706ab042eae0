/* Random packed weights, and their sums. */
#ifndef BENCHMARKS_ARM_DRAW_WEIGHTS_H_
#define BENCHMARKS_ARM_DRAW_WEIGHTS_H_

#include "draw.h"
#include "kernels/core/requantize.h"
#include "kernels/core/weight_layout.h"
#include "packed_kernels.h"

/* The sums of weights that belong to the random bytes, as the reference reads them from codes. */
static void put_sums(const kws_op* op, uint8_t* to, uint32_t bytes) {
  const kws_options* o = &op->options;
  for (uint32_t row = 0; row < o->outputs; ++row) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < o->inputs; ++i)
      sum += kws_level_factor(o) * kws_code(o, op->weights, row, i) - kws_level_offset(o);
    for (uint32_t i = 0; i < bytes; ++i) to[bytes * row + i] = (uint8_t)(sum >> 8 * i);
  }
}

/* Random weights. Where lanes of 16 bits have room to spare, not every byte is a code: narrower codes leave bits of
 * their fields 0, and three fields of five bits leave a bit that repeats the top one. The top field's own top bit is
 * flipped. */
static void draw_weights(uint8_t* weights, size_t size, int bits, int layout) {
  const int kept = bits == 3 ? 0x77 : (1 << bits) - 1;
  for (size_t i = 0; i < size; ++i) weights[i] = draw();
  if (layout != KWS_LAYOUT_DSP || bits < 3 || bits == 4 || bits == 8) return;
  for (size_t i = 1; i < size; i += 2) {
    if (bits == 5) {
      weights[i] = (uint8_t)((weights[i] & 0x7F) | (weights[i] & 0x40) << 1);
    } else {
      weights[i - 1] &= (uint8_t)kept;
      weights[i] = (uint8_t)((weights[i] & kept) | 0x80);
    }
  }
}

#endif
