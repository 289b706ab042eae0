// Writes the frames that examples/firmware/frames_audio.c makes to frames_made.bin.
#include <stdio.h>

#include "frames.h"
#include "kws_spotter.h"

int main(void) {
  int8_t frame[KWS_SPOTTER_MEL_BINS];
  FILE* file = fopen("frames_made.bin", "wb");
  if (!file || !frames_open()) return 1;
  while (frames_next(frame)) fwrite(frame, 1, sizeof frame, file);
  return fclose(file) ? 1 : 0;
}
