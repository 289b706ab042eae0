# SPDX-License-Identifier: Apache-2.0
"""Thresholds as options give them, and the file that hands them on."""

from __future__ import annotations

import json

import pytest

from tfmot_kws.commands.parts import thresholds

WORDS = ("yes", "no")


def file_of(path, **detector):
    path.write_text(json.dumps({"model": "m.tflite", "streams": {"detector": detector}}))
    return path


@pytest.mark.parametrize(
    ("threshold", "values"),
    [(None, None), (2, (2.0, 2.0)), ("-1.5", (-1.5, -1.5)), ("no=1, yes=2.5", (2.5, 1.0))],
)
def test_options(threshold, values) -> None:
    assert thresholds.choose(threshold, None, None, WORDS) == thresholds.Chosen(values, 0.2, 1.0)
    assert thresholds.choose(threshold, 0.0, 3.0, WORDS) == thresholds.Chosen(values, 0.0, 3.0)


@pytest.mark.parametrize(
    "wrong",
    [
        *("nan", "inf", "loud", "", "yes=1", "yes=1,no=x", "yes=1,no=2,up=3", "yes=1=2,no=3", float("nan"), "a.txt"),
        "yes=1,no=2,yes=3",
    ],
)
def test_options_that_are_no_thresholds(wrong) -> None:
    with pytest.raises(ValueError, match=r"--threshold .*: must be one number, or one for each keyword \(yes=1.5"):
        thresholds.choose(wrong, None, None, WORDS)


def test_a_file_brings_thresholds_and_the_times_they_were_found_at(tmp_path) -> None:
    numbers = {"yes": 1.25, "no": -2}
    path = file_of(tmp_path / "a.json", thresholds=numbers, smooth_seconds=0.4, refractory_seconds=2.0, mode="margin")
    chosen = thresholds.choose(path, None, None, WORDS)
    assert chosen == thresholds.Chosen((1.25, -2.0), 0.4, 2.0, "margin", path)
    assert thresholds.choose(str(path), 0.4, None, WORDS[::-1]).values == (-2.0, 1.25)
    chosen.check_mode("margin")
    with pytest.raises(ValueError, match="thresholds of scores of kind margin, this model's are value"):
        chosen.check_mode("value")
    for times in ((0.2, None), (None, 1.0)):
        with pytest.raises(ValueError, match=r"--(smooth 0.2|refractory 1): the thresholds of .* were found at"):
            thresholds.choose(path, *times, WORDS)
    with pytest.raises(ValueError, match="has thresholds of yes, no, the keywords of this model are yes, up"):
        thresholds.choose(path, None, None, ("yes", "up"))
    (tmp_path / "own.json").write_text(json.dumps({"thresholds": numbers}))
    assert thresholds.choose(tmp_path / "own.json", None, None, WORDS).values == (1.25, -2.0)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"streams": 1}', '{"thresholds": [1, 2]}', '{"thresholds": {}, "smooth_seconds": -1}',
     '{"thresholds": {}, "smooth_seconds": "x"}', '{"streams": {"detector": {}}}'],
)  # fmt: skip
def test_files_without_thresholds(tmp_path, content) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match="evaluate --streams --json"):
        thresholds.choose(path, None, None, WORDS)
    path.write_text(content)
    with pytest.raises(ValueError, match=r"a\.json: no thresholds in it"):
        thresholds.choose(path, None, None, WORDS)


def test_a_file_with_a_threshold_that_is_no_number(tmp_path) -> None:
    path = file_of(tmp_path / "a.json", thresholds={"yes": "loud", "no": 1})
    with pytest.raises(ValueError, match="has thresholds of yes, no"):
        thresholds.choose(path, None, None, WORDS)


@pytest.mark.parametrize("name", ["smooth", "refractory"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_times_are_checked(name, value) -> None:
    with pytest.raises(ValueError, match=f"--{name} {value}: must be 0 or more"):
        thresholds.choose(None, **{"smooth": None, "refractory": None, name: value}, words=WORDS)
