/* What the programs that count kernels share: random bytes, the same in every run, and numbers in options. */
#ifndef BENCHMARKS_ARM_DRAW_H_
#define BENCHMARKS_ARM_DRAW_H_

#include <stdint.h>

static uint32_t state = 1;
static uint8_t draw(void) {
  state = state * 1664525u + 1013904223u;
  return (uint8_t)(state >> 24);
}

static void put_u32(uint8_t* to, uint32_t v) {
  for (int i = 0; i < 4; ++i) to[i] = (uint8_t)(v >> 8 * i);
}

#endif
