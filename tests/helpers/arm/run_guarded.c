/* Random ops, each tensor of which ends or begins at memory that may not be touched; every kernel gives the bits of the
 * reference kernel.
 *
 * usage: run_guarded FIRST END      numbers of ops; 0 60 where there is no command line (bare metal) */
#include <math.h>
#include <string.h>

#include "guarded_memory.h"
#include "kernels/core/options.h"
#include "kernels/core/weight_layout.h"
#include "kernels/ops/recurrent.h"

static uint32_t state;

static uint32_t any(void) {
  state ^= state << 13;
  state ^= state >> 17;
  return state ^= state << 5;
}
static int below(int n) { return (int)(any() % (uint32_t)n); }

static void put(uint8_t* to, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to[i] = (uint8_t)(value >> 8 * i);
}

/* An op and its tensors. */
typedef struct {
  uint8_t o[KWS_OPTIONS_BYTES];
  int32_t dims[4], rank, weight_dims[1], channel_dims[1];
  bool dynamic, dense, recurrent, with_state, waveform;
  size_t x_bytes, weight_bytes, channel_bytes;
  uint8_t *x, *weights, *channels;
} layer;

/* Shape and window; gives outputs and inputs of one output. */
static void choose_shape(layer* l) {
  const bool window = below(3) == 0;
  uint32_t channels = 1 + (uint32_t)below(window ? 20 : 150), outputs = 1 + (uint32_t)below(70), inputs;
  if (below(3) == 0) channels = (channels + 15) / 16 * 16;
  if (below(4) == 0) outputs = (outputs + 15) / 16 * 16;
  l->rank = 2;
  l->dims[0] = 1 + below(6);
  l->dims[1] = (int32_t)channels;
  inputs = channels;
  if (window) {
    const bool flat = below(2);
    const int size[2] = {1 + below(4), flat ? 1 : 1 + below(3)};
    l->rank = flat ? 3 : 4;
    l->dims[0] = 1 + below(2);
    l->dims[1] = 1 + below(9);
    l->dims[2] = flat ? (int32_t)channels : 1 + below(5);
    l->dims[3] = (int32_t)channels;
    const int places[10] = {size[0],      size[1],  1 + below(3), 1 + below(2),        1 + below(2),
                            1 + below(2), below(3), below(3),     flat ? 0 : below(2), flat ? 0 : below(2)};
    for (int i = 0; i < 10; ++i) put(l->o + 32 + 2 * i, (uint32_t)places[i], 2);
    l->o[15] = 1;
    inputs = (uint32_t)(size[0] * size[1]) * channels;
  }
  if (!l->dense) {
    inputs = inputs / channels;
    outputs = channels * (uint32_t)(below(3) ? 1 : 1 + below(3));
  }
  put(l->o + 24, outputs, 4);
  put(l->o + 28, inputs, 4);
  l->x_bytes = l->dynamic ? 4 : 1;
  for (int i = 0; i < l->rank; ++i) l->x_bytes *= (size_t)l->dims[i];
}

/* Widths and scales; sizes of the constants. */
static void choose_widths(layer* l) {
  uint8_t* o = l->o;
  uint32_t outputs = o[24] | (uint32_t)o[25] << 8, inputs = o[28] | (uint32_t)o[29] << 8;
  int bits = 1 + below(8), layout = 0, sums = 0, zeros = 0;
  o[11] = (uint8_t)(1 + !below(4));
  o[12] = (uint8_t)(1 + !below(4));
  if (!l->dynamic) {
    o[4] = (uint8_t)(int8_t)(-128 + below(100));
    o[5] = (uint8_t)(int8_t)(127 - below(100));
    o[6] = below(2) ? (uint8_t)below(256) : 0;
    o[8] = (uint8_t)below(256);
    o[13] = (uint8_t)(14 + below(20));
    o[14] = (uint8_t)(25 + below(14));
    put(o + 16, (uint32_t)below(1 << (8 + below(17))), 4);
    if (l->dense) {
      sums = o[6] ? below(4) ? 2 : 4 : 0;
      layout = below(3) ? 0 : below(KWS_LAYOUT_END);
      if (layout == KWS_LAYOUT_WORDS) bits = 1;
      o[10] = (uint8_t)(bits < 8 && below(2));
    }
  } else if (l->dense) {
    if (below(8) == 0) bits = 16;
    o[10] = (uint8_t)(bits == 16 ? KWS_LINEAR_GRID : bits == 8 ? 2 * below(2) : below(3));
    zeros = o[10] != KWS_LINEAR_GRID ? 0 : bits > 8 ? 2 : 1;
    if (below(3) == 0) o[12] = 0;
    sums = bits < 8 && below(2) ? 2 : 4;
    o[54] = (uint8_t)(bits == 16 ? 16 : 2 + below(7));
    o[55] = (uint8_t)below(KWS_FUNCTION_END);
    const float units[2] = {below(6) ? 0.001f : 1e-20f, 0.01f};
    memcpy(o + 16, units, sizeof units);
  } else {
    o[11] = o[12] = 0;
    o[55] = (uint8_t)below(KWS_FUNCTION_END);
  }
  if (l->dense) {
    o[9] = (uint8_t)bits;
    o[52] = (uint8_t)layout;
    o[53] = (uint8_t)sums;
    l->weight_bytes =
        l->dynamic ? kws_tight_size(outputs, inputs, bits) : kws_packed_size(outputs, inputs, bits, layout);
  } else {
    l->weight_bytes = (size_t)inputs * outputs * (l->dynamic ? 4 : 1);
  }
  l->channel_bytes =
      !l->dense && l->dynamic ? 4 * outputs : kws_channels_size(outputs, o[11], o[12], sums, l->dense ? zeros : 0);
}

/* A recurrent layer of any cell: its one constant is the weights, and its state takes the place of the channels. */
static void choose_recurrent(layer* l) {
  uint8_t* o = l->o;
  const int cell = 1 + below(KWS_CELL_END - 1), units = 1 + below(20), one = 2 << below(7);
  int bits = 1 + below(8);
  l->with_state = below(2);
  l->rank = 3;
  l->dims[0] = l->with_state ? 1 : 1 + below(2);
  l->dims[1] = 1 + below(4);
  l->dims[2] = 1 + below(70);
  l->x_bytes = (size_t)(l->dims[0] * l->dims[1] * l->dims[2]);
  o[4] = (uint8_t)-one;
  o[5] = (uint8_t)(one - 1);
  o[6] = below(2) ? (uint8_t)below(256) : 0;
  o[52] = (uint8_t)(below(3) ? 0 : below(KWS_LAYOUT_END));
  if (o[52] == KWS_LAYOUT_WORDS) bits = 1;
  o[9] = (uint8_t)bits;
  o[10] = (uint8_t)(bits < 8 && below(2));
  o[11] = (uint8_t)(1 + !below(4));
  o[12] = (uint8_t)(1 + !below(4));
  o[13] = (uint8_t)(8 + below(10));
  o[14] = (uint8_t)(20 + below(10));
  put(o + 16, 1 + (uint32_t)below(1 << 12), 4);
  put(o + 20, 1 + (uint32_t)below(1 << 12), 4);
  put(o + 24, kws_cell_gates(cell) * (uint32_t)units, 4);
  put(o + 28, (uint32_t)l->dims[2], 4);
  o[32] = (uint8_t)cell;
  o[34] = (uint8_t)below(2);
  o[38] = (uint8_t)(8 + below(10));
  o[40] = (uint8_t)(20 + below(10));
  o[53] = o[6] ? below(4) ? 2 : 4 : 0;
  if (l->with_state) {
    o[36] = (uint8_t)below(3);
    o[42] = (uint8_t)below(2);
  }
  kws_options options;
  kws_error error;
  l->weight_bytes = kws_parse_options(&options, o, sizeof l->o, &error) ? kws_recurrent_bytes(&options) : 0;
  l->channel_bytes = KWS_RECURRENT_HEAD + 3 * (size_t)units;
}

/* Filters over samples. */
static void choose_waveform(layer* l) {
  uint8_t* o = l->o;
  const int taps = 1 + below(below(3) ? 60 : 200), stride = 1 + below(40), average = 1 + below(4),
            filters = 1 + below(40);
  const int span = taps + (average - 1) * stride;
  int bits = 1 + below(8);
  l->rank = 3;
  l->dims[0] = 1 + below(2);
  l->dims[1] = span + below(3 * stride * average);
  l->dims[2] = 1;
  l->x_bytes = 2 * (size_t)(l->dims[0] * l->dims[1]);
  o[4] = (uint8_t)(int8_t)(-128 + below(100));
  o[5] = (uint8_t)(int8_t)(127 - below(100));
  o[8] = below(2) ? 0x80 : 0;
  o[52] = (uint8_t)(below(3) ? 0 : below(KWS_LAYOUT_END));
  if (o[52] == KWS_LAYOUT_WORDS) bits = 1;
  o[9] = (uint8_t)bits;
  o[10] = (uint8_t)(bits == 8 || (bits > 1 && below(2)));
  o[11] = (uint8_t)(1 + !below(4));
  o[12] = (uint8_t)(1 + !below(4));
  o[13] = (uint8_t)(14 + below(20));
  o[14] = (uint8_t)(15 + below(14));
  put(o + 16, (uint32_t)below(1 << (4 + below(10))), 4);
  put(o + 20, 1 + (uint32_t)below(1 << below(30)), 4);
  put(o + 24, (uint32_t)filters, 4);
  put(o + 28, (uint32_t)taps, 4);
  put(o + 32, (uint32_t)stride, 2);
  put(o + 34, (uint32_t)average, 2);
  o[53] = below(4) ? 2 : 4;
  l->weight_bytes = kws_packed_size((uint32_t)filters, (uint32_t)taps, bits, o[52]);
  l->channel_bytes = kws_channels_size((uint32_t)filters, o[11], o[12], o[53], 0);
}

/* Where the channel parameters of its first kernel begin: behind the packed rows of all of them. */
static size_t recurrent_channels(const kws_options* o) {
  const uint32_t units = o->outputs / kws_cell_gates(o->cell), first = o->cell == KWS_GRU ? 2 * units : o->outputs;
  return kws_packed_size(o->outputs, o->inputs, o->bits, o->layout) +
         kws_packed_size(first, units, o->bits, o->layout) +
         (o->cell == KWS_GRU ? kws_packed_size(units, units, o->bits, o->layout) : 0);
}

static void fill_floats(uint8_t* to, size_t bytes, bool odd) {
  for (size_t i = 0; i < bytes; i += 4) {
    float value = (float)((int)(any() % 2000) - 1000) / 300.0f;
    if (odd && below(400) == 0) value = below(2) ? NAN : below(2) ? INFINITY : 1e-41f;
    memcpy(to + i, &value, 4);
  }
}

/* Fills all tensors. False where the sums of weights do not fit the width that was chosen for them. */
static bool fill(layer* l) {
  const uint8_t* o = l->o;
  for (size_t i = 0; i < l->x_bytes; ++i) l->x[i] = (uint8_t)(below(10) ? any() >> 7 : below(2) ? 0x80 : 0x7F);
  if (l->dynamic) fill_floats(l->x, l->x_bytes, true);
  for (size_t i = 0; i < l->weight_bytes; ++i)
    l->weights[i] = (uint8_t)(below(10) ? any() >> 9 : below(2) ? 0x80 : 0xFF);
  for (size_t i = 0; i < l->channel_bytes; ++i) l->channels[i] = (uint8_t)(any() >> 5);
  if (!l->dense && l->dynamic) {
    fill_floats(l->weights, l->weight_bytes, false);
    fill_floats(l->channels, l->channel_bytes, false);
  }
  const int bits = o[9];
  const bool packed = l->dense || l->recurrent;
  kws_options options;
  kws_error error;
  if (!kws_parse_options(&options, o, sizeof l->o, &error)) return true; /* refused, when it is prepared */
  const size_t codes = l->recurrent ? recurrent_channels(&options) : l->weight_bytes;
  for (size_t i = 0; packed && o[52] == KWS_LAYOUT_DSP && i < codes; ++i) { /* as in core/self_test.c */
    const uint8_t sign = i % 2 ? 0x80 : 0;
    if (bits == 3) l->weights[i] = (l->weights[i] & 0x77) | sign;
    if (bits == 6 || bits == 7) l->weights[i] = (l->weights[i] & (uint8_t)((1 << bits) - 1)) | sign;
    if (bits == 5 && i % 2) l->weights[i] = (uint8_t)((l->weights[i] & 0x7F) | (l->weights[i] & 0x40) << 1);
  }
  if (l->dynamic || !packed || !o[53]) return true;
  uint8_t* const channels = l->recurrent ? l->weights + codes : l->channels;
  for (uint32_t row = 0; row < options.outputs; ++row) {
    int64_t sum = 0;
    for (uint32_t i = 0; i < options.inputs; ++i) {
      const int64_t code = kws_code(&options, l->weights, row, i);
      sum += options.grid == KWS_MID_RISE ? 2 * code - ((1 << bits) - 1) : code - (1 << (bits - 1));
    }
    if (o[53] == 2 && (sum < -32768 || sum > 32767)) return false;
    put(channels + (size_t)options.outputs * (size_t)(o[11] + o[12]) + (size_t)o[53] * row, (uint32_t)sum, o[53]);
  }
  return true;
}

static bool equal(bool floats, const uint8_t* a, const uint8_t* b, size_t bytes) {
  if (!floats) return !memcmp(a, b, bytes);
  for (size_t i = 0; i < bytes; i += 4) {
    uint32_t p, q;
    memcpy(&p, a + i, 4);
    memcpy(&q, b + i, 4);
    const bool both_nan = p << 1 > 0xFF000000u && q << 1 > 0xFF000000u, both_zero = !(p << 1) && !(q << 1);
    if (p != q && !both_nan && !both_zero) return false;
  }
  return true;
}

int main(int argc, char** argv) {
  static uint8_t expected[ROOM], before[256], after[256];
  const uint32_t first = argc > 2 ? (uint32_t)strtoul(argv[1], NULL, 0) : 0;
  const uint32_t end = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 60;
  long ran = 0, wrong = 0, refused = 0;
  long runs[64] = {0};
  guard_memory();
  for (uint32_t seed = first; seed < end; ++seed) {
    state = seed * 2654435761u + 12345;
    for (int i = 0; i < 5; ++i) any();
    static layer l;
    memset(&l, 0, sizeof l);
    l.dense = below(6) != 0;
    l.dynamic = below(3) == 0;
    l.recurrent = below(5) == 0;
    l.waveform = !l.recurrent && below(6) == 0;
    if (l.waveform) l.dense = true;
    if (l.recurrent) l.dense = false;
    if (l.recurrent || l.waveform) l.dynamic = false;
    l.o[0] = KWS_OPTIONS_VERSION;
    l.o[1] = l.recurrent ? KWS_RECURRENT : l.waveform ? KWS_WAVEFORM : l.dense ? KWS_PACKED_DENSE : KWS_DEPTHWISE;
    l.o[2] = l.dynamic;
    l.o[3] = KWS_OPTIONS_BYTES;
    if (l.recurrent) {
      choose_recurrent(&l);
    } else if (l.waveform) {
      choose_waveform(&l);
    } else {
      choose_shape(&l);
      choose_widths(&l);
    }
    if (l.x_bytes > ROOM || l.weight_bytes > ROOM) continue;
    const bool at_the_end = below(2);
    const size_t align = l.dynamic ? 4 : l.waveform ? 2 : 1;
    l.x = place(0, l.x_bytes, at_the_end, align);
    l.weights = place(1, l.weight_bytes, at_the_end, l.dynamic && !l.dense ? 4 : l.o[52] == KWS_LAYOUT_DSP ? 4 : 1);
    l.channels = place(2, l.channel_bytes, at_the_end, l.dynamic && !l.dense ? 4 : 1);
    if (!fill(&l)) continue;
    l.weight_dims[0] = (int32_t)l.weight_bytes;
    l.channel_dims[0] = (int32_t)l.channel_bytes;
    const int32_t kind = l.dynamic ? KWS_FLOAT32 : KWS_INT8, floats = l.dynamic && !l.dense;
    const int32_t input = l.waveform ? KWS_INT16 : kind;
    kws_call call;
    memset(&call, 0, sizeof call);
    call.kind = (kws_kind)l.o[1];
    call.options = l.o;
    call.options_bytes = sizeof l.o;
    call.input_count = l.recurrent && !l.with_state ? 2 : 3;
    call.inputs[0] = (kws_tensor){input, l.rank, l.dims, l.x_bytes, l.x};
    call.inputs[1] =
        (kws_tensor){l.dense || l.recurrent ? KWS_UINT8 : kind, 1, l.weight_dims, l.weight_bytes, l.weights};
    const int32_t last = l.recurrent ? KWS_INT8 : floats ? KWS_FLOAT32 : KWS_UINT8;
    call.inputs[2] = (kws_tensor){last, 1, l.channel_dims, l.channel_bytes, l.channels};
    if (l.recurrent) { /* which a call changes */
      l.channels[0] = (uint8_t)below(3);
      l.channels[1] = 0;
      memcpy(before, l.channels, l.channel_bytes);
    }
    kws_op op;
    kws_error error = {0, 0, 0};
    if (!kws_prepare(&op, &call, &error)) {
      ++refused;
      continue;
    }
    if (op.output_bytes > ROOM) continue;
    bool have = false;
    for (size_t k = 0; k < kws_kernel_count; ++k) {
      const kws_kernel* kernel = &kws_kernels[k];
      if (!kws_kernel_suits(kernel, &op)) continue;
      call.scratch_bytes = kws_scratch_bytes(kernel, &op);
      if (call.scratch_bytes > ROOM) continue;
      call.scratch = place(3, call.scratch_bytes + !call.scratch_bytes, at_the_end, align);
      memset(call.scratch, 0xA5, call.scratch_bytes);
      uint8_t* y = place(4, op.output_bytes, at_the_end, align);
      memset(y, 0x5A, op.output_bytes);
      if (l.recurrent) memcpy(l.channels, before, l.channel_bytes);
      const kws_tensor output = {op.output_type, op.rank, op.dims, op.output_bytes, y};
      snprintf(running, sizeof running, "op %lu, %s, %d bits, layout %d, %s", (unsigned long)seed, kernel->name, l.o[9],
               l.o[52], at_the_end ? "ends at the guard" : "begins at the guard");
      enter_guarded();
      const bool good = kws_invoke_kernel(kernel, &call, &output, &error);
#if defined(READ_TOO_FAR) /* does the guard see it? */
      *(volatile uint8_t*)&call.options = *(volatile uint8_t*)(arenas[0] + ROOM);
#elif defined(WRITE_TOO_FAR)
      *(volatile uint8_t*)(arenas[4] - 1) = 1;
#endif
      leave_guarded();
      ++ran;
      ++runs[k];
      if (!have) memcpy(expected, y, op.output_bytes);
      if (!have && l.recurrent) memcpy(after, l.channels, l.channel_bytes);
      have = true;
      if (!good || !equal(l.dynamic, expected, y, op.output_bytes) ||
          (l.recurrent && memcmp(after, l.channels, l.channel_bytes))) {
        ++wrong;
        printf("wrong: %s: %s\n", running, good ? "" : error.message);
      }
    }
  }
  for (size_t k = 0; k < kws_kernel_count; ++k)
    if (runs[k]) printf("%s %ld\n", kws_kernels[k].name, runs[k]);
  printf("done: %ld runs, %ld wrong, %ld refused\n", ran, wrong, refused);
  return wrong ? 1 : 0;
}
