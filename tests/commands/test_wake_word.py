"""``WakeWord``: what ``listen`` hears, by callback, iterator and coroutine."""

from __future__ import annotations

import asyncio
import io
import pathlib

import kept
import numpy as np
import pytest
from spotter_files import speech, write_spotter

import tfmot_kws
from tflite_export.runtimes import kernels
from tfmot_kws.commands.parts import spotter


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return kept.once(tmp_path_factory, "spotter", write_spotter)


@pytest.fixture(scope="module")
def expected(folder) -> list[spotter.Heard]:
    heard = spotter.open_spotter(folder / "stream.tflite", 0.1, refractory=0.3).step(speech())
    assert len(heard) > 3
    return heard


@pytest.fixture
def ear(folder) -> tfmot_kws.WakeWord:
    return tfmot_kws.WakeWord(folder / "stream.tflite", threshold=0.1, refractory=0.3)


def sources(folder: pathlib.Path) -> dict:
    sound = speech()
    return {
        "file": folder / "speech.wav",
        "text": str(folder / "speech.wav"),
        "samples": sound,
        "blocks": np.array_split(sound, 7),
        "pipe": io.BytesIO((folder / "speech.wav").read_bytes()),
    }


@pytest.mark.parametrize("name", ["file", "text", "samples", "blocks", "pipe"])
def test_every_source_is_heard(folder, ear, expected, name: str) -> None:
    heard: list = []
    ear.listen(heard.append, sources(folder)[name])
    assert heard == expected


def test_async_hears_the_same_and_leaves_the_loop_free(folder, ear, expected) -> None:
    async def main() -> tuple[list, int]:
        heard: list = []
        turns, done = 0, False

        async def count() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await asyncio.sleep(0)

        async def called(one: spotter.Heard) -> None:
            heard.append(one)

        counting = asyncio.create_task(count())
        await ear.listen_async(called, speech())
        done = True
        await counting
        return heard, turns

    heard, turns = asyncio.run(main())
    assert heard == expected and turns > 50


def test_false_and_stop_end_it(ear, expected) -> None:
    heard: list = []
    ear.listen(lambda one: heard.append(one) or False, speech())
    assert heard == expected[:1]
    ear.reset()
    for one in ear.events(speech()):
        heard.append(one)
        ear.stop()
    assert len(heard) <= 3  # those of the block that was heard when it was stopped
    ear.reset()
    ear.listen(heard.append, speech(0.05))
    assert ear.usage.sound < 12.0


def test_usage_says_what_it_cost_and_what_ran(folder, ear) -> None:
    assert ear.usage.share == 0.0
    ear.feed(speech(2.0))
    usage = ear.usage
    assert usage.sound == 2.0 and 0.0 < usage.cpu < 60.0 and usage.share == usage.cpu / 2.0
    assert f"{usage.share:.1%} of one core" in str(usage)
    dense = [name for name in usage.kernels if "dense" in name]
    assert len(dense) == 1 and dense[0].startswith("kws_packed_dense_") and "kws_ring" in usage.kernels
    assert usage.kernels == kernels.kernels_of((folder / "stream.tflite").read_bytes())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_named_and_not_taken(ear, expected, value: float) -> None:
    sound = speech().astype(np.float32) / 32768
    heard = ear.feed(sound[:50_000])
    broken = sound[50_000:50_100].copy()
    broken[[7, 9]] = value
    with pytest.raises(ValueError, match=f"audio: sample 7 is {value}, 2 of 100 are NaN or infinite"):
        ear.feed(broken)
    assert heard + ear.feed(sound[50_000:]) == expected and ear.usage.sound == 12.0


def test_what_is_no_sound_is_refused(folder, ear) -> None:
    with pytest.raises(FileNotFoundError, match="no such sound file"):
        ear.listen(print, folder / "nothing.wav")
    with pytest.raises(ValueError, match="must be a .tflite file"):
        tfmot_kws.WakeWord(folder / "speech.wav")
