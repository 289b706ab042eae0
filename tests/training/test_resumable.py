# SPDX-License-Identifier: Apache-2.0
"""Epochs that follow from their number: learning rates, order of batches, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from tfmot_kws.keras import keras
from tfmot_kws.training import resumable


def test_rates_of_epochs() -> None:
    schedule = resumable.EpochDecay(0.8, 5, 3)
    rates = [float(schedule(5 * epoch)) for epoch in range(6)]
    np.testing.assert_allclose(rates, [0.8, 0.4, 0.2, 0.1, 0.1 / 1.2, 0.1 / 1.44], rtol=1e-6)
    assert [float(schedule(step)) for step in range(5, 10)] == [rates[1]] * 5
    assert float(resumable.EpochDecay(1.0, 1, 0, 2.0, 4.0)(2)) == 1 / 16
    again = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(schedule), {"EpochDecay": resumable.EpochDecay}
    )
    assert again.get_config() == schedule.get_config() and float(again(17)) == rates[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1, 1), "rate must be above 0"),
        ((1.0, 0, 1), "steps must be at least 1, found 0"),
        ((1.0, 1, -1), "fast_epochs"),
        ((1.0, 1, 1, 0.5), "fast_factor must be at least 1.0"),
        ((1.0, 1, 1, 2.0, float("nan")), "slow_factor"),
    ],
)
def test_rates_say_what_is_wrong(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        resumable.EpochDecay(*arguments)


def test_batches_of_an_epoch_are_the_same_wherever_the_data_begins() -> None:
    def run(first: int, last: int, seed: int = 3) -> list[tuple[list[int], int]]:
        data = resumable.batches(10, 3, seed, first, last, lambda index, seed: (index, seed))
        return [(index.numpy().tolist(), int(number)) for index, number in data]

    whole = run(0, 4)
    assert whole == run(0, 1) + run(1, 2) + run(2, 4)
    assert len(whole) == 12 and len({number for _, number in whole}) == 12
    for epoch in range(4):
        shown = [i for index, _ in whole[3 * epoch : 3 * epoch + 3] for i in index]
        assert len(set(shown)) == 9 and set(shown) <= set(range(10))
    assert whole[:3] != whole[3:6] and whole != run(0, 4, seed=4)


def test_checkpoints_know_their_run(tmp_path) -> None:
    resumable.Checkpoints(tmp_path / "a", {"seed": 1, "sizes": (1, 2)})
    resumable.Checkpoints(tmp_path / "a", {"seed": 1, "sizes": (1, 2)})
    with pytest.raises(
        ValueError, match=r"other options \(seed 1, now 2\); give the same options, remove the folder or"
    ):
        resumable.Checkpoints(tmp_path / "a", {"seed": 2, "sizes": (1, 2)})


def test_checksum() -> None:
    a = np.arange(4)
    assert resumable.checksum([a, a]) == resumable.checksum([a.copy(), a]) != resumable.checksum([a, a + 1])


@pytest.mark.parametrize("text", ["{broken", "[1]", "null"])
def test_a_damaged_record_is_named(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json: is damaged .* to train anew"):
        resumable.Checkpoints(tmp_path, {"steps": 4})
