/* What a build of the kernels has: everything, unless kws_config.h or a compiler's -D says less.
 *
 * What is left out and asked for all the same is refused by kws_prepare() with a message that names the macro. */
#ifndef TFMOT_KWS_BUILD_H_
#define TFMOT_KWS_BUILD_H_

#include "kws_config.h"

/* 1 where what follows lists all that some models use: references, and kernels that faster ones always go before, are
 * left out then, and most messages. */
#ifndef KWS_LISTED
#define KWS_LISTED 0
#endif

/* Widths of packed weights, bit b for b bits: -DKWS_WIDTHS=(1 << 4 | 1 << 8), say. */
#ifndef KWS_WIDTHS
#define KWS_WIDTHS 0x1FE
#endif

/* Ops: bit k for the kws_kind k. */
#ifndef KWS_KINDS
#define KWS_KINDS 0xFFE
#endif

/* Layouts of packed weights: bit l for KWS_LAYOUT_ROWS and so on. */
#ifndef KWS_LAYOUTS
#define KWS_LAYOUTS 0xF
#endif

/* The mode of int8, and that of dynamic quantization, which needs the C library's floats. */
#ifndef KWS_STATIC
#define KWS_STATIC 1
#endif
#ifndef KWS_DYNAMIC
#define KWS_DYNAMIC 1
#endif

/* Ops with windows: convolutions and pools. */
#ifndef KWS_WINDOWS
#define KWS_WINDOWS 1
#endif

/* Depthwise layers with several outputs a channel. */
#ifndef KWS_DEPTHWISE_ANY
#define KWS_DEPTHWISE_ANY 1
#endif

/* Weights of 16 bits, in the mode of dynamic quantization. */
#ifndef KWS_SHORTS
#define KWS_SHORTS 1
#endif

/* Cells of recurrent layers: bit c for the kws_cell c. Functions of floats: bit f for the kws_function f. */
#ifndef KWS_CELLS
#define KWS_CELLS 0x1E
#endif
#ifndef KWS_FUNCTIONS
#define KWS_FUNCTIONS 0x1F
#endif

/* Rings and copies in a table of layers, which have no options. */
#ifndef KWS_RINGS
#define KWS_RINGS 1
#endif
#ifndef KWS_COPIES
#define KWS_COPIES 1
#endif

/* Rows of more than 2^16 inputs, which some kernels leave to slower ones. */
#ifndef KWS_LONG_ROWS
#define KWS_LONG_ROWS 1
#endif

/* Kernels that define results, slowly; what has no other kernel is there all the same. */
#ifndef KWS_REFERENCE
#define KWS_REFERENCE (!KWS_LISTED)
#endif

/* All messages of kws_error, or only those about what a build leaves out. */
#ifndef KWS_MESSAGES
#define KWS_MESSAGES (!KWS_LISTED)
#endif

/* ---- What follows from that. Numbers are those of kws_kind and of the layouts. */

#define KWS_HAS_KIND(kind) (KWS_KINDS >> (kind) & 1)
#define KWS_HAS_LAYOUT(layout) (KWS_LAYOUTS >> (layout) & 1)
#define KWS_HAS_WIDTH(bits) (KWS_WIDTHS >> (bits) & 1)
#define KWS_HAS_RECURRENT (KWS_STATIC && KWS_HAS_KIND(10))
#define KWS_HAS_WAVEFORM (KWS_STATIC && KWS_HAS_KIND(11))

/* A function for a width, or none; what nothing points to is left out by compilers. */
#define KWS_WITH_WIDTH(bits, function) (KWS_HAS_WIDTH(bits) ? (function) : NULL)

/* The functions name1 .. name8, a table by width; and what DO(bits, of) defines for each. */
#define KWS_BY_WIDTH(name)     \
  {NULL,                       \
   KWS_WITH_WIDTH(1, name##1), \
   KWS_WITH_WIDTH(2, name##2), \
   KWS_WITH_WIDTH(3, name##3), \
   KWS_WITH_WIDTH(4, name##4), \
   KWS_WITH_WIDTH(5, name##5), \
   KWS_WITH_WIDTH(6, name##6), \
   KWS_WITH_WIDTH(7, name##7), \
   KWS_WITH_WIDTH(8, name##8)}
#define KWS_FOR_WIDTHS(DO, of) DO(1, of) DO(2, of) DO(3, of) DO(4, of) DO(5, of) DO(6, of) DO(7, of) DO(8, of)

/* Dense kernels serve recurrent layers and filters over samples as well, and of these the latter have windows. */
#define KWS_DENSE_STATIC (KWS_STATIC && (KWS_HAS_KIND(1) || KWS_HAS_KIND(10) || KWS_HAS_KIND(11)))
#define KWS_DENSE_DYNAMIC (KWS_DYNAMIC && KWS_HAS_KIND(1))
#define KWS_DENSE_WINDOWS (KWS_WINDOWS || KWS_HAS_WAVEFORM)

/* Instruction sets of kernels. */
#if defined(__ARM_FEATURE_MVE)
#define KWS_ISA_MVE 1
#else
#define KWS_ISA_MVE 0
#endif
#if defined(__ARM_FEATURE_DSP) && __ARM_ARCH_PROFILE == 'M' && !KWS_ISA_MVE
#define KWS_ISA_DSP 1
#else
#define KWS_ISA_DSP 0
#endif
#if defined(__ARM_NEON)
#define KWS_ISA_NEON 1
#else
#define KWS_ISA_NEON 0
#endif
#if defined(__aarch64__)
#define KWS_ISA_A64 1
#else
#define KWS_ISA_A64 0
#endif

/* Compilers have known AVX-VNNI since gcc 11 and clang 12. */
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : defined(__GNUC__) && __GNUC__ >= 11)
#define KWS_ISA_AVXVNNI 1
#else
#define KWS_ISA_AVXVNNI 0
#endif

/* Dense kernels in plain C, and the reference: where all models are to run, or no other kernel here takes them all. */
#define KWS_FASTER_THAN_C (KWS_ISA_MVE || KWS_ISA_NEON || (KWS_ISA_DSP && !KWS_LONG_ROWS))
#define KWS_NEEDS_C (!KWS_LISTED || (KWS_HAS_LAYOUT(0) && !KWS_FASTER_THAN_C))
#define KWS_NEEDS_REFERENCE                                                                         \
  (KWS_REFERENCE || KWS_HAS_LAYOUT(1) || (KWS_HAS_LAYOUT(2) && !(KWS_ISA_DSP && !KWS_LONG_ROWS)) || \
   (KWS_HAS_LAYOUT(3) && !KWS_ISA_A64))

#endif
