/* Where the bits of a packed weight lie. tflite_export/packing.py is the twin.
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
 */
#ifndef TFMOT_KWS_WEIGHT_LAYOUT_H_
#define TFMOT_KWS_WEIGHT_LAYOUT_H_

#include "packed_kernels.h"

enum { KWS_TILE = 8, KWS_VECTOR = 16, KWS_MAX_SLOTS = 14, KWS_MAX_BLOCK_ROWS = 16 };

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

static inline unsigned kws_block_rows(int layout) { return KWS_TILE * kws_rows_per_code(layout); }
static inline unsigned kws_block_inputs(int layout) { return KWS_VECTOR / kws_rows_per_code(layout); }

/* Blocks along the inputs. */
static inline size_t kws_blocks_across(const kws_options* o) {
  return ((size_t)o->inputs - 1) / kws_block_inputs(o->layout) + 1;
}

/* The code of one weight. Slow: for the reference and for tests. */
static inline unsigned kws_code(const kws_options* o, const uint8_t* weights, uint32_t row, uint32_t input) {
  const unsigned per_code = kws_rows_per_code(o->layout), columns = kws_block_inputs(o->layout);
  const unsigned tile_row = row % kws_block_rows(o->layout) / per_code,
                 lane = row % per_code * columns + input % columns;
  const size_t block = (size_t)(row / kws_block_rows(o->layout)) * kws_blocks_across(o) + input / columns;
  const uint8_t* bytes = weights + block * KWS_VECTOR * (unsigned)o->bits + lane;
  unsigned code = 0;
  for (int i = 0; i < kws_slot_counts[o->bits]; ++i) {
    const kws_slot s = kws_slots[o->bits][i];
    if (s.row == tile_row) code |= (bytes[KWS_VECTOR * s.byte] >> s.shift & ((1u << s.width) - 1)) << s.low;
  }
  return kws_signed_rows(o->bits) >> tile_row & 1 ? code ^ 1u << (o->bits - 1) : code;
}

#endif
