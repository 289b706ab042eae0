"""Scenes: the same seed gives the same sound, and keywords are where the targets say."""

from __future__ import annotations

import dataclasses

import corpus_files
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfmot_kws.data import scenes
from tfmot_kws.data.corpus import Clip, Corpus
from tfmot_kws.sound import effects

PLAIN = scenes.SceneConfig(
    seconds=8.0,
    keywords=0.5,
    like=0.2,
    parts=0.0,
    rooms=0.0,
    quiet=1.0,
    gain_db=(0.0, 0.0),
    level_db=(0.0, 0.0),
    cut=0.5,
)


def tone(hz: float, seconds: float, rate: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (8000.0 * np.sin(2.0 * np.pi * hz * time)).astype(np.int16)


def burst(hz: float, seconds: float, rate: int) -> np.ndarray:
    """Many tones within a third around ``hz``: no room takes them all away."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(0)
    tones = [np.sin(2.0 * np.pi * f * time + rng.uniform(0, 6)) for f in rng.uniform(0.85 * hz, 1.15 * hz, 30)]
    return (2000.0 * np.sum(tones, axis=0)).astype(np.int16)


def said(hz: float, seconds: float, rate: int, word: str = "", margin: float = 0.1) -> scenes.Utterance:
    """A tone between two silences."""
    quiet = np.zeros(round(margin * rate), np.int16)
    sound = (burst if word else tone)(hz, seconds, rate)
    return scenes.Utterance(np.concatenate([quiet, sound, quiet]), word, len(quiet), len(quiet) + len(sound))


def made(rate: int = 16000, margin: float = 0.1, keyword_seconds: float = 0.5, **changes) -> scenes.Material:
    """High keywords among low sound."""
    parts = dict(
        keywords={"go": (said(2000.0, keyword_seconds, rate, "go", margin),)},
        like=(said(150.0, 0.4, rate, "", margin),),
        sentences=(said(170.0, 2.0, rate, "", margin), said(130.0, 1.7, rate, "", margin)),
        words=(said(200.0, 0.3, rate, "", margin),),
        noises=(tone(110.0, 3.0, rate), tone(90.0, 40.0, rate)),
        sample_rate=rate,
    )
    return scenes.Material(**(parts | changes))


def high(samples: np.ndarray, rate: int, size: int) -> np.ndarray:
    """Power above 1.2 kHz, in dB of full scale, of frames of ``size`` samples."""
    frames = samples[: len(samples) // size * size].reshape(-1, size) / 32768.0
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    above = spectrum[:, round(1200 * size / rate) :].sum(axis=1) / size**2 * 4.0
    return 10.0 * np.log10(above + 1e-12)


# An echo that ends where the recording ends is a click, which is high sound.
@hypothesis.example(seed=19868, rate=8000, rooms=1.0, quiet=0.0, speed=(1.4, 1.4), margin=0.0, devices=False)
@hypothesis.settings(max_examples=25)
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    rate=st.sampled_from([8000, 16000]),
    rooms=st.sampled_from([0.0, 1.0]),
    quiet=st.sampled_from([0.0, 1.0]),
    speed=st.sampled_from([(1.0, 1.0), (0.88, 1.13), (0.7, 0.7), (1.4, 1.4)]),
    margin=st.sampled_from([0.0, 0.1]),
    devices=st.booleans(),
)
def test_keywords_lie_where_the_targets_say(seed, rate, rooms, quiet, speed, margin, devices) -> None:
    config = dataclasses.replace(
        PLAIN, rooms=rooms, quiet=quiet, speed=speed, snr_db=(25.0, 25.0), room_seconds=(0.1, 0.3)
    )
    device = effects.EffectsConfig(
        clip_probability=0.0, codec_probability=0.0, level_db=(0.0, 0.0), band_probability=0.0, eq_gain_db=(-1.0, 1.0)
    )
    scene = scenes.render(made(rate, margin), config, seed, device if devices else None)
    assert scene.samples.dtype == np.int16 and len(scene.samples) == 8 * rate
    frame = rate // 100
    loud = high(scene.samples, rate, frame) > -37.0
    unsure = np.zeros(len(loud), bool)
    for target in scene.targets:
        assert 0.0 <= target.start < target.end <= 8.0
        assert 0.5 / speed[1] - 0.001 <= target.end - target.start <= 0.5 / speed[0] + 0.001
        inside = loud[round(target.start * 100) : round(target.end * 100)]
        assert inside[:4].any() and inside[-4:].any() and inside.mean() > 0.85, "no keyword where a target is"
        unsure[max(round(target.start * 100) - 1, 0) : round(target.end * 100) + 1 + (35 if rooms else 0)] = True
    assert not np.any(loud & ~unsure), "a keyword where no target is"


def test_an_echo_goes_on_behind_the_recording() -> None:
    """It falls by 60 dB in half a second, from where a word ends that has no margin."""
    config = dataclasses.replace(PLAIN, keywords=1.0, like=0.0, rooms=1.0, room_seconds=(0.5, 0.5), pause=(1.0, 1.2))
    behind = []
    for seed in range(20):
        scene = scenes.render(made(margin=0.0), config, seed)
        for target, following in zip(scene.targets[:-1], scene.targets[1:]):
            end = round(target.end * 16000)
            if following.start - target.end > 0.9:
                behind.append([np.abs(scene.samples[end + n : end + n + 800]).max() for n in (0, 1600, 12000)])
    near, later, last = np.max(behind, axis=0)
    assert near > later > 100 and last == 0


@pytest.mark.parametrize("keywords", [0.3, 1.0])
def test_the_same_seed_gives_the_same_scene(keywords: float) -> None:
    config = dataclasses.replace(scenes.SceneConfig(), seconds=6.0, keywords=keywords, like=0.0, rooms=1.0, quiet=0.0)
    one, two, other = (scenes.render(made(), config, seed) for seed in ([3, 4], [3, 4], [3, 5]))
    assert np.array_equal(one.samples, two.samples) and one.targets == two.targets
    assert len(one.snr_db) == len(one.targets) and one.snr_db == two.snr_db and np.isfinite(one.snr_db).all()
    assert not np.array_equal(one.samples, other.samples)


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("pause", [(0.0, 0.0), (0.5, 0.5)])
def test_pauses_lie_between_what_is_said(pause: tuple[float, float], margin: float) -> None:
    config = dataclasses.replace(PLAIN, seconds=30.0, keywords=1.0, like=0.0, pause=pause, speed=(1.0, 1.0))
    targets = scenes.render(made(margin=margin), config, 0).targets
    gaps = [after.start - before.end for before, after in zip(targets, targets[1:])]
    assert len(gaps) > 20
    short = [gap for gap in gaps if gap <= 0.1 + 1e-3]
    assert min(gaps) >= -1e-9  # nobody speaks into a keyword
    if pause == (0.5, 0.5):
        assert all(abs(gap - 0.5) < 1e-3 for gap in gaps if gap > 0.1 + 1e-3) and 3 < len(short) < len(gaps)


@pytest.mark.parametrize("joined", [0.0, 1.0])
def test_how_much_talk_is_unbroken(joined: float) -> None:
    config = dataclasses.replace(PLAIN, seconds=30.0, keywords=1.0, like=0.0, pause=(0.4, 0.6), joined=joined)
    targets = scenes.render(made(), config, 0).targets
    gaps = [after.start - before.end for before, after in zip(targets, targets[1:])]
    low, high = (0.0, 0.1) if joined else (0.4, 0.6)
    assert len(gaps) > 10 and min(gaps) > low - 1e-3 and max(gaps) < high + 1e-3


def test_words_alone_are_said_in_quiet_and_apart() -> None:
    """Nothing but words, half a second or more from each other, and digital silence between them."""
    config = dataclasses.replace(scenes.WORDS_ALONE, seconds=60.0, keywords=1.0, like=0.0, speed=(1.0, 1.0))
    scene = scenes.render(made(sentences=()), config, 0)
    gaps = [after.start - before.end for before, after in zip(scene.targets, scene.targets[1:])]
    assert len(gaps) > 20 and 0.5 - 1e-3 < min(gaps) and max(gaps) < 1.5 + 1e-3
    middles = [(before.end + after.start) / 2 for before, after in zip(scene.targets, scene.targets[1:])]
    assert not any(np.any(scene.samples[round(at * 16000) - 800 : round(at * 16000) + 800]) for at in middles)


def test_single_words_come_closer_than_talk_lets_them() -> None:
    """Of two minutes each, most of what is said is short, so that there is room for twice as many keywords."""
    said = {}
    for name, config in (("talk", scenes.SceneConfig()), ("words", scenes.SINGLE_WORDS)):
        found = [scenes.render(made(), dataclasses.replace(config, seconds=60.0), seed) for seed in (0, 1)]
        said[name] = sum(len(scene.targets) for scene in found)
    assert said["words"] > 1.6 * said["talk"] > 10


@pytest.mark.parametrize("seconds", [2.0, 2.7])
@pytest.mark.parametrize("seed", range(8))
def test_what_does_not_fit(seed: int, seconds: float) -> None:
    """A keyword longer than the scene is left out, a sentence is cut, and neither goes on for ever."""
    long = made(keyword_seconds=4.0, sentences=(said(170.0, 5.0, 16000),), words=(), like=())
    config = dataclasses.replace(PLAIN, seconds=seconds, like=0.0, cut=0.0)
    only = scenes.render(long, dataclasses.replace(config, keywords=1.0), seed)
    assert only.targets == () and not only.samples.any()
    scene = scenes.render(long, dataclasses.replace(config, keywords=0.0), seed)
    assert scene.targets == () and scene.samples[-1600:].any()


@pytest.mark.parametrize("kind", ["sentences", "words", "like", "babble"])
def test_nobody_else_says_a_keyword(kind: str) -> None:
    shares = {"sentences": {"sentences": 1.0}, "words": {"sentences": 0.0}, "like": {"like": 1.0}}.get(kind, {})
    config = dataclasses.replace(PLAIN, **({"keywords": 0.0, "like": 0.0, "talk": 1.0} | shares))
    if kind == "babble":
        config = dataclasses.replace(config, quiet=0.0, snr_db=(0.0, 0.0))
    for seed in range(5):
        scene = scenes.render(made(), config, seed)
        assert scene.targets == () and high(scene.samples, 16000, 160).max() < -45.0 and scene.samples.any()


def test_parts_of_keywords_are_no_keywords() -> None:
    config = dataclasses.replace(PLAIN, keywords=0.0, like=1.0, parts=1.0, speed=(1.0, 1.0), pause=(0.3, 1.0))
    longest = 0
    for seed in range(5):
        scene = scenes.render(made(), config, seed)
        assert scene.targets == ()
        loud = np.flatnonzero(np.diff(np.r_[0, high(scene.samples, 16000, 160) > -37.0, 0]))
        longest = max(longest, *(loud[1::2] - loud[::2]))
    assert 10 < longest <= 25  # of 50 frames; 45 % of them, and a frame on either side


def test_shares_of_lists_that_are_empty_go_to_other_speech() -> None:
    config = dataclasses.replace(PLAIN, keywords=0.8, like=0.2, sentences=0.0)
    for changes in ({"keywords": {}}, {"keywords": {"go": ()}}):
        scene = scenes.render(made(**changes), config, 1)
        assert scene.targets == () and scene.samples.any()
    only_like = made(sentences=(), words=())
    assert scenes.render(only_like, dataclasses.replace(config, talk=1.0, quiet=0.0), 1).samples.any()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sentences": (), "words": (), "like": ()}, "no speech beside the keywords"),
        ({"words": (said(200.0, 0.3, 16000, "go"),)}, "Material.words: holds the keyword 'go'"),
        ({"keywords": {"stop": (said(200.0, 0.3, 16000, "go"),)}}, "not marked as this word"),
        ({"noises": (np.zeros(0, np.int16),)}, "at least one sample"),
    ],
)
def test_material_that_makes_no_sense(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


@pytest.mark.parametrize("start, end", [(-1, 5), (5, 5), (0, 11)])
def test_utterances_that_make_no_sense(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="start < end <= 10"):
        scenes.Utterance(np.ones(10, np.int16), "go", start, end)
    with pytest.raises(ValueError, match="int16"):
        scenes.Utterance(np.ones(10, np.float32), "go", 0, 5)


@pytest.mark.parametrize(
    "options",
    [
        {"keywords": 1.1},
        {"keywords": 0.6, "like": 0.5},
        {"seconds": 1.0},
        {"pause": (1.0, 0.5)},
        {"joined": 1.1},
        {"speed": (0.4, 1.0)},
    ],
)
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(ValueError, match="SceneConfig"):
        scenes.SceneConfig(**options)


def test_noise_repeats_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_NOISE_PERIOD", 1 << 12)
    for seed in range(6):
        noise = scenes.coloured(np.random.default_rng(seed), 3 * 4096 + 5)
        assert noise.dtype == np.float32 and noise.shape == (3 * 4096 + 5,)
        steps = np.abs(np.diff(noise))
        assert max(steps[4095], steps[8191]) <= steps[:4095].max() * 1.5


def test_noise_is_the_same_at_any_rate() -> None:
    """From 20 Hz on the power falls; the same bins are half as many Hz at 8000."""
    seed = next(seed for seed in range(50) if _slope_and_hum(seed)[0] > 1.0 and not _slope_and_hum(seed)[1])
    fast, slow = (
        np.abs(np.fft.rfft(scenes.coloured(np.random.default_rng(seed), 16384, rate))) for rate in (16000, 8000)
    )
    ratio = slow / fast
    assert np.allclose(ratio[1:20], ratio[1], rtol=1e-2) and np.allclose(ratio[41:2000], ratio[41], rtol=1e-2)
    assert ratio[41] / ratio[1] == pytest.approx(2.0 ** _slope_and_hum(seed)[0], rel=1e-2)


def _slope_and_hum(seed: int) -> tuple[float, bool]:
    rng = np.random.default_rng(seed)
    rng.standard_normal(16384 // 2 + 1), rng.standard_normal(16384 // 2 + 1)
    return float(rng.uniform(0.0, 1.5)), bool(rng.random() < 0.3)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("scenes")
    silence = np.zeros(4000, np.float32)
    middle = np.concatenate([silence, tone(1000.0, 0.5, 16000) / 32768.0, silence])
    files = {
        "go": middle, "at_border": middle[4000:12000], "near": middle, "like": middle, "other": middle,
        "sentence": np.tile(middle, 4), "hum": middle, "tiny": middle[4000:4200],
    }  # fmt: skip
    paths = {name: str(corpus_files.write(root / f"{name}.wav", sound)) for name, sound in files.items()}
    (root / "broken.wav").write_bytes(b"RIFF no sound")
    return Corpus(
        (
            Clip(paths["go"], "go"),
            Clip(paths["at_border"], "go", start=0.0, end=0.5),
            Clip(paths["near"], "goat", kind="near"),
            Clip(paths["like"], "gold"),
            Clip(paths["other"], "other"),
            Clip(paths["tiny"], "other"),
            Clip(paths["sentence"], "other"),
            Clip(paths["hum"], "hum", kind="noise"),
            Clip(paths["go"], "go", kind="streams"),
            Clip(str(root / "broken.wav"), "other"),
        )
    )


@pytest.mark.parametrize("rate", [8000, 16000])
def test_material_of_clips(clips: Corpus, rate: int) -> None:
    seen = []
    found = scenes.material(clips, ["go"], ["gold"], rate, lambda done, total: seen.append((done, total)))
    assert [len(found.keywords["go"]), len(found.like), len(found.sentences), len(found.words)] == [2, 2, 1, 1]
    assert len(found.noises) == 1 and [problem.problem for problem in found.problems] == ["unreadable"]
    assert seen == [(number, 9) for number in range(1, 10)]
    middle, border = found.keywords["go"]
    assert abs(middle.start - rate // 10) <= rate // 50 and abs(middle.end - middle.start - rate // 2) <= rate // 25
    assert (border.start, border.end, len(border.samples)) == (0, rate // 2, rate // 2)
    config = dataclasses.replace(PLAIN, keywords=1.0, like=0.0)
    assert scenes.render(found, config, 0).targets


def test_material_without_what_was_asked_for(clips: Corpus) -> None:
    with pytest.raises(ValueError, match="keyword 'stop': none of 9 clips says it"):
        scenes.material(clips, ["go", "stop"])
    with pytest.raises(ValueError, match="one string"):
        scenes.material(clips, "go")
    with pytest.raises(ValueError, match="no speech beside"):
        scenes.material(clips.filter(lambda clip: clip.word == "go"), ["go"])
