/* libFuzzer target: whatever options, shapes and sizes a file has, checking and running an op stays inside its tensors.
 *
 * The input is split into a small header, the options and the dims; every tensor gets a heap block of exactly the size
 * that it claims, so that AddressSanitizer sees one byte too far. With bit 0 of the first byte set, sizes in the
 * options and of the constants are repaired to agree, so that the kernels themselves are reached often. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../tflite_export/kernels/core/options.h"
#include "../../../tflite_export/kernels/core/weight_layout.h"
#include "../../../tflite_export/kernels/ops/recurrent.h"

enum { MAX_BYTES = 1 << 16 };

typedef struct {
  const uint8_t* data;
  size_t size;
} source;

static uint8_t take(source* s) {
  if (!s->size) return 0;
  --s->size;
  return *s->data++;
}

/* A block of exactly n bytes, filled from what is left of the input over and over. */
static void* block(const source* s, size_t n) {
  uint8_t* bytes = malloc(n ? n : 1);
  for (size_t i = 0; i < n; ++i) bytes[i] = s->size ? s->data[i % s->size] : (uint8_t)(i * 7);
  return bytes;
}

static size_t take_shape(source* s, kws_tensor* t, int32_t dims[KWS_MAX_RANK], bool wild) {
  size_t size = 1;
  t->rank = wild ? (int8_t)take(s) : 1 + take(s) % 4;
  t->dims = dims;
  for (int i = 0; i < KWS_MAX_RANK; ++i) {
    dims[i] =
        i < t->rank ? (wild && take(s) > 250 ? (int32_t)((uint32_t)take(s) << 24 | take(s)) : 1 + take(s) % 12) : 1;
    if (i < t->rank) size = dims[i] > 0 && size < MAX_BYTES ? size * (size_t)dims[i] : (size_t)MAX_BYTES + 1;
  }
  return size < MAX_BYTES ? size : MAX_BYTES;
}

static void put_u32(uint8_t* p, uint32_t v) {
  for (int i = 0; i < 4; ++i) p[i] = (uint8_t)(v >> 8 * i);
}

/* What dynamic mode has otherwise; what repair() leaves there is of static mode. */
static void repair_dynamic(uint8_t* o, int kind, uint8_t bits, uint8_t grid, uint8_t input_bits, uint8_t function) {
  const bool dense = kind == KWS_PACKED_DENSE;
  memset(o + 4, 0, kind == KWS_RING ? 4 : 5);
  o[9] = o[10] = o[13] = o[14] = o[52] = o[53] = o[54] = o[55] = 0;
  if (!dense) {
    o[11] = o[12] = 0;
    memset(o + 16, 0, 8);
  } else {
    o[9] = bits % 9 ? bits % 9 : 16;
    o[10] = o[9] == 16 ? KWS_LINEAR_GRID : grid % 3;
    o[12] = (o[12] + bits) % 3;
    o[53] = o[9] < 8 ? 2 : 4;
    o[54] = o[9] == 16 ? 16 : 2 + input_bits % 7;
    for (int i = 19; i < 24; i += 4) o[i] &= 0x3F; /* units are positive, and not too large */
  }
  if (dense || kind == KWS_DEPTHWISE || kind == KWS_LOOKUP || kind == KWS_ADD || kind == KWS_MULTIPLY)
    o[55] = function % KWS_FUNCTION_END;
}

/* Makes the fixed fields right and the sizes small. */
static void repair(uint8_t* o, int kind, const kws_tensor* x) {
  const uint8_t mode = o[2] & 1, bits = o[9], grid = o[10], input_bits = o[54], function = o[55];
  uint8_t units[8];
  memcpy(units, o + 16, sizeof units);
  const bool weighted = kind == KWS_PACKED_DENSE || kind == KWS_DEPTHWISE;
  const bool pool = kind == KWS_AVERAGE_POOL || kind == KWS_MAX_POOL;
  const bool table = kind == KWS_LOOKUP || kind == KWS_SOFTMAX, ring = kind == KWS_RING;
  const uint32_t channels = (uint32_t)x->dims[x->rank - 1];
  uint32_t taps = 1;
  o[0] = KWS_OPTIONS_VERSION;
  o[1] = (uint8_t)kind;
  o[2] = mode;
  o[3] = KWS_OPTIONS_BYTES;
  o[15] = (uint8_t)(pool || (weighted && x->rank >= 3 && o[15] & 1));
  if (!o[15]) memset(o + 32, 0, 20);
  o[53] = kind != KWS_PACKED_DENSE || !o[6] ? 0 : o[53] & 1 ? 4 : 2;
  o[54] = o[55] = 0;
  for (int i = 0; o[15] && i < 10; ++i) {
    const bool across = x->rank == 3 && (i == 1 || i == 8 || i == 9);
    o[32 + 2 * i] = (uint8_t)(i < 6 ? (across ? 1 : 1 + o[32 + 2 * i] % 4) : across ? 0 : o[32 + 2 * i] % 4);
    o[33 + 2 * i] = 0;
  }
  if (o[15]) taps = (uint32_t)o[32] * o[34];
  if (table || ring || kind == KWS_MAX_POOL) {
    memset(o + 4, 0, ring ? 4 : 5);
    o[14] = 0;
    put_u32(o + 16, 0);
  } else {
    o[14] = (uint8_t)(1 + o[14] % (weighted ? 62 : 46));
    o[19] &= 0x7F;
    if ((int8_t)o[4] > (int8_t)o[5]) o[5] = 0x7F;
  }
  if (kind != KWS_ADD && kind != KWS_MULTIPLY) o[7] = 0;
  if (kind != KWS_ADD) put_u32(o + 20, 0);
  o[23] &= 0x7F;
  o[9] = kind == KWS_PACKED_DENSE ? (uint8_t)(1 + o[9] % 8) : 0;
  o[52] = kind == KWS_PACKED_DENSE ? o[52] % KWS_LAYOUT_END : 0;
  if (kind == KWS_PACKED_DENSE && !kws_layout_has(o[52], o[9])) o[9] = 1;
  o[10] = kind == KWS_PACKED_DENSE ? o[10] & 1 : 0;
  o[11] = weighted ? (uint8_t)(1 + (o[11] & 1)) : 0;
  o[12] = weighted ? (uint8_t)(1 + (o[12] & 1)) : 0;
  o[13] = weighted ? o[13] % 63 : 0;
  put_u32(o + 24, ring                    ? 1 + o[24] % 20u
                  : !weighted             ? 0
                  : kind == KWS_DEPTHWISE ? channels * (1 + o[24] % 3u)
                                          : 1 + o[24] % 40u);
  put_u32(o + 28, !weighted ? 0 : kind == KWS_DEPTHWISE ? taps : taps * channels);
  if (mode == KWS_MODE_STATIC) return;
  memcpy(o + 16, units, sizeof units);
  repair_dynamic(o, kind, bits, grid, input_bits, function);
}

/* A recurrent layer: widths of a dense layer, a range around zero, and a cell in the place of a window. Returns how
 * many inputs it has, and sizes of the constant and of the state. */
static int repair_recurrent(uint8_t* o, const kws_tensor* x, size_t* constant, size_t* state) {
  const int one = 2 << o[5] % 7;
  const uint8_t cell = 1 + o[32] % (KWS_CELL_END - 1), form = o[34], skip = o[36], external = o[42] & 1;
  const uint8_t bias_shift = o[38] % 63, shift = 1 + o[40] % 62;
  repair(o, KWS_PACKED_DENSE, x);
  o[1] = KWS_RECURRENT;
  o[4] = (uint8_t)-one;
  o[5] = (uint8_t)(one - 1);
  o[7] = o[8] = o[15] = 0;
  put_u32(o + 20, (uint32_t)o[20] << 8 | o[16]);
  put_u32(o + 24, kws_cell_gates(cell) * (1 + o[24] % 20u));
  put_u32(o + 28, (uint32_t)x->dims[2]);
  memset(o + 32, 0, 20);
  o[32] = cell;
  o[34] = form & 1;
  o[38] = bias_shift;
  o[40] = shift;
  const int inputs = form & 2 ? 3 : 2;
  if (inputs == 3) {
    o[36] = skip % 8;
    o[42] = external;
  }
  kws_options options;
  kws_error error;
  *constant = kws_parse_options(&options, o, KWS_OPTIONS_BYTES, &error) ? kws_recurrent_bytes(&options) : 0;
  *state = KWS_RECURRENT_HEAD + 3 * (size_t)(o[24] / kws_cell_gates(cell));
  return inputs;
}

/* Filters over samples: widths of a dense layer, and a frame in the place of a window. */
static void repair_waveform(uint8_t* o, const kws_tensor* x) {
  const uint8_t stride = 1 + o[32] % 5, average = 1 + o[34] % 3, taps = 1 + o[28] % 7, sums = o[53] & 1 ? 4 : 2;
  repair(o, KWS_PACKED_DENSE, x);
  o[1] = KWS_WAVEFORM;
  o[6] = o[7] = o[15] = 0;
  memset(o + 32, 0, 20);
  o[32] = stride;
  o[34] = average;
  o[53] = sums;
  put_u32(o + 20, 1u + o[20]);
  put_u32(o + 28, taps);
}

/* How often each kind got as far as its kernels: one that never does is not tested here. */
static long reached[KWS_KIND_END];

static void print_reached(void) {
  for (int kind = 1; kind < KWS_KIND_END; ++kind) fprintf(stderr, "reached kind %d: %ld\n", kind, reached[kind]);
}

int LLVMFuzzerInitialize(int* argc, char*** argv) {
  (void)argc;
  (void)argv;
  atexit(print_reached);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  source s = {data, size};
  const uint8_t flags = take(&s);
  const bool wild = !(flags & 1);
  int32_t dims[KWS_MAX_INPUTS][KWS_MAX_RANK];
  size_t sizes[KWS_MAX_INPUTS];
  kws_call call;
  memset(&call, 0, sizeof call);
  call.kind = (kws_kind)(wild ? take(&s) % 13 : 1 + take(&s) % (KWS_KIND_END - 1));
  call.options_bytes = wild && take(&s) > 200 ? take(&s) : KWS_OPTIONS_BYTES;
  uint8_t* options = malloc(call.options_bytes ? call.options_bytes : 1);
  for (size_t i = 0; i < call.options_bytes; ++i) options[i] = take(&s);
  call.options = options;

  static const int counts[] = {0, 3, 3, 2, 2, 2, 2, 1, 1, 2, 2, 3, 0};
  call.input_count = wild && take(&s) > 240 ? take(&s) % 4 : counts[call.kind];
  for (int i = 0; i < KWS_MAX_INPUTS; ++i) {
    sizes[i] = take_shape(&s, &call.inputs[i], dims[i], wild);
    call.inputs[i].type = wild && take(&s) > 240 ? take(&s) : KWS_INT8;
  }
  if (!wild) {
    const int rank = call.inputs[0].rank;
    if ((call.kind == KWS_AVERAGE_POOL || call.kind == KWS_MAX_POOL) && rank < 3) goto done;
    if (call.kind == KWS_RING) { /* one recording */
      if (rank < 2) goto done;
      sizes[0] /= (size_t)dims[0][0];
      dims[0][0] = 1;
    }
    if (call.kind == KWS_WAVEFORM) {
      if (rank != 3) goto done;
      options[2] = KWS_MODE_STATIC;
      sizes[0] = 2 * (size_t)dims[0][0] * (size_t)(dims[0][1] *= 4);
      dims[0][2] = 1;
      call.inputs[0].type = KWS_INT16;
      repair_waveform(options, &call.inputs[0]);
    } else if (call.kind == KWS_RECURRENT) {
      if (rank != 3) goto done;
      options[2] = KWS_MODE_STATIC;
      call.input_count = repair_recurrent(options, &call.inputs[0], &sizes[1], &sizes[2]);
      call.inputs[1].type = KWS_UINT8;
      for (int i = 1; i < 3; ++i) {
        call.inputs[i].rank = 1;
        dims[i][0] = (int32_t)sizes[i];
      }
      if (call.input_count == 3) { /* one recording */
        sizes[0] /= (size_t)dims[0][0];
        dims[0][0] = 1;
      }
    } else {
      repair(options, call.kind, &call.inputs[0]);
    }
    const bool floats = options[2] == KWS_MODE_DYNAMIC;
    if (call.kind == KWS_PACKED_DENSE || call.kind == KWS_DEPTHWISE || call.kind == KWS_WAVEFORM) {
      const uint32_t outputs = options[24] | (uint32_t)options[25] << 8;
      const uint32_t inputs = options[28] | (uint32_t)options[29] << 8;
      const bool dense = call.kind != KWS_DEPTHWISE;
      const int zero_bytes = options[10] != KWS_LINEAR_GRID ? 0 : options[9] == 16 ? 2 : 1;
      sizes[1] = dense ? kws_packed_size(outputs, inputs, options[9], options[52]) : (size_t)outputs * inputs;
      if (dense && floats) sizes[1] = kws_tight_size(outputs, inputs, options[9]);
      sizes[2] = kws_channels_size(outputs, options[11], options[12], options[53], zero_bytes);
      call.inputs[1].type = dense ? KWS_UINT8 : KWS_INT8;
      call.inputs[2].type = KWS_UINT8;
      if (!dense && floats) {
        sizes[1] *= sizeof(float);
        sizes[2] = sizeof(float) * outputs;
        call.inputs[1].type = call.inputs[2].type = KWS_FLOAT32;
      }
    } else if (floats && (call.kind == KWS_LOOKUP || call.kind == KWS_SOFTMAX)) {
      call.input_count = 1;
    } else if (call.kind == KWS_LOOKUP || call.kind == KWS_SOFTMAX) {
      sizes[1] = call.kind == KWS_LOOKUP ? 256 : 512;
      call.inputs[1].type = call.kind == KWS_LOOKUP ? KWS_INT8 : KWS_UINT8;
    } else if (call.kind == KWS_RING) {
      call.inputs[1].rank = 1;
      sizes[1] = options[24] * (sizes[0] / (size_t)dims[0][1]) * (floats ? sizeof(float) : 1) + KWS_RING_HEAD;
      dims[1][0] = (int32_t)sizes[1];
    } else if (call.kind != KWS_RECURRENT && call.input_count == 2) { /* shapes that often broadcast */
      for (int i = 0; i < KWS_MAX_RANK; ++i)
        if (i < rank) dims[1][i] = i && flags >> i & 2 ? 1 : dims[0][i];
      call.inputs[1].rank = rank;
      sizes[1] = 1;
      for (int i = 0; i < rank; ++i) sizes[1] *= (size_t)dims[1][i];
    }
    if (floats) {
      call.inputs[0].type = KWS_FLOAT32;
      sizes[0] *= sizeof(float);
      if (call.kind == KWS_ADD || call.kind == KWS_MULTIPLY) {
        call.inputs[1].type = KWS_FLOAT32;
        sizes[1] *= sizeof(float);
      }
    }
  }
  for (int i = 0; i < KWS_MAX_INPUTS; ++i) {
    call.inputs[i].bytes = sizes[i];
    call.inputs[i].data = block(&s, sizes[i]);
  }

  kws_op op;
  kws_error error = {0, 0, 0};
  if (kws_prepare(&op, &call, &error)) {
    if (op.output_bytes <= MAX_BYTES) {
      ++reached[call.kind];
      const bool wrong = wild && flags & 2;
      kws_tensor output = {op.output_type, op.rank, op.dims, op.output_bytes + (wrong ? 1 : 0), NULL};
      output.data = block(&s, output.bytes);
      for (size_t i = 0; i < kws_kernel_count; ++i) {
        if (!kws_kernel_suits(&kws_kernels[i], &op)) continue;
        call.scratch_bytes = kws_scratch_bytes(&kws_kernels[i], &op);
        call.scratch = malloc(call.scratch_bytes ? call.scratch_bytes : 1);
        if (kws_invoke_kernel(&kws_kernels[i], &call, &output, &error) == wrong) abort();
        free(call.scratch);
      }
      free(output.data);
    }
  } else if (!error.message) {
    abort(); /* a refusal must say why */
  }
  for (int i = 0; i < KWS_MAX_INPUTS; ++i) free(call.inputs[i].data);
done:
  free(options);
  return 0;
}
