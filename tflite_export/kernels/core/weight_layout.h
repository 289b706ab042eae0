/* Where the bits of a packed weight lie. tflite_export/packed/packing.py is the twin.
 *
 * Eight output rows make a tile: at one input, their codes fill exactly `bits` bytes. The slots of a byte belong to
 * different rows with the same input, so a kernel multiplies whole bytes, as they are and shifted right, and separates
 * the rows at the end:
 *
 *     P[i] = sum((int8_t)byte >> shift[i] * x)         the slot and all that lies above it in the byte
 *     W[i] = P[i] - 2^width[i] * P[i + 1]              the slot alone (P[i + 1]: the next slot of the same byte)
 *     D[row] = sum of W[i] * 2^low[i] over the slots of a row
 *
 * For that, a code that ends at a byte's top bit is stored as a signed number, its own top bit flipped: then
 * D = sum((u - 2^(bits - 1)) * x), see kws_signed_rows().
 *
 * A vector is one byte of the tile for 16 places; a block is `bits` vectors. Blocks follow each other along the
 * inputs, then along the rows. Layouts by example, 4 bits, where byte v of a tile holds rows v (low) and v + 4 (high):
 *
 *     ROWS   block = 8 rows x 16 inputs
 *            vector 0: row 0 and 4 at inputs 0..15     vector 1: row 1 and 5 at inputs 0..15 ...
 *     PAIRS  block = 16 rows x 8 inputs, row r of the tile stands for the rows 2r and 2r + 1
 *            vector 0: rows 0 and 8 at inputs 0..7, then rows 1 and 9 at inputs 0..7     vector 1: rows 2 and 10 ...
 *
 * 4 bits, ROWS, 2 inputs, codes of rows 0 and 4 {1, 2} and {3, 4}: the first bytes are B1 C2 (3 ^ 8 = B, 4 ^ 8 = C).
 *
 * The layout DSP has no tiles. It is for cores whose SMLAD multiplies the two 16-bit lanes of a word with two inputs.
 * A code takes 1, 2, 4, 5 or 8 bits: widths 3, 6 and 7 are stored in 4 and 8, which trades bytes for speed. The fields
 * of a lane belong to rows of the same input, from the lowest bit; the topmost is a signed number, as above. Words are
 * little-endian, blocks are 16 inputs wide, and inputs i and i + 2 of each four share a word. The words of a block, and
 * their lanes from bit 0:
 *
 *     8   4 rows: word 0 row 0, 1 of input 0; of input 2     word 1 row 2, 3 of input 0; of input 2
 *                 word 2 row 0, 1 of input 1; of input 3 ...
 *     4   4 rows: word 0 row 0, 1, 2, 3 of input 0; of input 2     word 1 of inputs 1 and 3     word 2 of 4 and 6 ...
 *     5   6 rows: word 0 row 0, 1, 2 of input 0; of input 2     word 1 row 3, 4, 5 of input 0; of input 2 ...
 *     2   4 rows: a lane has one code in its lowest and one in its topmost bits. A word holds such lanes of rows 0, 1
 * of inputs 0; 2, rotated left by 4 rows 2, 3 of the same, by 8 and by 12 those of inputs 1; 3 1   8 rows: the same;
 * rotated left by 0, 2, 4, 6 the pairs of rows of inputs 0; 2, by 8 ... those of inputs 1; 3
 *
 * 4 bits, DSP, 3 inputs, row 0 {1, 2, 5}, row 1 {3, 4, 6}, no other rows: 31 80 65 80 42 80 00 80.
 *
 * The layout WORDS is for one bit, and for kernels that look up sums of a few inputs: a block has 32 rows and 16
 * inputs, and a little-endian word of 16 bits for each row, with the code of input i at bit i. Nothing is flipped.
 *
 * WORDS, 10 inputs, row 0 {1, 1, 0, 1, 0, 0, 0, 0, 1, 0}, row 1 {0, 0, 0, 0, 1, 0, 0, 0, 0, 1}: 0B 01 10 02.
 */
#ifndef TFMOT_KWS_WEIGHT_LAYOUT_H_
#define TFMOT_KWS_WEIGHT_LAYOUT_H_

#include "../include/packed_kernels.h"

enum { KWS_TILE = 8, KWS_VECTOR = 16, KWS_MAX_SLOTS = 14, KWS_MAX_BLOCK_ROWS = 16, KWS_WORD_ROWS = 32 };

/* `width` bits at bit `shift` of byte `byte` of a tile: bits `low` and up of the code of row `row`. */
typedef struct {
  uint8_t byte, shift, width, row, low;
} kws_slot;

/* Slots in a tile of each width. */
static const uint8_t kws_slot_counts[9] = {0, 8, 8, 10, 8, 12, 12, 14, 8};

/* From the lowest bit of the first byte. A row's parts add up to its code. */
static const kws_slot kws_slots[9][KWS_MAX_SLOTS] = {
    {{0, 0, 0, 0, 0}},
    {{0, 0, 1, 0, 0},
     {0, 1, 1, 1, 0},
     {0, 2, 1, 2, 0},
     {0, 3, 1, 3, 0},
     {0, 4, 1, 4, 0},
     {0, 5, 1, 5, 0},
     {0, 6, 1, 6, 0},
     {0, 7, 1, 7, 0}},
    {{0, 0, 2, 0, 0},
     {0, 2, 2, 2, 0},
     {0, 4, 2, 4, 0},
     {0, 6, 2, 6, 0},
     {1, 0, 2, 1, 0},
     {1, 2, 2, 3, 0},
     {1, 4, 2, 5, 0},
     {1, 6, 2, 7, 0}},
    {{0, 0, 2, 6, 0},
     {0, 2, 3, 0, 0},
     {0, 5, 3, 1, 0},
     {1, 0, 2, 7, 0},
     {1, 2, 3, 2, 0},
     {1, 5, 3, 3, 0},
     {2, 0, 1, 6, 2},
     {2, 1, 1, 7, 2},
     {2, 2, 3, 4, 0},
     {2, 5, 3, 5, 0}},
    {{0, 0, 4, 0, 0},
     {0, 4, 4, 4, 0},
     {1, 0, 4, 1, 0},
     {1, 4, 4, 5, 0},
     {2, 0, 4, 2, 0},
     {2, 4, 4, 6, 0},
     {3, 0, 4, 3, 0},
     {3, 4, 4, 7, 0}},
    {{0, 0, 3, 5, 0},
     {0, 3, 5, 0, 0},
     {1, 0, 3, 6, 0},
     {1, 3, 5, 1, 0},
     {2, 0, 3, 7, 0},
     {2, 3, 5, 2, 0},
     {3, 0, 2, 5, 3},
     {3, 2, 1, 7, 3},
     {3, 3, 5, 3, 0},
     {4, 0, 2, 6, 3},
     {4, 2, 1, 7, 4},
     {4, 3, 5, 4, 0}},
    {{0, 0, 2, 3, 0},
     {0, 2, 6, 0, 0},
     {1, 0, 2, 3, 2},
     {1, 2, 6, 1, 0},
     {2, 0, 2, 3, 4},
     {2, 2, 6, 2, 0},
     {3, 0, 2, 7, 0},
     {3, 2, 6, 4, 0},
     {4, 0, 2, 7, 2},
     {4, 2, 6, 5, 0},
     {5, 0, 2, 7, 4},
     {5, 2, 6, 6, 0}},
    {{0, 0, 1, 7, 0},
     {0, 1, 7, 0, 0},
     {1, 0, 1, 7, 1},
     {1, 1, 7, 1, 0},
     {2, 0, 1, 7, 2},
     {2, 1, 7, 2, 0},
     {3, 0, 1, 7, 3},
     {3, 1, 7, 3, 0},
     {4, 0, 1, 7, 4},
     {4, 1, 7, 4, 0},
     {5, 0, 1, 7, 5},
     {5, 1, 7, 5, 0},
     {6, 0, 1, 7, 6},
     {6, 1, 7, 6, 0}},
    {{0, 0, 8, 0, 0},
     {1, 0, 8, 1, 0},
     {2, 0, 8, 2, 0},
     {3, 0, 8, 3, 0},
     {4, 0, 8, 4, 0},
     {5, 0, 8, 5, 0},
     {6, 0, 8, 6, 0},
     {7, 0, 8, 7, 0}},
};

/* Bit r is set where the codes of row r of a tile are stored with the top bit flipped. */
static inline unsigned kws_signed_rows(int bits) {
  static const uint8_t rows[9] = {0, 0x80, 0xC0, 0x2A, 0xF0, 0x1F, 0x77, 0x7F, 0xFF};
  return rows[bits];
}

/* Output rows that a vector holds for each row of a tile. */
static inline unsigned kws_rows_per_code(int layout) { return layout == KWS_LAYOUT_PAIRS ? 2 : 1; }

/* Bits that a code takes in the layout DSP. */
static inline int kws_stored_bits(int bits) { return bits == 3 ? 4 : bits == 6 || bits == 7 ? 8 : bits; }

/* Rows of a block in the layout DSP, and fields of a lane that lie above each other. */
static inline unsigned kws_lane_rows(int stored) { return stored == 1 ? 8 : stored == 5 ? 6 : 4; }
static inline unsigned kws_lane_fields(int stored) { return stored < 4 ? 2 : 16u / (unsigned)stored; }

/* Whether weights of so many bits may have a layout. */
static inline bool kws_layout_has(int layout, int bits) {
  return layout >= 0 && layout < KWS_LAYOUT_END && (layout != KWS_LAYOUT_WORDS || bits == 1);
}

static inline unsigned kws_block_rows(int bits, int layout) {
  if (layout == KWS_LAYOUT_WORDS) return KWS_WORD_ROWS;
  return layout == KWS_LAYOUT_DSP ? kws_lane_rows(kws_stored_bits(bits)) : KWS_TILE * kws_rows_per_code(layout);
}
static inline unsigned kws_block_inputs(int layout) { return KWS_VECTOR / kws_rows_per_code(layout); }

/* Blocks along the inputs. */
static inline size_t kws_blocks_across(const kws_options* o) {
  return ((size_t)o->inputs - 1) / kws_block_inputs(o->layout) + 1;
}

/* Bytes of a block. */
static inline unsigned kws_block_bytes(int bits, int layout) {
  if (layout == KWS_LAYOUT_WORDS) return 2 * KWS_WORD_ROWS;
  if (layout != KWS_LAYOUT_DSP) return KWS_VECTOR * (unsigned)bits;
  const int stored = kws_stored_bits(bits);
  return stored < 4 ? 16 : stored == 4 ? 32 : 64;
}

static inline unsigned kws_dsp_code(const kws_options* o, const uint8_t* weights, uint32_t row, uint32_t input) {
  const unsigned stored = (unsigned)kws_stored_bits(o->bits), rows = kws_lane_rows((int)stored);
  const unsigned fields = kws_lane_fields((int)stored), r = row % rows, field = r % fields;
  const unsigned lane = input >> 1 & 1, pair = input % KWS_VECTOR / 4 * 2 + (input & 1);
  unsigned word, shift;
  if (stored < 4) {
    const unsigned step = pair % 2 * (rows / 2) + r / 2;
    word = pair / 2;
    shift = 16 * lane + (field ? 16 - stored : 0) + 2 * stored * step;
  } else {
    word = pair * (rows / fields) + r / fields;
    shift = 16 * lane + stored * field;
  }
  const size_t block = (size_t)(row / rows) * kws_blocks_across(o) + input / KWS_VECTOR;
  const uint8_t* bytes = weights + block * kws_block_bytes(o->bits, KWS_LAYOUT_DSP) + 4 * word;
  const uint32_t bits = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
  const unsigned code = bits >> shift % 32 & ((1u << stored) - 1);
  return field == fields - 1 ? code ^ 1u << (stored - 1) : code;
}

static inline unsigned kws_word_code(const kws_options* o, const uint8_t* weights, uint32_t row, uint32_t input) {
  const size_t block = (size_t)(row / KWS_WORD_ROWS) * kws_blocks_across(o) + input / KWS_VECTOR;
  const uint8_t* word = weights + 2 * (block * KWS_WORD_ROWS + row % KWS_WORD_ROWS);
  return word[input % KWS_VECTOR / 8] >> input % 8 & 1u;
}

/* The code of one weight. Slow: for the reference and for tests. */
static inline unsigned kws_code(const kws_options* o, const uint8_t* weights, uint32_t row, uint32_t input) {
  if (o->layout == KWS_LAYOUT_DSP) return kws_dsp_code(o, weights, row, input);
  if (o->layout == KWS_LAYOUT_WORDS) return kws_word_code(o, weights, row, input);
  const unsigned per_code = kws_rows_per_code(o->layout), columns = kws_block_inputs(o->layout);
  const unsigned tile_row = row % (KWS_TILE * per_code) / per_code, lane = row % per_code * columns + input % columns;
  const size_t block = (size_t)(row / (KWS_TILE * per_code)) * kws_blocks_across(o) + input / columns;
  const uint8_t* bytes = weights + block * KWS_VECTOR * (unsigned)o->bits + lane;
  unsigned code = 0;
  for (int i = 0; i < kws_slot_counts[o->bits]; ++i) {
    const kws_slot s = kws_slots[o->bits][i];
    if (s.row == tile_row) code |= (bytes[KWS_VECTOR * s.byte] >> s.shift & ((1u << s.width) - 1)) << s.low;
  }
  return kws_signed_rows(o->bits) >> tile_row & 1 ? code ^ 1u << (o->bits - 1) : code;
}

#endif
