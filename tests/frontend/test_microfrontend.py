# SPDX-License-Identifier: Apache-2.0
"""The fixed-point front end against the device's library, with its automatic gain and without."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmot_kws.frontend import features, microfrontend

LIBRARY = Path(__file__).resolve().parent / "library"
MAKER = runpy.run_path(str(LIBRARY / "make_golden.py"))
OFF = features.FrontendConfig(pcan=False)


@pytest.mark.parametrize("pcan", [True, False])
@pytest.mark.parametrize("config", MAKER["CONFIGS"])
def test_equals_the_librarys_own_sources_value_by_value(config, pcan):
    rate, window, hop, mel, lower, upper = config
    tables = microfrontend.make_tables(rate, rate * window // 1000, mel, lower, upper, pcan)
    ours = microfrontend.features(tables, MAKER["sound"]()[None], rate * hop // 1000)[0]
    with np.load(LIBRARY / "golden.npz") as golden:
        np.testing.assert_array_equal(ours, golden[MAKER["name"](config, pcan)])
    assert ours.max() > 500


def _natural_log(value: int) -> int:
    """64 * ln(value) as the library computes it, in plain integers: a table of log2 and a straight line between."""
    if value <= 1:
        return 0
    whole = value.bit_length() - 1
    fraction = value - (1 << whole)
    fraction = fraction << 16 - whole if whole < 16 else fraction >> whole - 16
    low, high = (round((np.log2(1 + i / 128) - i / 128) * 65536) if i < 128 else 0 for i in _segment(fraction))
    log2 = (whole << 16) + fraction + low + (((high - low) * (fraction % 512)) >> 16)
    natural = (45426 * log2 + 32768) >> 16
    return min(((natural << 6) + 32768) >> 16, 65535)


def _segment(fraction: int) -> tuple[int, int]:
    return fraction >> 9, (fraction >> 9) + 1


def _without_gain(signal: np.ndarray, correction: int) -> np.ndarray:
    """int64 [frames, mel] -> the same: noise reduction and logarithm, one number after the other."""
    frames, mel = signal.shape
    out, estimate = np.zeros((frames, mel), np.int64), [0] * mel
    for frame in range(frames):
        for band in range(mel):
            value, smoothing = int(signal[frame, band]), int(np.float32([0.025, 0.06][band % 2]) * 16384)
            scaled = value << 10
            estimate[band] = (scaled * smoothing + estimate[band] * (16384 - smoothing)) >> 14
            clean = max((scaled - min(estimate[band], scaled)) >> 10, value * int(np.float32(0.05) * 16384) >> 14)
            out[frame, band] = _natural_log(clean << correction)
    return out


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 4.5))
def test_without_gain_at_any_level(seed, level):
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.random(20), 200)
    sound = np.clip(rng.normal(size=4000) * envelope * 10**level, -32768, 32767).astype(np.int16)
    tables = microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0, pcan=False)
    windows = np.lib.stride_tricks.sliding_window_view(sound, 480)[::320]
    expected = _without_gain(microfrontend._filterbank(tables, windows), tables.correction_bits)
    np.testing.assert_array_equal(features.raw_micro(OFF, sound), expected)


@pytest.mark.parametrize(("mel_bins", "window_ms", "hop_ms"), [(20, 25, 10), (40, 30, 20), (64, 30, 10)])
def test_without_gain_is_near_tensorflows_op(mel_bins, window_ms, hop_ms):
    """TensorFlow's op makes its tables in double precision, the device in single: off by one in few of them."""
    import tensorflow as tf
    from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op

    config = features.FrontendConfig(mel_bins=mel_bins, window_ms=window_ms, hop_ms=hop_ms, pcan=False)
    sound = MAKER["sound"]()[2500:12500]
    op = audio_microfrontend_op.audio_microfrontend(
        tf.constant(sound), 16000, window_ms, hop_ms, mel_bins, 7500.0, 125.0, enable_pcan=False, out_type=tf.uint16
    ).numpy()
    ours = features.raw_micro(config, sound)
    assert ours.shape == op.shape and op.any()
    assert np.mean(ours != op) < 0.02
    assert np.abs(ours.astype(float) - op).max() <= 50


def test_what_the_gain_does():
    """With it, sound at a hundredth of the level is nearly as loud; without, 64 * ln(100) = 295 lower."""
    rng = np.random.default_rng(0)
    loud = (rng.normal(size=16000) * 5000).clip(-32768, 32767)
    fall = {}
    for pcan in (True, False):
        config = features.FrontendConfig(pcan=pcan)
        levels = [features.raw_micro(config, (loud / by).astype(np.int16))[20:].mean() for by in (1, 100)]
        fall[pcan] = levels[0] - levels[1]
    assert fall[False] == pytest.approx(64 * np.log(100), abs=15)
    assert fall[True] < 0.8 * fall[False]


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 12000), max_size=8))
def test_a_stream_without_gain_is_the_whole_recording(cuts):
    sound = MAKER["sound"]()[:12000]
    stream, expected = features.FrontendStream(OFF), features.extract(OFF, sound)
    for _ in range(2):
        found = np.concatenate([stream.step(part) for part in np.split(sound, sorted(cuts))])
        np.testing.assert_array_equal(found, expected)
        stream.reset()


def test_float_features_without_gain_have_the_same_unit():
    sound = MAKER["sound"]()
    np.testing.assert_allclose(features.extract(OFF, sound), features.raw_micro(OFF, sound) / 25.6, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pcan": 0}, "FrontendConfig.pcan=0: must be True or False"),
        ({"pcan": None}, "FrontendConfig.pcan=None: must be True or False"),
        ({"pcan": False, "backend": "lfbe"}, "FrontendConfig.pcan=False: only the micro front end.*backend is 'lfbe'"),
    ],
)
def test_one_clear_error(options, message):
    with pytest.raises(ValueError, match=message):
        features.FrontendConfig(**options)


def test_files_of_older_releases_have_the_gain_and_their_caches_stay_valid():
    old = {
        "sample_rate": 16000, "mel_bins": 40, "window_ms": 30, "hop_ms": 20, "backend": "micro", "lower_hz": 125.0,
        "upper_hz": 7500.0, "log_floor": 1e-06,
    }  # fmt: skip
    config = features.FrontendConfig.from_dict(old)
    assert config == features.FrontendConfig() and config.pcan
    assert config.identity() == old and config.key() == "b87888c132f5fa7d"
    off = features.FrontendConfig.from_dict(json.loads(json.dumps(OFF.to_dict())))
    assert off == OFF and not off.pcan and off.identity() == {**old, "pcan": False}
    assert off.key() != config.key()
