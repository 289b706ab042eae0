/* Dense layers of dynamic quantization: float in and out, integers inside. Written once; a kernel for an instruction
 * set supplies the dots.
 *
 *     T = sum(level * u), W = sum(level)                    u: codes of a row's inputs, from its least to its largest
 *     y = function((scale * T + low * W) * gain + bias)     each operation rounded to float32
 */
#ifndef TFMOT_KWS_DYNAMIC_H_
#define TFMOT_KWS_DYNAMIC_H_

#include "packed_kernels.h"

/* The range of a row that was quantized: x ~ low + scale * u. */
typedef struct {
  float low, scale;
} kws_range;

typedef struct {
  /* For a tile of 8 rows of weights as they lie in the layout for all chips, and n inputs, a multiple of 16:
   * dots[row] = sum(stored code * x), modulo 2^32. `first` is the place of x in the row. */
  void (*dots)(const kws_op* op, const uint8_t* w, const int8_t* x, size_t n, size_t first, int32_t* dots);
  /* Rows of a tile whose codes are stored as signed numbers; bit r for row r. */
  unsigned signed_rows;
  /* sum(w * x) of 16-bit weights, which lie two bytes each at any address, and n inputs. x is followed by zeros up to
   * a multiple of 16 inputs; weights are not. */
  int64_t (*dot)(const uint8_t* w, const int16_t* x, size_t n);
  /* Called when a row of int8 is complete, with its length rounded up to 16; may be NULL. */
  void (*begin_row)(const kws_op* op, const int8_t* x, size_t padded);
} kws_dynamic_parts;

/* All outputs of an op. */
void kws_run_dynamic(const kws_op* op, const kws_dynamic_parts* parts);

/* Scratch bytes of kws_run_dynamic(): a row of codes, and what a kernel adds for a row of 16-bit lanes. */
size_t kws_dynamic_scratch(const kws_op* op);

#endif
