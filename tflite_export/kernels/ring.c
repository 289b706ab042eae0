/* Memory of a stream: the frames before, then the new ones. The new frames replace the oldest where they lie, so that a
 * call moves what it gives and the new frames, and no more. */
#include <string.h>

#include "packed_kernels.h"

void kws_ring(const kws_op* op) {
  const size_t kept = op->options.outputs, fresh = (size_t)op->height;
  const size_t frame = op->output_bytes / (kept + fresh);
  uint8_t* const frames = op->state + KWS_RING_HEAD;
  uint8_t* y = (uint8_t*)op->y;
  size_t oldest = op->state[0] | (size_t)op->state[1] << 8;
  if (!oldest || oldest > kept) { /* the first call; nothing else is trusted to lie inside either */
    memset(frames, op->options.output_zero_point, kept * frame);
    oldest = 1;
  }
  --oldest;
  memcpy(y, frames + oldest * frame, (kept - oldest) * frame);
  memcpy(y + (kept - oldest) * frame, frames, oldest * frame);
  memcpy(y + kept * frame, op->x[0], fresh * frame);
  if (fresh >= kept) {
    memcpy(frames, op->x[0] + (fresh - kept) * frame, kept * frame);
    oldest = 0;
  } else {
    const size_t room = kept - oldest, first = fresh < room ? fresh : room;
    memcpy(frames + oldest * frame, op->x[0], first * frame);
    memcpy(frames, op->x[0] + first * frame, (fresh - first) * frame);
    oldest = fresh < room ? oldest + fresh : fresh - first;
  }
  op->state[0] = (uint8_t)(oldest + 1);
  op->state[1] = (uint8_t)((oldest + 1) >> 8);
}
