/* Runs a table of layers one after another: inference without an interpreter.
 *
 * tflite_export/c/inference.py makes the table from a .tflite file: every size in it is known, so that nothing is
 * allocated or planned on the device. All activations lie in one array, the arena, where the writer found places that
 * do not overlap while they are needed; the table itself and all constants lie in flash. */
#ifndef TFMOT_KWS_LAYERS_H_
#define TFMOT_KWS_LAYERS_H_

#include "packed_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor in flash (data), or in the arena (data is NULL, and offset says where). */
typedef struct {
  const void* data;
  size_t offset, bytes;
  int32_t type, rank, dims[KWS_MAX_RANK];
} kws_operand;

/* Copies `dims` bytes along six axes, with steps in bytes; the inner axes come last. */
typedef struct {
  size_t from, to; /* offsets in the arena */
  int32_t dims[KWS_MAX_RANK];
  ptrdiff_t from_step[KWS_MAX_RANK], to_step[KWS_MAX_RANK];
} kws_move;

/* One op (options set). Without options, for the table's sizes were checked when it was made: a ring, or copies (kind
 * 0) after the output was filled with one value. */
typedef struct {
  const uint8_t* options;
  uint8_t kind, input_count, move_count;
  int8_t fill;
  kws_operand inputs[KWS_MAX_INPUTS], output;
  const kws_move* moves;
} kws_layer;

/* Runs them. The scratch memory is arena[scratch .. scratch + scratch_bytes - 1]. False: error says why, and *failed is
 * the number of the layer; with a table from the writer, only a build without the kernel for a layout can cause that.
 */
bool kws_run_layers(const kws_layer* layers, size_t count, uint8_t* arena, size_t scratch, size_t scratch_bytes,
                    size_t* failed, kws_error* error);

#ifdef __cplusplus
}
#endif
#endif
