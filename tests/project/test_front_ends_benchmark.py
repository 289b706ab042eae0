"""The benchmark of the front ends: what it measures is what training calls, and its last column is arithmetic."""

from __future__ import annotations

import time

import numpy as np

from benchmarks import front_ends as benchmark
from tfmot_kws.frontend import features


def test_both_ways_of_a_row_hear_the_same_sound(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(benchmark, "MINUTES", 1)
    minutes = benchmark.sounds()
    monkeypatch.setattr(benchmark, "CLIPS", 3)
    config = features.FrontendConfig()
    clips, recordings = (way() for way in benchmark.extracting(minutes, config))
    own_clips, own_recordings = (way() for way in benchmark.in_numpy(minutes, config))
    assert clips.shape == (3, 49, 40) and len(recordings) == 1 and recordings[0].any()
    np.testing.assert_allclose(clips, own_clips / 25.6, rtol=1e-6)
    np.testing.assert_array_equal(recordings[0], own_recordings[0])
    for ending in (".wav", ".flac"):
        read_clips, read_minutes = (way() for way in benchmark.decoding(minutes, ending, "soundfile", tmp_path))
        np.testing.assert_array_equal(np.stack(read_clips) * 32768, benchmark.as_clips(minutes))
        np.testing.assert_array_equal(read_minutes[0] * 32768, minutes[0])
    changed, _ = benchmark.augmenting(minutes)
    assert len(changed()) == 3 and not np.array_equal(changed()[0] * 32768, minutes[0, : benchmark.RATE])


def test_a_row_is_hours_of_sound_by_hours_of_a_core(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])

    def takes(seconds: float):
        return lambda: now.__setitem__(0, now[0] + seconds)

    (row,) = benchmark.measure({"way": (takes(0.5), takes(2.0))}, turns=3)
    assert row["clips"] == benchmark.CLIPS / 0.5
    assert row["minutes"] == benchmark.MINUTES * 60 / 2.0
    assert row["cost"] == 26_000 / row["clips"]
