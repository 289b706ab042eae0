"""The detector against its definition, written plainly, and against its C twin, step by step."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import math
import pathlib
import struct
import subprocess

import hypothesis
import kept
import numpy as np
import pytest
from hypothesis import strategies as st

from benchmarks import emulation
from tflite_export.kernels import build_list
from tflite_export.runtimes import native
from tfmot_kws.evaluation import detector
from tfmot_kws.evaluation.detector import Detector, DetectorConfig, Event

RUNNER = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "arm" / "run_detector.c"
SOURCES = [build_list.PACKAGE / name for name in build_list.STREAM_SOURCES]


def defined(config: DetectorConfig, outputs: np.ndarray) -> list[Event]:
    """The events by the words of detector.py, one number at a time."""
    rows = outputs.astype(int).tolist()
    last, events = None, []
    for step in range(len(rows)):
        if step + 1 < config.smooth or (last is not None and step - last <= config.refractory):
            continue
        found = None
        for position, (keyword, limit) in enumerate(zip(config.keywords, config.sum_thresholds)):
            total = 0
            for row in rows[step + 1 - config.smooth : step + 1]:
                others = row[:keyword] + row[keyword + 1 :]
                total += row[keyword] - (max(others) if config.mode == "margin" else config.zero_point)
            above = total - limit
            if above >= 0 and (found is None or above > found[0]):
                found = above, Event(step, position, total)
        if found:
            last = step
            events.append(found[1])
    return events


class CConfig(ctypes.Structure):
    _fields_ = [
        ("classes", ctypes.c_int32),
        ("keyword_count", ctypes.c_int32),
        ("keywords", ctypes.POINTER(ctypes.c_int32)),
        ("thresholds", ctypes.POINTER(ctypes.c_int32)),
        ("window", ctypes.c_int32),
        ("refractory", ctypes.c_int32),
        ("zero_point", ctypes.c_int32),
        ("margin", ctypes.c_bool),
    ]


class CDetector:
    """kws_detector by ctypes; ``good`` is what kws_detector_init() said."""

    def __init__(self, config: DetectorConfig, short: int = 0, **changed: int) -> None:
        self._library = native.load()
        count = len(config.keywords)
        self._arrays = (ctypes.c_int32 * count)(*config.keywords), (ctypes.c_int32 * count)(*config.sum_thresholds)
        values = {
            "classes": config.classes,
            "keyword_count": count,
            "window": config.smooth,
            "refractory": config.refractory,
            "zero_point": config.zero_point,
            "margin": config.mode == "margin",
        }
        pointers = {"keywords": self._arrays[0], "thresholds": self._arrays[1]}
        c = CConfig(**pointers, **{**values, **changed})
        size = count * config.smooth
        self._history = np.full(size, 99, np.int16)
        self._state = ctypes.create_string_buffer(1024)
        self._library.kws_detector_init.restype = ctypes.c_bool
        self._library.kws_detector_step.restype = ctypes.c_int32
        history = self._history.ctypes.data_as(ctypes.c_void_p)
        self.good = self._library.kws_detector_init(
            self._state, ctypes.byref(c), history, ctypes.c_size_t(size - short)
        )

    def reset(self) -> None:
        self._library.kws_detector_reset(self._state)

    def run(self, outputs: np.ndarray) -> list[Event]:
        assert self.good
        events = []
        for step, row in enumerate(np.ascontiguousarray(outputs, np.int8)):
            found = self._library.kws_detector_step(self._state, row.ctypes.data_as(ctypes.c_void_p))
            if found >= 0:
                events.append(Event(step, found, self._library.kws_detector_sum(self._state, found)))
        return events


@st.composite
def cases(draw: st.DrawFn) -> tuple[DetectorConfig, np.ndarray]:
    """A detector, and outputs that fire now and then; few values make ties."""
    mode = draw(st.sampled_from(detector.MODES))
    classes = draw(st.integers(2 if mode == "margin" else 1, 6))
    keywords = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes, unique=True))
    smooth = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1, 3, 128]))
    outputs = rng.integers(-spread, spread, (draw(st.integers(0, 60)), classes)).astype(np.int8)
    zero_point = draw(st.sampled_from([-128, 0, 5]))
    limits = st.one_of(st.integers(-2 * spread, spread), st.sampled_from([math.inf, -math.inf, 1e30]))
    thresholds = tuple(float(draw(limits)) - zero_point * (mode == "value") for _ in keywords)
    config = DetectorConfig(
        classes, tuple(keywords), thresholds, smooth, draw(st.integers(0, 12)), mode, 1.0, zero_point
    )
    return config, outputs


@hypothesis.given(cases())
@hypothesis.settings(max_examples=300)
def test_events_are_those_of_the_definition(case: tuple[DetectorConfig, np.ndarray]) -> None:
    config, outputs = case
    expected = defined(config, outputs)
    assert Detector(config).run(outputs) == expected
    assert CDetector(config).run(outputs) == expected


@hypothesis.given(cases(), st.lists(st.integers(0, 60), max_size=6))
def test_pieces_steps_and_reset_change_nothing(case: tuple[DetectorConfig, np.ndarray], cuts: list[int]) -> None:
    config, outputs = case
    whole = Detector(config).run(outputs)
    pieces, single, c = Detector(config), Detector(config), CDetector(config)
    for _ in range(2):
        found = [pieces.run(part) for part in np.split(outputs, sorted(min(i, len(outputs)) for i in cuts))]
        assert list(itertools.chain(*found)) == whole
        assert [event for row in outputs if (event := single.step(row))] == whole
        assert c.run(outputs) == whole
        for each in (pieces, single, c):
            each.reset()


def posteriors(rng: np.random.Generator, steps: int) -> np.ndarray:
    """int8 outputs [steps, 4] of a softmax that rises and falls as if words went by; classes 2 and 3 are keywords."""
    logits = rng.normal(0.0, 1.0, (steps, 4))
    logits[:, 1] += 3.0
    for start in range(20, steps - 20, 50):
        logits[start : start + 8, 2 + start // 50 % 2] += 8.0
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.clip(np.rint(share * 256) - 128, -128, 127).astype(np.int8)


@pytest.mark.parametrize("mode", detector.MODES)
def test_words_that_go_by_are_found_once(mode: str, rng: np.random.Generator) -> None:
    outputs = posteriors(rng, 1000)
    threshold = 0.5 if mode == "value" else 0.3
    config = DetectorConfig.in_seconds(
        0.02, 0.1, 0.5, classes=4, keywords=(2, 3), thresholds=threshold, mode=mode, scale=1 / 256, zero_point=-128
    )
    assert (config.smooth, config.refractory) == (5, 25)
    events = Detector(config).run(outputs)
    starts = np.arange(20, 980, 50)
    assert [event.keyword for event in events] == [int(s // 50 % 2) for s in starts]
    assert all(start < event.step < start + 8 for event, start in zip(events, starts))
    assert all(config.real_score(event.score) >= threshold for event in events)
    assert CDetector(config).run(outputs) == events == defined(config, outputs)


def test_the_largest_sums_fit(rng: np.random.Generator) -> None:
    """The longest window, with the largest scores of either sign."""
    steps = detector.MAX_SMOOTH
    outputs = np.tile(np.array([[127, -128]], np.int8), (steps + 1, 1))
    config = DetectorConfig(2, (0, 1), (255.0, -255.0), steps, 0)
    expected = [Event(s, 0, 255 * steps) for s in (steps - 1, steps)]
    assert Detector(config).run(outputs) == CDetector(config).run(outputs) == expected
    wide = np.tile(np.array([[32767, -32768]], np.int16), (steps, 1))
    assert detector.moving_sums(detector.scores(config, wide), steps).tolist() == [[65535 * steps, -65535 * steps]]


def test_furthest_above_where_it_needs_33_bits() -> None:
    config = DetectorConfig(2, (0, 1), (-math.inf, 1.0))
    row = np.array([[0, 127]], np.int8)
    assert config.sum_thresholds == (-(2**31), 1)
    assert Detector(config).run(row) == CDetector(config).run(row) == [Event(0, 0, -127)]


def test_thresholds_become_whole_numbers() -> None:
    def limit(threshold: float, scale: float, smooth: int) -> int:
        return DetectorConfig(2, (1,), (threshold,), smooth, scale=scale).sum_thresholds[0]

    assert limit(0.3, 0.1, 1) == 3  # 0.3 / 0.1 is 2.9999999999999996
    assert limit(0.3, 0.1, 10) == 30
    assert limit(0.31, 0.1, 1) == 4
    assert limit(-0.31, 0.1, 1) == -3
    assert limit(math.inf, 0.1, 5) == 2**31 - 1 and limit(-math.inf, 0.1, 5) == -(2**31)
    assert limit(1e30, 1e-30, 9) == 2**31 - 1
    config = DetectorConfig(2, (1,), 0.7, 7, scale=0.013)
    assert config.real_score(config.sum_thresholds[0] - 1) < 0.7 <= config.real_score(config.sum_thresholds[0])


GOOD = DetectorConfig(4, (1, 2), (1.0, 2.0), 3, 5, "margin", 0.1, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classes", 0),
        ("classes", 40000),
        ("classes", 2.0),
        ("keywords", ()),
        ("keywords", (1, 1)),
        ("keywords", (1, 4)),
        ("keywords", (-1, 2)),
        ("keywords", "ab"),
        ("keywords", tuple(range(17))),
        ("thresholds", (1.0,)),
        ("thresholds", (1.0, math.nan)),
        ("smooth", 0),
        ("smooth", 32768),
        ("smooth", True),
        ("refractory", -1),
        ("mode", "log"),
        ("scale", 0.0),
        ("scale", math.nan),
        ("zero_point", 128),
    ],
)
def test_errors_name_the_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^DetectorConfig\.{field}="):
        dataclasses.replace(GOOD, **{field: value})


def test_errors_of_seconds_margins_and_outputs() -> None:
    fields = {"classes": 2, "keywords": (1,), "thresholds": 0.0}
    for wrong in ((0.0, 1.0, 1.0), (0.02, -1.0, 1.0), (0.02, 1.0, math.inf)):
        with pytest.raises(ValueError, match="in_seconds: .*must be"):
            DetectorConfig.in_seconds(*wrong, **fields)
    assert DetectorConfig.in_seconds(0.02, 0.0, 0.0, **fields).smooth == 1
    with pytest.raises(ValueError, match="a margin needs 2 classes"):
        DetectorConfig(1, (0,), 0.0)
    for wrong in (np.zeros((3, 3), np.int8), np.zeros(4, np.int8), np.zeros((3, 4)), np.zeros((3, 4), np.int32)):
        with pytest.raises(ValueError, match="outputs: expected"):
            Detector(GOOD).run(wrong)


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": 0},
        {"classes": 1},
        {"classes": 2},  # keyword 2 is then none of them
        {"classes": 32768},
        {"keyword_count": 0},
        {"keyword_count": 17},
        {"keyword_count": -1},
        {"window": 0},
        {"window": 4},  # more than history holds
        {"window": 32768},
        {"window": -1},
        {"refractory": -1},
        {"zero_point": -129},
        {"zero_point": 128},
        {"short": 1},
    ],
)
def test_c_refuses_what_makes_no_sense(changed: dict[str, int]) -> None:
    assert CDetector(GOOD).good
    assert not CDetector(GOOD, **changed).good


def test_c_refuses_a_keyword_twice_and_missing_memory() -> None:
    config = dataclasses.replace(GOOD)
    object.__setattr__(config, "keywords", (2, 2))
    assert not CDetector(config).good
    assert not native.load().kws_detector_init(None, None, None, ctypes.c_size_t(9))


def test_c_says_zero_for_the_sum_of_no_keyword() -> None:
    c = CDetector(GOOD)
    c.run(np.ones((5, 4), np.int8))
    for keyword in (-1, 2, 1 << 30):
        assert c._library.kws_detector_sum(c._state, keyword) == 0


def test_warnings_of_c(require_tool, tmp_path: pathlib.Path) -> None:
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wpedantic", "-Werror", "-O2"]
    subprocess.run([require_tool("gcc"), *flags, "-c", *map(str, SOURCES)], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", ["host", "cortex-m0plus", "cortex-a7"])
def test_on_every_kind_of_core(name: str, require_tool, tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    """Under sanitizers here, where memory has exactly the sizes that it needs; under QEMU elsewhere."""
    core = emulation.CORES[name]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    blobs, expected = [], []
    for case in range(60):
        mode = detector.MODES[case % 2]
        classes = int(rng.integers(2, 8))
        keywords = tuple(map(int, rng.permutation(classes)[: rng.integers(1, classes + 1)]))
        outputs = rng.integers(-128, 128, (100, classes)).astype(np.int8)
        thresholds = tuple(map(float, rng.integers(0, 60, len(keywords))))
        config = DetectorConfig(
            classes, keywords, thresholds, int(rng.integers(1, 9)), int(rng.integers(0, 9)), mode, 1.0, -3
        )
        expected += [f"{case} {e.step} {e.keyword} {e.score}" for e in Detector(config).run(outputs)]
        head = (classes, len(keywords), config.smooth, config.refractory, -3, mode == "margin", len(outputs))
        numbers = (*head, *keywords, *config.sum_thresholds)
        blobs.append(struct.pack(f"<{len(numbers)}i", *numbers) + outputs.tobytes())
    (tmp_path / "detector.bin").write_bytes(struct.pack("<i", len(blobs)) + b"".join(blobs))
    program = emulation.build(core, [RUNNER, *SOURCES], tmp_path, kept.flags_of(core), kernel_objects=[])
    assert len(expected) > 200
    assert emulation.run(core, program).splitlines() == [*expected, f"done {len(blobs)}"]
