# SPDX-License-Identifier: Apache-2.0
"""Labels of frames lie where the sound is, however an example was cut, moved and stretched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfmot_kws.data import datasets, frame_labels
from tfmot_kws.data.alignment import Segment
from tfmot_kws.data.frame_labels import FrameLabels
from tfmot_kws.frontend.features import FrontendConfig
from tfmot_kws.sound import augment
from tfmot_kws.sound import files as audio

FRONTEND = FrontendConfig(mel_bins=20, window_ms=25, hop_ms=10, backend="lfbe")
TASK = datasets.TaskConfig(("low",), silence=False)
MOVED = augment.AugmentConfig(noise_probability=0.0, reverb_probability=0.0, shift_ms=150.0, speed=(0.7, 1.4))
WHERE = {"low": (0.55, 0.75, 300.0, 1.6), "high": (0.2, 0.5, 3000.0, 0.8)}
"""Start, end and pitch of a tone, and how long its recording is."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> datasets.Corpus:
    """Recordings with one tone each, and one of noise."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    clips = []
    for word, (start, end, pitch, seconds) in WHERE.items():
        time = np.arange(int(16000 * seconds)) / 16000
        sound = 0.3 * np.sin(2 * np.pi * pitch * time) * ((time >= start) & (time < end))
        audio.write(folder / f"{word}.wav", sound.astype(np.float32), 16000)
        clips.append(datasets.Clip(str(folder / f"{word}.wav"), word, start=start, end=end))
    audio.write(folder / "noise.wav", 0.01 * rng.standard_normal(16000).astype(np.float32), 16000)
    return datasets.Corpus((*clips, datasets.Clip(str(folder / "noise.wav"), "noise", kind="noise")))


def segments(corpus: datasets.Corpus) -> dict[str, tuple[Segment, ...]]:
    return {c.path: (Segment(c.start, c.end, c.word),) for c in corpus if c.start is not None}


@pytest.mark.parametrize(("config", "copies"), [(None, 1), (MOVED, 12)])
def test_labels_lie_where_the_tone_is(corpus, config, copies) -> None:
    features = datasets.load_features(corpus, "train", TASK, FRONTEND, config, copies)
    labels = frame_labels.from_alignment(features, FRONTEND, segments(corpus))
    assert labels.names == ("sil", "high", "low") and labels.y.shape == features.x.shape[:2]
    firsts = set()
    for x, y, source in zip(features.x, labels.y, features.source):
        clip = corpus.clips[source]
        if clip.is_noise:
            assert (y == -1).all()
            continue
        loud = x.max(axis=1) > 8.0
        spoken = y == labels.names.index(clip.word)
        assert spoken.any() and set(y) <= {0, labels.names.index(clip.word)}
        # A window of 25 ms that the tone enters by less than half is loud, but not labelled: one frame each end or two.
        assert not (spoken & ~loud).any() and (loud & ~spoken).sum() <= 4
        firsts.add(int(np.argmax(spoken)))
    assert len(firsts) > (10 if config else 1)


def test_labels_survive_the_cache(corpus, tmp_path) -> None:
    made = [datasets.load_features(corpus, "train", TASK, FRONTEND, MOVED, 2, cache_dir=tmp_path) for _ in range(2)]
    assert made[1].report.cached and np.array_equal(made[0].places, made[1].places)


def test_mined_examples_and_other_names_are_unknown(corpus) -> None:
    features = datasets.load_features(corpus, "train", TASK, FRONTEND)
    more = features.with_examples(features.x[:2], "_unknown_", "mined")
    labels = frame_labels.from_alignment(more, FRONTEND, segments(corpus), ("sil", "low"))
    assert (labels.y[-2:] == -1).all()
    high = labels.y[[corpus.clips[s].word == "high" for s in features.source] + [False, False]]
    assert set(high.ravel()) == {-1, 0}
    assert 0.0 < labels.known() < 1.0


def test_words_in_parts(corpus) -> None:
    features = datasets.load_features(corpus, "train", TASK, FRONTEND)
    whole = frame_labels.from_words(features, FRONTEND, corpus)
    parts = frame_labels.from_words(features, FRONTEND, corpus, 3)
    assert whole.names == ("sil", "high", "low")
    assert parts.names == ("sil", *(f"{word}/{part}" for word in ("high", "low") for part in (1, 2, 3)))
    assert np.array_equal(whole.y > 0, parts.y > 0)
    assert np.array_equal(np.where(parts.y > 0, (parts.y - 1) // 3 + 1, 0), whole.y)
    low = parts.y[[corpus.clips[s].word == "low" for s in features.source]][0]
    assert np.bincount(low)[4:].tolist() == pytest.approx([6.7, 6.7, 6.7], abs=1)
    noise = whole.y[[corpus.clips[s].is_noise for s in features.source]]
    assert len(noise) and not noise.any()


def test_words_by_level_where_nobody_says_when(corpus) -> None:
    blind = datasets.Corpus(tuple(dataclasses.replace(c, start=None, end=None) for c in corpus))
    features = datasets.load_features(blind, "train", TASK, FRONTEND)
    found = frame_labels.from_words(features, FRONTEND, blind, parts=2)
    known = frame_labels.from_words(features, FRONTEND, corpus)
    assert found.names == ("sil", "high", "low")
    assert (found.y != known.y).sum(axis=1).max() <= 4
    steady = dataclasses.replace(features, x=np.ones_like(features.x))
    assert (frame_labels.from_words(steady, FRONTEND, blind).y < 0).sum() == 2 * 98


def test_errors(corpus) -> None:
    features = datasets.load_features(corpus, "train", TASK, FRONTEND)
    with pytest.raises(ValueError, match="has none of the 3 recordings"):
        frame_labels.from_alignment(features, FRONTEND, {"elsewhere.wav": (Segment(0, 1, "a"),)})
    with pytest.raises(ValueError, match="do not say where"):
        frame_labels.from_words(dataclasses.replace(features, places=None), FRONTEND, corpus)
    with pytest.raises(ValueError, match="corpus: has none"):
        frame_labels.from_words(features, FRONTEND, datasets.Corpus(()))
    with pytest.raises(ValueError, match="parts=0"):
        frame_labels.from_words(features, FRONTEND, corpus, 0)
    for y, names, message in (
        (np.zeros(3, np.int32), ("sil",), "expected int32"),
        (np.zeros((3, 2), np.int32), ("a",), "begin with 'sil'"),
        (np.full((3, 2), 2, np.int32), ("sil", "a"), r"must lie in -1..1, found 2..2"),
    ):
        with pytest.raises(ValueError, match=message):
            FrameLabels(y, names)
