/* Frames that the host computed: make_features.py writes them. */
#include <stdio.h>

#include "frames.h"
#include "kws_spotter.h"

static FILE* file;

bool frames_open(void) {
  file = fopen("frames.bin", "rb");
  if (!file) printf("frames.bin is missing; README.md says how to make it\n");
  return file;
}

bool frames_next(int8_t* frame) { return fread(frame, 1, KWS_SPOTTER_MEL_BINS, file) == KWS_SPOTTER_MEL_BINS; }
