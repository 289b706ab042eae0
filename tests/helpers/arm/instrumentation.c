/* What code that is instrumented calls, and does nothing: -finstrument-functions, -pg, -fprofile-arcs, coverage. */
#include <stdint.h>

uintptr_t __stack_chk_guard = 0x2BAD600D;

void __stack_chk_fail(void);
void __stack_chk_fail(void) {
  for (;;) {
  }
}

void __cyg_profile_func_enter(void* function, void* caller);
void __cyg_profile_func_enter(void* function, void* caller) {
  (void)function;
  (void)caller;
}

void __cyg_profile_func_exit(void* function, void* caller);
void __cyg_profile_func_exit(void* function, void* caller) {
  (void)function;
  (void)caller;
}

/* The caller has pushed its own return address, which this takes back. */
void __gnu_mcount_nc(void);
__attribute__((naked)) void __gnu_mcount_nc(void) { __asm__ volatile("mov ip, lr\n pop {lr}\n bx ip\n"); }

void __gcov_init(void* info);
void __gcov_init(void* info) { (void)info; }

void __gcov_exit(void);
void __gcov_exit(void) {}

void __gcov_merge_add(int64_t* counters, unsigned count);
void __gcov_merge_add(int64_t* counters, unsigned count) {
  (void)counters;
  (void)count;
}

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void) {}
