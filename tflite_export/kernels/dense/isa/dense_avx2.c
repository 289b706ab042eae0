/* Dense kernel for x86 processors with AVX2. */
#include "../../include/packed_kernels.h"

#if defined(__x86_64__) && ((KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)) || KWS_DENSE_DYNAMIC)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

#include "dense_x86.h"

/* The sums of the lanes of eight vectors. */
KWS_INLINE __m256i sum_rows(const __m256i* rows) {
  const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(rows[0], rows[1]), _mm256_hadd_epi32(rows[2], rows[3]));
  const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(rows[4], rows[5]), _mm256_hadd_epi32(rows[6], rows[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

/* Eight-bit codes are signed. */
KWS_INLINE void add_bytes(const uint8_t* w, const int8_t* x, size_t blocks, __m256i* rows) {
  for (; blocks; --blocks, x += KWS_VECTOR, w += KWS_VECTOR * 8) {
    const __m256i inputs = _mm256_cvtepi8_epi16(load_half(x));
#define ADD(i) \
  rows[i] = _mm256_add_epi32(rows[i], _mm256_madd_epi16(_mm256_cvtepi8_epi16(load_half(w + KWS_VECTOR * i)), inputs));
    KWS_REPEAT_8(ADD)
#undef ADD
  }
}

/* Up to seven bits: codes times inputs, where codes and the halves of `inputs` belong to two blocks. The first operand
 * of maddubs is unsigned, so the top bits that the layout flips are flipped back. */
KWS_INLINE void multiply_slots(const int bits, const uint8_t* w, const size_t next, __m256i inputs, __m256i* parts) {
  __m256i bytes[8];
#define LOAD(i)                                                                            \
  if (i < bits) {                                                                          \
    bytes[i] = _mm256_castsi128_si256(load_half(w + KWS_VECTOR * i));                      \
    bytes[i] = _mm256_inserti128_si256(bytes[i], load_half(w + next + KWS_VECTOR * i), 1); \
    bytes[i] = _mm256_xor_si256(bytes[i], _mm256_set1_epi8((char)-128));                   \
  }
  KWS_REPEAT_8(LOAD)
#undef LOAD
#define MULTIPLY(i)                                                                      \
  if (i < kws_slot_counts[bits]) {                                                       \
    const kws_slot s = kws_slots[bits][i];                                               \
    __m256i codes = s.shift ? _mm256_srli_epi16(bytes[s.byte], s.shift) : bytes[s.byte]; \
    codes = _mm256_and_si256(codes, _mm256_set1_epi8((char)((1 << s.width) - 1)));       \
    parts[i] = _mm256_add_epi16(parts[i], _mm256_maddubs_epi16(codes, inputs));          \
  }
  KWS_REPEAT_14(MULTIPLY)
#undef MULTIPLY
}

/* Up to seven bits: sums in lanes of 16 bits, which wrap; those of a row over so many pairs of blocks fit. */
KWS_INLINE void add_slots(const int bits, const uint8_t* w, const int8_t* x, size_t blocks, __m256i* rows) {
  static const uint8_t chunk_pairs[8] = {0, 128, 42, 18, 8, 4, 2, 1};
  const size_t block_bytes = KWS_VECTOR * (size_t)bits;
  while (blocks) {
    __m256i parts[KWS_MAX_SLOTS], sums[KWS_TILE];
#define CLEAR(i) \
  if (i < kws_slot_counts[bits]) parts[i] = _mm256_setzero_si256();
    KWS_REPEAT_14(CLEAR)
#undef CLEAR
    size_t left = chunk_pairs[bits];
    for (; left && blocks > 1; --left, blocks -= 2, w += 2 * block_bytes, x += 2 * KWS_VECTOR)
      multiply_slots(bits, w, block_bytes, load(x), parts);
    if (left && blocks) { /* a last block alone: twice the weights, once the inputs */
      multiply_slots(bits, w, 0, _mm256_zextsi128_si256(load_half(x)), parts);
      --blocks;
    }
#define SEPARATE(i)                                                                                     \
  if (i < kws_slot_counts[bits]) {                                                                      \
    const kws_slot s = kws_slots[bits][i];                                                              \
    sums[s.row] = s.low ? _mm256_add_epi16(sums[s.row], _mm256_slli_epi16(parts[i], s.low)) : parts[i]; \
  }
    KWS_REPEAT_14(SEPARATE)
#undef SEPARATE
#define ADD(i) rows[i] = _mm256_add_epi32(rows[i], _mm256_madd_epi16(sums[i], _mm256_set1_epi16(1)));
    KWS_REPEAT_8(ADD)
#undef ADD
  }
}

KWS_INLINE const uint8_t* run(const int bits, const int places, const kws_blocks* b) {
  (void)places;
  const kws_scale scale = *b->scale;
  const size_t n = b->n;
  const uint8_t* w = b->w;
  /* sum(u * x) of codes without a sign: the constants of a row that is stored that way do for all, or the difference is
   * taken off the sums. Row 0 or row 7 is never stored so up to seven bits. */
  const bool flipped = bits < 8;
  __m256i constants = _mm256_setzero_si256();
  if (b->constants) constants = load(b->constants);
  if (b->constants && flipped) constants = _mm256_set1_epi32((int32_t)b->constants[kws_signed_rows(bits) & 1 ? 7 : 0]);
  int32_t* to = b->dots;
  for (uint32_t first = 0; first < b->rows; first += KWS_TILE, w += n * (size_t)bits + b->gap) {
    __m256i rows[KWS_TILE];
#define CLEAR(i) rows[i] = _mm256_setzero_si256();
    KWS_REPEAT_8(CLEAR)
#undef CLEAR
    if (bits == 8)
      add_bytes(w, b->x, n / KWS_VECTOR, rows);
    else
      add_slots(bits, w, b->x, n / KWS_VECTOR, rows);
    __m256i dots = sum_rows(rows);
    if (!b->dots) {
      finish(&scale, dots, constants, first, b->y + first);
      continue;
    }
    _mm256_storeu_si256((__m256i*)(void*)to, dots);
    to += KWS_TILE;
    if (!b->constants) continue; /* sums of codes without a sign are wanted */
    const uint32_t half = flipped ? sum_row(b->x, n) << (bits - 1) : 0;
    for (int row = 0; row < KWS_TILE; ++row)
      if (kws_signed_rows(bits) >> row & 1) b->dots[row] = (int32_t)((uint32_t)b->dots[row] - half);
  }
  return w;
}

KWS_RUN_WIDTHS(run)

#if KWS_DENSE_STATIC && KWS_HAS_LAYOUT(0)
#define KWS_DENSE_NAME kws_packed_dense_avx2
#define KWS_DENSE_ROWS KWS_TILE
#define KWS_DENSE_PLACES 1
#define KWS_DENSE_SUM sum_row
#include "../dense_body.inc"
#endif

#if KWS_DENSE_DYNAMIC
static void dynamic_dots(const kws_op* op, const uint8_t* w, size_t step, uint32_t tiles, const int8_t* x, size_t n,
                         int32_t* dots) {
  static const kws_scale none;
  const size_t gap = step - n * (size_t)op->options.bits;
  kws_run_blocks(op->options.bits, 1,
                 (kws_blocks){&none, w, x, 0, n, NULL, tiles * KWS_TILE, 0, NULL, dots, op->options.grid, gap});
}

void kws_dynamic_dense_avx2(const kws_op* op) {
  const kws_dynamic_parts parts = {dynamic_dots, op->options.bits == 8 ? 0xFF : 0, dynamic_dot, NULL};
  kws_run_dynamic(op, &parts);
}
#endif

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
