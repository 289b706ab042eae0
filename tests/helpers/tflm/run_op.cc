// Drives one op through its TFLM registration: init, prepare and invoke as the interpreter would call them.
//
// usage: run_op CASES: the file of tests/arm/run_cases.c. With a second argument, an option byte is broken first.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include "shims/tflm/micro_ops.h"

using namespace tfmot_kws;

namespace {
TfLiteEvalTensor tensors[4];
TfLiteIntArray dims[4];
std::vector<char> scratch;
std::vector<std::vector<char>> kept;
int persistent, requests;

void* Allocate(TfLiteContext*, std::size_t bytes) {
  persistent += static_cast<int>(bytes);
  kept.emplace_back(bytes);
  return kept.back().data();
}
TfLiteStatus Request(TfLiteContext*, std::size_t bytes, int* handle) {
  scratch.assign(bytes, 0);
  *handle = 7;
  ++requests;
  return kTfLiteOk;
}
void* Get(TfLiteContext*, int handle) { return handle == 7 ? scratch.data() : nullptr; }
TfLiteEvalTensor* Tensor(const TfLiteContext*, int index) { return &tensors[index]; }

int Fail(const char* what, int number) {
  std::printf("case %d: %s\n", number, what);
  return 1;
}
}  // namespace

void MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}

int main(int argc, char** argv) {
  std::FILE* file = argc > 1 ? std::fopen(argv[1], "rb") : nullptr;
  std::int32_t count = 0, header[15];
  if (file == nullptr || std::fread(&count, 4, 1, file) != 1) return 3;
  TfLiteContext context = {Allocate, Request, Get, Tensor};
  const TFLMRegistration* op = Register_TfmotKwsPackedDense();
  for (int number = 0; number < count; ++number) {
    if (std::fread(header, 4, 15, file) != 15) return 3;
    std::vector<char> parts[5];
    for (int k = 0; k < 5; ++k) {
      parts[k].resize(static_cast<std::size_t>(header[1 + k]));
      if (std::fread(parts[k].data(), 1, parts[k].size(), file) != parts[k].size()) return 3;
    }
    const bool constant = argc > 2 && !std::strcmp(argv[2], "constant");
    if (argc > 2 && !constant) parts[0][9] = 9;  // bits
    std::vector<std::int8_t> y(parts[4].size());
    const int rank = header[8];
    dims[0].size = dims[3].size = rank;
    for (int i = 0; i < rank; ++i) dims[0].data[i] = dims[3].data[i] = header[9 + i];
    dims[3].data[rank - 1] = static_cast<int>(y.size());
    for (int i = 0; i + 1 < rank; ++i) dims[3].data[rank - 1] /= dims[3].data[i];
    for (int k = 1; k < 3; ++k) dims[k] = {1, {header[2 + k]}};
    for (int k = 0; k < 4; ++k)
      tensors[k] = {{k < 3      ? static_cast<void*>(parts[1 + k].data())
                     : constant ? y.data()
                                : nullptr},
                    &dims[k],
                    k == 1 || k == 2 ? kTfLiteUInt8 : kTfLiteInt8};
    TfLiteIntArray inputs = {3, {0, 1, 2}}, outputs = {1, {3}};
    TfLiteNode node = {&inputs, &outputs, nullptr, nullptr};
    node.user_data = op->init(&context, parts[0].data(), parts[0].size());
    if (node.user_data == nullptr) return Fail("init failed", number);
    if (op->prepare(&context, &node) != kTfLiteOk) return Fail("prepare failed", number);
    tensors[3].data.data = y.data();  // as TFLM does: memory is planned after all ops are prepared
    if (op->invoke(&context, &node) != kTfLiteOk) return Fail("invoke failed", number);
    if (std::memcmp(y.data(), parts[4].data(), y.size())) return Fail("wrong output", number);
  }
  std::printf("good %d, %d bytes an op, scratch %s\n", count, persistent / count, requests ? "asked for" : "never");
  return 0;
}
