"""The benchmark of searched networks: fixed ones within limits, and a small run to its table."""

from __future__ import annotations

import json

import numpy as np
import pytest
import search_cases
import speech_files

from benchmarks import common, search, search_networks
from tfmot_kws.models import networks, spotters
from tfmot_kws.search import spaces
from tfmot_kws.search.space import Task
from tfmot_kws.search.tables import layers_of


def _one_block(task: Task, width: float):
    block = networks.BlockSpec("dense", max(1, round(2 * width)), 3, stride=4)
    return networks.build(
        networks.NetworkConfig(task.num_classes, task.frames, task.mel_bins, (block,), sinc=task.sinc)
    )


FEATURES, SOUND = Task(12, 49, 40), Task(12, 50, 320, spotters.SincSpec())


@pytest.mark.parametrize("name", search_networks.FIXED)
@pytest.mark.slow
def test_fixed_networks_are_as_wide_as_they_may_be(name: str) -> None:
    make = search_networks.FIXED[name]
    for task, most in ((FEATURES, 2e6), (SOUND, 4e6)):
        model = search_networks.within(make, task, most, 60_000)
        assert model.output_shape == (None, 12) and model.input_shape[1:] == (task.frames, task.mel_bins)
        assert search_networks.macs(model) <= most and search_networks.parameters(model) <= 60_000
    with pytest.raises(ValueError, match=f"{make.__name__}: no width keeps to 10 MACs"):
        search_networks.within(make, FEATURES, 10, 60_000)


def test_operations_are_those_of_the_tables() -> None:
    """Of a network by description both count the same, filters over samples too."""
    for task in (FEATURES, SOUND):
        network = spaces.over_time().network(spaces.over_time().random(np.random.default_rng(1)), task)
        wanted = sum(layer.places * layer.weights for layer in layers_of(network))
        model = networks.build(network)
        assert search_networks.macs(model) == wanted
        stored = 40 * 401 - 80 if task is SOUND else 0  # filters of 400 samples and their sums, for two edges each
        assert search_networks.parameters(model) == model.count_params() + stored


@pytest.mark.slow
def test_a_small_run_makes_its_table(tmp_path, monkeypatch) -> None:
    """Rows of one seed, kept in files and taken up again."""
    words = speech_files.make_words(tmp_path / "words", 12)
    monkeypatch.setattr(search, "WORDS", ("low", "high"))
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(search_networks, "FIXED", {"one block": _one_block})
    monkeypatch.setitem(search.spaces.SPACES, "time", search_cases.tiny)
    short = "--search-epochs 2 --random 1 --epochs 1 --stage1 1 --stage2 1 --bits 2 --seeds 1 --copies 1"
    arguments = [
        "search",
        str(words),
        *short.split(),
        "--macs",
        "3M",
        "--inputs",
        "raw",
        "--runs",
        str(tmp_path / "runs"),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    search.main()
    table = json.loads((tmp_path / "results" / "search.json").read_text())
    rows = {row["model"]: row for row in table["rows"]}
    assert rows["raw, searched, 2 bits"]["weight_bits"] < 8 < rows["raw, searched"]["weight_bits"] == 32
    learned = rows["raw, searched, learned widths"]
    assert 2 <= learned["activation_bits"] <= 2.9 and learned["weight_bits"] < 8
    assert rows["raw, one block"]["operations"] <= rows["raw, searched"]["operations"]
    assert rows["Peter et al. 2021, raw sound*"]["accuracy"] == 95.55
    assert "low, high, other words" in table["notes"][0]
    monkeypatch.setattr("sys.argv", [*arguments, "--resume", "--only", "0"])
    monkeypatch.setattr(search.searches, "search", None)  # nothing is searched again
    search.main()
