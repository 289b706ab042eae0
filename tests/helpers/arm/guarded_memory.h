/* Memory in which a tensor ends or begins where nothing may be read or written: one byte further is a fault. */
#ifndef GUARDED_MEMORY_H_
#define GUARDED_MEMORY_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARENAS = 6 };

/* What is running, for the message of a fault. */
static char running[200];

#if defined(__linux__)

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, ROOM = 1 << 20, GRAIN = 1 };

static uint8_t* arenas[ARENAS];

static void on_signal(int number) {
  printf("signal %d in %s\n", number, running);
  fflush(stdout);
  _exit(40);
}

static void guard_memory(void) {
  for (int i = 0; i < ARENAS; ++i) {
    uint8_t* block = mmap(NULL, ROOM + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED || mprotect(block + PAGE, ROOM, PROT_READ | PROT_WRITE)) exit(3);
    arenas[i] = block + PAGE;
  }
  for (const int* number = (const int[]){SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, 0}; *number; ++number)
    signal(*number, on_signal);
}

static void enter_guarded(void) {}
static void leave_guarded(void) {}

#else /* bare metal: Armv8-M's memory protection unit, grains of 32 bytes; kernels run unprivileged */

enum { ROOM = 1 << 16, GRAIN = 32 };

static struct {
  uint8_t before[GRAIN];
  struct {
    uint8_t room[ROOM], after[GRAIN];
  } arena[ARENAS];
} guarded __attribute__((aligned(GRAIN)));
static uint8_t* arenas[ARENAS];

#define REGISTER(address) (*(volatile uint32_t*)(address))

/* Prints on the debug channel and ends: handlers are privileged. */
static void stop(const char* text, unsigned status) {
  const uint32_t exited[2] = {0x20026u, status};
  register uint32_t operation __asm__("r0") = 0x04;
  register const void* argument __asm__("r1") = text;
  __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
  operation = 0x20;
  argument = exited;
  __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
}

static void on_fault(void) {
  stop("outside of a tensor: ", 40);
  for (;;) {
  }
}

/* Exception frames end here: back to privileged thread mode. */
__attribute__((naked)) static void on_call(void) {
  __asm__ volatile("mrs r0, control\n bic r0, r0, #1\n msr control, r0\n isb\n bx lr\n");
}

static const void* handlers[16] __attribute__((aligned(128)));

static void region(uint32_t number, const void* first, const void* end, uint32_t access) {
  REGISTER(0xE000ED98u) = number;
  REGISTER(0xE000ED9Cu) = ((uint32_t)(uintptr_t)first & ~31u) | access << 1;
  REGISTER(0xE000EDA0u) = (((uint32_t)(uintptr_t)end - 1) & ~31u) | 1;
}

static void guard_memory(void) {
  enum { READ_WRITE = 1, READ = 3 };
  for (int i = 0; i < 16; ++i) handlers[i] = (const void*)on_fault;
  handlers[0] = *(const void**)(uintptr_t)REGISTER(0xE000ED08u);
  handlers[11] = (const void*)on_call;
  REGISTER(0xE000ED08u) = (uint32_t)(uintptr_t)handlers;
  region(0, (const void*)0, (const void*)0x10000000u, READ);       /* code */
  region(1, (const void*)0x20000000u, guarded.before, READ_WRITE); /* data */
  region(2, &guarded + 1, (const void*)0x22000000u, READ_WRITE);   /* the rest, and the stack */
  for (int i = 0; i < ARENAS; ++i) {
    arenas[i] = guarded.arena[i].room;
    region(3 + (uint32_t)i, arenas[i], arenas[i] + ROOM, READ_WRITE);
  }
  REGISTER(0xE000EDC0u) = 0x44; /* ordinary memory */
  REGISTER(0xE000ED94u) = 5;    /* on; everything is open to privileged code alone */
  __asm__ volatile("dsb\n isb");
}

static void enter_guarded(void) { __asm__ volatile("mrs r0, control\n orr r0, #1\n msr control, r0\n isb\n" ::: "r0"); }
static void leave_guarded(void) { __asm__ volatile("svc 0\n" ::: "r0", "memory"); }

#endif

/* `size` bytes of arena k that end (or begin) at a guard, aligned as asked for, in grains of the guard. */
static uint8_t* place(int k, size_t size, bool at_the_end, size_t align) {
  if (size > ROOM) exit(9);
  if (!at_the_end) return arenas[k];
  return (uint8_t*)((uintptr_t)(arenas[k] + ROOM - size) & ~(uintptr_t)(align - 1));
}

#endif
