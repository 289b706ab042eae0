# SPDX-License-Identifier: Apache-2.0
"""The front end in C gives the integers of its definition in numpy, whatever it is asked for, and refuses the rest."""

from __future__ import annotations

import concurrent.futures
import copy
import ctypes
import dataclasses
import itertools
import pathlib
import runpy
import struct
import subprocess

import compilers
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks import emulation
from tfmot_kws.frontend import build_list, features, microfrontend, native

LIBRARY = pathlib.Path(__file__).resolve().parent / "library"
MAKER = runpy.run_path(str(LIBRARY / "make_golden.py"))
SOURCES = [build_list.PACKAGE / name for name in build_list.SOURCES]
KINDS = ("noise", "faint", "clipped", "lowest", "highest", "silence", "square", "click", "mixed")
OK, BAD_TABLES, BAD_SIZES, BAD_ESTIMATE, BAD_SCRATCH = range(5)
NUMBERS = ("fft_size", "start", "bins", "mel", "correction_bits", "even_smoothing", "odd_smoothing", "min_signal")


def make_sound(rng: np.random.Generator, kind: str, samples: int) -> np.ndarray:
    """int16 [samples]."""
    time = np.arange(samples)
    wave = {
        "noise": lambda: rng.normal(size=samples) * 10 ** rng.uniform(0, 4.5),
        "faint": lambda: rng.integers(-2, 3, samples),
        "clipped": lambda: rng.choice([-32768, 32767], samples),
        "lowest": lambda: np.full(samples, -32768),
        "highest": lambda: np.full(samples, 32767),
        "silence": lambda: np.zeros(samples),
        "square": lambda: np.where(time // rng.integers(1, 60) % 2, 32767, -32768),
        "click": lambda: np.where(time % 401 == 7, rng.choice([-32768, -32767, 32767]), 0),
        "mixed": lambda: np.concatenate(
            [make_sound(rng, k, len(part)) for k, part in zip(KINDS, np.array_split(time, len(KINDS) - 1))]
        ),
    }[kind]()
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)


@st.composite
def tables(draw) -> microfrontend.Tables:
    """Of any rate, window and filters, those of FrontendConfig among them."""
    rate = draw(st.sampled_from([8000, 11025, 16000, 22050, 48000]))
    window = draw(st.one_of(st.sampled_from([200, 240, 400, 480]), st.integers(1, 1300)))
    mel = draw(st.one_of(st.sampled_from(features.MEL_BINS), st.integers(1, 90)))
    upper = draw(st.floats(0.1, 0.99)) * rate / 2
    lower = draw(st.floats(0.0, 0.9)) * upper
    try:
        return microfrontend.make_tables(rate, window, mel, lower, upper, draw(st.booleans()))
    except ValueError:
        assume(False)


@settings(max_examples=150, deadline=None)
@given(st.data(), tables(), st.integers(0, 2**32 - 1))
def test_equals_the_definition(data, made, seed):
    rng = np.random.default_rng(seed)
    window = len(made.window)
    hop = data.draw(st.integers(1, 2 * window))
    samples = max(0, window + data.draw(st.integers(-1, 40)) * hop // 2)
    kinds = data.draw(st.lists(st.sampled_from(KINDS), max_size=4))
    audio = np.stack([make_sound(rng, kind, samples) for kind in kinds] or [np.zeros(samples, np.int16)])[: len(kinds)]
    estimate = None
    if data.draw(st.booleans()):
        estimate = rng.integers(0, 2 ** data.draw(st.sampled_from([1, 2, 12, 32])), (len(kinds), made.mel_bins))
    expected_estimate, found_estimate = copy.deepcopy(estimate), copy.deepcopy(estimate)
    expected = microfrontend.features(made, audio, hop, expected_estimate)
    found = native.Packed(made).features(audio, hop, found_estimate)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    if estimate is not None:
        np.testing.assert_array_equal(found_estimate, expected_estimate)


def test_clicks_at_full_scale_under_the_middle_of_the_window():
    """|-32768| wraps and is no peak; the next smaller one is the largest there is."""
    made = microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0)
    audio = np.zeros((4, 480), np.int16)
    audio[:, 200], audio[:, 240] = 3, (-32768, -32767, 32767, 3)
    np.testing.assert_array_equal(native.Packed(made).features(audio, 1), microfrontend.features(made, audio, 1))


def test_roots_at_the_end_of_32_bits(rng):
    """The device's root of 32 bits does not round up to 2**16: of energies between 65535.5**2 and 2**32."""
    made = microfrontend.make_tables(16000, 480, 1, 125.0, 7500.0, pcan=False)
    sound = np.zeros(512, np.int16)
    sound[:480] = (make_sound(rng, "clipped", 480).astype(np.int64) * made.window) >> 25  # quiet: a step is seen
    window = np.full(480, 1 << 12)  # which changes nothing
    shift = 15 - int(np.abs(sound).max()).bit_length()
    real, imag = microfrontend._real_fft(made, (sound << shift).astype(np.int16)[:, None])
    reached = 0
    for row in range(len(made.filters)):
        energy = int(real[made.start + row, 0]) ** 2 + int(imag[made.start + row, 0]) ** 2
        weight = (2**32 - 2**15) // max(energy, 1)
        if weight > 0xFFFF or not 0xFFFF * 0x10000 < weight * energy < 2**32:
            continue
        filters = np.zeros_like(made.filters)
        filters[row] = weight
        changed = dataclasses.replace(made, window=window, filters=filters)
        expected = microfrontend.features(changed, sound[None, :480], 1)
        np.testing.assert_array_equal(native.Packed(changed).features(sound[None, :480], 1), expected)
        reached += 1
    assert reached > 5


@pytest.mark.parametrize("pcan", [True, False])
@pytest.mark.parametrize("config", MAKER["CONFIGS"])
def test_equals_the_librarys_own_sources(config, pcan):
    rate, window, hop, mel, lower, upper = config
    packed = native.Packed(microfrontend.make_tables(rate, rate * window // 1000, mel, lower, upper, pcan))
    with np.load(LIBRARY / "golden.npz") as golden:
        expected = golden[MAKER["name"](config, pcan)]
    np.testing.assert_array_equal(packed.features(MAKER["sound"]()[None], rate * hop // 1000)[0], expected)


def configurations() -> list[features.FrontendConfig]:
    """Every choice of FrontendConfig, with some edges."""
    choices = itertools.product(
        features.SAMPLE_RATES, features.MEL_BINS, features.WINDOWS_MS, features.HOPS_MS, (True, False)
    )
    edges = itertools.cycle([(125.0, 0.9), (0.0, 0.98), (300.0, 0.5)])
    return [
        features.FrontendConfig(rate, mel, window, hop, "micro", lower, upper * rate / 2, pcan=pcan)
        for (rate, mel, window, hop, pcan), (lower, upper) in zip(choices, edges)
    ]


def test_every_configuration_of_a_model(rng):
    assert len(configurations()) == 48
    for config in configurations():
        audio = np.stack([make_sound(rng, kind, 3333) for kind in KINDS])
        made = microfrontend.make_tables(
            config.sample_rate, config.window, config.mel_bins, config.lower_hz, config.upper_hz, config.pcan
        )
        expected = microfrontend.features(made, audio, config.hop)
        assert expected.any()
        np.testing.assert_array_equal(features.raw_micro(config, audio), expected, err_msg=str(config))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(configurations()), st.lists(st.integers(0, 6000), max_size=10), st.sampled_from(KINDS),
    st.integers(0, 999),
)  # fmt: skip
def test_a_stream_cut_anywhere(config, cuts, kind, seed):
    sound = make_sound(np.random.default_rng(seed), kind, 6000)
    made = microfrontend.make_tables(
        config.sample_rate, config.window, config.mel_bins, config.lower_hz, config.upper_hz, config.pcan
    )
    expected = microfrontend.features(made, sound[None], config.hop)[0]
    stream = features.FrontendStream(config)
    for _ in range(2):
        pieces = [stream.step_compact(part) for part in np.split(sound, sorted(cuts))]
        np.testing.assert_array_equal(np.concatenate(pieces), expected)
        stream.reset()


def test_long_sound_frame_by_frame_is_the_whole(rng):
    """The estimate goes on from call to call, and lanes that hold no frame disturb none."""
    packed = native.Packed(microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0))
    audio = np.stack([make_sound(rng, kind, 480 + 320 * 36) for kind in KINDS])
    whole = packed.features(audio, 320)
    for several in (1, 5, 16, 17):
        estimate = np.zeros((len(KINDS), 40), np.int64)
        starts = range(0, 37, several)
        ends = [min(first + several, 37) for first in starts]
        parts = [
            packed.features(audio[:, first * 320 : (end - 1) * 320 + 480], 320, estimate)
            for first, end in zip(starts, ends)
        ]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_arrays_that_are_no_plain_ones(rng):
    """Strided sound, and an estimate whose rows are far apart."""
    packed = native.Packed(microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0))
    wide = rng.integers(-3000, 3000, (3, 8000)).astype(np.int16)
    audio, estimates = wide[::-1, ::2], np.zeros((3, 80), np.int64)
    plain = np.zeros((3, 40), np.int64)
    expected = packed.features(audio.copy(), 160, plain)
    np.testing.assert_array_equal(packed.features(audio, 160, estimates[:, ::2]), expected)
    np.testing.assert_array_equal(estimates[:, ::2], plain)
    assert plain.any() and not estimates[:, 1::2].any()


def test_threads_share_tables(rng):
    packed = native.Packed(microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0))
    clips = rng.integers(-20000, 20000, (64, 4000)).astype(np.int16)
    expected = packed.features(clips, 160)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = list(pool.map(lambda clip: packed.features(clip[None], 160)[0], clips))
            np.testing.assert_array_equal(np.stack(found), expected)


def test_copies_and_pickles(rng):
    sound = rng.integers(-2000, 2000, 3000).astype(np.int16)
    stream = features.FrontendStream(features.FrontendConfig())
    stream.step(sound[:1700])
    twin = copy.deepcopy(stream)
    np.testing.assert_array_equal(twin.step(sound[1700:]), stream.step(sound[1700:]))


@pytest.mark.parametrize("compute", ["c", "numpy"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"audio": np.zeros((1, 960), np.int32)}, r"audio: expected int16 \[batch, samples\], got int32 with shape"),
        ({"audio": np.zeros(960, np.int16)}, r"audio: expected int16 .* shape \(960,\)"),
        ({"audio": np.zeros((1, 960), ">i2")}, "audio: expected int16"),
        ({"hop": 0}, "hop=0: must be 1 sample or more"),
        ({"hop": -160}, "hop=-160"),
        ({"estimate": np.zeros((2, 40), np.int64)}, r"estimate: expected int64 \[1, 40\], got int64 \[2, 40\]"),
        ({"estimate": np.zeros((1, 40), np.int32)}, "estimate: expected int64 .* got int32"),
        ({"estimate": np.full((1, 40), -1)}, r"estimate: -1..-1 found, must be 0..2\*\*32 - 1"),
        ({"estimate": np.full((1, 40), 1 << 32)}, "estimate: 4294967296"),
        ({"estimate": np.broadcast_to(np.int64(0), (1, 40))}, "estimate: it is read-only"),
    ],
)
def test_one_clear_error(compute, changed, message):
    made = microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0)
    options = {"audio": np.zeros((1, 960), np.int16), "hop": 160, **changed}
    with pytest.raises(ValueError, match=message):
        if compute == "c":
            native.Packed(made).features(**options)
        else:
            microfrontend.features(made, **options)


def test_tables_beyond_the_librarys_are_refused():
    made = microfrontend.make_tables(48000, 32769, 40, 125.0, 7500.0, pcan=False)
    with pytest.raises(ValueError, match="fft_size=65536, 40 mel channels: .* at most 32768 and 4096"):
        native.Packed(made)
    wrong = dataclasses.replace(microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0), correction_bits=2)
    with pytest.raises(ValueError, match="refused the tables: of fft_size=512"):
        native.Packed(wrong)
    with pytest.raises(ValueError, match="window: 40000..40000 found, which int16 does not hold"):
        native.Packed(dataclasses.replace(wrong, window=np.full(480, 40000)))


@pytest.fixture
def no_library_yet():
    """As in a process that has not asked for the library."""
    caches = (native.load, features.implementation, features._micro)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_the_library_is_built():
    assert features.implementation() == "c"


@pytest.mark.parametrize("fault", ["missing", "no library", "of other sources"])
def test_numpy_where_the_library_does_not_load(fault, no_library_yet, tmp_path, monkeypatch, rng):
    """It says so once, with the command that builds it, and gives the same integers."""
    sound, config = rng.integers(-2000, 2000, 6000).astype(np.int16), features.FrontendConfig()
    expected = features.raw_micro(config, sound)
    for cache in (native.load, features.implementation, features._micro):
        cache.cache_clear()
    if fault == "of other sources":
        monkeypatch.setattr(native, "VERSION", native.VERSION + 1)
    else:
        monkeypatch.setattr(build_list, "FOLDER", tmp_path)
    if fault == "no library":
        (tmp_path / build_list.OUTPUT).write_bytes(b"no library")
    said = {"missing": "is missing", "no library": "does not load", "of other sources": "of version"}[fault]
    with pytest.warns(RuntimeWarning, match=f"{said}.*python .*build_list.py; until then numpy") as caught:
        found = features.raw_micro(config, sound)
    stream = features.FrontendStream(config)
    np.testing.assert_array_equal(np.concatenate([stream.step_compact(p) for p in np.split(sound, [100])]), found)
    assert len([one for one in caught if one.category is RuntimeWarning]) == 1
    assert features.implementation() == "numpy"
    np.testing.assert_array_equal(found, expected)


def fields(made: microfrontend.Tables) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Arrays and numbers of kws_frontend_tables."""
    packed = native.Packed(made)
    return dict(packed._arrays), {name: getattr(packed._struct, name) for name in NUMBERS}


def call(packed: native.Packed, **changed: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The C function on three clips of four frames, with some of its sizes changed: (status, features, estimate)."""
    samples, mel = 480 + 3 * 320, packed.tables.mel_bins
    sizes = {
        "audio_count": 3 * samples, "clips": 3, "samples": samples, "hop": 320, "estimate_count": 3 * mel,
        "features_count": 12 * mel, "scratch_bytes": packed._scratch, **changed,
    }  # fmt: skip
    audio, scratch = (np.arange(3 * samples) % 977).astype(np.int16), np.zeros(packed._scratch, np.uint8)
    out, estimate = np.full(12 * mel, 7, np.uint16), np.full(3 * mel, changed.get("estimate", 0), np.int64)
    status = native.load().kws_frontend_features(
        *(ctypes.byref(packed._struct), audio.ctypes.data),
        *(sizes[name] for name in ("audio_count", "clips", "samples", "hop")),
        *(estimate.ctypes.data, sizes["estimate_count"], out.ctypes.data, sizes["features_count"]),
        *(scratch.ctypes.data, sizes["scratch_bytes"]),
    )
    return status, out, estimate


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, OK),
        ({"audio_count": 1}, BAD_SIZES),
        ({"clips": 4}, BAD_SIZES),
        ({"clips": -1}, BAD_SIZES),
        ({"clips": 1 << 62}, BAD_SIZES),
        ({"samples": 1 << 62}, BAD_SIZES),
        ({"samples": -1440}, BAD_SIZES),
        ({"hop": 0}, BAD_SIZES),
        ({"hop": 1}, BAD_SIZES),
        ({"estimate_count": 119}, BAD_SIZES),
        ({"features_count": 479}, BAD_SIZES),
        ({"features_count": -480}, BAD_SIZES),
        ({"scratch_bytes": 0}, BAD_SCRATCH),
        ({"estimate": -1}, BAD_ESTIMATE),
        ({"estimate": 1 << 32}, BAD_ESTIMATE),
    ],
)
def test_c_refuses_sizes_that_do_not_belong_together(changed, status):
    packed = native.Packed(microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0))
    found, out, estimate = call(packed, **changed)
    assert found == status
    if status != OK:
        assert (out == 7).all() and (estimate == changed.get("estimate", 0)).all()
    else:
        assert not (out == 7).all() and estimate.any()


FREE = ("even_smoothing", "odd_smoothing", "min_signal", "start", "window_count")
"""Of these 3 is as good as any other number."""
LIES = [
    (name, value)
    for name in (*NUMBERS, *(f"{name}_count" for name, _ in native._ARRAYS))
    for value in (-1, 3, 1 << 30)
    if value != 3 or name not in FREE
]


@pytest.mark.parametrize(("name", "value"), LIES)
def test_c_refuses_tables_that_do_not_belong_together(name, value):
    packed = native.Packed(microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0))
    right = getattr(packed._struct, name)
    setattr(packed._struct, name, value if value != right else value + 1)
    found, out, _ = call(packed)
    assert found == BAD_TABLES and (out == 7).all()
    assert native.load().kws_frontend_scratch(ctypes.byref(packed._struct)) == 0


@pytest.mark.parametrize("compiler", ["gcc", "clang-14", "clang-19"])
def test_warnings_of_c(compiler, require_tool, tmp_path):
    flags = [*compilers.STRICT, "-Wdouble-promotion", "-O2"]
    subprocess.run([require_tool(compiler), *flags, "-c", *map(str, SOURCES)], cwd=tmp_path, check=True)


def case(arrays: dict, numbers: dict, sizes: dict[str, int], data: dict[str, np.ndarray], good: int) -> bytes:
    """As run_frontend.c reads it."""
    parts = [struct.pack("=q", array.size) + array.tobytes() for array in arrays.values()]
    parts.append(struct.pack(f"={len(NUMBERS)}i", *(numbers[name] for name in NUMBERS)))
    names = ("audio_count", "clips", "samples", "hop", "estimate_count", "features_count", "spare")
    parts.append(struct.pack("=8q", *(sizes[name] for name in names), good))
    counts = {"audio": "audio_count", "estimate": "estimate_count", "after": "estimate_count"}
    for name, array in data.items():
        parts.append(np.resize(array, sizes[counts.get(name, "features_count")]).tobytes())
    return b"".join(parts)


def write_cases(path: pathlib.Path, rng: np.random.Generator) -> int:
    """Cases with their results, and the same with one thing changed; how many there are."""
    blobs = []
    for number in range(24):
        mel, window = int(rng.integers(1, 41)), int(rng.choice([1, 2, 3, 5, 8, 17, 100, 200, 400, 480, 1025]))
        try:
            made = microfrontend.make_tables(16000, window, mel, 60.0, 7000.0, bool(number % 3))
        except ValueError:
            made = microfrontend.make_tables(16000, 480, mel, 60.0, 7000.0, bool(number % 3))
        hop, clips = int(rng.integers(1, 300)), int(rng.integers(1, 4))
        samples = len(made.window) + hop * int(rng.integers(0, 12))
        audio = np.stack([make_sound(rng, str(rng.choice(KINDS)), samples) for _ in range(clips)])
        before = rng.integers(0, 1 << 32, (clips, mel))
        after = before.copy()
        expected = microfrontend.features(made, audio, hop, after)
        arrays, numbers = fields(made)
        data = {"audio": audio, "estimate": before, "after": after, "expected": expected}
        sizes = {
            "audio_count": audio.size, "clips": clips, "samples": samples, "hop": hop, "estimate_count": before.size,
            "features_count": expected.size, "spare": 0,
        }  # fmt: skip
        blobs.append(case(arrays, numbers, sizes, data, 1))
        for name in sizes:
            blobs.append(case(arrays, numbers, {**sizes, name: sizes[name] - 1 if name == "spare" else 0}, data, 0))
        for name in NUMBERS:
            odd = int(rng.choice([-1, 0, 1, 2, 64, 1 << 14, 1 << 30, numbers[name] + 1, numbers[name] * 2]))
            blobs.append(case(arrays, {**numbers, name: odd}, sizes, data, 2))
        for name, array in arrays.items():
            blobs.append(case({**arrays, name: array.ravel()[: array.size // 2]}, numbers, sizes, data, 2))
            if name in ("first_bin", "first_entry"):
                odd = rng.integers(-2, 300, array.size).astype(np.int32)
                blobs.append(case({**arrays, name: odd}, numbers, sizes, data, 2))
    path.write_bytes(struct.pack("=q", len(blobs)) + b"".join(blobs))
    return len(blobs)


@pytest.mark.parametrize("name", ["host", "cortex-a53", "cortex-a7"])
def test_on_every_kind_of_processor(name, require_tool, tmp_path, rng):
    """Under sanitizers here, where memory has exactly the sizes that are said; under QEMU elsewhere."""
    core = emulation.CORES[name]
    for tool in core.tools:
        require_tool(tool)
    count = write_cases(tmp_path / "cases.bin", rng)
    flags = ("-O3", "-std=c99", *(emulation.SANITIZE if name == "host" else ()))
    program = emulation.build(
        core, [LIBRARY / "run_frontend.c", *SOURCES], tmp_path, flags, kernel_objects=[], link_flags=("-lm",)
    )
    assert emulation.run(core, program).splitlines() == [f"done {count}"]
