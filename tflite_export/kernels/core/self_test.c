/* kws_self_test(): one small dense layer of every width, in every layout, and a depthwise one, by every kernel of this
 * build. */
#include <string.h>

#include "options.h"
#include "weight_layout.h"

#define DENSE ((KWS_STATIC || KWS_DYNAMIC) && KWS_HAS_KIND(1))
#define DEPTHWISE_WINDOW (KWS_STATIC && KWS_HAS_KIND(2) && KWS_WINDOWS)

#if DENSE || DEPTHWISE_WINDOW

enum {
  OUTPUTS = 7, /* of a tile of 8: the last rows are finished one by one */
  INPUTS = 40, /* of blocks of 16: the last one is not full */
  ZERO = -128, /* of the inputs, as behind a ReLU: sums of weights count */
#if defined(__aarch64__)
  MOST_WEIGHTS = 640,
#else
  MOST_WEIGHTS = 384, /* no kernel here reads the layout that takes more */
#endif
  MOST_SCRATCH = 512,
  CHANNELS = 19, /* of a depthwise layer: of blocks of 16 and 4, the last ones not full */
  TAPS = 3
};

typedef union {
  float aligned[MOST_SCRATCH / 4];
  uint8_t bytes[MOST_SCRATCH];
} block;

/* Hashes of the outputs, and sums of weights, made by the numpy reference: scripts/make_self_test.py. */
typedef struct {
  uint32_t hash;
  int16_t sums[OUTPUTS];
} vector;

#if KWS_STATIC && KWS_HAS_KIND(1)
static const uint32_t expected[8][KWS_LAYOUT_END] = {
#define STATIC_MODE(rows, pairs, dsp, words) {rows, pairs, dsp, words},
#define DYNAMIC_MODE(hash, ...)
#define DEPTHWISE(hash)
#include "self_test.inc"
#undef STATIC_MODE
#undef DYNAMIC_MODE
#undef DEPTHWISE
};
#endif
#if DEPTHWISE_WINDOW
#define STATIC_MODE(rows, pairs, dsp, words)
#define DYNAMIC_MODE(hash, ...)
#define DEPTHWISE(hash) hash
static const uint32_t expected_depthwise =
#include "self_test.inc"
    ;
#undef STATIC_MODE
#undef DYNAMIC_MODE
#undef DEPTHWISE
#endif
#if KWS_DENSE_DYNAMIC
static const vector expected_dynamic[8] = {
#define STATIC_MODE(rows, pairs, dsp, words)
#define DYNAMIC_MODE(hash, ...) {hash, {__VA_ARGS__}},
#define DEPTHWISE(hash)
#include "self_test.inc"
#undef STATIC_MODE
#undef DYNAMIC_MODE
#undef DEPTHWISE
};
#endif

/* A linear congruential generator, Numerical Recipes' constants: the same bytes as in scripts/make_self_test.py. */
static void fill(uint8_t* to, size_t n, uint32_t seed) {
  for (; n; --n) {
    seed = seed * 1664525u + 1013904223u;
    *to++ = (uint8_t)(seed >> 24);
  }
}

/* FNV-1a. */
static uint32_t hash(const uint8_t* bytes, size_t n) {
  uint32_t h = 2166136261u;
  for (; n; --n) h = (h ^ *bytes++) * 16777619u;
  return h;
}

static void write(uint8_t* to, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to[i] = (uint8_t)(value >> 8 * i);
}

/* Options of the layer; options.h has the places. */
static void make_options(uint8_t* o, bool dynamic, int bits, int layout) {
  memset(o, 0, KWS_OPTIONS_BYTES);
  o[0] = KWS_OPTIONS_VERSION;
  o[1] = KWS_PACKED_DENSE;
  o[2] = dynamic;
  o[3] = KWS_OPTIONS_BYTES;
  o[9] = (uint8_t)bits;
  o[11] = o[12] = 1;
  o[24] = OUTPUTS;
  o[28] = INPUTS;
  o[52] = (uint8_t)layout;
  o[53] = 2;
  if (dynamic) {
    o[54] = 8;
    write(o + 16, 0x38000000u, 4); /* 2^-15 */
    write(o + 20, 0x3C000000u, 4); /* 2^-7 */
    return;
  }
  o[4] = 0x80;
  o[5] = 0x7F;
  o[6] = (uint8_t)ZERO;
  o[13] = (uint8_t)(28 + bits);
  o[14] = (uint8_t)(29 + bits);
  write(o + 16, 1u << 20, 4);
}

/* A call of a layer with packed weights, or with levels. */
static kws_call call_of(kws_kind kind, const uint8_t* options, kws_tensor x, kws_tensor weights, kws_tensor channels) {
  kws_call call;
  memset(&call, 0, sizeof call);
  call.kind = kind;
  call.options = options;
  call.options_bytes = KWS_OPTIONS_BYTES;
  call.input_count = 3;
  call.inputs[0] = x;
  call.inputs[1] = weights;
  call.inputs[2] = channels;
  return call;
}

/* Runs every kernel that can run an op, whose outputs are [1, outputs]. */
static bool check_kernels(kws_call* call, const kws_op* op, int outputs, uint32_t wanted, int bits, kws_error* error) {
  block y, scratch;
  const int32_t dims[3] = {1, op->rank == 3 ? 1 : outputs, outputs};
  for (size_t k = 0; k < kws_kernel_count; ++k) {
    const kws_kernel* kernel = &kws_kernels[k];
    if (!kws_kernel_suits(kernel, op)) continue;
    call->scratch = scratch.bytes;
    call->scratch_bytes = sizeof scratch;
    memset(y.bytes, 0x55, sizeof y);
    const kws_tensor output = {op->output_type, op->rank, dims, op->output_bytes, y.bytes};
    if (!kws_invoke_kernel(kernel, call, &output, error)) return false;
    for (int i = 0; op->output_type == KWS_FLOAT32 && i < outputs; ++i) { /* hashes are of little-endian floats */
      uint32_t value;
      memcpy(&value, &y.aligned[i], sizeof value);
      write(y.bytes + 4 * i, value, 4);
    }
    if (hash(y.bytes, op->output_bytes) != wanted) {
      error->message = "a kernel computes wrong numbers: see kws_kernels[found].name, at `wanted` bits";
      error->found = (long)k;
      error->wanted = bits;
      return false;
    }
  }
  return true;
}

#if DENSE
/* sums: of a dynamic layer's weights; NULL in static mode, where they are taken from the weights. */
static bool check(int bits, int layout, uint32_t wanted, const int16_t* sums, kws_error* error) {
  const bool dynamic = sums;
  uint8_t options[KWS_OPTIONS_BYTES], channels[OUTPUTS * 4];
  uint32_t words[MOST_WEIGHTS / 4]; /* kernels may want them aligned */
  uint8_t* const weights = (uint8_t*)words;
  block x;
  const int32_t type = dynamic ? KWS_FLOAT32 : KWS_INT8;
  const size_t size = dynamic ? kws_tight_size(OUTPUTS, INPUTS, bits) : kws_packed_size(OUTPUTS, INPUTS, bits, layout);
  if (!wanted || size > sizeof words) return true;
  make_options(options, dynamic, bits, layout);
  fill(weights, size, (uint32_t)bits);
  if (layout == KWS_LAYOUT_DSP) /* where a code lies in a wider field, it is extended with its sign */
    for (size_t i = 0; i < size; ++i) {
      const uint8_t sign = (uint8_t)(i % 2 ? 0x80 : 0);
      if (bits == 3) weights[i] = (weights[i] & 0x77) | sign;
      if (bits == 6 || bits == 7) weights[i] = (weights[i] & (uint8_t)((1 << bits) - 1)) | sign;
      if (bits == 5 && i % 2) weights[i] = (uint8_t)((weights[i] & 0x7F) | (weights[i] & 0x40) << 1);
    }
  fill(channels, 2 * OUTPUTS, 9);
  uint8_t inputs[INPUTS];
  fill(inputs, INPUTS, 10);
  memcpy(x.bytes, inputs, INPUTS);
  const volatile float step = 0.0625f; /* clang gets vectors of fixed-point numbers wrong on Helium */
  for (int i = 0; dynamic && i < INPUTS; ++i) x.aligned[i] = (float)(int8_t)inputs[i] * step;

  const int32_t dims[2] = {1, INPUTS}, weight_dims[1] = {(int32_t)size}, channel_dims[1] = {sizeof channels};
  kws_call call =
      call_of(KWS_PACKED_DENSE, options, (kws_tensor){type, 2, dims, dynamic ? 4 * INPUTS : INPUTS, x.bytes},
              (kws_tensor){KWS_UINT8, 1, weight_dims, size, weights},
              (kws_tensor){KWS_UINT8, 1, channel_dims, sizeof channels, channels});
  kws_op op;
  memset(channels + 2 * OUTPUTS, 0, 2 * OUTPUTS);
  if (!kws_prepare(&op, &call, error)) return false;
  for (uint32_t row = 0; row < OUTPUTS; ++row) {
    uint32_t sum = dynamic ? (uint32_t)(int32_t)sums[row] : 0;
    for (uint32_t i = 0; !dynamic && i < INPUTS; ++i)
      sum += 2 * kws_code(&op.options, weights, row, i) - ((1u << bits) - 1);
    write(channels + 2 * OUTPUTS + 2 * row, sum, 2);
  }

  return check_kernels(&call, &op, OUTPUTS, wanted, bits, error);
}
#endif

#if DEPTHWISE_WINDOW
/* A window over time, at one place. */
static bool check_depthwise(kws_error* error) {
  uint8_t options[KWS_OPTIONS_BYTES], x[TAPS * CHANNELS], levels[TAPS * CHANNELS], channels[2 * CHANNELS];
  make_options(options, false, 5, 0);
  options[1] = KWS_DEPTHWISE;
  options[9] = options[53] = 0;
  options[15] = 1;
  options[24] = CHANNELS;
  options[28] = options[32] = TAPS;
  for (int i = 34; i < 44; i += 2) options[i] = 1; /* one wide; stride and dilation 1 */
  fill(x, sizeof x, 11);
  fill(levels, sizeof levels, 12);
  fill(channels, sizeof channels, 13);
  const int32_t dims[3] = {1, TAPS, CHANNELS}, level_dims[1] = {sizeof levels}, channel_dims[1] = {sizeof channels};
  kws_call call = call_of(KWS_DEPTHWISE, options, (kws_tensor){KWS_INT8, 3, dims, sizeof x, x},
                          (kws_tensor){KWS_INT8, 1, level_dims, sizeof levels, levels},
                          (kws_tensor){KWS_UINT8, 1, channel_dims, sizeof channels, channels});
  kws_op op;
  return kws_prepare(&op, &call, error) && check_kernels(&call, &op, CHANNELS, expected_depthwise, 8, error);
}
#endif

#endif

bool kws_self_test(kws_error* error) {
  (void)error; /* where a build has nothing to test */
  for (int bits = 1; bits <= 8; ++bits) {
    if (!KWS_HAS_WIDTH(bits)) continue;
#if KWS_STATIC && KWS_HAS_KIND(1)
    for (int layout = 0; layout < KWS_LAYOUT_END; ++layout)
      if (KWS_HAS_LAYOUT(layout) && !check(bits, layout, expected[bits - 1][layout], NULL, error)) return false;
#endif
#if KWS_DENSE_DYNAMIC
    const vector* v = &expected_dynamic[bits - 1];
    if (!check(bits, KWS_LAYOUT_ROWS, v->hash, v->sums, error)) return false;
#endif
  }
#if DEPTHWISE_WINDOW
  if (!check_depthwise(error)) return false;
#endif
  return true;
}
