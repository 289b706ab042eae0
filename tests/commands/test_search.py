"""``tfmot-kws search``: a network of words, its files, and what is refused before any work."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
import search_cases
import speech_files
from command_line import error, run

from tfmot_kws.commands.parts import sidecar
from tfmot_kws.models.networks import NetworkConfig
from tfmot_kws.search import plot

BUDGET = ("--budget-flash", "2K", "--budget-macs", "90K")


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> pathlib.Path:
    """Recordings and a space in a file."""
    folder = tmp_path_factory.mktemp("search")
    speech_files.make_words(folder / "words")
    (folder / "tiny.json").write_text(search_cases.tiny().to_json())
    return folder


def _common(folder: pathlib.Path) -> tuple:
    cut = ("--copies", 1, "--batch-size", 16, "--search-epochs", 4, "--epochs", 2, "--keywords", "low,high")
    return ("search", "--data", folder / "words", "--cache", folder / "cache", *cut)


@pytest.mark.slow
def test_from_words_to_a_network_that_is_exported(words: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "found"
    said = run(*_common(words), "--space", words / "tiny.json", *BUDGET, "--out", out).output
    assert "24 networks; budget: flash 2,000, macs 90,000" in said and "found" in said
    network = NetworkConfig.from_json((out / "network.json").read_text())
    record = json.loads((out / "search.json").read_text())
    assert record["network"] == json.loads(network.to_json()) and record["best"]["costs"]["flash"] <= 2000
    assert (out / "search.svg").stat().st_size > 5000
    about = sidecar.read(out / "network.keras")
    assert about.task.keywords == ("low", "high") and about.options["network"] == "network.json"
    assert "the search in this folder is done" in error(*_common(words), *BUDGET, "--out", out)
    data = ("--data", words / "words", "--cache", words / "cache", "--copies", 1, "--batch-size", 16)
    stages = ("--stage1-epochs", 1, "--stage2-epochs", 1)
    run("quantize", "--model", out / "network.keras", *data, *stages, "--bits", 3, "--out", tmp_path / "q.keras")
    run("export", "--model", tmp_path / "q.keras", "--streaming", "internal", "--out", tmp_path / "s.tflite")
    run("train", *data, "--keywords", "low,high", "--epochs", 1, "--network", out / "network.json", "--out",
        tmp_path / "again.keras")  # fmt: skip
    wrong = error("train", *data, "--network", out / "network.json", "--backend", "raw", "--out", tmp_path / "x.keras")
    assert "it hears features: --backend micro or lfbe" in wrong


@pytest.mark.slow
def test_a_search_that_is_stopped_goes_on(words: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> None:
    """Ctrl-C in the search, then in the training; other options are refused, and nothing but results is left."""
    arguments = (*_common(words), "--space", words / "tiny.json", *BUDGET, "--out", tmp_path / "out")
    plot_search, heard = plot.plot_search, []

    def stop(looks, *rest, **more):
        heard.append(looks[-1].epoch)
        if looks[-1].epoch == 2:
            raise KeyboardInterrupt
        return plot_search(looks, *rest, **more)

    monkeypatch.setattr(plot, "plot_search", stop)
    said = run(*arguments, status=130).output
    assert "stopped; the same command goes on after the last whole epoch" in said and heard == [1, 2]
    monkeypatch.setattr(plot, "plot_search", plot_search)
    other = error(*arguments, "--seed", 1)
    assert "holds a run with other options" in other and "seed 0, now 1" in other
    run(*arguments)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"network.keras", "network.keras.json", "network.json", "search.json", "search.svg"}
    epochs = [one["epoch"] for one in json.loads((tmp_path / "out" / "search.json").read_text())["looks"]]
    assert sorted(set(epochs)) == [1, 2, 3, 4]


@pytest.mark.slow
def test_samples_and_widths(words: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "found"
    options = ("--space", words / "tiny.json", "--bits", "8,2", "--backend", "raw", "--budget-flash", "20K")
    said = run(*_common(words), *options, "--out", out).output
    network = NetworkConfig.from_json((out / "network.json").read_text())
    assert network.sinc is not None and {block.bits for block in network.blocks} <= {8, 2}
    assert f"--layer-bits 'block_1_*={network.blocks[0].bits}'" in said


def test_a_space_is_written_to_be_changed(words: pathlib.Path, tmp_path: pathlib.Path) -> None:
    said = run(*_common(words), "--write-space", "--space", "time-band", "--out", tmp_path).output
    assert "networks" in said and json.loads((tmp_path / "space.json").read_text())["over"] == "time and band"
    assert list(tmp_path.iterdir()) == [tmp_path / "space.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "a search needs a limit: --budget-flash"),
        (("--budget-streaming",), "a search needs a limit"),
        (("--budget-flash", "much"), "--budget-flash: Budget.flash='much'"),
        (("--budget-instructions", "2M"), "--budget-instructions: Budget.instructions=2000000.0: needs core="),
        (("--budget-instructions", "2M", "--core", "z80"), "--core z80: core='z80'"),
        ((*BUDGET, "--bits", "9"), "--bits 9: Space.bits"),
        ((*BUDGET, "--bits", "four"), "--bits four: must be a width"),
        ((*BUDGET, "--space", "small"), "--space small, --bits 8: must be time, time-band or a .json file"),
        (("--budget-flash", "100"), "is met by no network of the space"),
        (("--budget-flash", "100K", "--search-epochs", "1", "--batch-size", "1"), "SearchConfig.batch_size=1"),
    ],
)
def test_mistakes_are_said_before_any_work(words: pathlib.Path, tmp_path, options: tuple, message: str) -> None:
    said = error(*_common(words), *options, "--out", tmp_path / "out")
    assert message in said and not (tmp_path / "out").exists()


def test_a_space_that_is_damaged_is_named(words: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "space.json"
    table = dataclasses.asdict(search_cases.tiny())
    table["stages"][0]["widths"] = [0]
    file.write_text(json.dumps(table))
    said = error(*_common(words), *BUDGET, "--space", file, "--out", tmp_path / "out")
    assert f"--space {file}" in said and "StageSpace.widths" in said
    missing = error(*_common(words), *BUDGET, "--space", tmp_path / "none.json", "--out", tmp_path / "out")
    assert "none.json" in missing and not (tmp_path / "out").exists()
