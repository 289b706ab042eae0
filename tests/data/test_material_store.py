"""Material of scenes on disk: the same scenes from it as from memory; half of a folder is none."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tfmot_kws.data import material_store, scenes


def _said(seed: int, word: str = "", speaker: str = "") -> scenes.Utterance:
    samples = np.random.default_rng(seed).integers(-8000, 8000, 3000 + 100 * seed).astype(np.int16)
    return scenes.Utterance(samples, word, 200, len(samples) - 300, speaker)


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(5)
    return scenes.Material(
        {"nova": (_said(1, "nova", "ann"), _said(2, "nova", "bob")), "go": ()},
        (_said(3),),
        (),
        (_said(4, "", "ann"), _said(6)),
        (rng.integers(-99, 99, 5000).astype(np.int16),),
        rooms=(np.exp(-np.arange(800) / 90.0).astype(np.float32), np.ones(3, np.float32)),
    )


def test_scenes_of_it_are_those_of_the_material(found, tmp_path):
    kept = material_store.read(material_store.write(tmp_path / "m", found))
    assert not isinstance(kept.keywords["nova"][0].samples.base, bytes) and kept.sample_rate == 16000
    assert [one.speaker for one in kept.keywords["nova"]] == ["ann", "bob"] and kept.keywords["go"] == ()
    for seed in range(6):  # with and without rooms
        config = scenes.SceneConfig(seconds=4.0, keywords=0.5, rooms=seed % 2)
        one, other = scenes.render(found, config, seed), scenes.render(kept, config, seed)
        np.testing.assert_array_equal(one.samples, other.samples)
        assert one.targets == other.targets


def test_who_speaks_stays_with_the_word(found):
    targets = [t for seed in range(4) for t in scenes.render(found, scenes.SceneConfig(4.0, 0.6), seed).targets]
    assert {target.speaker for target in targets} == {"ann", "bob"}


def test_half_of_the_rooms_are_measured_ones(found, monkeypatch):
    heard = []

    def reverberate(sound, impulse):
        heard.append(any(impulse is room for room in found.rooms))
        return sound

    monkeypatch.setattr(scenes.augment, "reverberate", reverberate)
    for seed in range(40):
        scenes.render(found, scenes.SceneConfig(seconds=2.0, rooms=1.0, quiet=1.0), seed)
    assert 0.3 < np.mean(heard) < 0.7
    heard.clear()
    scenes.render(dataclasses.replace(found, rooms=()), scenes.SceneConfig(seconds=9.0, rooms=1.0), 0)
    assert heard and not any(heard)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "about.json").unlink(), "about.json"),
        (lambda folder: (folder / "samples.npy").write_bytes(b"no"), "make it anew"),
        (lambda folder: (folder / "samples.npy").write_bytes(b""), "make it anew"),
        (lambda folder: np.save(folder / "samples.npy", np.zeros(10, np.int16)), "are asked for"),
        (lambda folder: np.save(folder / "samples.npy", np.zeros(99999, np.float32)), "expected int16"),
        (lambda folder: np.save(folder / "rooms.npy", np.zeros(5, np.float32)), "rooms.npy has 5 samples"),
        (lambda folder: (folder / "about.json").write_text(json.dumps({"keywords": []})), "make it anew"),
    ],
)
def test_damaged_folders_are_refused(found, tmp_path, spoil, says):
    folder = material_store.write(tmp_path / "m", found)
    spoil(folder)
    with pytest.raises(ValueError, match=says):
        material_store.read(folder)
