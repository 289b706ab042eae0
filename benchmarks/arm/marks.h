/* Instructions that do nothing, for benchmarks/arm/count.c to find: hints without a meaning, and a long no-op on x86.
 */
#ifndef TFMOT_KWS_MARKS_H_
#define TFMOT_KWS_MARKS_H_

#if defined(__aarch64__)
#define MARK_BEGIN() __asm__ volatile("hint #0x60" ::: "memory")
#define MARK_END() __asm__ volatile("hint #0x61" ::: "memory")
#elif defined(__thumb__)
#define MARK_BEGIN() __asm__ volatile(".inst.n 0xbf80" ::: "memory")
#define MARK_END() __asm__ volatile(".inst.n 0xbf90" ::: "memory")
#elif defined(__arm__)
#define MARK_BEGIN() __asm__ volatile(".inst 0xe320f010" ::: "memory")
#define MARK_END() __asm__ volatile(".inst 0xe320f011" ::: "memory")
#else
#define MARK_BEGIN() __asm__ volatile(".byte 0x0f, 0x1f, 0x40, 0x60" ::: "memory")
#define MARK_END() __asm__ volatile(".byte 0x0f, 0x1f, 0x40, 0x61" ::: "memory")
#endif

#endif
