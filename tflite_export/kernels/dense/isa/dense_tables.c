/* Dense kernel for one-bit weights in the layout WORDS, on Arm processors of 64 bits: four weights of a row choose
 * among the 16 sums that four inputs can have, which a table holds. One look-up does four products. */
#include "../../include/packed_kernels.h"

#if KWS_ISA_A64 && KWS_DENSE_STATIC && KWS_HAS_LAYOUT(3) && KWS_HAS_WIDTH(1)

#include "dense_arm.h"

/* Tables of CHUNK inputs and sums of GROUP rows lie on the stack, 3 KB; tables of all inputs would take four times the
 * room of the inputs, widened to 16 bits. A sum of CHUNK inputs fits 16 bits. */
enum { CHUNK = 256, GROUP = 256, TABLES = 128 /* bytes for 16 inputs */, BLOCK = 2 * KWS_WORD_ROWS };

/* The tables of n inputs; returns their sum. For each 16 of them, as look_up() takes them: the low bytes of the sums of
 * inputs 0..3, of 8..11, the high bytes of both, and then the same of inputs 4..7 and 12..15. */
static KWS_NOINLINE uint32_t make_tables(const int8_t* x, size_t n, int8_t* tables) {
  static const int16_t has_0[8] = {0, 1, 0, 1, 0, 1, 0, 1}, has_1[8] = {0, 0, 1, 1, 0, 0, 1, 1},
                       has_2[8] = {0, 0, 0, 0, 1, 1, 1, 1};
  int16x8_t m0 = vld1q_s16(has_0), m1 = vld1q_s16(has_1), m2 = vld1q_s16(has_2);
  KWS_HIDE_VECTOR(m0);
  KWS_HIDE_VECTOR(m1);
  KWS_HIDE_VECTOR(m2);
  int32x4_t sum = vdupq_n_s32(0);
  for (; n; n -= KWS_VECTOR, x += KWS_VECTOR, tables += TABLES) {
    const int8x16_t v = vld1q_s8(x);
    int16x8_t a = vmovl_s8(vget_low_s8(v)), b = vmovl_high_s8(v);
    KWS_HIDE_VECTOR(a);
    KWS_HIDE_VECTOR(b);
    sum = vpadalq_s16(sum, vaddq_s16(a, b));
#define MAKE(inputs, i, at)                                                                                     \
  {                                                                                                             \
    const int16x8_t without =                                                                                   \
        vmlaq_laneq_s16(vmlaq_laneq_s16(vmulq_laneq_s16(m0, inputs, i), m1, inputs, i + 1), m2, inputs, i + 2); \
    const int16x8_t with = vaddq_s16(without, vdupq_laneq_s16(inputs, i + 3));                                  \
    const int8x16_t first = vreinterpretq_s8_s16(without), second = vreinterpretq_s8_s16(with);                 \
    vst1q_s8(tables + at, vuzp1q_s8(first, second));                                                            \
    vst1q_s8(tables + at + 32, vuzp2q_s8(first, second));                                                       \
  }
    MAKE(a, 0, 0)
    MAKE(b, 0, 16)
    MAKE(a, 4, 64)
    MAKE(b, 4, 80)
#undef MAKE
  }
  return (uint32_t)vaddvq_s32(sum);
}

/* The next two tables. */
KWS_INLINE uint8x16x2_t next_tables(const int8_t** tables) {
  const uint8x16x2_t both = vld1q_u8_x2((const uint8_t*)*tables);
  *tables += 2 * KWS_VECTOR;
  KWS_HIDE_POINTER(*tables);
  return both;
}

/* 16 inputs of a block of rows; returns the next weights. The two bytes of a word are codes of the same row at
 * different inputs: bit 4 of an odd byte's index takes it to the second of two tables, and sums of neighbours are sums
 * of rows. */
KWS_INLINE const int8_t* add_block(const int8_t* w, const int8_t** tables, int16x8_t* low, int16x8_t* high,
                                   uint8x16_t* above) {
  const uint8x16_t odd = vreinterpretq_u8_u16(vdupq_n_u16(0x0100));
  int8x16_t words[4];
  w = kws_load(w, 4, words);
  uint8x16x2_t low_bytes = next_tables(tables), high_bytes = next_tables(tables);
#define ADD(i, index)                                                                                      \
  low[i] = vreinterpretq_s16_u16(vpadalq_u8(vreinterpretq_u16_s16(low[i]), vqtbl2q_u8(low_bytes, index))); \
  high[i] = vpadalq_s8(high[i], vreinterpretq_s8_u8(vqtbl2q_u8(high_bytes, index)));
#define ADD_BELOW(i)                                       \
  {                                                        \
    const uint8x16_t word = vreinterpretq_u8_s8(words[i]); \
    above[i] = vsriq_n_u8(above[i], word, 4);              \
    const uint8x16_t below = vsliq_n_u8(word, odd, 4);     \
    ADD(i, below)                                          \
  }
#define ADD_ABOVE(i) ADD(i, above[i])
  KWS_REPEAT_4(ADD_BELOW)
  low_bytes = next_tables(tables);
  high_bytes = next_tables(tables);
  KWS_REPEAT_4(ADD_ABOVE)
#undef ADD_ABOVE
#undef ADD_BELOW
#undef ADD
  return kws_settle_16(high, 4, kws_settle_16(low, 4, w));
}

/* totals[row] = sum(code * x), or that much more, of `rows` rows over `blocks` blocks of inputs, at most a chunk. The
 * weights of the next block of rows lie `stride` bytes further on. */
static KWS_NOINLINE void add_rows(const int8_t* w, size_t stride, const int8_t* tables, size_t blocks, uint32_t rows,
                                  bool more, int32_t* totals) {
  uint8x16_t above[4]; /* indexes from the high halves of bytes; what tells odd bytes stays above them */
#define MARK_ODD(i) above[i] = vreinterpretq_u8_u16(vdupq_n_u16(0x1000));
  KWS_REPEAT_4(MARK_ODD)
#undef MARK_ODD
  for (const int32_t* const end = totals + rows; totals < end; w += stride) {
    int16x8_t low[4], high[4];
#define CLEAR(i)           \
  low[i] = vdupq_n_s16(0); \
  high[i] = vdupq_n_s16(0);
    KWS_REPEAT_4(CLEAR)
#undef CLEAR
    const int8_t *from = w, *t = tables;
    for (size_t left = blocks / 2; left; --left) {
      from = add_block(from, &t, low, high, above);
      from = add_block(from, &t, low, high, above);
    }
    if (blocks % 2) add_block(from, &t, low, high, above);
#define STORE(i)                                                                    \
  {                                                                                 \
    const int16x8_t sums = vmlaq_s16(low[i], high[i], kws_power_16(8));             \
    int32x4_t first = vmovl_s16(vget_low_s16(sums)), second = vmovl_high_s16(sums); \
    if (more) {                                                                     \
      first = vaddq_s32(first, vld1q_s32(totals));                                  \
      second = vaddq_s32(second, vld1q_s32(totals + 4));                            \
    }                                                                               \
    vst1q_s32(totals, first);                                                       \
    vst1q_s32(totals + 4, second);                                                  \
    totals += KWS_TILE;                                                             \
  }
    KWS_REPEAT_4(STORE)
#undef STORE
  }
}

/* The outputs of `rows` rows, of which row `first` is the first. */
static KWS_NOINLINE void finish_rows(const kws_op* op, const kws_scale* scale, uint32_t sum, const int32_t* totals,
                                     uint32_t first, uint32_t rows, int8_t* y) {
  const kws_options* o = &op->options;
  const uint32_t constant = 0u - kws_level_offset(o) * sum, last = first + rows;
  const uint32_t constants[KWS_TILE] = {constant, constant, constant, constant, constant, constant, constant, constant};
  if (scale) {
    const kws_finisher finisher = kws_make_finisher(scale);
    for (; last - first >= KWS_TILE; first += KWS_TILE, totals += KWS_TILE) {
      const uint32_t* same = constants;
      KWS_HIDE_POINTER(same);
      const kws_channels channels = kws_load_channels(&finisher, first);
      kws_finish(&finisher, &channels, vld1q_s32(totals), vld1q_s32(totals + 4), same, y + first);
    }
  }
  for (; first < last; ++first, ++totals) {
    const uint32_t acc = kws_level_factor(o) * (uint32_t)*totals + constant - kws_zero_point_term(op, first);
    kws_store(op, y + first, acc, first);
  }
}

/* All outputs of a place; scale is NULL where its shortcuts are not exact. */
static void compute(const kws_op* op, const kws_scale* scale, const int8_t* x, int8_t* y) {
  const uint32_t outputs = op->options.outputs;
  const size_t inputs = kws_padded_inputs(op), stride = inputs / KWS_VECTOR * BLOCK;
  int8_t tables[TABLES * CHUNK / KWS_VECTOR];
  int32_t totals[GROUP];
  for (uint32_t first = 0; first < outputs; first += GROUP) {
    const uint32_t rows = outputs - first < GROUP ? outputs - first : GROUP;
    const int8_t* w = (const int8_t*)op->weights + first / KWS_WORD_ROWS * stride;
    uint32_t sum = 0;
    for (size_t from = 0; from < inputs; from += CHUNK, w += CHUNK / KWS_VECTOR * BLOCK) {
      const size_t now = inputs - from < CHUNK ? inputs - from : CHUNK;
      sum += make_tables(x + from, now, tables);
      add_rows(w, stride, tables, now / KWS_VECTOR, rows, from, totals);
    }
    finish_rows(op, scale, sum, totals, first, rows, y);
  }
}

void kws_packed_dense_tables(const kws_op* op) {
  const size_t places = kws_places(op);
  kws_scale scale = {0};
  const bool quick = kws_make_scale(&scale, op);
  for (size_t place = 0; place < places; ++place)
    compute(op, quick ? &scale : NULL, kws_row(op, place), op->y + place * op->options.outputs);
}

#endif
