"""``tfmot-kws say`` and ``fetch-data``, as they are typed."""

from __future__ import annotations

import importlib.util

import pytest
import typer.testing

from tfmot_kws import cli
from tfmot_kws.data import datasets

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
