/* Where the frames of a stream come from: frames_file.c or frames_audio.c. */
#ifndef FRAMES_H_
#define FRAMES_H_

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* False where there is no sound; says why. */
bool frames_open(void);

/* The next frame, as the model takes it. False at the end of the sound. */
bool frames_next(int8_t* frame);

#ifdef __cplusplus
}
#endif
#endif
