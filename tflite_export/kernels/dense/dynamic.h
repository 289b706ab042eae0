/* Dense layers of dynamic quantization: float in and out, integers inside. Written once; a kernel for an instruction
 * set supplies the dots.
 *
 *     T = sum(level * u), W = sum(level)                    u: codes of a row's inputs, from its least to its largest
 *     y = function((scale * T + low * W) * gain + bias)     each operation rounded to float32
 */
#ifndef TFMOT_KWS_DYNAMIC_H_
#define TFMOT_KWS_DYNAMIC_H_

#include "../include/packed_kernels.h"

/* Tiles of 8 rows whose dots are asked for at once, at most. */
enum { KWS_DYNAMIC_TILES = 2 };

typedef struct {
  /* For `tiles` tiles of 8 rows, which begin `step` bytes after each other and lie as in the layout for all chips, and
   * n inputs, a multiple of 16: dots[row] = sum(stored code * x), modulo 2^32. x lies in the scratch memory. */
  void (*dots)(const kws_op* op, const uint8_t* w, size_t step, uint32_t tiles, const int8_t* x, size_t n,
               int32_t* dots);
  /* Rows of a tile whose codes are stored as signed numbers; bit r for row r. */
  unsigned signed_rows;
  /* sum(w * x) of 16-bit weights, which lie two bytes each at any address, and n inputs. x is aligned to words and
   * followed by zeros up to a multiple of 16 inputs; weights are not. */
  int64_t (*dot)(const uint8_t* w, const int16_t* x, size_t n);
  /* Called when a row of int8 is complete, with its length rounded up to 16; may be NULL. */
  void (*begin_row)(const kws_op* op, const int8_t* x, size_t padded);
} kws_dynamic_parts;

/* All outputs of an op. */
void kws_run_dynamic(const kws_op* op, const kws_dynamic_parts* parts);

/* Scratch bytes of kws_run_dynamic(): a row of codes, and what a kernel adds for a row of 16-bit lanes. */
size_t kws_dynamic_scratch(const kws_op* op);

/* The dot of 16-bit weights for any machine. */
int64_t kws_dynamic_dot(const uint8_t* w, const int16_t* x, size_t n);

/* And for all with NEON. */
int64_t kws_dynamic_dot_neon(const uint8_t* w, const int16_t* x, size_t n);

#endif
