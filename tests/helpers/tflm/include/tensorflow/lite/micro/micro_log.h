#ifndef TFMOT_KWS_TESTS_MICRO_LOG_H_
#define TFMOT_KWS_TESTS_MICRO_LOG_H_
void MicroPrintf(const char* format, ...);
#endif
