/* Runs the front end on cases.bin, memory of exactly the sizes that a case says: each either gives what it should, or
 * is refused where its sizes do not belong together. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../tfmot_kws/frontend/c/microfrontend.h"

enum { ARRAYS = 9, NUMBERS = 8 };

enum { REFUSED, RIGHT, ANY };

static FILE* file;

static void* take(int64_t count, size_t size) {
  void* bytes = malloc(count ? (size_t)count * size : 1); /* fewer than a byte's worth is read of none */
  if (!bytes || fread(bytes, size, (size_t)count, file) != (size_t)count) exit(2);
  return bytes;
}

static int64_t number(void) {
  int64_t x;
  if (fread(&x, sizeof x, 1, file) != 1) exit(3);
  return x;
}

static int run(void) {
  const size_t sizes[ARRAYS] = {2, 2, 2, 2, 4, 4, 4, 4, 4};
  int64_t counts[ARRAYS];
  void* arrays[ARRAYS];
  for (int i = 0; i < ARRAYS; i++) arrays[i] = take(counts[i] = number(), sizes[i]);
  int32_t numbers[NUMBERS];
  if (fread(numbers, sizeof *numbers, NUMBERS, file) != NUMBERS) exit(4);
  const kws_frontend_tables tables = {
      arrays[0],  arrays[1],  arrays[2],  arrays[3],  arrays[4],  arrays[5],  arrays[6],  arrays[7],  arrays[8],
      counts[0],  counts[1],  counts[2],  counts[3],  counts[4],  counts[5],  counts[6],  counts[7],  counts[8],
      numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7],
  };
  const int64_t audio_count = number(), clips = number(), samples = number(), hop = number();
  const int64_t estimate_count = number(), features_count = number(), spare = number(), good = number();
  int16_t* audio = take(audio_count, sizeof *audio);
  int64_t *estimate = take(estimate_count, sizeof *estimate), *after = take(estimate_count, sizeof *after);
  uint16_t* expected = take(features_count, sizeof *expected);
  uint16_t* features = malloc(features_count ? (size_t)features_count * sizeof *features : 1);
  int64_t bytes = kws_frontend_scratch(&tables) + spare;
  if (bytes < 0) bytes = 0;
  char* scratch = malloc((size_t)bytes + 1);
  if (!features || !scratch) exit(5);
  const int32_t status = kws_frontend_features(&tables, audio, audio_count, clips, samples, hop, estimate,
                                               estimate_count, features, features_count, scratch + 1, bytes);
  int right = good == ANY || (status == KWS_FRONTEND_OK) == (good == RIGHT);
  if (good == RIGHT && right)
    right = !memcmp(features, expected, (size_t)features_count * sizeof *features) &&
            !memcmp(estimate, after, (size_t)estimate_count * sizeof *estimate);
  for (int i = 0; i < ARRAYS; i++) free(arrays[i]);
  free(audio);
  free(estimate);
  free(after);
  free(expected);
  free(features);
  free(scratch);
  return right;
}

int main(void) {
  file = fopen("cases.bin", "rb");
  if (!file) return 1;
  const int64_t cases = number();
  for (int64_t i = 0; i < cases; i++) {
    if (!run()) {
      printf("case %" PRId64 " differs\n", i);
      return 6;
    }
  }
  printf("done %" PRId64 "\n", cases);
  return 0;
}
