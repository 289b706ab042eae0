/* The dense kernel of dynamic quantization that defines the result, code by code. The others lie beside the loops that
 * they use, in dense_c.c and so on. */
#include "dynamic.h"

#include "dense_row.h"

#if KWS_DENSE_DYNAMIC && KWS_REFERENCE

/* Row `row` of a tile, one code at a time. Slots of a byte are parts of codes, so that signs play no part. */
static uint32_t code_in_tile(int bits, const uint8_t* w, int row, size_t input) {
  const uint8_t* bytes = w + input / KWS_VECTOR * KWS_VECTOR * (size_t)bits + input % KWS_VECTOR;
  uint32_t code = 0;
  for (int i = 0; i < kws_slot_counts[bits]; ++i) {
    const kws_slot s = kws_slots[bits][i];
    if (s.row == row) code |= (uint32_t)(bytes[KWS_VECTOR * s.byte] >> s.shift & ((1 << s.width) - 1)) << s.low;
  }
  return kws_signed_rows(bits) >> row & 1 ? code ^ 1u << (bits - 1) : code;
}

static void ref_dots(const kws_op* op, const uint8_t* w, size_t step, uint32_t tiles, const int8_t* x, size_t n,
                     int32_t* dots) {
  for (; tiles; --tiles, w += step) {
    for (int row = 0; row < KWS_TILE; ++row) {
      uint32_t sum = 0;
      for (size_t i = 0; i < n; ++i) {
        const uint32_t input = (uint32_t)x[i];
        sum += code_in_tile(op->options.bits, w, row, i) * input;
      }
      *dots++ = (int32_t)sum;
    }
  }
}

static int64_t ref_dot(const uint8_t* w, const int16_t* x, size_t n) {
  int64_t sum = 0;
  for (size_t i = 0; i < n; ++i) sum += (int64_t)(int16_t)(uint16_t)(w[2 * i] | (unsigned)w[2 * i + 1] << 8) * x[i];
  return sum;
}

void kws_dynamic_dense_ref(const kws_op* op) {
  const kws_dynamic_parts parts = {ref_dots, 0, ref_dot, NULL};
  kws_run_dynamic(op, &parts);
}

#endif
