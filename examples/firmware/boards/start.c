/* Start-up for the Cortex-M boards of this folder: vectors, memory, C library, main().
 *
 * newlib's rdimon library talks to the debugger or to QEMU (semihosting), so that printf and files work. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern uint32_t board_data[], board_data_end[], board_data_load[], board_bss[], board_bss_end[], board_stack_top[];

int main(int argc, char** argv);
_Noreturn void exit(int status);
void initialise_monitor_handles(void);
void __libc_init_array(void);

/* C++ static objects and newlib want these. */
void* __dso_handle;
void _init(void) {}
void _fini(void) {}

_Noreturn void board_start(void);

_Noreturn void board_start(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  *(volatile uint32_t*)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to the FPU and to vectors */
  __asm volatile("dsb\n isb");
#endif
  memcpy(board_data, board_data_load, (size_t)((char*)board_data_end - (char*)board_data));
  memset(board_bss, 0, (size_t)((char*)board_bss_end - (char*)board_bss));
  initialise_monitor_handles();
  __libc_init_array();
  exit(main(0, NULL));
}

/* Says so on the debug channel and stops, instead of hanging. */
static _Noreturn void fault(void) {
  static const uint32_t failed[2] = {0x20026u /* application exit */, 99};
  register uint32_t operation __asm("r0") = 0x04; /* write a string */
  register const void* argument __asm("r1") = "fault\n";
  __asm volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
  operation = 0x20; /* exit with a status */
  argument = failed;
  __asm volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
  for (;;) {
  }
}

__attribute__((section(".vectors"), used)) static const void* const vectors[16] = {
    board_stack_top,    (const void*)board_start, (const void*)fault, (const void*)fault,
    (const void*)fault, (const void*)fault,       (const void*)fault,
};
