/* What the checks ahead of a kernel share. */
#ifndef TFMOT_KWS_CHECK_H_
#define TFMOT_KWS_CHECK_H_

#include "../include/packed_kernels.h"

/* Returns false and says why in `error`, unless the condition holds: of what a build leaves out. */
#define CHECK_BUILT(condition, text, is, should) \
  do {                                           \
    if (!(condition)) {                          \
      error->message = (text);                   \
      error->found = (long)(is);                 \
      error->wanted = (long)(should);            \
      return false;                              \
    }                                            \
  } while (0)

/* The same of everything else. */
#if KWS_MESSAGES
#define CHECK(condition, text, is, should) CHECK_BUILT(condition, text, is, should)
#else
#define CHECK(condition, text, is, should)                         \
  do {                                                             \
    (void)sizeof(text), (void)sizeof((long)(is) - (long)(should)); \
    if (!(condition)) return kws_refuse(error);                    \
  } while (0)

/* Returns false, and says how to have the reason said. */
bool kws_refuse(kws_error* error);
#endif

/* a * b, or 0 where that does not fit. */
static inline size_t kws_product(size_t a, size_t b) { return b && a > (size_t)-1 / b ? 0 : a * b; }

#endif
