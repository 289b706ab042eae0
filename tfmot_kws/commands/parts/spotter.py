# SPDX-License-Identifier: Apache-2.0
"""Sound in, detections out: front end, streaming model and detector, one after another."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmot_kws.commands.parts import sidecar, thresholds
from tfmot_kws.evaluation import detector
from tfmot_kws.frontend import features

SOFTMAX = (1 / 256, -128)
"""Scale and zero point of the int8 output of a model that ends in a softmax."""
POSTERIOR_STEP, LOGIT_STEP = 2.0**-14, 2.0**-8
"""What one step is worth where a model has float outputs, which the detector gets as 16-bit integers: posteriors up to
2, logits up to 128."""


@dataclasses.dataclass(frozen=True)
class Heard:
    """A keyword: when (seconds of sound since the reset), which, and the mean score of the window, real units."""

    seconds: float
    keyword: str
    score: float


class Spotter:
    """Follows sound and says what it hears.

    Args:
        flatbuffer: a streaming .tflite file.
        about: its sidecar.
        threshold: real score from which on a keyword counts: a posterior (0..1) for models that end in a softmax, else
            a difference of logits. None: where a keyword is likelier than all else.
        smooth, refractory: seconds, see ``detector.DetectorConfig``.
        runtime: one of ``tflite_export.interpreter.RUNTIMES``.

    Attributes:
        config: of the detector.
        keywords: their names.
        scores: real scores of the keywords after the last step, None before the first.
        input: scale and zero point of the model's features; None where it takes floats.

    Raises:
        ValueError: the file does not stream, its output does not suit the sidecar's classes, or a number is wrong.
        ImportError, RuntimeError: the runtime is missing or refuses the file.
    """

    def __init__(
        self,
        flatbuffer: bytes,
        about: sidecar.Sidecar,
        threshold: float | Sequence[float] | None = None,
        smooth: float = 0.2,
        refractory: float = 1.0,
        runtime: str = "tflite",
    ) -> None:
        from tfmot_kws.commands.parts import stream_files

        self._model = stream_files.open_stream(flatbuffer, runtime)
        output, task = self._model.outputs[0], about.task
        one = output.unsigned and output.shape == (1,) and len(task.keywords) == 1
        if not one and output.shape[-1:] != (len(task.classes),):
            raise ValueError(
                f"the model's output {output.name!r} has shape {list(output.shape)}, its sidecar has "
                f"{len(task.classes)} classes; keep the two files together"
            )
        self.frontend = about.frontend
        self.keywords = tuple(task.keywords)
        self.step_seconds = self._model.hop * about.frontend.hop_ms / 1000
        scale, zero_point = output.scale, output.zero_point
        value = one or (scale, zero_point) == SOFTMAX
        if scale is None:
            value = _ends_in_softmax(flatbuffer, output.name)
            scale, zero_point = POSTERIOR_STEP if value else LOGIT_STEP, 0
        self._floats = output.scale is None
        if threshold is None:
            threshold = 0.5 if value else 0.0
        self.config = detector.DetectorConfig.in_seconds(
            self.step_seconds,
            smooth,
            refractory,
            classes=1 if one else len(task.classes),
            keywords=(0,) if one else tuple(task.classes.index(word) for word in task.keywords),
            thresholds=threshold,
            mode="value" if value else "margin",
            scale=scale,
            zero_point=zero_point,
        )
        self._sound = features.FrontendStream(about.frontend)
        self._detector = detector.Detector(self.config)
        self.scores: np.ndarray | None = None
        self._recent = np.zeros((0, len(self.keywords)), np.int32)
        self.input = self._model.inputs[0].quantization

    def reset(self) -> None:
        """Forgets all sound."""
        self._sound.reset(), self._model.reset(), self._detector.reset()
        self.scores, self._recent = None, self._recent[:0]

    def step(self, audio: np.ndarray) -> list[Heard]:
        """Takes sound, however much: float in [-1, 1) or int16, [samples]; returns the keywords that it completes."""
        outputs = self.outputs(audio)
        self._recent = np.concatenate([self._recent, detector.scores(self.config, outputs)])[-self.config.smooth :]
        if len(self._recent) == self.config.smooth:
            self.scores = self._recent.mean(axis=0) * self.config.scale
        return [
            Heard(self.seconds(event.step), self.keywords[event.keyword], self.config.real_score(event.score))
            for event in self._detector.run(outputs)
        ]

    def outputs(self, audio: np.ndarray) -> np.ndarray:
        """int8 [steps, classes]: what the model says of the sound; int16 of a model that gives floats or uint8."""
        outputs: Any = self._model.step(self.frames(audio))
        outputs = outputs[0] if isinstance(outputs, list) else outputs
        outputs = outputs.reshape(len(outputs), self.config.classes)
        if outputs.dtype == np.uint8:
            return outputs.astype(np.int16)
        if self._floats:
            steps = np.rint(outputs.astype(np.float64) / self.config.scale)
            outputs = np.clip(np.nan_to_num(steps), -32768, 32767).astype(np.int16)
        return outputs

    def frames(self, audio: np.ndarray) -> np.ndarray:
        """int8, int16 or float32 [frames, mel]: the features that the sound completes, as the model takes them."""
        return self._model.inputs[0].to_tensor(self._sound.step(audio))

    def seconds(self, step: int) -> float:
        """When the last sample of a step's last frame was heard."""
        frames = self._model.receptive + step * self._model.hop
        return ((frames - 1) * self.frontend.hop_ms + self.frontend.window_ms) / 1000


def _ends_in_softmax(flatbuffer: bytes, output: str) -> bool:
    from tflite_export import inspect as inspect_model

    return any(
        layer.name == output and layer.op.lower() == "softmax" for layer in inspect_model.inspect(flatbuffer).layers
    )


def open_spotter(
    model: pathlib.Path,
    threshold: str | float | None = None,
    smooth: float | None = None,
    refractory: float | None = None,
    runtime: str = "tflite",
) -> Spotter:
    """The spotter of a file.

    Args:
        model: a streaming .tflite with its sidecar.
        threshold, smooth, refractory: as ``thresholds.choose`` takes them.
        runtime: one of ``tflite_export.interpreter.RUNTIMES``.

    Raises:
        ValueError: it is no streaming .tflite, or the thresholds do not suit; and what Spotter raises.
    """
    if model.suffix != ".tflite":
        raise ValueError(f"--model {model}: must be a .tflite file, made by 'tfmot-kws export --streaming internal'")
    about = sidecar.read(model)
    chosen = thresholds.choose(threshold, smooth, refractory, about.task.keywords)
    from tflite_export.streaming import schedule as stream_schedule

    try:
        ear = Spotter(model.read_bytes(), about, chosen.values, chosen.smooth, chosen.refractory, runtime)
        chosen.check_mode(ear.config.mode)
        return ear
    except stream_schedule.ScheduleError as error:
        raise ValueError(f"{model}: {error}; on the command line: tfmot-kws export --streaming internal") from error
