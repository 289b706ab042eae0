/* Runs generated inference once between the markers of benchmarks/arm/count.c. */
#include <stdio.h>
#include <string.h>

#include "kws_inference.h"
#include "marks.h"

static uint8_t arena[KWS_INFERENCE_ARENA_BYTES] __attribute__((aligned(16)));

int main(void) {
  memset(arena, 0x11, sizeof arena);
  MARK_BEGIN();
  const bool good = kws_inference_run(arena);
  MARK_END();
  printf("arena %lu\n", (unsigned long)sizeof arena);
  return good ? 0 : 1;
}
