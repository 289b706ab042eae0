"""Folders of said clips: the same bytes again and after a stop, voices kept apart, readable by training."""

from __future__ import annotations

import fake_voice
import pytest

from tfmot_kws.data import datasets, spoken
from tfmot_kws.sound import voices

LINES = [
    (spoken.Line("hey nova", "hey nova", "wake"), 30),
    (spoken.Line("he nova", "he nova", "near"), 6),
    (spoken.Line("I know a hen over there.", "hen over", "sentence"), 4),
]


def _files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken") / "a"
    steps = []
    spoken.say(folder, fake_voice.Here(), LINES, seed=3, mixed=0.5, progress=lambda *step: steps.append(step))
    assert steps[-1] == (40, 40) and len(steps) == 40
    return folder


def test_same_call_same_bytes_and_nothing_is_said_twice(made, tmp_path):
    spoken.say(tmp_path / "b", fake_voice.Here(), LINES, seed=3, mixed=0.5, jobs=2)
    assert _files(tmp_path / "b") == _files(made)
    assert len(_files(made)) == 40 + 2
    idle = fake_voice.Here()
    spoken.say(tmp_path / "b", idle, LINES, seed=3, mixed=0.5)
    assert idle.said == []


def test_a_run_that_was_stopped_goes_on(made, tmp_path):
    folder = tmp_path / "c"
    with pytest.raises(RuntimeError, match="stopped"):
        spoken.say(folder, fake_voice.Here(stop_after=17), LINES, seed=3, mixed=0.5)
    assert not (folder / "manifest.csv").exists()
    whole = sorted(folder.glob("*/*.wav"))
    whole[0].write_bytes(whole[0].read_bytes()[:20])  # damaged
    (folder / "hey_nova" / ".000003.half").write_bytes(b"killed while it was written")
    rest = fake_voice.Here()
    spoken.say(folder, rest, LINES, seed=3, mixed=0.5)
    assert len(rest.said) == 40 - 17 + 1 and _files(folder) == _files(made)


def test_training_reads_it_with_voices_apart(made):
    corpus = datasets.open_corpus(made)
    assert corpus.words() == {"hen over": 4, "hey nova": 30, "he nova": 6} and not corpus.skipped
    split_of: dict[str, str] = {}
    mixtures = 0
    for clip in corpus:
        mixture = voices.parse_mixture(clip.speaker)
        mixtures += mixture is not None
        for name in (mixture.first, mixture.second) if mixture else (clip.speaker,):
            assert split_of.setdefault(name, clip.split) == clip.split
        assert (clip.start is None) == (clip.kind == "sentence")
        assert clip.start is None or (clip.start == 0.1 and clip.end > 0.3)
    assert 5 < mixtures < 35 and set(split_of.values()) == {"train", "dev", "test"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 4}, "was begun with other seed: 3, now 4"),
        ({"mixed": 0.0}, "was begun with other mixed"),
        ({"patterns": ["v0*"]}, "was begun with other names"),
        ({"speeds": (1.0, 1.1)}, "was begun with other speeds"),
        ({"speeds": (1.0, 3.0)}, "must be two rising numbers"),
        ({"mixed": 1.5}, "mixed=1.5"),
        ({"patterns": ["w*"]}, "no voice is named like 'w"),
        ({"lines": []}, "nothing to say"),
    ],
)
def test_other_options_are_refused_before_anything_is_said(made, changed, says):
    before, voice = _files(made), fake_voice.Here()
    with pytest.raises(ValueError, match=says):
        spoken.say(made, voice, **({"lines": LINES, "seed": 3, "mixed": 0.5} | changed))
    assert _files(made) == before and voice.said == []


@pytest.mark.parametrize("text", ["{broken", "[1]", "\x00"])
def test_a_damaged_stamp_is_named(tmp_path, text):
    (tmp_path / "say.json").write_text(text)
    with pytest.raises(ValueError, match="say.json: is damaged .*; give another folder, or remove this one"):
        spoken.say(tmp_path, fake_voice.Here(), LINES)
    assert [path.name for path in tmp_path.iterdir()] == ["say.json"]


def test_check_makes_nothing(tmp_path):
    spoken.check(tmp_path / "new", fake_voice.Here(), LINES)
    with pytest.raises(ValueError, match="must be two rising numbers"):
        spoken.check(tmp_path / "new", fake_voice.Here(), LINES, speeds=(1.0, 3.0))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="was not made by this command"):
        spoken.say(tmp_path, fake_voice.Here(), LINES)
    with pytest.raises(ValueError, match="must have letters"):
        spoken.Line("?", "?", "wake")
