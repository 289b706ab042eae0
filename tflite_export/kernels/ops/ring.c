/* Memory of a stream: the frames before, then the new ones. The new frames replace the oldest where they lie, so that a
 * call moves what it gives and the new frames, and no more. */
#include <string.h>

#include "../include/packed_kernels.h"

#if KWS_RINGS || KWS_HAS_KIND(9)

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>

/* C libraries copy words; vectors take a third of the instructions. */
static void copy(uint8_t* to, const uint8_t* from, size_t count) {
  for (int32_t left = (int32_t)count; left > 0; left -= 16, to += 16, from += 16) {
    const mve_pred16_t some = vctp8q((uint32_t)left);
    vstrbq_p_u8(to, vldrbq_z_u8(from, some), some);
  }
}
#else
static void copy(uint8_t* to, const uint8_t* from, size_t count) { memcpy(to, from, count); }
#endif

void kws_ring_step(uint8_t* state, const int8_t* x, int8_t* to, size_t kept, size_t fresh, size_t frame, int fill) {
  uint8_t* const frames = state + KWS_RING_HEAD;
  const uint8_t* news = (const uint8_t*)x;
  uint8_t* y = (uint8_t*)to;
  size_t oldest = state[0] | (size_t)state[1] << 8;
  if (!oldest || oldest > kept) { /* the first call; nothing else is trusted to lie inside either */
    memset(frames, fill, kept * frame);
    oldest = 1;
  }
  --oldest;
  copy(y, frames + oldest * frame, (kept - oldest) * frame);
  copy(y + (kept - oldest) * frame, frames, oldest * frame);
  copy(y + kept * frame, news, fresh * frame);
  if (fresh >= kept) {
    copy(frames, news + (fresh - kept) * frame, kept * frame);
    oldest = 0;
  } else {
    const size_t room = kept - oldest, first = fresh < room ? fresh : room;
    copy(frames + oldest * frame, news, first * frame);
    copy(frames, news + first * frame, (fresh - first) * frame);
    oldest = fresh < room ? oldest + fresh : fresh - first;
  }
  state[0] = (uint8_t)(oldest + 1);
  state[1] = (uint8_t)((oldest + 1) >> 8);
}

#if KWS_HAS_KIND(9)
static void run(const kws_op* op) {
  const size_t kept = op->options.outputs, fresh = (size_t)op->height;
  const size_t frame = op->output_bytes / (kept + fresh);
  kws_ring_step(op->state, op->x[0], op->y, kept, fresh, frame, op->options.output_zero_point);
}

#if KWS_STATIC
void kws_ring(const kws_op* op) { run(op); }
#endif

/* Frames are bytes here, and zeros the value before the first call. */
#if KWS_DYNAMIC
void kws_ring_of_floats(const kws_op* op) { run(op); }
#endif
#endif

#endif
