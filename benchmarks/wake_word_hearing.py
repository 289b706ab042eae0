# SPDX-License-Identifier: Apache-2.0
"""How models of different makers hear the same sound, counted alike: the other half of ``benchmarks.wake_word``."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfmot_kws.commands.parts import sidecar, stream_runners
from tfmot_kws.data import long_features
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.evaluation import detector
from tfmot_kws.evaluation import streams as stream_evaluation
from tfmot_kws.frontend import features

RATE = 16000
SNRS = ((5.0, 10.0), (10.0, 15.0), (15.0, 20.0))


@dataclasses.dataclass(frozen=True)
class Sound:
    """A stream: samples, the words in it, and at which signal-to-noise ratio each was said."""

    name: str
    samples: np.ndarray
    targets: tuple[Target, ...]
    snr_db: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a model made of one recording.

    Attributes:
        values: [n, outputs], int8 or float32.
        times: float64 [n], seconds from the start of the recording to the end of what the output has heard.
    """

    values: np.ndarray
    times: np.ndarray


@dataclasses.dataclass(frozen=True)
class Listener:
    """A model, from samples to outputs, and how its outputs are read.

    Attributes:
        hear: int16 [samples] at 16 kHz -> ``Heard``.
        step: seconds from one output to the next.
        classes: the output of each word.
        mode: of the detector.
        grid: (scale, zero point) of int8 outputs.
        smooth: seconds of outputs that are averaged.
    """

    hear: Callable[[np.ndarray], Heard]
    step: float
    classes: tuple[int, ...]
    mode: str = "margin"
    grid: tuple[float, int] | None = None
    smooth: float = 0.2


class _Features:
    """Features of recordings that many models hear, computed once for each front end."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}

    def of(self, frontend: features.FrontendConfig, samples: np.ndarray) -> np.ndarray:
        """Float32 [frames, mel]."""
        key = (frontend.key(), id(samples))
        if key not in self._known:  # the samples are kept too, or others could come to have their id
            self._known[key] = samples, long_features.compact(frontend, samples)
        scale = features.MICRO_SCALE if frontend.backend == "micro" else 1.0
        return self._known[key][1].astype(np.float32) * np.float32(scale)


_FEATURES = _Features()


def of_runner(
    runner: stream_runners.StreamRunner, frontend: features.FrontendConfig, classes: Sequence[int], mode: str = "margin"
) -> Listener:
    """A model of ours, or any that takes features.

    Args:
        runner: the model.
        frontend: its own.
        classes: of the words, in their order.
        mode: of the detector.
    """

    def hear(samples: np.ndarray) -> Heard:
        out = runner(_FEATURES.of(frontend, samples))
        return Heard(out.values, (frontend.window + (out.frames - 1) * frontend.hop) / frontend.sample_rate)

    return Listener(hear, runner.hop * frontend.hop_ms / 1000, tuple(classes), mode, runner.grid)


def of_micro_wake_word(path: pathlib.Path) -> Listener:
    """A .tflite file with its manifest beside it, as microWakeWord publishes them."""
    about = sidecar.read(path)
    return of_runner(stream_runners.open_runner(path, about, "tflite", 1), about.frontend, (0,), "value")


_BEFORE = ("melspectrogram.onnx", "embedding_model.onnx")


def of_open_wake_word(path: pathlib.Path) -> Listener:
    """An .onnx file of openWakeWord, with ``melspectrogram.onnx`` and ``embedding_model.onnx`` in the same folder.

    Its README describes the three models: 32 mel bands every 10 ms; an embedding of 96 numbers of each 76 of them,
    every 80 ms; a classifier of the last 16 embeddings. Nothing is averaged, as in its own use.

    Raises:
        ImportError: onnxruntime or onnx is not installed.
        FileNotFoundError: one of the models is not there.
    """
    import onnxruntime

    def opened(file: pathlib.Path, model: bytes | None = None) -> Callable[[np.ndarray], np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model or str(file), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        shapes[file.name] = session.get_inputs()[0].shape
        return lambda x: session.run(None, {name: x})[0]

    shapes: dict[str, list] = {}
    files = [*(path.parent / name for name in _BEFORE), path]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not there: openWakeWord's classifiers need it in their folder")
    embedding = _of_any_length(files[1])
    mel, embed, classify = opened(files[0]), opened(files[1], embedding), opened(files[2])
    frames, hop, joined = 76, 8, int(shapes[path.name][1])
    piece, overlap = RATE * 30, 480  # samples; a mel window is 400 and moves by 160

    def hear(samples: np.ndarray) -> Heard:
        bands = [
            mel(samples[None, max(at - overlap, 0) : at + piece].astype(np.float32)).reshape(-1, 32)
            for at in range(0, len(samples), piece)
        ]
        x = np.concatenate(bands) / 10.0 + 2.0
        e = np.zeros((0, 96), np.float32)
        if len(x) >= frames:
            e = np.ascontiguousarray(embed(x[None, :, :, None])[0, :, :, 0].T)
        count = max(len(e) - joined + 1, 0)
        scores = np.array([classify(e[None, at : at + joined]).ravel()[0] for at in range(count)], np.float32)
        times = ((np.arange(count) + joined - 1) * hop + frames) * 0.01
        return Heard(scores[:, None], times)

    return Listener(hear, hop * 0.01, (0,), "value", smooth=hop * 0.01)


def _of_any_length(path: pathlib.Path) -> bytes:
    """openWakeWord's embedding of sound of any length: [1, frames, 32, 1] -> [1, 96, (frames - 76) // 8 + 1, 1].

    Its convolutions pad nothing in time, so one pass gives what a window every 8 frames gives. The reshapes before and
    behind them have the window's length in them.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError(
            "openWakeWord's models need onnx, which is not installed: pip install --no-deps onnx==1.16.2"
        ) from error
    model = onnx.load(path)
    graph = model.graph
    first = next(node for node in graph.node if node.op_type == "Reshape")
    shape = next(tensor for tensor in graph.initializer if tensor.name == first.input[1])
    width = int(onnx.numpy_helper.to_array(shape)[-1])
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 1, -1, width], np.int64), shape.name))
    graph.input[0].type.tensor_type.shape.dim[1].dim_param = "frames"
    last = graph.node[-1]
    if last.op_type != "Reshape":
        raise ValueError(f"{path}: ends in {last.op_type}, expected openWakeWord's embedding, which ends in Reshape")
    graph.node.remove(last)
    del graph.output[:], graph.value_info[:]
    shape_out = [1, 96, None, 1]
    graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, shape_out))
    return model.SerializeToString()


def fewest_misses(curve: Iterable[tuple[float, float]], most: float = 20.0) -> list[list[float]]:
    """Of thresholds with as many false accepts an hour, up to ``most``, the one with the fewest misses, by rate."""
    best: dict[float, float] = {}
    for rate, missed in curve:
        if rate <= most:
            best[float(rate)] = min(float(missed), best.get(float(rate), 1.0))
    return [[rate, best[rate]] for rate in sorted(best)]


def of_peer(path: pathlib.Path) -> Listener:
    """A file of others: .tflite of microWakeWord, .onnx of openWakeWord."""
    return of_open_wake_word(path) if path.suffix == ".onnx" else of_micro_wake_word(path)


def maker_of(path: pathlib.Path) -> str:
    """Whose models have such a file."""
    return "openWakeWord" if path.suffix == ".onnx" else "microWakeWord"


def size_of_peer(path: pathlib.Path) -> int:
    """Bytes of all that a peer needs to turn sound into scores: of openWakeWord also the two models before its own."""
    needed = [path, *(path.parent / name for name in _BEFORE)] if path.suffix == ".onnx" else [path]
    return sum(file.stat().st_size for file in needed)


class Measured:
    """The test streams and clips of one word list, ready to be heard by many models.

    Args:
        sounds: what rates and thresholds come from.
        unbroken: streams whose misses are counted beside them, at their threshold.
        said: clips of the keywords: the word, and int16 [samples].
        unseen: clips of other words, alike.
        words: the word list.
    """

    def __init__(
        self,
        sounds: list[Sound],
        unbroken: list[Sound],
        said: Sequence[tuple[str, np.ndarray]],
        unseen: Sequence[tuple[str, np.ndarray]],
        words: Sequence[str],
    ) -> None:
        self.sounds, self.unbroken, self.words = sounds, unbroken, tuple(words)
        self.said, self.unseen = tuple(said), tuple(unseen)
        self.hours = sum(len(sound.samples) for sound in sounds) / RATE / 3600

    def row(self, listener: Listener) -> dict:
        """Runs a model over everything: misses at two rates, by SNR, the curve, and unseen words that are taken."""
        start = time.perf_counter()
        streams = self.sounds + self.unbroken
        samples = [sound.samples for sound in streams] + [x for _, x in (*self.said, *self.unseen)]
        heard = [listener.hear(x) for x in samples]
        values, unit, zero = stream_runners.on_one_grid([out.values for out in heard], listener.grid)
        config = detector.DetectorConfig.in_seconds(
            listener.step, listener.smooth, 1.0, classes=values[0].shape[1], keywords=listener.classes, thresholds=0.0,
            scale=unit, zero_point=zero, mode=listener.mode,
        )  # fmt: skip
        found = [
            stream_evaluation.Stream(sound.name, part, out.times, sound.targets)
            for sound, part, out in zip(streams, values, heard)
        ]
        found, unbroken = found[: len(self.sounds)], found[len(self.sounds) :]
        result: dict = {"hours": self.hours, "targets": sum(len(s.targets) for s in self.sounds)}
        for name, rate in (("low", 0.5), ("high", 2.0)):
            done = stream_evaluation.evaluate(found, config, self.words, listener.step, fa_per_hour=rate)
            curve = done.pooled_curve
            result[name] = 100 * curve.frr_at(rate)
            if name == "low":
                threshold = float(curve.thresholds[curve.index_at(rate)])
                alone = dataclasses.replace(config, thresholds=(threshold,) * len(self.words))
                done = stream_evaluation.evaluate(found, alone, self.words, listener.step, fa_per_hour=None)
                result |= self._by_snr(done) | {"latency": done.pooled.latency(50)}
                if unbroken:
                    done = stream_evaluation.evaluate(unbroken, alone, self.words, listener.step, fa_per_hour=None)
                    result["unbroken"] = 100 * done.pooled.frr
                result["curve_hours"] = curve.hours
                result["curve"] = fewest_misses(zip(curve.fa_per_hour, curve.frr))
        result |= self._accepted(values[len(streams) :], config)
        heard_seconds = sum(map(len, samples)) / RATE
        result["times_real_time"] = heard_seconds / (time.perf_counter() - start)
        return result

    def _by_snr(self, done: stream_evaluation.StreamEvaluation) -> dict:
        hits = {(e.stream, e.word, round(e.time - e.latency, 3)) for e in done.events if e.outcome == "hit"}
        row = {}
        for number, (low, high) in enumerate(SNRS):
            here = [
                (s.name, t.word, round(t.end, 3)) in hits
                for s in self.sounds for t, snr in zip(s.targets, s.snr_db) if low <= snr < high
            ]  # fmt: skip
            row[f"snr_{number}"] = 100 * (1 - float(np.mean(here))) if here else None
            row[f"snr_{number}_targets"] = len(here)
        return row

    def _accepted(self, outputs: list[np.ndarray], config: detector.DetectorConfig) -> dict[str, float]:
        """Shares of unseen words that are taken for any keyword, in %, where 5 % of the keywords' own clips are missed.

        "unseen" is by a single threshold, at which 5 % of all their clips are missed; "unseen_each" by a threshold for
        each keyword, at which 5 % of its own clips are.
        """
        if not self.unseen:
            return {"unseen": math.nan, "unseen_each": math.nan}
        best = np.array([
            detector.moving_sums(detector.scores(config, out), config.smooth).max(axis=0, initial=-(2**30))
            for out in outputs
        ])  # fmt: skip
        said, unseen = best[: len(self.said)], best[len(self.said) :]
        whose = np.array([self.words.index(word) for word, _ in self.said])
        own = [np.quantile(said[whose == k, k], 0.05) if k in whose else math.inf for k in range(len(self.words))]
        return {
            "unseen": 100 * float(np.mean(unseen.max(axis=1) > np.quantile(said.max(axis=1), 0.05))),
            "unseen_each": 100 * float(np.mean((unseen > own).any(axis=1))),
        }
