/* Runs the detector on cases from a file and prints its events: one line "case step keyword sum" for each.
 *
 * usage: run_detector [FILE]     FILE is detector.bin where there is no command line (bare metal)
 *
 * The file: int32 count, then for each case int32 classes, keywords, window, refractory, zero point, margin and steps;
 * int32 classes of the keywords, int32 thresholds; int8 outputs [steps, classes]. Every array gets a block of exactly
 * its size, so that a sanitizer sees one element too far. */
#include <stdio.h>
#include <stdlib.h>

#include "detector.h"

static void* read_block(size_t size, FILE* file) {
  void* block = malloc(size + !size);
  if (!block || (size && fread(block, 1, size, file) != size)) exit(3);
  return block;
}

static void run_case(int32_t number, FILE* file) {
  int32_t* head = read_block(7 * sizeof *head, file);
  const size_t keywords = (size_t)head[1], count = KWS_DETECTOR_HISTORY(head[1], head[2]);
  int32_t* classes = read_block(keywords * sizeof *classes, file);
  int32_t* thresholds = read_block(keywords * sizeof *thresholds, file);
  int16_t* history = malloc(count * sizeof *history);
  int8_t* outputs = malloc((size_t)head[0]);
  const kws_detector_config config = {head[0], head[1], classes, thresholds, head[2], head[3], head[4], head[5] != 0};
  kws_detector detector;
  if (!history || !outputs || kws_detector_init(&detector, &config, history, count - 1)) exit(4);
  if (!kws_detector_init(&detector, &config, history, count)) exit(5);
  for (int32_t step = 0; step < head[6]; ++step) {
    if (fread(outputs, 1, (size_t)head[0], file) != (size_t)head[0]) exit(3);
    const int32_t found = kws_detector_step(&detector, outputs);
    if (found < 0) continue;
    printf("%ld %ld %ld %ld\n", (long)number, (long)step, (long)found, (long)kws_detector_sum(&detector, found));
  }
  free(head);
  free(classes);
  free(thresholds);
  free(history);
  free(outputs);
}

int main(int argc, char** argv) {
  FILE* file = fopen(argc > 1 ? argv[1] : "detector.bin", "rb");
  if (!file) return 3;
  int32_t* count = read_block(sizeof *count, file);
  for (int32_t i = 0; i < *count; ++i) run_case(i, file);
  printf("done %ld\n", (long)*count);
  free(count);
  fclose(file);
  return 0;
}
