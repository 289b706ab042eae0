/* Average and maximum over windows. Only places inside the picture count. */
#include "../core/requantize.h"
#include "../core/window.h"
#include "../include/packed_kernels.h"

#if KWS_STATIC && (KWS_HAS_KIND(7) || KWS_HAS_KIND(8))

#if KWS_HAS_KIND(7)
/* floor(total * multiplier / (count * 2^shift) + 1/2) above the zero point; no places: the real value zero. */
static int8_t mean(const kws_options* o, int64_t total, int64_t count) {
  const int64_t divisor = count ? count : 1, half = divisor << o->shift;
  const int64_t scaled = kws_shift_right(2 * total * (int64_t)o->multiplier[0] + half, o->shift + 1);
  /* Values beyond +-512 are clipped whatever they are, and others are no negative numbers once 512 is added. */
  const int64_t most = 512 * divisor, within = scaled < -most ? -most : scaled >= most ? most - 1 : scaled;
  const int64_t value = (int64_t)kws_short_quotient((uint64_t)(within + most), (uint64_t)divisor, 10) - 512;
  return kws_saturate(value, o->output_zero_point, o->activation_min, o->activation_max);
}

#endif

static int8_t pool(const kws_op* op, const int8_t* x, const kws_span* v, const kws_span* h, bool average) {
  const kws_window* w = &op->options.window;
  const size_t channels = (size_t)op->channels;
  int64_t total = 0, count = 0;
  int most = -128;
  for (int32_t i = 0; i < v->last - v->first; ++i) {
    for (int32_t j = 0; j < h->last - h->first; ++j) {
      const size_t row = (size_t)(v->start + (int64_t)i * w->dilation[0]);
      const size_t column = (size_t)(h->start + (int64_t)j * w->dilation[1]);
      const int value = x[(row * (size_t)op->width + column) * channels];
      total += value - op->options.input_zero_point[0];
      most = value > most ? value : most;
      ++count;
    }
  }
#if KWS_HAS_KIND(7)
  if (average) return mean(&op->options, total, count);
#endif
  (void)average, (void)total, (void)count; /* where there is no mean */
  return (int8_t)most;
}

static void for_each_window(const kws_op* op, bool average) {
  const size_t channels = (size_t)op->channels;
  const size_t picture = (size_t)op->height * (size_t)op->width * channels;
  int8_t* y = op->y;
  for (int32_t i = 0; i < op->batch; ++i) {
    for (int32_t row = 0; row < op->out_height; ++row) {
      const kws_span v = kws_window_span(&op->options.window, 0, row, op->height);
      for (int32_t column = 0; column < op->out_width; ++column) {
        const kws_span h = kws_window_span(&op->options.window, 1, column, op->width);
        for (size_t c = 0; c < channels; ++c) *y++ = pool(op, op->x[0] + (size_t)i * picture + c, &v, &h, average);
      }
    }
  }
}

#if KWS_HAS_KIND(7)
void kws_average_pool_ref(const kws_op* op) { for_each_window(op, true); }
#endif

#if KWS_HAS_KIND(8)
void kws_max_pool_ref(const kws_op* op) { for_each_window(op, false); }
#endif

#endif
