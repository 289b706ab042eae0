/* Instructions of the DSP extension and the loops made of them: dots of one block row, by the width that is stored.
 *
 * For dense_dsp.c alone, inside its #if. */
#ifndef TFMOT_KWS_DENSE_DSP_H_
#define TFMOT_KWS_DENSE_DSP_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A loop that is unrolled in assembly is one string, and longer than the 4095 characters that C99 asks of compilers.
 * Those that take GNU's assembly take it of any length. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* One instruction each. */
static inline uint32_t sxtb16(uint32_t v) {
  uint32_t r;
  __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(v));
  return r;
}
static inline uint32_t sxtb16_odd(uint32_t v) {
  uint32_t r;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
  return r;
}
static inline uint32_t smlad(uint32_t a, uint32_t b, uint32_t sum) {
  uint32_t r;
  __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(sum));
  return r;
}
/* A word at any address, with LDR and not LDM or LDRD. */
static inline uint32_t load_weights(const uint32_t* p) {
  uint32_t v;
  __asm__("ldr %0, %1" : "=r"(v) : "m"(*p));
  return v;
}
static inline uint32_t add_lanes(uint32_t a, uint32_t b) {
  uint32_t r;
  __asm__("sadd16 %0, %1, %2" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
static inline uint32_t load_word(const int8_t* p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

/* ---- Dots of one block row: n inputs, a multiple of 16, of what widen() makes of a row.
 * Returns the weights that follow. */
typedef const uint32_t* dots_function(const uint32_t* w, const uint32_t* x, size_t n, int32_t* dots);

/* A function that is its assembly and nothing else. `naked` alone keeps out the compiler's own prologue, but not what
 * flags put into every function: stack canaries, -finstrument-functions and -pg, -fprofile-arcs, coverage. */
#if defined(__has_attribute)
#define HAS_ATTRIBUTE(name) __has_attribute(name)
#else
#define HAS_ATTRIBUTE(name) 0
#endif
#if HAS_ATTRIBUTE(no_stack_protector)
#define NO_CANARY __attribute__((no_stack_protector))
#elif !defined(__clang__) /* before GCC 11 */
#define NO_CANARY __attribute__((optimize("no-stack-protector")))
#else
#define NO_CANARY
#endif
#if HAS_ATTRIBUTE(no_profile_instrument_function)
#define NO_PROFILE __attribute__((no_profile_instrument_function))
#else
#define NO_PROFILE
#endif
#if HAS_ATTRIBUTE(no_sanitize_coverage)
#define NO_COVERAGE __attribute__((no_sanitize_coverage))
#elif defined(__clang__)
#define NO_COVERAGE __attribute__((no_sanitize("coverage")))
#else
#define NO_COVERAGE
#endif
#define ASSEMBLY_ONLY NO_CANARY NO_PROFILE NO_COVERAGE __attribute__((naked, noinline, no_instrument_function))

/* The arguments are in r0 (w), r1 (x), r2 (n) and r3 (dots), the result in r0. */
#define DOTS_FUNCTION(name)                                                            \
  ASSEMBLY_ONLY static const uint32_t* name(const uint32_t* w __attribute__((unused)), \
                                            const uint32_t* x __attribute__((unused)), \
                                            size_t n __attribute__((unused)), int32_t* dots __attribute__((unused)))

#if KWS_DENSE_STATIC && KWS_HAS_LAYOUT(2)

#define AND(to, from) "and " to ", r2, " from "\n"
#define SMLAD(sum, weights, inputs) "smlad " sum ", " weights ", " inputs ", " sum "\n"

/* Keeps `dots` at [sp] and the end of x at [sp, #36]; leaves (n / 16) % 4 in r3. */
#define ENTER                 \
  "add r12, r1, r2, lsl #1\n" \
  "push {r3-r12, lr}\n"       \
  "ubfx r3, r2, #4, #2\n"
#define LEAVE "pop {r4-r12, pc}\n"

/* Runs BLOCK, which takes 16 inputs, four times a turn; jumps into the first turn where n is no multiple of 64. */
#define FOUR_BLOCKS(BLOCK, CHECK_END)                  \
  "cbz r3, 1f\n cmp r3, #2\n blo 4f\n beq 3f\n b 2f\n" \
  "1:\n" BLOCK "2:\n" BLOCK "3:\n" BLOCK "4:\n" BLOCK CHECK_END "bne 1b\n"

/* clang-format off */

/* Two words: two rows each of the same two inputs. Sums: r4, r6 rows 0 and 2; r5, r7 these and 256 times the next. */
#define PAIRS_8(first, second, inputs) \
  "uxtb16 lr, " first "\n"  SMLAD("r5", first, inputs)  SMLAD("r4", "lr", inputs) \
  "uxtb16 lr, " second "\n" SMLAD("r7", second, inputs) SMLAD("r6", "lr", inputs)
#define FOUR_INPUTS_8 \
  "ldm r0!, {r8-r11}\n ldrd r3, r12, [r1], #8\n" PAIRS_8("r8", "r9", "r3") PAIRS_8("r10", "r11", "r12")
#define BLOCK_8 FOUR_INPUTS_8 FOUR_INPUTS_8 FOUR_INPUTS_8 FOUR_INPUTS_8

DOTS_FUNCTION(dots_8) {
  __asm__ volatile(
      ENTER "mov r2, r12\n"
      "movs r4, #0\n movs r5, #0\n movs r6, #0\n movs r7, #0\n"
      FOUR_BLOCKS(BLOCK_8, "cmp r1, r2\n")
      "subs r5, r4\n asrs r5, r5, #8\n subs r7, r6\n asrs r7, r7, #8\n"
      "pop {r3}\n stm r3, {r4-r7}\n" LEAVE);
}

/* Two words of four rows and two inputs. Sums: r4, r5, r6 rows 0, 1, 2; r7 the word as it is. */
#define TWO_WORDS_4(first, second) \
  "ldrd r3, r12, [r1], #8\n" \
  AND("lr", first)             SMLAD("r7", first, "r3")   SMLAD("r4", "lr", "r3") \
  AND("lr", first ", lsr #4")  AND(first, first ", lsr #8") \
  SMLAD("r5", "lr", "r3")      AND("lr", second)          SMLAD("r6", first, "r3") \
  SMLAD("r7", second, "r12")   SMLAD("r4", "lr", "r12") \
  AND("lr", second ", lsr #4") AND(second, second ", lsr #8") \
  SMLAD("r5", "lr", "r12")     SMLAD("r6", second, "r12")
#define EIGHT_INPUTS_4 "ldm r0!, {r8-r11}\n" TWO_WORDS_4("r8", "r9") TWO_WORDS_4("r10", "r11")
#define BLOCK_4 EIGHT_INPUTS_4 EIGHT_INPUTS_4

DOTS_FUNCTION(dots_4) {
  __asm__ volatile(
      ENTER "mov r2, #0x000F000F\n"
      "movs r4, #0\n movs r5, #0\n movs r6, #0\n movs r7, #0\n"
      FOUR_BLOCKS(BLOCK_4, "ldr lr, [sp, #36]\n cmp r1, lr\n")
      "subs r7, r4\n sub r7, r7, r5, lsl #4\n sub r7, r7, r6, lsl #8\n asrs r7, r7, #12\n"
      "pop {r3}\n stm r3, {r4-r7}\n" LEAVE);
}

/* Two words: three rows each of the same two inputs. Sums: r4, r5 rows 0, 1; r6 the first word as it is; r7, r8 rows 3
 * and 4; r9 the second word as it is. */
#define WORD_5(word, inputs, first, second, raw) \
  AND("lr", word) SMLAD(raw, word, inputs) SMLAD(first, "lr", inputs) AND("lr", word ", lsr #5") SMLAD(second, "lr", inputs)
#define TWO_INPUTS_5(inputs) \
  "ldrd r10, r11, [r0], #8\n" WORD_5("r10", inputs, "r4", "r5", "r6") WORD_5("r11", inputs, "r7", "r8", "r9")
#define FOUR_INPUTS_5 "ldrd r3, r12, [r1], #8\n" TWO_INPUTS_5("r3") TWO_INPUTS_5("r12")
#define BLOCK_5 FOUR_INPUTS_5 FOUR_INPUTS_5 FOUR_INPUTS_5 FOUR_INPUTS_5

DOTS_FUNCTION(dots_5) {
  __asm__ volatile(
      ENTER "lsls r3, r3, #31\n mov r2, #0x001F001F\n"
      "mov r4, #0\n mov r5, #0\n mov r6, #0\n mov r7, #0\n mov r8, #0\n mov r9, #0\n"
      "bne 2f\n"
      "1:\n" BLOCK_5 "2:\n" BLOCK_5 "ldr lr, [sp, #36]\n cmp r1, lr\n bne 1b\n"
      "subs r6, r4\n sub r6, r6, r5, lsl #5\n asrs r6, r6, #10\n"
      "sub r9, r9, r7\n sub r9, r9, r8, lsl #5\n asr r9, r9, #10\n"
      "pop {r3}\n stm r3, {r4-r9}\n" LEAVE);
}

/* A word of four rows and four inputs. Sums of a chunk: r4 row 0 and, 16 bits up, row 1; r5 rows 2 and 3. */
#define WORD_2(word) \
  "ldrd r3, r12, [r1], #8\n" \
  AND("lr", word)             SMLAD("r4", "lr", "r3")  AND("lr", word ", ror #4")  SMLAD("r5", "lr", "r3") \
  AND("lr", word ", ror #8")  SMLAD("r4", "lr", "r12") AND("lr", word ", ror #12") SMLAD("r5", "lr", "r12")
#define EIGHT_INPUTS_2 "ldrd r10, r11, [r0], #8\n" WORD_2("r10") WORD_2("r11")
#define BLOCK_2 EIGHT_INPUTS_2 EIGHT_INPUTS_2
#define CHUNK_2 "ldr r4, [r1], #4\n mov r5, r4\n"

DOTS_FUNCTION(dots_2) {
  __asm__ volatile(
      "add r12, r2, #31\n lsr r12, r12, #5\n add r12, r2, r12, lsl #1\n"  /* lanes of x and of the chunks' constants */
      "add r12, r1, r12, lsl #1\n add r12, r12, #4\n"
      "push {r3-r12, lr}\n"
      "ldr r6, [r1], #4\n mov r8, r6\n movs r7, #0\n mov r9, r7\n"
      "lsls r3, r2, #27\n"
      "movw r2, #0xC003\n movt r2, #0xC003\n"
      "beq 1f\n" CHUNK_2 "b 2f\n"
      "1:\n" CHUNK_2 BLOCK_2 "2:\n" BLOCK_2
      "uxtah r6, r6, r4\n add r7, r7, r4, asr #16\n uxtah r8, r8, r5\n add r9, r9, r5, asr #16\n"
      "ldr lr, [sp, #36]\n cmp r1, lr\n bne 1b\n"
      "asrs r6, r6, #2\n asr r8, r8, #2\n"
      "pop {r3}\n stm r3, {r6-r9}\n" LEAVE);
}

/* A word of eight rows and four inputs. Sums of a chunk: r4 row 0 and, 15 bits up, row 1; r5 rows 2 and 3 ... */
#define FOUR_ROWS_1(word, inputs, a, b, c, d) \
  AND("lr", word ", ror #" a) SMLAD("r4", "lr", inputs) AND("lr", word ", ror #" b) SMLAD("r5", "lr", inputs) \
  AND("lr", word ", ror #" c) SMLAD("r6", "lr", inputs) AND("lr", word ", ror #" d) SMLAD("r7", "lr", inputs)
#define WORD_1(word, first, second) \
  AND("lr", word) SMLAD("r4", "lr", first) AND("lr", word ", ror #2") SMLAD("r5", "lr", first) \
  AND("lr", word ", ror #4") SMLAD("r6", "lr", first) AND("lr", word ", ror #6") SMLAD("r7", "lr", first) \
  FOUR_ROWS_1(word, second, "8", "10", "12", "14")
#define EIGHT_INPUTS_1 "ldrd r3, r12, [r0], #8\n ldm r1!, {r8-r11}\n" WORD_1("r3", "r8", "r9") WORD_1("r12", "r10", "r11")
#define BLOCK_1 EIGHT_INPUTS_1 EIGHT_INPUTS_1
#define ADD_SUMS_1(first, second) \
  "ldm r3, {r8-r11}\n" \
  "ubfx lr, " first ", #0, #15\n add r8, r8, lr\n add r9, r9, " first ", asr #15\n" \
  "ubfx lr, " second ", #0, #15\n add r10, r10, lr\n add r11, r11, " second ", asr #15\n" \
  "stm r3!, {r8-r11}\n"

DOTS_FUNCTION(dots_1) {
  __asm__ volatile(
      "push {r3-r11, lr}\n sub sp, sp, #8\n"  /* [sp]: end of x; [sp, #4]: end of the chunk; [sp, #8]: dots */
      "ldr r4, [r1], #4\n movs r5, #0\n mov r6, r4\n mov r7, r5\n"
      "stm r3!, {r4-r7}\n stm r3!, {r4-r7}\n"
      "add r12, r2, #127\n lsr r12, r12, #7\n add r12, r2, r12, lsl #1\n add r12, r1, r12, lsl #1\n"
      "subs r3, r2, #1\n and r3, r3, #127\n adds r3, r3, #1\n"  /* the first chunk is the short one */
      "add r11, r1, r3, lsl #1\n add r11, r11, #4\n strd r12, r11, [sp]\n"
      "movw r2, #0x8001\n movt r2, #0x8001\n"
      "ldr r4, [r1], #4\n mov r5, r4\n mov r6, r4\n mov r7, r4\n"
      "lsls r3, r3, #27\n bne 2f\n"
      "1:\n" BLOCK_1 "2:\n" BLOCK_1
      "ldr lr, [sp, #4]\n cmp r1, lr\n bne 1b\n"
      "ldr r3, [sp, #8]\n" ADD_SUMS_1("r4", "r5") ADD_SUMS_1("r6", "r7")
      "ldr lr, [sp]\n cmp r1, lr\n beq 3f\n"
      "ldr r4, [r1], #4\n mov r5, r4\n mov r6, r4\n mov r7, r4\n"
      "add lr, r1, #256\n str lr, [sp, #4]\n b 1b\n"
      "3:\n add sp, sp, #8\n pop {r3-r11, pc}\n");
}
/* clang-format on */

#endif

#endif
