// What the firmware example needs of Arm's driver for the Ethos-U, to compile it where there is none.
#ifndef ETHOSU_DRIVER_H_
#define ETHOSU_DRIVER_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ethosu_driver {
  void* base;
};

int ethosu_init(struct ethosu_driver* driver, void* base, const void* fast_memory, size_t fast_memory_bytes,
                uint32_t secure, uint32_t privileged);
void ethosu_irq_handler(struct ethosu_driver* driver);

#ifdef __cplusplus
}
#endif

#endif
