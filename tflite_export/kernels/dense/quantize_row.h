/* A row of floats as whole numbers: its range, and the place of each value in it. For dynamic.c alone. */
#ifndef TFMOT_KWS_QUANTIZE_ROW_H_
#define TFMOT_KWS_QUANTIZE_ROW_H_

#include "float_vector.h"

static const float kws_largest = 8.507059173023462e37f;        /* 2^126: values beyond are taken for it */
static const float kws_smallest_span = 7.888609052210118e-31f; /* 2^-100: a row of less is constant */

/* The range of what was seen of a row, and whether a NaN was. Bits of floats are compared as whole numbers: those of
 * negative floats are the larger unsigned ones and grow with the magnitude. Exact for all floats, and no machine needs
 * float instructions for it. */
typedef struct {
  int32_t most;
  uint32_t largest, least;
} kws_seen;

static inline kws_seen kws_see_nothing(void) {
  const kws_seen nothing = {INT32_MIN, 0, UINT32_MAX};
  return nothing;
}

static inline uint32_t kws_bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline void kws_see_more(kws_seen* s, uint32_t bits) {
  if ((int32_t)bits > s->most) s->most = (int32_t)bits;
  if (bits > s->largest) s->largest = bits;
}

static inline void kws_see_bits(kws_seen* s, uint32_t bits) {
  kws_see_more(s, bits);
  if (bits < s->least) s->least = bits;
}

static KWS_NOINLINE void kws_see(kws_seen* to, const float* x, size_t n) {
  kws_seen s = *to;
#if defined(KWS_MAX_I4)
  if (n >= 4) {
    kws_i4 most = kws_set_i4(s.most);
    kws_u4 largest = kws_set_u4(s.largest), least = kws_set_u4(s.least);
    for (; n >= 4; n -= 4, x += 4) {
      const kws_u4 v = kws_bits_f4(kws_load_f4(x));
      most = KWS_MAX_I4(most, kws_signed_u4(v));
      largest = KWS_MAX_U4(largest, v);
      least = KWS_MIN_U4(least, v);
    }
    int32_t mosts[4];
    uint32_t largests[4], leasts[4];
    kws_store_i4(mosts, most);
    kws_store_u4(largests, largest);
    kws_store_u4(leasts, least);
    for (int i = 0; i < 4; ++i) {
      s.most = mosts[i] > s.most ? mosts[i] : s.most;
      s.largest = largests[i] > s.largest ? largests[i] : s.largest;
      s.least = leasts[i] < s.least ? leasts[i] : s.least;
    }
  }
#endif
  while (n) {
    /* The least one counts where all have one sign: few rows are compared with it far. */
    const bool both_signs = s.most >= 0 && s.largest >> 31;
    const size_t now = both_signs || n < 16 ? n : 16;
    const float* const end = x + now;
    n -= now;
    if (both_signs) {
      for (; end - x >= 4; x += 4) {
        kws_see_more(&s, kws_bits_of(x[0]));
        kws_see_more(&s, kws_bits_of(x[1]));
        kws_see_more(&s, kws_bits_of(x[2]));
        kws_see_more(&s, kws_bits_of(x[3]));
      }
      for (; x != end; ++x) kws_see_more(&s, kws_bits_of(*x));
    }
    for (; x != end; ++x) kws_see_bits(&s, kws_bits_of(*x));
  }
  *to = s;
}

/* The least and the largest number; false where a NaN was seen, which is neither. */
static inline bool kws_seen_range(const kws_seen* s, float* low, float* high) {
  const uint32_t infinity = 0x7F800000, sign = 0x80000000;
  const uint32_t below = s->largest & sign ? s->largest : s->least;
  const uint32_t above = s->most >= 0 ? (uint32_t)s->most : s->least;
  memcpy(low, &below, sizeof below);
  memcpy(high, &above, sizeof above);
  return s->largest <= (infinity | sign) && (s->most < 0 || (uint32_t)s->most <= infinity);
}

/* Widens low..high to the numbers of a run. Slow: for rows with a NaN. */
static inline void kws_widen_range(const float* x, size_t n, float* low, float* high) {
  for (size_t i = 0; i < n; ++i) {
    *low = x[i] < *low ? x[i] : *low;
    *high = x[i] > *high ? x[i] : *high;
  }
}

/* What a value is quantized with. */
typedef struct {
  float low, high, inverse;
  int32_t half; /* codes are stored less by it */
  bool plain;   /* all values lie in low..high */
  bool vectors; /* may be used */
} kws_quantizer;

/* Constants of a row, from its range; `steps` is the largest code. Returns its scale. */
static inline float kws_make_quantizer(kws_quantizer* q, float low, float high, bool all_numbers, int bits) {
  const float steps = (float)((1 << bits) - 1);
  q->plain = all_numbers && low >= -kws_largest && high <= kws_largest;
  q->low = low < -kws_largest ? -kws_largest : low > kws_largest ? kws_largest : low;
  q->high = high > kws_largest ? kws_largest : high < -kws_largest ? -kws_largest : high;
  if (q->low > q->high) q->low = q->high = 0; /* no number at all */
  q->half = 1 << (bits - 1);
  const float span = q->high - q->low;
  const bool constant = span < kws_smallest_span;
  q->inverse = constant ? 0 : steps / span;
  /* Vectors that take subnormal numbers for 0: from a span of 2^-40 on, v - low is then either the same, or so small
   * that its code is 0. */
  q->vectors = !KWS_VECTORS_FLUSH || (q->plain && (constant || span >= 9.094947017729282e-13f));
  return constant ? 0 : span / steps;
}

/* Where x is a number of low..high. A variable an operation: see float_math.h. */
static inline int32_t kws_plain_code_of(const kws_quantizer* q, float x) {
  const float above = x - q->low, place = above * q->inverse;
  float next = place + 0.5f;
  KWS_FLOAT_ALONE(next);
  return (int32_t)next - q->half;
}

static inline int32_t kws_code_of(const kws_quantizer* q, float x) {
  float v = x >= q->low ? x : q->low;
  v = v > q->high ? q->high : v;
  return kws_plain_code_of(q, v);
}

#if KWS_FLOAT_VECTORS
typedef struct {
  kws_f4 low, inverse, round;
  kws_i4 half;
} kws_quantizer_f4;

static inline kws_quantizer_f4 kws_make_quantizer_f4(const kws_quantizer* q) {
  const kws_quantizer_f4 v = {kws_set_f4(q->low), kws_set_f4(q->inverse), kws_set_f4(0.5f), kws_set_i4(q->half)};
  return v;
}

static inline kws_i4 kws_codes_of(const kws_quantizer_f4* q, const float* x) {
  const kws_f4 place = kws_mul_f4(kws_sub_f4(kws_load_f4(x), q->low), q->inverse);
  return kws_sub_i4(kws_whole_f4(kws_add_f4(place, q->round)), q->half);
}

static inline uint32_t kws_sum_i4(kws_i4 v) {
  int32_t lanes[4];
  kws_store_i4(lanes, v);
  return (uint32_t)lanes[0] + (uint32_t)lanes[1] + (uint32_t)lanes[2] + (uint32_t)lanes[3];
}
#endif

/* Codes of a run; their sum. */
static KWS_NOINLINE uint32_t kws_quantize_bytes(const kws_quantizer* from, const float* x, size_t n, int8_t* to) {
  const kws_quantizer q = *from;
  uint32_t sum = 0;
  if (!q.plain) {
    for (size_t i = 0; i < n; ++i) {
      const int32_t code = kws_code_of(&q, x[i]);
      to[i] = (int8_t)code;
      sum += (uint32_t)code;
    }
    return sum;
  }
#if KWS_FLOAT_VECTORS
  if (q.vectors && n >= 4) {
    const kws_quantizer_f4 v = kws_make_quantizer_f4(&q);
    kws_i4 sums = kws_set_i4(0);
    for (; n >= 16; n -= 16, x += 16, to += 16) {
      const kws_i4 a = kws_codes_of(&v, x), b = kws_codes_of(&v, x + 4);
      const kws_i4 c = kws_codes_of(&v, x + 8), d = kws_codes_of(&v, x + 12);
      kws_store_16(to, a, b, c, d);
      sums = kws_add_i4(kws_add_i4(sums, a), kws_add_i4(kws_add_i4(b, c), d));
    }
    for (; n >= 4; n -= 4, x += 4, to += 4) {
      const kws_i4 a = kws_codes_of(&v, x);
      kws_store_bytes(to, a);
      sums = kws_add_i4(sums, a);
    }
    sum = kws_sum_i4(sums);
  }
#endif
  for (; n >= 4; n -= 4, x += 4, to += 4) {
    const int32_t a = kws_plain_code_of(&q, x[0]), b = kws_plain_code_of(&q, x[1]);
    const int32_t c = kws_plain_code_of(&q, x[2]), d = kws_plain_code_of(&q, x[3]);
    to[0] = (int8_t)a;
    to[1] = (int8_t)b;
    to[2] = (int8_t)c;
    to[3] = (int8_t)d;
    sum += (uint32_t)(a + b + c + d);
  }
  for (size_t i = 0; i < n; ++i) {
    const int32_t code = kws_plain_code_of(&q, x[i]);
    to[i] = (int8_t)code;
    sum += (uint32_t)code;
  }
  return sum;
}

/* The same of codes with 16 bits. */
static KWS_NOINLINE uint32_t kws_quantize_shorts(const kws_quantizer* from, const float* x, size_t n, int16_t* to) {
  const kws_quantizer q = *from;
  uint32_t sum = 0;
  if (!q.plain) {
    for (size_t i = 0; i < n; ++i) {
      const int32_t code = kws_code_of(&q, x[i]);
      to[i] = (int16_t)code;
      sum += (uint32_t)code;
    }
    return sum;
  }
#if KWS_FLOAT_VECTORS
  if (q.vectors && n >= 4) {
    const kws_quantizer_f4 v = kws_make_quantizer_f4(&q);
    kws_i4 sums = kws_set_i4(0);
    for (; n >= 4; n -= 4, x += 4, to += 4) {
      const kws_i4 a = kws_codes_of(&v, x);
      kws_store_shorts(to, a);
      sums = kws_add_i4(sums, a);
    }
    sum = kws_sum_i4(sums);
  }
#endif
  for (; n >= 4; n -= 4, x += 4, to += 4) {
    const int32_t a = kws_plain_code_of(&q, x[0]), b = kws_plain_code_of(&q, x[1]);
    const int32_t c = kws_plain_code_of(&q, x[2]), d = kws_plain_code_of(&q, x[3]);
    to[0] = (int16_t)a;
    to[1] = (int16_t)b;
    to[2] = (int16_t)c;
    to[3] = (int16_t)d;
    sum += (uint32_t)(a + b + c + d);
  }
  for (size_t i = 0; i < n; ++i) {
    const int32_t code = kws_plain_code_of(&q, x[i]);
    to[i] = (int16_t)code;
    sum += (uint32_t)code;
  }
  return sum;
}

#endif
