/* Runs hops of a streaming model and its detector between the markers of benchmarks/arm/count.c.
 *
 * Without BY_LAYER each hop is a region, and each step of the detector behind it. With it (linked with
 * --wrap=kws_invoke,--wrap=kws_ring_step) each layer of each hop is a region, and "kinds" says which it was. */
#include <stdio.h>
#include <string.h>

#include "detector.h"
#include "kws_inference.h"
#include "kws_spotter.h"
#include "marks.h"
#include "packed_kernels.h"

enum { FIRST = 64, HOPS = 32, MOST = 32 * HOPS }; /* the first ones fill the rings */

static uint8_t arena[KWS_INFERENCE_ARENA_BYTES] __attribute__((aligned(16)));
static kws_detector detector;
static int16_t history[KWS_SPOTTER_HISTORY];

static uint32_t seed = 1;
static void fill(uint8_t* to, size_t count) {
  while (count--) {
    seed = seed * 1664525u + 1013904223u;
    *to++ = (uint8_t)(seed >> 24);
  }
}

#ifdef BY_LAYER
static int kinds[MOST], count = -1;

bool __real_kws_invoke(const kws_call* call, const kws_tensor* output, kws_error* error);
bool __wrap_kws_invoke(const kws_call* call, const kws_tensor* output, kws_error* error);
bool __wrap_kws_invoke(const kws_call* call, const kws_tensor* output, kws_error* error) {
  if (count < 0 || count == MOST) return __real_kws_invoke(call, output, error);
  kinds[count++] = (int)call->kind;
  MARK_BEGIN();
  const bool good = __real_kws_invoke(call, output, error);
  MARK_END();
  return good;
}

void __real_kws_ring_step(uint8_t* state, const int8_t* x, int8_t* to, size_t kept, size_t fresh, size_t frame,
                          int fill);
void __wrap_kws_ring_step(uint8_t* state, const int8_t* x, int8_t* to, size_t kept, size_t fresh, size_t frame,
                          int fill);
void __wrap_kws_ring_step(uint8_t* state, const int8_t* x, int8_t* to, size_t kept, size_t fresh, size_t frame,
                          int fill) {
  if (count < 0 || count == MOST) {
    __real_kws_ring_step(state, x, to, kept, fresh, frame, fill);
    return;
  }
  kinds[count++] = KWS_RING;
  MARK_BEGIN();
  __real_kws_ring_step(state, x, to, kept, fresh, frame, fill);
  MARK_END();
}
#endif

int main(void) {
  bool good = kws_detector_init(&detector, &kws_spotter_detector, history, KWS_SPOTTER_HISTORY);
  kws_inference_reset(arena);
  for (int hop = 0; hop < FIRST + HOPS; ++hop) {
    fill(arena + KWS_INFERENCE_INPUT_0_OFFSET, KWS_INFERENCE_INPUT_0_BYTES);
#ifdef BY_LAYER
    if (hop == FIRST) count = 0;
    good &= kws_inference_run(arena);
#else
    if (hop >= FIRST) MARK_BEGIN();
    good &= kws_inference_run(arena);
    if (hop >= FIRST) MARK_END();
    if (hop >= FIRST) MARK_BEGIN();
    kws_detector_step(&detector, (const int8_t*)arena + KWS_INFERENCE_OUTPUT_0_OFFSET);
    if (hop >= FIRST) MARK_END();
#endif
  }
#ifdef BY_LAYER
  printf("kinds");
  for (int i = 0; i < count; ++i) printf(" %d", kinds[i]);
  printf("\n");
#else
  printf("arena %d state %d scratch %d detector %d\n", (int)sizeof arena, KWS_INFERENCE_STATE_BYTES,
         (int)KWS_INFERENCE_SCRATCH_BYTES, (int)(sizeof detector + sizeof history));
#endif
  return good ? 0 : 1;
}
