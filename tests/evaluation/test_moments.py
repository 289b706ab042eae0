"""Which stretches are chosen, by hand and at random, and their pictures."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from matplotlib import image

from tfmot_kws.data.stream_labels import Target
from tfmot_kws.evaluation import moment_plot, moments
from tfmot_kws.evaluation import streams as stream_evaluate
from tfmot_kws.evaluation.detector import DetectorConfig
from tfmot_kws.evaluation.moments import Moment
from tfmot_kws.evaluation.stream_results import Found, Missed, StreamEvaluation


def false_accept(stream: str, time: float, score: float = 2.0) -> Found:
    return Found(stream, "go", time, score, "false accept")


def missed(stream: str, start: float, score: float | None = 0.0) -> Missed:
    return Missed(stream, "go", start, start + 0.5, score)


@pytest.fixture(scope="module")
def nothing() -> StreamEvaluation:
    """An evaluation without events, to put some in; the threshold is 1."""
    quiet = stream_evaluate.Stream("a", np.zeros((50, 2), np.int8), np.arange(50) * 0.1)
    return stream_evaluate.evaluate([quiet], DetectorConfig(2, (1,), 1.0), ["go"], 0.1, fa_per_hour=None)


def chosen(evaluation: StreamEvaluation, *errors: Found | Missed, seconds: float = 60.0, **limits) -> moments.Chosen:
    events = tuple(one for one in errors if isinstance(one, Found))
    misses = tuple(one for one in errors if isinstance(one, Missed))
    evaluation = dataclasses.replace(evaluation, events=events, misses=misses)
    return moments.choose(evaluation, dict.fromkeys("abcdef", seconds), **limits)


def test_errors_near_each_other_share_a_stretch_and_others_do_not(nothing) -> None:
    got = chosen(nothing, false_accept("a", 20.0), missed("a", 21.0), false_accept("a", 30.0), missed("b", 0.1))
    first, second = got.moments["a"]
    assert (len(first.false_accepts), len(first.misses)) == (1, 1) and len(second.false_accepts) == 1
    assert first.start <= 18.0 and first.end >= 22.5  # what the model looked at, and the time to find the word
    assert list(got.moments) == ["a", "b"] and got.moments["b"][0].start == 0.0 and got.moments["b"][0].end == 5.0
    assert (got.streams, got.errors, got.shown) == (2, 4, 4)


def test_repeats_and_hits_are_no_errors(nothing) -> None:
    hits = [Found("a", "go", 5.0, 2.0, outcome) for outcome in ("hit", "repeat")]
    assert chosen(nothing, *hits) == moments.Chosen({}, 0, 0, 0)


def test_the_hardest_come_first_and_recordings_take_turns(nothing) -> None:
    scores = [2.0, 9.0, 3.0, 8.0, 1.5]
    many = [false_accept("a", 5.0 + 11.0 * i, score) for i, score in enumerate(scores)]
    got = chosen(nothing, *many, missed("b", 30.0), moments=3)
    assert [one.false_accepts[0].score for one in got.moments["a"]] == [9.0, 8.0]  # by time
    assert len(got.moments["b"]) == 1 and (got.errors, got.shown) == (6, 3)
    one = chosen(nothing, *many, missed("b", 30.0), streams=1)
    assert list(one.moments) == ["a"] and (one.streams, one.errors, one.shown) == (2, 6, 5)
    deep = chosen(nothing, missed("a", 5.0, 0.9), missed("a", 25.0, -7.0), missed("a", 45.0, None), moments=2)
    assert [moment.misses[0].start for moment in deep.moments["a"]] == [25.0, 45.0]


def test_every_error_is_in_one_stretch_of_its_recording(nothing, rng: np.random.Generator) -> None:
    for _ in range(30):
        length = float(rng.uniform(1.0, 40.0))
        errors = [
            (false_accept, missed)[int(rng.integers(2))](
                "ab"[int(rng.integers(2))], float(rng.uniform(0, length - 0.5))
            )
            for _ in range(int(rng.integers(1, 12)))
        ]
        got = chosen(nothing, *errors, seconds=length)
        shown = [(m, error) for found in got.moments.values() for m in found for error in (*m.false_accepts, *m.misses)]
        assert sorted(map(repr, (error for _, error in shown))) == sorted(map(repr, errors))
        for moment, error in shown:
            assert 0.0 <= moment.start and moment.end <= length and error.stream == moment.stream
            assert min(5.0, length) - 1e-9 <= moment.end - moment.start <= 6.5
            at = error.time if isinstance(error, Found) else error.start
            assert moment.start <= at <= moment.end


def test_what_cannot_be_chosen_is_named(nothing) -> None:
    with pytest.raises(ValueError, match="moments=-1"):
        chosen(nothing, moments=-1)
    with pytest.raises(ValueError, match="length of .'z'. is not given"):
        chosen(nothing, missed("z", 1.0))


HEARD = moment_plot.Heard(
    features=np.random.default_rng(0).uniform(0, 20, (500, 40)).astype(np.float32),
    frame_seconds=0.02,
    first_frame=0.015,
    times=1.0 + 0.04 * np.arange(200),
    scores=np.random.default_rng(1).normal(0, 2, (200, 2)),
    thresholds={"go": 1.0, "stop": 2.0},
    targets=(Target("go", 3.0, 3.6), Target("stop", 5.0, 5.4), Target("go", 8.8, 9.4)),
    events=(
        Found("a", "go", 3.7, 2.0, "hit", 0.1),
        Found("a", "go", 4.2, 2.0, "repeat"),
        Found("a", "stop", 6.5, 3.0, "false accept"),
    ),
    misses=(Missed("a", "stop", 5.0, 5.4, 0.5),),
)


def colours(picture: bytes) -> set[str]:
    """Which of the marks' colours are in a picture, as much as a mark has of it."""
    points = np.rint(image.imread(io.BytesIO(picture))[..., :3] * 255).astype(int)
    found = set()
    for kind, colour in moment_plot.COLORS.items():
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        if np.count_nonzero((np.abs(points - wanted) <= 2).all(axis=-1)) > 40:
            found.add(kind)
    return found


@pytest.mark.parametrize(
    ("start", "end", "kinds"),
    [
        (2.5, 7.5, {"hit", "repeat", "false accept", "missed"}),
        (5.6, 8.0, {"false accept"}),
        (4.3, 9.3, {"false accept", "missed"}),  # the repeat is a little before it
        (0.0, 0.9, set()),  # before the first score
        (9.5, 14.0, set()),  # after the last one, and the last frame
    ],
)
def test_pictures_have_the_marks_of_their_stretch(start: float, end: float, kinds: set[str]) -> None:
    assert colours(moment_plot.draw(HEARD, Moment("a", start, end))) == kinds


def test_thresholds_that_nothing_reaches_and_empty_stretches() -> None:
    endless = dataclasses.replace(HEARD, thresholds={"go": np.inf, "stop": 2.0})
    assert colours(moment_plot.draw(endless, Moment("a", 2.5, 7.5))) == set(moment_plot.COLORS)
    with pytest.raises(ValueError, match="ends before it starts"):
        moment_plot.draw(HEARD, Moment("a", 2.0, 2.0))
