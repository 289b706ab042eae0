/* Runs every kernel of this build on cases from a file and compares each output with the reference's.
 *
 * usage: run_cases [FILE]     FILE is cases.bin where there is no command line (bare metal)
 *
 * The file is little-endian: int32 count, then for each case int32 kind, sizes of options, x, weights (or a second x),
 * channel parameters and y in bytes, misalignment of x and of the weights, rank of x and six dims; then the bytes
 * themselves. Every tensor gets a block of exactly its size, so that a sanitizer sees one byte too far. Prints, for
 * each kernel, its name, the cases that it ran and the cases that came out wrong. Floats must have the same bits, but
 * for NaN and zero. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "packed_kernels.h"

enum { MAX_KERNELS = 64, SHOWN = 3 };

typedef struct {
  int32_t kind, sizes[5], misaligned[2], rank, dims[KWS_MAX_RANK];
} header;

/* A block of exactly `size` bytes that starts `shift` bytes past an aligned address. */
static uint8_t* block(size_t size, int32_t shift, void** owner) {
  *owner = malloc(size + (size_t)shift + !size);
  if (!*owner) exit(3);
  return (uint8_t*)*owner + shift;
}

static void read_exactly(void* to, size_t size, FILE* file) {
  if (size && fread(to, 1, size, file) != size) {
    printf("the file of cases ends early\n");
    exit(3);
  }
}

/* Turns little-endian elements of `width` bytes into the machine's own. */
static void to_host(uint8_t* bytes, size_t size, int width) {
  for (uint8_t* const end = bytes + size; bytes < end; bytes += width) {
    const uint32_t low = width > 1 ? bytes[0] | (uint32_t)bytes[1] << 8 : bytes[0];
    const uint16_t two = (uint16_t)low;
    const uint32_t four = width > 2 ? low | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24 : 0;
    if (width == 2) memcpy(bytes, &two, sizeof two);
    if (width == 4) memcpy(bytes, &four, sizeof four);
  }
}

/* The first of n elements that is not the expected one; n if there is none. */
static size_t first_wrong(bool floats, const uint8_t* y, const uint8_t* expected, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    uint32_t a, b;
    if (!floats) {
      if (y[i] != expected[i]) return i;
      continue;
    }
    memcpy(&a, y + 4 * i, sizeof a);
    memcpy(&b, expected + 4 * i, sizeof b);
    const bool both_nan = a << 1 > 0xFF000000u && b << 1 > 0xFF000000u, both_zero = !(a << 1) && !(b << 1);
    if (a != b && !both_nan && !both_zero) return i;
  }
  return n;
}

static long shown(bool floats, const uint8_t* y, size_t i) {
  int32_t bits;
  if (!floats) return (int8_t)y[i];
  memcpy(&bits, y + 4 * i, sizeof bits);
  return bits;
}

int main(int argc, char** argv) {
  static int ran[MAX_KERNELS], wrong[MAX_KERNELS];
  FILE* file = fopen(argc > 1 ? argv[1] : "cases.bin", "rb");
  int32_t count = 0, failures = 0;
  if (!file || kws_kernel_count > MAX_KERNELS) return 3;
  setvbuf(file, NULL, _IOFBF, 1 << 16);
  read_exactly(&count, sizeof count, file);
  to_host((uint8_t*)&count, sizeof count, 4);
  for (int32_t i = 0; i < count; ++i) {
    header h;
    void* owners[5];
    uint8_t* data[5];
    read_exactly(&h, sizeof h, file);
    to_host((uint8_t*)&h, sizeof h, 4);
    for (int k = 0; k < 5; ++k) {
      data[k] = block((size_t)h.sizes[k], k == 1 ? h.misaligned[0] : k == 2 ? h.misaligned[1] : 0, &owners[k]);
      read_exactly(data[k], (size_t)h.sizes[k], file);
    }
    const bool floats = data[0][2] == KWS_MODE_DYNAMIC;
    const int32_t type = floats ? KWS_FLOAT32 : KWS_INT8, input_type = h.kind == KWS_WAVEFORM ? KWS_INT16 : type;
    const bool dense = h.kind == KWS_PACKED_DENSE || h.kind == KWS_RECURRENT || h.kind == KWS_WAVEFORM;
    const bool pair = h.kind == KWS_ADD || h.kind == KWS_MULTIPLY;
    to_host(data[1], (size_t)h.sizes[1], input_type == KWS_INT16 ? 2 : floats ? 4 : 1);
    if (pair) to_host(data[2], (size_t)h.sizes[2], floats ? 4 : 1);
    to_host(data[4], (size_t)h.sizes[4], floats ? 4 : 1);
    const size_t count_y = (size_t)h.sizes[4] / (floats ? 4 : 1);
    const int32_t bytes[2] = {h.sizes[2], h.sizes[3]};
    kws_call call = {.kind = (kws_kind)h.kind, .options = data[0], .options_bytes = (size_t)h.sizes[0]};
    const bool channels = h.kind == KWS_PACKED_DENSE || h.kind == KWS_DEPTHWISE || h.kind == KWS_WAVEFORM;
    call.input_count = channels ? 3 : pair || dense ? 2 : 1;
    call.inputs[0] = (kws_tensor){input_type, h.rank, h.dims, (size_t)h.sizes[1], data[1]};
    for (int k = 0; k < 2; ++k)
      call.inputs[1 + k] =
          (kws_tensor){!dense && (floats || !k) ? type : KWS_UINT8, 1, &bytes[k], (size_t)bytes[k], data[2 + k]};
    if (pair) call.inputs[1] = (kws_tensor){type, h.rank, h.dims, (size_t)h.sizes[2], data[2]};
    kws_op op;
    kws_error error = {0, 0, 0};
    if (!kws_prepare(&op, &call, &error)) {
      printf("case %ld was refused: %s (%ld, %ld)\n", (long)i, error.message, error.found, error.wanted);
      return 2;
    }
    for (size_t k = 0; k < kws_kernel_count; ++k) {
      const kws_kernel* kernel = &kws_kernels[k];
      if (!kws_kernel_suits(kernel, &op)) continue;
      void *output_owner, *scratch_owner;
      call.scratch_bytes = kws_scratch_bytes(kernel, &op);
      call.scratch = block(call.scratch_bytes, 0, &scratch_owner);
      uint8_t* y = block((size_t)h.sizes[4], 0, &output_owner);
      memset(y, 0x55, (size_t)h.sizes[4]);
      const kws_tensor output = {type, op.rank, op.dims, (size_t)h.sizes[4], y};
      const bool good = kws_invoke_kernel(kernel, &call, &output, &error);
      ++ran[k];
      const size_t at = first_wrong(floats, y, data[4], count_y);
      if (!good || at < count_y) {
        ++wrong[k];
        if (++failures <= SHOWN) {
          const size_t one = at < count_y ? at : 0;
          printf("# %s, case %ld: %d bits, grid %d, layout %d, %lu -> %lu, output %lu is %ld, should be %ld%s\n",
                 kernel->name, (long)i, op.options.bits, op.options.grid, op.options.layout,
                 (unsigned long)op.options.inputs, (unsigned long)op.options.outputs, (unsigned long)one,
                 shown(floats, y, one), shown(floats, data[4], one), good ? "" : ", refused");
        }
      }
      free(output_owner);
      free(scratch_owner);
    }
    for (int k = 0; k < 5; ++k) free(owners[k]);
  }
  fclose(file);
  for (size_t k = 0; k < kws_kernel_count; ++k)
    if (ran[k]) printf("%s %d %d\n", kws_kernels[k].name, ran[k], wrong[k]);
  kws_error broken = {0, 0, 0};
  if (!kws_self_test(&broken)) {
    printf("# self-test: %s (%ld, %ld)\n", broken.message, broken.found, broken.wanted);
    ++failures;
  }
  printf("done %ld\n", (long)count);
  return failures ? 1 : 0;
}
