/* Options of all our custom ops: 56 bytes, little-endian, the same layout for every kind.
 *
 * Fields that a kind does not use must be zero. tflite_export/packed/op_options.py is the twin.
 *
 *     offset type    field                     example: 4-bit dense 256 -> 128, ReLU
 *     0      uint8   version                   02
 *     1      uint8   kind (kws_kind)           01
 *     2      uint8   mode (kws_mode)           00         int8 in and out, static quantization
 *     3      uint8   length of all this        38         56
 *     4      int8    activation_min            80         -128
 *     5      int8    activation_max            7F         127
 *     6      int8    zero point of input 0     FD         -3
 *     7      int8    zero point of input 1     00
 *     8      int8    zero point of the output  80         -128
 *     9      uint8   bits of a weight          04
 *     10     uint8   grid (kws_grid)           00         mid-rise
 *     11     uint8   bytes of a gain           01
 *     12     uint8   bytes of a bias           02
 *     13     uint8   bias_shift                0C         12
 *     14     uint8   shift                     20         32
 *     15     uint8   1 where there is a window 00
 *     16     uint32  multiplier 0              00 00 01 00
 *     20     uint32  multiplier 1              00 00 00 00
 *     24     uint32  outputs (channels)        80 00 00 00     of a ring: the frames that it keeps
 *     28     uint32  inputs of one output      00 01 00 00
 *     32     uint16  window size (height, width), stride, dilation, padding (top, bottom, left, right)
 *                    of a recurrent layer instead: cell (kws_cell), 1 where each row is an output, rows to skip,
 *                    bias_shift and shift of the recurrent kernel, 1 where the state goes in and out, zeros
 *                    of filters over samples instead: samples from one sum to the next, sums in a frame, zeros
 *     52     uint8   layout of weights         00         rows
 *     53     uint8   bytes of a sum of weights 02         the input's zero point is not 0, or it is samples
 *     54     uint8   bits of quantized inputs  00         dynamic mode only
 *     55     uint8   function (kws_function)   00         dynamic mode only
 *     56
 *
 * A recurrent layer has gates times units outputs; multiplier 1 is that of its recurrent kernel, and both kernels have
 * the same widths of gains and biases. Its activation range is that of its output.
 *
 * Multiplier 1 of filters over samples is the floor of their logarithm; inputs of one output are their taps.
 *
 * In dynamic mode the multipliers are the units of gain and bias, as float32.
 */
#ifndef TFMOT_KWS_OPTIONS_H_
#define TFMOT_KWS_OPTIONS_H_

#include "../include/packed_kernels.h"

enum { KWS_OPTIONS_VERSION = 2, KWS_OPTIONS_BYTES = 56 };

/* Decodes and checks the bytes alone. False: error says why. */
bool kws_parse_options(kws_options* options, const uint8_t* bytes, size_t size, kws_error* error);

/* Inputs of a call, but for a state that only some have; 0 where the kind has no such mode. */
int kws_input_count(kws_kind kind, kws_mode mode);

#endif
