/* From rows of the model's output to one line for each detection. */
#ifndef DETECTIONS_H_
#define DETECTIONS_H_

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Prints a detection as 'tfmot-kws listen' does: when, keyword, score. */
void detection_print(uint32_t ms, const char* word, double score);

/* Before the first row. False where the settings are wrong. */
bool detections_begin(void);

/* The next row, [classes]. Prints a detection, where there is one. */
void detections_row(const int8_t* outputs);

/* Prints how many there were. */
void detections_end(void);

#ifdef __cplusplus
}
#endif
#endif
