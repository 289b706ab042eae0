/* From samples of sound to features: filters, magnitude, mean over a hop, logarithm. The twin of
 * tflite_export/reference/waveform.py.
 *
 * A sample of 16 bits is two bytes, x = 256 high + low, and so is a sum of products. The packed dense kernels multiply
 * both as they multiply any inputs of 8 bits, so that every width of weights and every instruction set is there. */
#include "waveform.h"

#include <string.h>

#include "../core/requantize.h"

#if KWS_HAS_WAVEFORM

enum { LOG_BITS = 15, LOG_STEPS = 64, FRACTION = 22 };

/* round(2^15 log2(1 + i / 64)) */
static const uint16_t log_table[LOG_STEPS + 1] = {
    /* clang-format off */
    0, 733, 1455, 2166, 2866, 3556, 4236, 4907, 5568, 6220, 6863, 7498, 8124, 8742, 9352, 9954,
    10549, 11136, 11716, 12289, 12855, 13415, 13968, 14514, 15055, 15589, 16117, 16639, 17156, 17667, 18173, 18673,
    19168, 19658, 20143, 20623, 21098, 21568, 22034, 22495, 22952, 23404, 23852, 24296, 24736, 25172, 25604, 26031,
    26455, 26876, 27292, 27705, 28114, 28520, 28922, 29321, 29717, 30109, 30498, 30884, 31267, 31647, 32024, 32397,
    32768,
    /* clang-format on */
};

/* floor(log2(x)) of x > 0. */
static int32_t exponent_of(uint64_t x) {
#if defined(__GNUC__)
  return 63 - __builtin_clzll(x);
#else
  int32_t exponent = 0;
  for (int step = 32; step; step /= 2)
    if (x >> exponent >> step) exponent += step;
  return exponent;
#endif
}

/* 2^15 log2(x) of x > 0, straight between the table's entries. */
static int32_t log2_of(uint64_t x) {
  const int32_t exponent = exponent_of(x);
  const uint32_t scaled = (uint32_t)(exponent > FRACTION ? x >> (exponent - FRACTION) : x << (FRACTION - exponent));
  const uint32_t fraction = scaled - ((uint32_t)1 << FRACTION);
  const int32_t low = log_table[fraction >> 16], high = log_table[(fraction >> 16) + 1];
  return exponent * (1 << LOG_BITS) + low + (((high - low) * (int32_t)(fraction & 0xFFFF) + 0x8000) >> 16);
}

static size_t aligned(size_t size) { return (size + 15) / 16 * 16; }

/* The sums of a frame as those of a convolution over its high bytes, or over its low ones. */
static kws_op dense_op(const kws_op* op) {
  kws_op dense;
  memset(&dense, 0, sizeof dense);
  dense.options = op->options;
  kws_options* o = &dense.options;
  o->kind = KWS_PACKED_DENSE;
  o->sum_bytes = 0;
  o->has_window = true;
  o->window = (kws_window){{(int32_t)o->inputs, 1}, {(int32_t)o->sample_stride, 1}, {1, 1}, {0, 0, 0, 0}};
  dense.channels = dense.batch = dense.width = dense.out_width = 1;
  dense.height = (int32_t)kws_waveform_span(o);
  dense.out_height = (int32_t)o->average;
  dense.rows = (size_t)dense.height;
  dense.weights = op->weights;
  dense.channel_parameters = op->channel_parameters;
  return dense;
}

bool kws_waveform_runs(const kws_op* op) {
  const kws_op dense = dense_op(op);
  return kws_choose(&dense);
}

/* Where things lie in scratch memory: bytes of a frame, its sums, and what the dense kernels need. */
typedef struct {
  size_t high, low, high_sums, low_sums, dense, total;
} places;

static places find_places(const kws_op* op) {
  const size_t span = aligned((size_t)kws_waveform_span(&op->options));
  const size_t sums = aligned(sizeof(int32_t) * op->options.average * op->options.outputs);
  const kws_op dense = dense_op(op);
  places at;
  at.high = 0;
  at.low = at.high + span;
  at.high_sums = at.low + span;
  at.low_sums = at.high_sums + sums;
  at.dense = at.low_sums + sums;
  at.total = at.dense + kws_scratch_bytes(kws_choose(&dense), &dense) + 15; /* and what aligns the beginning */
  return at;
}

size_t kws_waveform_scratch(const kws_op* op) { return find_places(op).total; }

/* Low bytes lie 128 below what they are, so that they fit a signed byte. */
static void split(const int16_t* x, size_t count, int8_t* high, int8_t* low) {
  for (size_t i = 0; i < count; ++i) {
    const uint16_t bits = (uint16_t)x[i];
    high[i] = (int8_t)(uint8_t)(bits >> 8);
    low[i] = (int8_t)(uint8_t)((bits & 0xFF) ^ 0x80);
  }
}

/* All frames, by the reference or, where that is NULL, by the fastest kernel of dense layers. */
static void run_frames(const kws_op* op, kws_kernel_fn reference) {
  const kws_options* o = &op->options;
  const places at = find_places(op);
  uint8_t* const scratch = (uint8_t*)op->scratch + (16 - (uintptr_t)op->scratch % 16) % 16;
  int8_t *const high = (int8_t*)scratch + at.high, *const low = (int8_t*)scratch + at.low;
  int32_t* const high_sums = (int32_t*)(void*)(scratch + at.high_sums);
  int32_t* const low_sums = (int32_t*)(void*)(scratch + at.low_sums);
  kws_op dense = dense_op(op);
  dense.scratch = scratch + at.dense;
  const kws_kernel_fn multiply = reference ? reference : kws_choose(&dense)->run;
  const size_t span = (size_t)kws_waveform_span(o), hop = (size_t)o->sample_stride * o->average;
  const size_t sums = (size_t)o->average * o->outputs;
  const uint8_t* const weight_sums =
      op->channel_parameters + (size_t)o->outputs * (size_t)(o->gain_bytes + o->bias_bytes);
  const uint64_t quiet = o->multiplier[1];
  const int32_t none = log2_of(quiet);
  int8_t* y = op->y;
  for (int32_t sample = 0; sample < op->batch; ++sample) {
    const int16_t* x = (const int16_t*)(const void*)op->x[0] + (size_t)sample * (size_t)op->height;
    for (int32_t frame = 0; frame < op->out_height; ++frame, x += hop, y += o->outputs) {
      split(x, span, high, low);
      for (int half = 0; half < 2; ++half) {
        dense.x[0] = half ? low : high;
        dense.sums = half ? low_sums : high_sums;
        dense.y = (int8_t*)dense.sums;
        multiply(&dense);
      }
      for (uint32_t c = 0; c < o->outputs; ++c) {
        const uint32_t below = (uint32_t)kws_read_signed(weight_sums, c, o->sum_bytes) << 7;
        uint64_t total = quiet;
        for (size_t i = c; i < sums; i += o->outputs) {
          const uint32_t acc = ((uint32_t)high_sums[i] << 8) + (uint32_t)low_sums[i] + below;
          total += acc >> 31 ? 0u - acc : acc;
        }
        y[c] = kws_requantize(op, (uint32_t)(log2_of(total) - none), c);
      }
    }
  }
}

#if KWS_REFERENCE
void kws_waveform_ref(const kws_op* op) { run_frames(op, kws_packed_dense_ref); }
#endif

void kws_waveform(const kws_op* op) { run_frames(op, NULL); }

#endif
