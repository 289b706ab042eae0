#include "kws_external.h"

#include <string.h>

size_t kws_external_bytes(const kws_external_config* config) {
  size_t bytes = (size_t)config->hop * (size_t)config->frame_bytes;
  for (int32_t i = 0; i < config->state_count; ++i) bytes += (size_t)config->states[i].bytes;
  return bytes;
}

bool kws_external_begin(kws_external* stream, const kws_external_config* config, int8_t* memory, size_t bytes) {
  if (bytes < kws_external_bytes(config)) return false;
  const kws_external made = {config, memory, config->lead, config->early};
  *stream = made;
  const size_t waiting = (size_t)config->hop * (size_t)config->frame_bytes;
  memset(memory, config->frame_zero, waiting);
  memory += waiting;
  for (int32_t i = 0; i < config->state_count; memory += config->states[i].bytes, ++i)
    memset(memory, config->states[i].zero, (size_t)config->states[i].bytes);
  return true;
}

int32_t kws_external_frame(kws_external* stream, const kws_external_network* network, const int8_t* frame,
                           const int8_t** rows) {
  const kws_external_config* config = stream->config;
  const size_t bytes = (size_t)config->frame_bytes, waiting = (size_t)config->hop * bytes;
  memcpy(stream->memory + (size_t)stream->frames * bytes, frame, bytes);
  if (++stream->frames < config->hop) return 0;
  stream->frames = 0;
  int8_t* state = stream->memory + waiting;
  memcpy(network->input(network->context, 0), stream->memory, waiting);
  for (int32_t i = 0; i < config->state_count; state += config->states[i].bytes, ++i)
    memcpy(network->input(network->context, config->states[i].input), state, (size_t)config->states[i].bytes);
  if (!network->run(network->context)) return -1;
  state = stream->memory + waiting;
  for (int32_t i = 0; i < config->state_count; state += config->states[i].bytes, ++i)
    memcpy(state, network->output(network->context, config->states[i].output), (size_t)config->states[i].bytes);
  const int32_t skipped = stream->early < config->rows ? stream->early : config->rows;
  stream->early -= skipped;
  *rows = network->output(network->context, config->output) + skipped * config->row_bytes;
  return config->rows - skipped;
}
