"""``tfmot-kws say`` and ``fetch-data``, as they are typed."""

from __future__ import annotations

import importlib.util

import fake_voice
import pytest
import typer.testing

from tfmot_kws import cli
from tfmot_kws.commands.parts.phrase import plan
from tfmot_kws.data import datasets, pronouncing
from tfmot_kws.sound import voices

needs_espeak = pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="no espeakng_loader")


def _run(*arguments: str):
    return typer.testing.CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"})


@needs_espeak
@pytest.mark.slow
def test_say_makes_a_folder_of_the_phrase_and_of_negatives(tmp_path):
    done = _run(
        "say", "--voices", "espeak", "--phrase", "hey nova", "--count", "4", "--negatives", "3", "--negative", "rover",
        "--negative", "say over", "--voice", "en+f*", "--out", str(tmp_path / "nova"),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    corpus = datasets.open_corpus(tmp_path / "nova")
    assert corpus.words() == {"hey nova": 4, "rover": 2, "say over": 1}
    assert {clip.kind for clip in corpus if clip.word == "hey nova"} == {"wake"}
    assert all(clip.speaker.startswith("en+f") for clip in corpus)


@pytest.fixture
def nova(monkeypatch):
    """Voices that need nothing, and a dictionary of a few words."""
    entries = {
        "hey": "HH EY", "he": "HH IY", "nova": "N OW V AH", "noah": "N OW AH", "over": "OW V ER", "dinner": "D IH N ER",
    }  # fmt: skip
    words = pronouncing.Dictionary({word: [tuple(phones.split())] for word, phones in entries.items()})
    monkeypatch.setattr(voices, "open", lambda *_: fake_voice.Here())
    monkeypatch.setattr(pronouncing, "load", lambda *_: words)


def _say(out, *arguments: str, phrase: str = "hey nova"):
    return _run("say", "--voices", "kokoro", "--phrase", phrase, "--count", "2", "--out", str(out), *arguments)


def test_what_is_all_but_the_phrase_is_no_negative(nova, tmp_path):
    """A model that is trained against "he nova" learns to miss the phrase."""
    done = _say(tmp_path / "nova", "--negatives", "30")
    assert done.exit_code == 0, done.output
    texts = (tmp_path / "nova" / "manifest.csv").read_text()
    assert "he nova" not in texts and "noah" in texts


def test_a_class_is_called_by_its_words(nova, tmp_path):
    """A comma would part the name in train --keywords; the voices get the text as it was typed."""
    done = _say(tmp_path / "nova", "--negatives", "2", "--negative", "No,  Rover!", phrase="Hey,  nova!")
    assert done.exit_code == 0, done.output
    corpus = datasets.open_corpus(tmp_path / "nova")
    assert corpus.words() == {"hey nova": 2, "no rover": 2}
    assert '"Hey,  nova!"' in (tmp_path / "nova" / "manifest.csv").read_text()
    assert plan.Options("Hey,  nova!", tmp_path / "run").word == "hey nova"  # phrase calls it the same


def test_say_says_what_to_do_where_the_dictionary_has_no_such_word(nova, tmp_path):
    said = " ".join(_say(tmp_path / "nova", phrase="hey zxqv").output.split())
    assert "'zxqv' is not in the pronouncing dictionary" in said and "--spelling" in said
    assert "--negatives 0" in said and "saying" not in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--slowest", "0.1"], "--slowest 0.1: must be 0.5..2"),
        (["--fastest", "3"], "--fastest 3: must be 0.5..2"),
        (["--slowest", "nan"], "--slowest nan: must be 0.5..2"),
        (["--slowest", "1.5"], "--slowest 1.5: is faster than --fastest 1.2"),
        (["--mixed", "2"], "--mixed 2: must be 0..1"),
        (["--voices", "espeak", "--mixed", "0.5"], "--mixed 0.5: voices 'espeak' cannot be mixed"),
        (["--voice", "nobody*"], "no voice is named like 'nobody*'"),
        (["--spelling", "?"], "--spelling '?': has no letters"),
        (["--negative", "Hey, Nova!"], "--negative 'Hey, Nova!': is the phrase itself"),
        (["--negative", "rover", "--negatives", "0"], "--negative: goes with --negatives above 0"),
        (["--phrase", "?"], "--phrase '?': has no letters"),
    ],
)
def test_say_refuses_before_it_begins(nova, tmp_path, arguments, says):
    done = _say(tmp_path / "nova", *arguments)
    assert done.exit_code == 1 and says in " ".join(done.output.split())
    assert "saying" not in done.output and not (tmp_path / "nova").exists()


def test_say_refuses_a_folder_before_it_begins(nova, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "say.json").write_text("{broken")
    for name, says in (
        ("file", "file: is a file; give a folder"),
        ("file/under", "file: is a file; give a folder"),
        ("mine", "mine: exists and was not made by this command"),
        ("damaged", "say.json: is damaged (Expecting property name"),
    ):
        done = _say(tmp_path / name, "--negatives", "0")
        assert done.exit_code == 1 and says in " ".join(done.output.split()) and "saying" not in done.output
    assert (tmp_path / "damaged" / "say.json").read_text() == "{broken"


@needs_espeak
@pytest.mark.slow
def test_say_lists_voices():
    done = _run("say", "--voices", "espeak", "--list", "--voice", "en-us+f?")
    assert done.exit_code == 0 and done.output.split() == [f"en-us+f{i}" for i in range(1, 6)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["say", "--voices", "espeak"], "--phrase and --out are needed, or --list"),
        (["say", "--voices", "nobody", "--list"], "must be one of espeak, kokoro, piper, flite"),
        (["fetch-data"], "name sets to download (speech-commands"),
        (["fetch-data", "musan"], "nothing was downloaded"),
        (["fetch-data", "nothing"], "no public set is called 'nothing'"),
    ],
)
def test_what_is_refused(arguments, says):
    done = _run(*arguments)
    assert done.exit_code == 1 and says in " ".join(done.output.split())


def test_fetch_data_says_what_there_is():
    listed = _run("fetch-data", "--list")
    assert listed.exit_code == 0 and "CC BY-NC 3.0" in listed.output and "11.1 GB" in listed.output
    full = _run("fetch-data", "--list", "musan")
    assert "https://www.openslr.org/resources/17/musan.tar.gz (11.1 GB)" in full.output
