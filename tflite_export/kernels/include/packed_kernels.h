/* Integer kernels of a keyword spotter with 1..8-bit weights: parameters, sizes and byte layouts.
 *
 * Plain C99. Nothing here allocates memory, keeps state or knows a framework. A shim fills kws_tensor views, calls
 * kws_prepare() once to have every size checked, and kws_invoke() for each run.
 *
 * WEIGHTS are codes of 1..8 bits, packed as weight_layout.h shows by example. The integer weight of a code u is
 * a u - b: 2u - (2^bits - 1) on the mid-rise grid, u - 2^(bits - 1) on the mid-tread grid.
 *
 * CHANNEL PARAMETERS, by example
 *
 * All gains, then all biases, each one or two bytes, then, where the input's zero point is not 0, the sums of each
 * channel's integer weights, two or four bytes; two's complement, little-endian. Gains {1, -2} in one byte, biases
 * {300, -1} and sums {-3, 7} in two:  01 FE 2C 01 FF FF FD FF 07 00
 *
 * STATE of a ring, which keeps frames of a stream for the next call, by example
 *
 * Two bytes, little-endian: 0 before the first call, else 1 + the place of the oldest frame; then the frames. Three
 * frames of two bytes, the oldest at place 1:  02 00  31 32 11 12 21 22
 *
 * RECURRENT LAYERS have their two kernels in one constant: the packed rows of the kernel, those of the recurrent kernel
 * (of a GRU that resets ahead of the product: those of its first two gates, then those of the last), and then the
 * channel parameters of each of these. Sums of weights are there for the first alone. The state, which a stream keeps,
 * is two bytes, little-endian, that count the rows skipped since the reset, then the last output, a byte a unit, and an
 * LSTM's cells or a GRU's state, two bytes a unit. A stream begins
 * with zeros. A state that is no variable goes out behind the rows, as a flat output.
 *
 * FILTERS over samples take int16 and have weights and channel parameters as a dense layer has, with sums of weights;
 * waveform.c says what they compute.
 *
 * DYNAMIC MODE: inputs and outputs are float32, and a dense layer quantizes its inputs row by row; see dynamic.h.
 * Weights lie as above, but the last block of a tile has only the inputs that there are: 39 inputs of 4 bits take 2
 * blocks of 64 bytes and one of 4 x 7. Codes of 16 bits lie row by row, as int16 less by 32768. The channel parameters
 * are gains, biases (none where there is no bias), sums, and on the linear grid the codes that stand for zero, one byte
 * each, or two of 16-bit weights.
 *
 * BYTE ORDER: options, constants (weights, channel parameters, tables; floats too) and states are little-endian on
 * every machine, as files have them. Activations are in the machine's own order.
 *
 * The layout of the options is in options.h.
 */
#ifndef TFMOT_KWS_PACKED_KERNELS_H_
#define TFMOT_KWS_PACKED_KERNELS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/build.h"
#if defined(__ARM_BIG_ENDIAN) && \
    (defined(__ARM_NEON) || defined(__ARM_FEATURE_MVE) || (defined(__ARM_FEATURE_DSP) && __ARM_ARCH_PROFILE == 'M'))
#error "the kernels for Arm's vectors and DSP extension are little-endian: build for a big-endian core without these"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* How packed weights lie; values are part of the file format. */
enum { KWS_LAYOUT_ROWS = 0, KWS_LAYOUT_PAIRS = 1, KWS_LAYOUT_DSP = 2, KWS_LAYOUT_WORDS = 3, KWS_LAYOUT_END = 4 };

enum { KWS_MAX_RANK = 6, KWS_MAX_INPUTS = 3 };

/* Values are part of the file format. */
typedef enum {
  KWS_PACKED_DENSE = 1,
  KWS_DEPTHWISE = 2,
  KWS_LOOKUP = 3,
  KWS_SOFTMAX = 4,
  KWS_ADD = 5,
  KWS_MULTIPLY = 6,
  KWS_AVERAGE_POOL = 7,
  KWS_MAX_POOL = 8,
  KWS_RING = 9,
  KWS_RECURRENT = 10,
  KWS_WAVEFORM = 11,
  KWS_KIND_END = 12
} kws_kind;

/* On the linear grid every channel has a code of its own that stands for zero; dynamic mode only. */
typedef enum { KWS_MID_RISE = 0, KWS_MID_TREAD = 1, KWS_LINEAR_GRID = 2 } kws_grid;

/* int8 in and out; or float in and out, and integers inside of dense layers only. */
typedef enum { KWS_MODE_STATIC = 0, KWS_MODE_DYNAMIC = 1, KWS_MODE_END = 2 } kws_mode;

/* Functions of one float. */
typedef enum {
  KWS_LINEAR = 0,
  KWS_RELU = 1,
  KWS_RELU6 = 2,
  KWS_SIGMOID = 3,
  KWS_TANH = 4,
  KWS_FUNCTION_END = 5
} kws_function;

/* Cells of a recurrent layer. A GRU resets its state ahead of the product with its weights, or behind. */
typedef enum { KWS_LSTM = 1, KWS_GRU = 2, KWS_GRU_RESET_AFTER = 3, KWS_SIMPLE_CELL = 4, KWS_CELL_END = 5 } kws_cell;

/* Element types, numbered as TfLiteType is. */
enum { KWS_FLOAT32 = 1, KWS_UINT8 = 3, KWS_INT16 = 7, KWS_INT8 = 9 };

/* Bytes of a ring's state ahead of its frames, and of a recurrent layer's ahead of its numbers. */
enum { KWS_RING_HEAD = 2, KWS_RECURRENT_HEAD = 2 };

/* Custom code of a kind ("TfmotKwsPackedDense"); NULL where there is none. */
const char* kws_op_name(int kind);

/* Kind of a custom code; 0 where it is none of ours. */
int kws_op_kind(const char* name);

/* Bytes of packed weights; 0 where a size is out of range or would overflow. */
size_t kws_packed_size(uint32_t outputs, uint32_t inputs, int bits, int layout);

/* Bytes of the packed weights of dynamic quantization, 1..8 or 16 bits; 0 as above. */
size_t kws_tight_size(uint32_t outputs, uint32_t inputs, int bits);

/* Bytes of the channel parameters; a zero has 0 bytes but on the linear grid. */
size_t kws_channels_size(uint32_t outputs, int gain_bytes, int bias_bytes, int sum_bytes, int zero_bytes);

/* Window over (height, width); padding is top, bottom, left, right. */
typedef struct {
  int32_t size[2], stride[2], dilation[2], padding[4];
} kws_window;

/* The options of one op, decoded; options.h has the bytes. */
typedef struct {
  kws_kind kind;
  kws_mode mode;
  int activation_min, activation_max;
  int input_zero_point[2], output_zero_point;
  int bits, grid, layout, gain_bytes, bias_bytes, sum_bytes, bias_shift, shift;
  uint32_t multiplier[2];
  uint32_t outputs, inputs;
  bool has_window;
  kws_window window;
  int cell;       /* of a recurrent layer: kws_cell, and what follows */
  bool sequences; /* each row is an output; else the last alone */
  bool external;  /* the state goes in, and out behind the rows */
  uint32_t skip;  /* rows after a reset that leave the state at zero */
  int recurrent_bias_shift, recurrent_shift;
  uint32_t sample_stride, average; /* of filters over samples: between two sums, and sums in a frame */
  int input_bits, function;        /* dynamic mode */
  float unit[2];                   /* of gain and bias; dynamic mode */
} kws_options;

/* A tensor as a framework holds it. data may be NULL in kws_prepare() where it is not allocated yet. */
typedef struct {
  int32_t type;        /* KWS_INT8, KWS_INT16, KWS_UINT8, KWS_FLOAT32 or anything else */
  int32_t rank;        /* with the batch axis */
  const int32_t* dims; /* [rank] */
  size_t bytes;        /* what may be read or written at data */
  void* data;
} kws_tensor;

/* One call of one op. Inputs: x and then, by kind, weights and channel parameters, a table, a second x, or
 * the state, which the call changes, as their last one. */
typedef struct {
  kws_kind kind;
  const uint8_t* options;
  size_t options_bytes;
  int input_count;
  kws_tensor inputs[KWS_MAX_INPUTS];
  void* scratch; /* kws_scratch_bytes() of them; may be NULL where that is 0 */
  size_t scratch_bytes;
} kws_call;

/* What a kernel needs. Every size in it was checked against the tensors. */
typedef struct {
  kws_options options;
  int32_t rank, dims[KWS_MAX_RANK]; /* shape of the output */
  size_t output_bytes;
  int32_t output_type;
  int32_t channels;             /* last axis of the first input */
  size_t rows;                  /* product of its other axes */
  int32_t batch, height, width; /* picture of a windowed op; a [time, channels] picture is one wide */
  int32_t out_height, out_width;
  size_t stride[2][KWS_MAX_RANK]; /* of both inputs of add and multiply, 0 along a broadcast axis */
  void* scratch;
  const int8_t* x[2];     /* floats in dynamic mode; samples are int16 */
  uint8_t* state;         /* of a ring, or of a recurrent layer that keeps one */
  const uint8_t* weights; /* packed codes; int8 levels or floats [taps, outputs]; a table */
  const uint8_t* channel_parameters;
  int8_t* y;     /* floats in dynamic mode */
  int16_t* wide; /* outputs of a dense layer inside a recurrent one, with y at the same address; else NULL */
  int32_t* sums; /* the same, accumulators as they are, inside of filters over samples; else NULL */
} kws_op;

/* Which input of a call is a state: 0 where none is. */
int kws_state_input(kws_kind kind, int input_count);

/* Why something was refused, and the two numbers that do not agree. */
typedef struct {
  const char* message;
  long found, wanted;
} kws_error;

/* Checks options and tensors and fills op, its output shape included. False: error says why. */
bool kws_prepare(kws_op* op, const kws_call* call, kws_error* error);

/* What a processor may have or lack while the program runs. */
typedef enum { KWS_CPU_ANY, KWS_CPU_DOTPROD, KWS_CPU_I8MM, KWS_CPU_AVX2, KWS_CPU_AVXVNNI, KWS_CPU_AVX512VNNI } kws_cpu;

/* Whether this processor has it. */
bool kws_cpu_has(kws_cpu feature);

/* Scratch that a kernel needs: nothing, one row of inputs, or one of 16-bit lanes; and a bit for each layout that a
 * kernel reads. */
typedef enum {
  KWS_SCRATCH_NONE,
  KWS_SCRATCH_ROW,
  KWS_SCRATCH_WIDE_ROW,
  KWS_SCRATCH_CODES,          /* of dynamic quantization */
  KWS_SCRATCH_CODES_AND_WIDE, /* and a row of 16-bit lanes */
  KWS_SCRATCH_RECURRENT,      /* the state, pre-activations, and what its dense kernels need */
  KWS_SCRATCH_WAVEFORM        /* bytes of a frame, its sums, and what its dense kernels need */
} kws_scratch;
enum {
  KWS_ROWS = 1 << KWS_LAYOUT_ROWS,
  KWS_PAIRS = 1 << KWS_LAYOUT_PAIRS,
  KWS_DSP = 1 << KWS_LAYOUT_DSP,
  KWS_WORDS = 1 << KWS_LAYOUT_WORDS,
  KWS_ALL = (1 << KWS_LAYOUT_END) - 1,
  KWS_FLOATS = 1 << KWS_LAYOUT_END,            /* for the dynamic mode, and for no other */
  KWS_WHOLE_WORDS = 1 << (KWS_LAYOUT_END + 1), /* for weights at addresses of 32-bit words alone */
  KWS_SHORT_ROWS = 1 << (KWS_LAYOUT_END + 2)   /* for rows of at most KWS_SHORT_ROW inputs alone */
};
enum { KWS_SHORT_ROW = 1 << 16 };

typedef void (*kws_kernel_fn)(const kws_op* op);

/* One compiled kernel; later ones of the same kind are faster. Tests and benchmarks go through all of them. */
typedef struct {
  kws_kind kind;
  const char* name;
  kws_kernel_fn run;
  unsigned layouts;
  kws_cpu cpu;
  kws_scratch scratch;
} kws_kernel;

extern const kws_kernel kws_kernels[];
extern const size_t kws_kernel_count;

/* Whether a kernel can run a prepared op on this processor. */
bool kws_kernel_suits(const kws_kernel* kernel, const kws_op* op);

/* The fastest kernel for a prepared op. Every op has one: kws_prepare() refuses those for which a build lacks it. */
const kws_kernel* kws_choose(const kws_op* op);

/* Scratch bytes that a kernel needs for a prepared op: 0, or one row of inputs, widened where the kernel does that. 0
 * of no kernel. */
size_t kws_scratch_bytes(const kws_kernel* kernel, const kws_op* op);

/* kws_prepare(), a check of the output tensor and of the scratch, and the fastest kernel there is. */
bool kws_invoke(const kws_call* call, const kws_tensor* output, kws_error* error);

/* kws_invoke() with a kernel of the caller's choice. */
bool kws_invoke_kernel(const kws_kernel* kernel, const kws_call* call, const kws_tensor* output, kws_error* error);

/* Runs a small dense layer of every width, in every layout of this build, and a depthwise one, by every kernel of this
 * build, and compares with what the reference computes: a compiler, a flag or a memory that breaks a kernel shows at
 * boot and not as a deaf device. Takes less than 3 KB of stack and a few milliseconds. False: error says which kernel,
 * or what was refused. */
bool kws_self_test(kws_error* error);

/* What the kernel of a ring does, for callers that know all sizes: `to` gets the `kept` frames before and the `fresh`
 * new ones of x, `frame` bytes each, and the state keeps the last ones. Frames before the first are filled with `fill`.
 */
void kws_ring_step(uint8_t* state, const int8_t* x, int8_t* to, size_t kept, size_t fresh, size_t frame, int fill);

#define KWS_KERNEL(kind, function, layouts, cpu, scratch) void function(const kws_op* op);
#include "../core/kernels.inc"
#undef KWS_KERNEL

#ifdef __cplusplus
}
#endif
#endif
