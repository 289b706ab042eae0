"""The example of an Arduino library: a sketch that runs the spotter on frames that it carries, or on a microphone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

_NUMBERS_A_LINE = 24

SKETCH = """\
// Runs the spotter on the frames of a short sound (recorded.h), prints what it hears, and whether that is what the
// computer heard that made this library. It needs no microphone.
//
// To listen to a microphone: install a library that has TensorFlow Lite Micro's "microfrontend", and write 1 here. As
// it stands, the code below takes sound from boards with Arduino's PDM library (Nano 33 BLE Sense, Nano RP2040
// Connect); for others, write into read_microphone() how yours gives samples: 16 bits, mono, at the rate that README.md
// says.
#define LISTEN_TO_MICROPHONE 0

#include <kws_listener.h>

#if !LISTEN_TO_MICROPHONE
#include "recorded.h"

static uint32_t found = 0, other = 0;

static void heard(void* context, int32_t keyword, uint32_t ms) {
  (void)context;
  Serial.print((unsigned long)ms);
  Serial.print(" ms: ");
  Serial.println(kws_listener_word(keyword));
  if (found >= RECORDED_COUNT || recorded_heard[found].keyword != keyword || recorded_heard[found].ms != ms) ++other;
  ++found;
}

void setup() {
  Serial.begin(115200);
  delay(2000);  // until the serial monitor is there
  if (!kws_listener_begin()) {
    Serial.println("the spotter's settings are wrong");
    return;
  }
  Serial.println(RECORDED_SOUND);
  for (int32_t i = 0; i < RECORDED_FRAMES; ++i) {
    if (!kws_listener_frame(recorded_frames[i], heard, NULL)) {
      Serial.println("the model does not run in this build");
      return;
    }
  }
  for (int32_t i = 0; i < kws_listener_words(); ++i) {
    const double difference = kws_listener_score(i) - recorded_scores[i];
    if (difference > RECORDED_TOLERANCE || difference < -RECORDED_TOLERANCE) ++other;
  }
  if (found != RECORDED_COUNT || kws_listener_rows() != RECORDED_ROWS) ++other;
  Serial.print((unsigned long)found);
  Serial.println(other ? " keywords: OTHER than on the computer" : " keywords, as on the computer");
}

void loop() {}

#else
#include <PDM.h>
#include <kws_microfrontend.h>

static struct FrontendState front_end;

static bool begin_microphone(int32_t rate) { return PDM.begin(1, rate); }

static size_t read_microphone(int16_t* samples, size_t most) {
  const size_t bytes = (size_t)PDM.available();
  const size_t wanted = bytes < most * 2 ? bytes : most * 2;
  return wanted ? (size_t)PDM.read(samples, wanted) / 2 : 0;
}

static void heard(void* context, int32_t keyword, uint32_t ms) {
  (void)context;
  (void)ms;
  Serial.println(kws_listener_word(keyword));
}

static void stop(const char* why) {
  for (;;) {
    Serial.println(why);
    delay(1000);
  }
}

void setup() {
  Serial.begin(115200);
  if (!kws_listener_begin()) stop("the spotter's settings are wrong");
  if (!kws_microfrontend_begin(&front_end)) stop("no memory for the front end, or the model has another one");
  if (!begin_microphone(kws_listener_front_end().sample_rate)) stop("the microphone does not start");
}

void loop() {
  int16_t samples[256];
  const size_t count = read_microphone(samples, sizeof samples / sizeof samples[0]);
  if (!kws_microfrontend_samples(&front_end, samples, count, heard, NULL)) stop("the model does not run in this build");
}
#endif
"""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A short sound as the model takes it, and what was heard in it on the computer.

    Attributes:
        sound: what it is, in a few words.
        frames: int8 [frames, bins].
        heard: keyword and milliseconds of each detection.
        scores: of each keyword after the last frame, in real units.
        rows: of the model's output that the detector saw.
        tolerance: less than a step of a score.
    """

    sound: str
    frames: np.ndarray
    heard: Sequence[tuple[int, int]]
    scores: Sequence[float]
    rows: int
    tolerance: float

    def header(self) -> str:
        """The text of recorded.h."""
        sound = self.sound.replace("\\", "/").replace('"', "'")
        events = ", ".join(f"{{{keyword}, {ms}}}" for keyword, ms in self.heard)
        parts = [
            [", ".join(map(str, row[i : i + _NUMBERS_A_LINE])) for i in range(0, len(row), _NUMBERS_A_LINE)]
            for row in self.frames.tolist()
        ]
        lines = ",\n    ".join("{" + ",\n     ".join(part) + "}" for part in parts)
        return f"""\
/* Made by 'tfmot-kws firmware': do not edit. */
#ifndef RECORDED_H_
#define RECORDED_H_

#include <stdint.h>

#define RECORDED_SOUND "{sound}"
#define RECORDED_FRAMES {len(self.frames)}
#define RECORDED_ROWS {self.rows}u
#define RECORDED_COUNT {len(self.heard)}u
#define RECORDED_TOLERANCE {self.tolerance!r}

/* What was heard on the computer: keyword and milliseconds; a last one that is none. */
static const struct {{
  int32_t keyword;
  uint32_t ms;
}} recorded_heard[] = {{{events}{", " if events else ""}{{-1, 0}}}};

/* The score of each keyword after the last frame. */
static const double recorded_scores[] = {{{", ".join(repr(float(score)) for score in self.scores)}}};

/* The frames, as the model takes them. */
static const int8_t recorded_frames[RECORDED_FRAMES][{self.frames.shape[1]}] = {{
    {lines}}};

#endif /* RECORDED_H_ */
"""
