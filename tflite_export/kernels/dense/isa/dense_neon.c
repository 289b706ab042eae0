/* Dense kernel for Arm processors with NEON: any Cortex-A. The faster ones have instructions for dot products, and
 * kernels of their own. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_NEON && ((KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)) || KWS_DENSE_DYNAMIC)

#include "dense_arm.h"

#if KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)
static uint32_t sum_row(const int8_t* x, size_t n) {
  int32x4_t sums = vdupq_n_s32(0);
  for (const int8_t* const end = x + n; x != end; x += KWS_VECTOR) sums = vpadalq_s16(sums, vpaddlq_s8(vld1q_s8(x)));
  const int64x2_t pairs = vpaddlq_s32(sums);
  return (uint32_t)(vgetq_lane_s64(pairs, 0) + vgetq_lane_s64(pairs, 1));
}

#endif

/* Blocks whose two products in each lane, of codes of a row, add up to 16 bits. Of n products, codes without a sign
 * need n * 128 * (2^bits - 1) <= 2^15, those with one n * 128 * 2^(bits - 1) < 2^15. Two products of eight-bit codes
 * fit if no code is -128. */
KWS_INLINE int chunk_blocks(const int bits) {
  static const uint8_t blocks[9] = {0, 120, 40, 16, 8, 4, 2, 1, 1};
  return blocks[bits];
}

/* Up to four bits: bytes are multiplied as they are and shifted, in lanes of 16 bits that wrap. */
KWS_INLINE void multiply_slots(const int bits, const bool fresh, const int8x16_t* bytes, int8x16_t inputs,
                               int16x8_t* parts) {
#define MULTIPLY(i)                                                                       \
  if (i < kws_slot_counts[bits]) {                                                        \
    const int8x16_t shifted = bytes[kws_slots[bits][i].byte] >> kws_slots[bits][i].shift; \
    const int8x8_t low = vget_low_s8(shifted);                                            \
    if (fresh)                                                                            \
      parts[i] = vmull_s8(low, vget_low_s8(inputs));                                      \
    else                                                                                  \
      parts[i] = vmlal_s8(parts[i], low, vget_low_s8(inputs));                            \
    parts[i] = kws_mlal_high(parts[i], shifted, inputs);                                  \
  }
  KWS_REPEAT_14(MULTIPLY)
#undef MULTIPLY
}

/* Eight blocks; fresh: the sums begin here. */
KWS_INLINE void add_eight(const int bits, const bool fresh, const int8_t** w, const int8_t** x, int16x8_t* parts) {
  int8x16_t bytes[16], inputs[4];
  const int vectors = bits > 2 ? bits : 4; /* of one, two or four blocks */
#define ADD(i)                                                   \
  if (i % 4 == 0) *x = kws_load(*x, 4, inputs);                  \
  if (i * bits % vectors == 0) {                                 \
    if (i) *w = kws_settle_16(parts, kws_slot_counts[bits], *w); \
    *w = kws_load(*w, vectors, bytes);                           \
  }                                                              \
  multiply_slots(bits, fresh&& i == 0, bytes + i * bits % vectors, inputs[i % 4], parts);
  KWS_REPEAT_8(ADD)
#undef ADD
}

/* Whether the first chunk has code of its own, which begins the sums of rows: not where that would be long, with chunks
 * of three bits and the moves that ARMv7 needs. */
KWS_INLINE bool first_apart(const int bits) { return KWS_MANY_REGISTERS && bits != 3; }

/* Adds `blocks` blocks, at most a chunk of them, to the sums of rows: those of 16 bits fit once the slots of a byte are
 * separated. Chunks of one and two bits are long: those after a first one are rare, and get little code. */
KWS_INLINE void add_chunk(const int bits, const bool first, size_t blocks, const int8_t** w, const int8_t** x,
                          int32x4_t* rows) {
  int16x8_t parts[KWS_MAX_SLOTS + 1], sums[KWS_TILE];
  const bool eights = first || bits > 2 || !first_apart(bits), begin = KWS_MANY_REGISTERS || chunk_blocks(bits) == 8;
  if (eights && begin && blocks >= 8) {
    add_eight(bits, true, w, x, parts);
    blocks -= 8;
  } else {
    int16x8_t zero = vdupq_n_s16(0);
    KWS_HIDE_VECTOR(zero); /* else compilers clear before they ask how many blocks there are */
#define CLEAR(i) \
  if (i < kws_slot_counts[bits]) parts[i] = zero;
    KWS_REPEAT_14(CLEAR)
#undef CLEAR
  }
  if (eights && chunk_blocks(bits) > 8)
    for (; blocks >= 8; blocks -= 8) add_eight(bits, false, w, x, parts);
  for (; blocks; --blocks) {
    int8x16_t bytes[16], inputs[1];
    *x = kws_load(*x, 1, inputs);
    *w = kws_load(*w, bits, bytes);
    multiply_slots(bits, false, bytes, inputs[0], parts);
  }
#define SEPARATE(i)                                                                                   \
  if (i < kws_slot_counts[bits]) {                                                                    \
    const kws_slot s = kws_slots[bits][i];                                                            \
    if (kws_slot_below(bits, i)) parts[i] = vmlsq_s16(parts[i], parts[i + 1], kws_power_16(s.width)); \
    sums[s.row] = s.low ? vmlaq_s16(sums[s.row], parts[i], kws_power_16(s.low)) : parts[i];           \
  }
  KWS_REPEAT_14(SEPARATE)
#undef SEPARATE
#define ADD(i) rows[i] = first ? vpaddlq_s16(sums[i]) : vpadalq_s16(rows[i], sums[i]);
  KWS_REPEAT_8(ADD)
#undef ADD
}

KWS_INLINE void clear_rows(int32x4_t* rows) {
#define CLEAR(i) rows[i] = vdupq_n_s32(0);
  KWS_REPEAT_8(CLEAR)
#undef CLEAR
}

/* More than four bits: block `block` of some chunks. */
KWS_INLINE void multiply_rows(const int bits, const int block, const bool has_lowest, const int8x16_t* bytes,
                              int8x16_t inputs, int16x8_t* sums, int32x4_t* rows) {
  const int chunk = chunk_blocks(bits);
#define MULTIPLY(i)                                                                            \
  {                                                                                            \
    const int8x16_t code = kws_row_code(bits, i, bytes);                                       \
    if (block % chunk)                                                                         \
      sums[i] = vmlal_s8(sums[i], vget_low_s8(code), vget_low_s8(inputs));                     \
    else                                                                                       \
      sums[i] = vmull_s8(vget_low_s8(code), vget_low_s8(inputs));                              \
    if (has_lowest) rows[i] = vpadalq_s16(rows[i], sums[i]);                                   \
    sums[i] = has_lowest ? kws_mull_high(code, inputs) : kws_mlal_high(sums[i], code, inputs); \
    if (block % chunk == chunk - 1) rows[i] = vpadalq_s16(rows[i], sums[i]);                   \
  }
  KWS_REPEAT_8(MULTIPLY)
#undef MULTIPLY
}

/* The sums of rows of more than four bits, lane by lane. */
KWS_INLINE void add_rows(const int bits, const bool has_lowest, size_t blocks, const int8_t* w, const int8_t* x,
                         int32x4_t* rows) {
  int16x8_t sums[KWS_TILE];
  int8x16_t bytes[16], inputs[4];
  clear_rows(rows);
  for (; KWS_MANY_REGISTERS && blocks >= 4; blocks -= 4) {
    x = kws_load(x, 4, inputs);
#define ADD(i)                                                         \
  w = kws_load(i ? kws_settle_16(sums, KWS_TILE, w) : w, bits, bytes); \
  multiply_rows(bits, i, has_lowest, bytes, inputs[i], sums, rows);
    KWS_REPEAT_4(ADD)
#undef ADD
  }
  for (; blocks; --blocks) {
    x = kws_load(x, 1, inputs);
    w = kws_load(w, bits, bytes);
    multiply_rows(bits, 0, has_lowest, bytes, inputs[0], sums, rows);
    if (chunk_blocks(bits) > 1) {
#define ADD(i) rows[i] = vpadalq_s16(rows[i], sums[i]);
      KWS_REPEAT_8(ADD)
#undef ADD
    }
  }
}

/* sum(u * x) of a tile, lane by lane. has_lowest: there may be the 8-bit code -128. */
KWS_INLINE void add_tile(const int bits, const bool has_lowest, const int8_t* w, const int8_t* x, size_t blocks,
                         int32x4_t* rows) {
  if (bits > 4) {
    add_rows(bits, has_lowest, blocks, w, x, rows);
    return;
  }
  const size_t chunk = (size_t)chunk_blocks(bits);
  if (first_apart(bits)) {
    const size_t now = blocks < chunk ? blocks : chunk;
    add_chunk(bits, true, now, &w, &x, rows);
    blocks -= now;
  } else {
    clear_rows(rows);
  }
  while (blocks) {
    const size_t now = blocks < chunk ? blocks : chunk;
    add_chunk(bits, false, now, &w, &x, rows);
    blocks -= now;
  }
}

KWS_INLINE const uint8_t* run(const int bits, const int places, const kws_blocks* b) {
  (void)places;
  const kws_finisher finisher = kws_make_finisher(b->scale);
  const int8_t *w = (const int8_t*)b->w, *x = b->x;
  const uint32_t* constants = b->constants;
  const size_t n = b->n;
  int8_t* y = b->y;
  int32_t* dots = b->dots;
  /* All grids but mid-tread have the code 0, stored as -128. */
  const bool has_lowest = bits == 8 && b->grid != KWS_MID_TREAD;
  const uint32_t outputs = b->rows;
  for (uint32_t first = 0; first < outputs; first += KWS_TILE, w += n * (size_t)bits) {
    int32x4_t rows[KWS_TILE];
    if (has_lowest)
      add_tile(bits, true, w, x, n / KWS_VECTOR, rows);
    else
      add_tile(bits, false, w, x, n / KWS_VECTOR, rows);
    kws_finish_tile(&finisher, rows, constants, first, y, dots);
    if (dots) {
      dots += KWS_TILE;
      w += b->gap;
    }
  }
  return (const uint8_t*)w;
}

KWS_RUN_WIDTHS(run)

#if KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)
#define KWS_DENSE_NAME kws_packed_dense_neon
#define KWS_DENSE_ROWS KWS_TILE
#define KWS_DENSE_PLACES 1
#define KWS_DENSE_SUM sum_row
#include "../dense_body.inc"
#endif

#if KWS_DENSE_DYNAMIC
#include "../dynamic.h"

static void dynamic_dots(const kws_op* op, const uint8_t* w, size_t step, uint32_t tiles, const int8_t* x, size_t n,
                         int32_t* dots) {
  static const kws_scale none;
  const size_t gap = step - n * (size_t)op->options.bits;
  kws_run_blocks(op->options.bits, 1,
                 (kws_blocks){&none, w, x, 0, n, NULL, tiles * KWS_TILE, 0, NULL, dots, op->options.grid, gap});
}

/* Two products of 16 bits fit 32 bits but for their largest sum, 2^31: they are added to what makes them all positive,
 * and taken for unsigned. */
int64_t kws_dynamic_dot_neon(const uint8_t* w, const int16_t* x, size_t n) {
  const int32x4_t offset = vdupq_n_s32((int32_t)0x7FFF0000);
  uint64x2_t sums = vdupq_n_u64(0);
  size_t left = n;
  for (; left >= 16; left -= 16, w += 32, x += 16) {
    const int16x8_t w0 = vreinterpretq_s16_u8(vld1q_u8(w)), w1 = vreinterpretq_s16_u8(vld1q_u8(w + 16));
    const int16x8_t x0 = vld1q_s16(x), x1 = vld1q_s16(x + 8);
    const int32x4_t p0 = kws_mlal_high_s16(vmlal_s16(offset, vget_low_s16(w0), vget_low_s16(x0)), w0, x0);
    const int32x4_t p1 = kws_mlal_high_s16(vmlal_s16(offset, vget_low_s16(w1), vget_low_s16(x1)), w1, x1);
    sums = vpadalq_u32(sums, vreinterpretq_u32_s32(p0));
    sums = vpadalq_u32(sums, vreinterpretq_u32_s32(p1));
  }
  for (; left >= 8; left -= 8, w += 16, x += 8) {
    const int16x8_t w0 = vreinterpretq_s16_u8(vld1q_u8(w)), x0 = vld1q_s16(x);
    const int32x4_t p0 = kws_mlal_high_s16(vmlal_s16(offset, vget_low_s16(w0), vget_low_s16(x0)), w0, x0);
    sums = vpadalq_u32(sums, vreinterpretq_u32_s32(p0));
  }
  const int64_t added = (int64_t)(n - left) / 2 * 0x7FFF0000;
  return (int64_t)(vgetq_lane_u64(sums, 0) + vgetq_lane_u64(sums, 1)) - added + kws_dynamic_dot(w, x, left);
}

void kws_dynamic_dense_neon(const kws_op* op) {
  const unsigned signed_rows = op->options.bits > 8 ? 0 : kws_signed_rows(op->options.bits);
  const kws_dynamic_parts parts = {dynamic_dots, signed_rows, kws_dynamic_dot_neon, NULL};
  kws_run_dynamic(op, &parts);
}
#endif

#endif
