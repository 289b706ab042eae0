# SPDX-License-Identifier: Apache-2.0
"""Hours of sound that a core prepares in an hour: ``python -m benchmarks.front_ends``.

Features by both front ends at both hops, and what comes before them when a model is trained: decoding and augmentation,
by the functions that ``data/feature_set.load_features`` calls. One thread; time is that of the processor, so that what
else the machine does counts little. The ways take turns, and a figure is the median over the turns.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks import common
from tfmot_kws.frontend import features, microfrontend
from tfmot_kws.sound import augment as augmentation
from tfmot_kws.sound import files

RATE = 16000
CLIPS = 256
"""Clips of a second at once: the batch of load_features."""
MINUTES = 4
WANTED_HOURS = 26_000
COLUMNS = (
    ("work", "work", ""), ("clips", "hours of clips of 1 s a core-hour", ",.0f"),
    ("minutes", "hours of recordings of 60 s a core-hour", ",.0f"),
    ("cost", f"core-hours for {WANTED_HOURS:,} hours, as clips", ",.1f"),
)  # fmt: skip


def sounds() -> np.ndarray:
    """int16 [MINUTES, samples of a minute]: noise in four bands whose loudness comes and goes, a little like speech."""
    rng = np.random.default_rng(0)
    length, time_axis = 60 * RATE, np.arange(60 * RATE) / RATE
    spectrum = np.fft.rfft(rng.normal(size=(MINUTES, length)))
    spectrum *= 1 / (1 + (np.arange(spectrum.shape[1]) / length * RATE / 800) ** 2)
    waves = np.fft.irfft(spectrum, length)
    waves *= np.sin(2 * np.pi * rng.uniform(1.5, 4, (MINUTES, 1)) * time_axis) ** 2
    return np.rint(waves / np.abs(waves).max(axis=1, keepdims=True) * 20000).astype(np.int16)


def as_clips(minutes: np.ndarray) -> np.ndarray:
    """[CLIPS, RATE], seconds of the recordings in turn."""
    return np.resize(minutes.reshape(-1, RATE), (CLIPS, RATE))


def decoding(minutes: np.ndarray, ending: str, decoder: str, folder: pathlib.Path) -> tuple[Callable[[], object], ...]:
    """Reads files of a second, and of a minute."""
    made: list[list[pathlib.Path]] = []
    for name, rows in (("clip", as_clips(minutes)), ("minute", minutes)):
        paths = [folder / f"{name}{i}{ending}" for i in range(len(rows))]
        for path, row in zip(paths, rows):
            files.write(path, row, RATE)
        made.append(paths)
    return tuple(lambda paths=paths: [files.read(path, RATE, decoder=decoder) for path in paths] for paths in made)


def augmenting(minutes: np.ndarray) -> tuple[Callable[[], object], ...]:
    """Speed, shift, room, noise of recordings and gain, as the defaults of AugmentConfig draw them."""
    noises = [minute.astype(np.float32) / 32768 for minute in minutes[::-1]]

    def change(rows: np.ndarray) -> Callable[[], object]:
        sound = rows.astype(np.float32) / 32768
        config = augmentation.AugmentConfig()
        return lambda: [
            augmentation.augment(row, np.random.default_rng(i), config, noises, RATE) for i, row in enumerate(sound)
        ]

    return change(as_clips(minutes)), change(minutes)


def whole_corpus(costs: dict[str, float]) -> str:
    """What three versions of ``WANTED_HOURS`` take, by the rows of the table."""
    each = costs["augment"] + costs["micro, hop 20 ms"]
    decoders = [(name, costs[name]) for name in costs if name.startswith("decode")]
    sums = [f"{decode + 3 * each:,.0f} ({name.removeprefix('decode ')})" for name, decode in decoders]
    return f"Core-hours of that for three versions, micro at hops of 20 ms: {', '.join(sums)}."


def extracting(minutes: np.ndarray, config: features.FrontendConfig) -> tuple[Callable[[], object], ...]:
    """Batches of clips by ``extract``; recordings by a stream that takes a minute at a time."""
    clips = as_clips(minutes).astype(np.float32) / 32768

    def stream() -> list[np.ndarray]:
        heard = features.FrontendStream(config)
        return [heard.step_compact(minute) for minute in minutes]

    return lambda: features.extract(config, clips), stream


def in_numpy(minutes: np.ndarray, config: features.FrontendConfig) -> tuple[Callable[[], object], ...]:
    """The definition of the micro front end."""
    tables = microfrontend.make_tables(
        config.sample_rate, config.window, config.mel_bins, config.lower_hz, config.upper_hz, config.pcan
    )
    clips = as_clips(minutes)
    return tuple(lambda rows=rows: microfrontend.features(tables, rows, config.hop) for rows in (clips, minutes))


def measure(ways: dict[str, tuple[Callable[[], object], ...]], turns: int) -> list[dict]:
    """Rows of the medians over the turns, after one that does not count."""
    seconds = (CLIPS * 1.0, MINUTES * 60.0)
    found: dict[str, list[list[float]]] = {name: [[], []] for name in ways}
    for turn in range(-1, turns):
        for name, both in ways.items():
            for kind, way in enumerate(both):
                begin = time.process_time()
                way()
                if turn >= 0:
                    found[name][kind].append(seconds[kind] / (time.process_time() - begin))
    rows = []
    for name, (clips, minutes) in found.items():
        row = {"work": name, "clips": float(np.median(clips)), "minutes": float(np.median(minutes))}
        rows.append({**row, "cost": WANTED_HOURS / row["clips"]})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    args = parser.parse_args()
    if features.implementation() != "c":
        raise SystemExit("the front end's library is not built: run make native; numpy has rows of its own here")
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # which numpy's library reads when it is loaded
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.front_ends", *sys.argv[1:]])
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    minutes = sounds()
    with tempfile.TemporaryDirectory() as scratch:
        ways = {
            f"decode {ending[1:].upper()}, {decoder}": decoding(minutes, ending, decoder, pathlib.Path(scratch))
            for ending in (".wav", ".flac")
            for decoder in (("tensorflow-io",) if files.tensorflow_io_works() else ()) + ("soundfile",)
        }
        ways["augment"] = augmenting(minutes)
        for hop in features.HOPS_MS[::-1]:
            config = features.FrontendConfig(hop_ms=hop)
            ways[f"micro, hop {hop} ms"] = extracting(minutes, config)
            ways[f"micro in numpy, hop {hop} ms"] = in_numpy(minutes, config)
            ways[f"lfbe, hop {hop} ms"] = extracting(minutes, features.FrontendConfig(hop_ms=hop, backend="lfbe"))
        rows = measure(ways, args.turns)
    common.write(
        "front_ends", "Hours of sound that a core prepares in an hour", COLUMNS, rows,
        [
            f"Medians of {args.turns} turns, one thread, time of the processor. Made sound of 16 bits at {RATE} Hz, "
            "40 mel bands, windows of 30 ms. "
            f"Clips: {CLIPS} at once, as float samples; recordings: a minute at a time.",
            "Training reads files by tensorflow-io where it loads. Augmentation: the defaults of AugmentConfig.",
            f"The last column is arithmetic: {WANTED_HOURS:,} hours divided by the first figure of the row. A data set "
            "takes the sum of its rows: decoding, augmentation and features for each version of a clip. "
            + whole_corpus({row["work"]: row["cost"] for row in rows}),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
