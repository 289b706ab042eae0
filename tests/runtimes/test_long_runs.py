"""Hours of sound, and sound that is broken: constant memory, no drift, resets at any time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from quantization_helpers import features as random_features
from quantization_helpers import shake, trained

import tflite_export
from tflite_export import Interpreter, StreamInterpreter
from tfmot_kws.commands.parts import sidecar, spotter
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.evaluation import detector
from tfmot_kws.frontend import features
from tfmot_kws.models import spotters as models

pytestmark = pytest.mark.slow

HOURS = 4
FRAMES_AN_HOUR = 3600 * 50
"""At hops of 20 ms."""
CONFIG = models.ModelConfig(3, 17, 10, 8, (models.WindowSpec(8, 3), models.WindowSpec(4, 2)), 1)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    model = trained(shake(models.build(CONFIG)), random_features((17, 10), 32))
    return {
        "clip": tflite_export.convert(model),
        "internal": tflite_export.convert(model, streaming="internal"),
        "external": tflite_export.convert(model, streaming="external"),
    }


def sound(rng: np.random.Generator, frames: int) -> np.ndarray:
    """int8 [frames, 10]: louder and quieter, and now and then at the ends of the range."""
    level = rng.uniform(1, 60, (frames, 1))
    x = np.clip(rng.normal(0, level, (frames, 10)), -128, 127).astype(np.int8)
    x[rng.random(frames) < 0.01] = 127
    return x


@pytest.mark.parametrize("mode, hours", [("internal", HOURS), ("external", 1)])
def test_hours(files, mode: str, hours: int) -> None:
    """All steps of hours, of fewer where the caller keeps the state.

    The clip model agrees on the last second of every half hour, and memory does not grow.
    """
    stream = StreamInterpreter(files[mode], "tflite")
    clip = Interpreter(files["clip"], "tflite")
    rng = np.random.default_rng(0)
    piece = sound(rng, 1800 * 50)
    ear = detector.Detector(detector.DetectorConfig(3, (1, 2), (0.0, 0.0), 4, 10))
    last, rows, sizes = np.zeros((0, 10), np.int8), 0, []
    tracemalloc.start()
    for number in range(2 * hours):
        x = np.roll(piece, 12345 * number, axis=0)
        outputs = np.concatenate([stream.step(part) for part in np.array_split(x, 7)])
        ear.run(outputs)
        rows += len(outputs)
        # the newest row is the clip model's on the newest frames that it covers
        heard = np.concatenate([last, x])
        behind = (stream.frames - stream.receptive) % stream.hop
        newest = heard[len(heard) - behind - 17 : len(heard) - behind]
        np.testing.assert_array_equal(outputs[-1], clip.run(newest[None])[0])
        last = x[-100:]
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    frames = hours * FRAMES_AN_HOUR
    assert stream.frames == frames and rows == (frames - stream.receptive) // stream.hop + 1
    assert sizes[-1] - sizes[1] < 100_000  # bytes of Python objects after an hour and at the end


@pytest.mark.parametrize("runtime", ["reference", "tflite", "litert", "tflm"])
def test_reset_at_any_time(files, runtime: str, require_module, rng) -> None:
    for module in {"litert": ["ai_edge_litert"], "tflm": ["tflite_micro"]}.get(runtime, []):
        require_module(module)
    stream = StreamInterpreter(files["internal"], runtime)
    x = sound(rng, 60)
    expected = stream.step(x)
    for before in range(0, 40, 3):
        stream.reset()
        stream.step(sound(rng, before))
        stream.reset()
        np.testing.assert_array_equal(stream.step(x), expected)


FRONTEND = features.FrontendConfig(mel_bins=20)
TASK = TaskConfig(("low",))


@pytest.fixture(scope="module")
def ear() -> spotter.Spotter:
    config = models.ModelConfig(3, 17, 20, 8, (models.WindowSpec(8, 3), models.WindowSpec(4, 2)), 1)
    model = trained(shake(models.build(config)), 5 * np.abs(random_features((17, 20), 32)))
    data = tflite_export.convert(model, streaming="internal")
    return spotter.Spotter(data, sidecar.Sidecar("tflite", FRONTEND, TASK), 0.0)


BROKEN = {
    "silent": np.zeros(16000, np.float32),
    "clipped": np.where(np.arange(16000) // 50 % 2, 1.0, -1.0).astype(np.float32),
    "far too loud": np.random.default_rng(0).normal(0, 100, 16000).astype(np.float32),
    "constant": np.full(16000, 0.7, np.float32),
    "one sample": np.ones(1, np.float32),
    "nothing": np.zeros(0, np.float32),
    "impulses": (np.arange(16000) % 4001 == 0).astype(np.float32),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sound_leaves_no_trace_behind_a_reset(name: str, ear, rng) -> None:
    good = rng.normal(0, 0.1, 16000).astype(np.float32)
    ear.reset()
    expected = ear.outputs(good)
    ear.reset()
    for part in np.array_split(BROKEN[name], 3):
        assert ear.outputs(part).dtype == np.int8
    ear.reset()
    np.testing.assert_array_equal(ear.outputs(good), expected)
    assert len(expected) > 3


def test_sound_cut_within_a_frame(ear, rng) -> None:
    """Whatever is missing at the end only holds back what needs it."""
    good = rng.normal(0, 0.1, 16000).astype(np.float32)
    ear.reset()
    expected = ear.outputs(good)
    for cut in (1, 100, 319, 320, 5000):
        ear.reset()
        found = ear.outputs(good[:-cut])
        np.testing.assert_array_equal(found, expected[: len(found)])
        assert len(expected) - len(found) <= cut // (320 * 6) + 1
        rest = ear.outputs(good[-cut:])
        np.testing.assert_array_equal(np.concatenate([found, rest]), expected)
