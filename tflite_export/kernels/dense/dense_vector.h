/* What the kernels for processors with vectors share. */
#ifndef TFMOT_KWS_DENSE_VECTOR_H_
#define TFMOT_KWS_DENSE_VECTOR_H_

#include "../core/requantize.h"
#include "dense_row.h"

#define KWS_INLINE __attribute__((always_inline)) static inline

/* Unrolled by hand: no compiler option decides whether arrays of vectors stay in registers. */
#define KWS_REPEAT_4(DO) DO(0) DO(1) DO(2) DO(3)
#define KWS_REPEAT_8(DO) KWS_REPEAT_4(DO) DO(4) DO(5) DO(6) DO(7)
#define KWS_REPEAT_14(DO) KWS_REPEAT_8(DO) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)

/* Whether another slot lies above slot i in its byte. */
KWS_INLINE bool kws_slot_below(const int bits, const int i) {
  return kws_slots[bits][i].shift + kws_slots[bits][i].width < 8;
}

/* `rows` outputs, whole blocks, of one or more places. Where dots is not NULL: the sums are wanted and not the outputs;
 * block rows may lie `gap` bytes apart then. */
typedef struct {
  const kws_scale* scale;
  const uint8_t* w;
  const int8_t* x;
  ptrdiff_t stride;
  size_t n;
  const uint32_t* constants;
  uint32_t rows, outputs;
  int8_t* y;
  int32_t* dots;
  int grid;
  size_t gap;
} kws_blocks;

/* Defines kws_run_blocks(bits, places, blocks), in which RUN(bits, 1, blocks) is compiled for each width. */
#define KWS_RUN_WIDTH(bits, RUN)                                                             \
  static KWS_NOINLINE const uint8_t* kws_run_##bits(const int places, const kws_blocks* b) { \
    (void)places;                                                                            \
    return RUN(bits, 1, b);                                                                  \
  }
#define KWS_RUN_WIDTHS(RUN)                                                                 \
  KWS_FOR_WIDTHS(KWS_RUN_WIDTH, RUN)                                                        \
  static const uint8_t* kws_run_blocks(int bits, int places, kws_blocks b) {                \
    static const uint8_t* (*const run[9])(int, const kws_blocks*) = KWS_BY_WIDTH(kws_run_); \
    return run[bits](places, &b);                                                           \
  }

/* Primitives of dense_body.inc. */
#define KWS_DENSE_BLOCKS(scale, bits, w, x, n, constants, rows, y) \
  kws_run_blocks(bits, 1, (kws_blocks){scale, w, x, 0, n, constants, rows, outputs, y, NULL, o->grid, 0})
#define KWS_DENSE_DOTS(bits, places, w, x, stride, n, dots) \
  kws_run_blocks(bits, places,                              \
                 (kws_blocks){&scale, w, x, stride, n, constants, KWS_DENSE_ROWS, outputs, NULL, dots, o->grid, 0})

#endif
