/* A stream whose network remembers nothing: frames wait until a step has all of them, and what the network has to
 * remember goes out of one run and into the next. For 'tfmot-kws npu --stream', whose network an Ethos-U runs.
 *
 *     static int8_t memory[KWS_NPU_MEMORY_BYTES];
 *     kws_external stream;
 *     if (!kws_external_begin(&stream, &kws_npu_stream, memory, sizeof memory)) stop();
 *     for (;;) {
 *       const int8_t* rows;
 *       const int32_t count = kws_external_frame(&stream, &network, next_frame(), &rows);
 *       if (count < 0) stop();
 *       for (int32_t i = 0; i < count; ++i) use(rows + i * kws_npu_stream.row_bytes);
 *     }
 *
 * Nothing is left in the network's inputs and outputs between two runs, because an interpreter may put several of them
 * into the same bytes: an output copied straight into an input could overwrite another output. No allocation. */
#ifndef KWS_EXTERNAL_H_
#define KWS_EXTERNAL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that go from an output of the network to an input of it; `zero` is what they begin with. */
typedef struct {
  int32_t input, output, bytes;
  int8_t zero;
} kws_external_state;

/* Of a model, as 'tfmot-kws npu --c-array' writes it. Frames go to input 0. */
typedef struct {
  int32_t hop, lead, frame_bytes;         /* Frames of a run; of the first, how many are there already; of a frame. */
  int8_t frame_zero;                      /* What those that are there already are made of. */
  int32_t output, rows, early, row_bytes; /* Rows of a run; how many first ones mean nothing; of a row. */
  const kws_external_state* states;
  int32_t state_count;
} kws_external_config;

/* What runs the network. Inputs and outputs are numbered as the file has them. */
typedef struct {
  void* context;
  int8_t* (*input)(void* context, int32_t index);
  const int8_t* (*output)(void* context, int32_t index);
  bool (*run)(void* context);
} kws_external_network;

/* A stream; its fields are its own. */
typedef struct {
  const kws_external_config* config;
  int8_t* memory;
  int32_t frames, early;
} kws_external;

/* Bytes of memory that a stream needs. */
size_t kws_external_bytes(const kws_external_config* config);

/* Forgets all frames. False where `bytes` of memory are not enough. */
bool kws_external_begin(kws_external* stream, const kws_external_config* config, int8_t* memory, size_t bytes);

/* The next frame [frame_bytes]: how many rows it completes, mostly 0; -1 where the network does not run. The rows lie
 * in the network's output until it runs again. */
int32_t kws_external_frame(kws_external* stream, const kws_external_network* network, const int8_t* frame,
                           const int8_t** rows);

#ifdef __cplusplus
}
#endif

#endif /* KWS_EXTERNAL_H_ */
