# SPDX-License-Identifier: Apache-2.0
"""Front ends: equality with the device's, against definitions, and configuration."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pymicro_features import MicroFrontend

from tfmot_kws.frontend import features, microfrontend

DEVICE = features.FrontendConfig(mel_bins=40, window_ms=30, hop_ms=10)


def _streamed(samples: np.ndarray) -> np.ndarray:
    """What pymicro-features gives when fed 10 ms at a time, as integers."""
    frontend, frames = MicroFrontend(), []
    for first in range(0, len(samples) - 159, 160):
        part = samples[first : first + 160].astype("<i2").tobytes()
        while part:
            output = frontend.process_samples(part + bytes(max(0, 320 - len(part))))
            part = part[2 * output.samples_read :]
            if output.features:
                frames.append(output.features)
    scaled = np.asarray(frames) * 25.6
    assert np.abs(scaled - np.rint(scaled)).max() < 1e-3
    return np.rint(scaled).astype(np.uint16)


def _sound(name: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    time = np.arange(24000) / 16000
    if name == "white":
        wave = rng.normal(size=24000) * 3000
    elif name == "broad":
        wave = rng.normal(size=24000) * 8000 * np.sin(2 * np.pi * 2 * time) ** 2
    elif name == "loud":
        wave = rng.normal(size=24000) * 40000
    elif name == "faint":
        wave = rng.normal(size=24000) * 1.5
    elif name == "square":
        wave = np.where(np.arange(24000) // 40 % 2, 32767, -32768)
    elif name == "impulses":
        wave = np.where(np.arange(24000) % 1601 == 0, 32767, 0)
    elif name == "silence, then a tone":
        wave = np.where(time > 0.7, 12000 * np.sin(2 * np.pi * 440 * time), 0)
    else:  # a chirp whose loudness comes and goes, a little like speech
        chirp = np.sin(2 * np.pi * (150 * time + 1500 * time**2))
        wave = 20000 * chirp * np.sin(2 * np.pi * 3 * time) ** 2 + rng.normal(size=24000) * 30
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)


SOUNDS = ("white", "loud", "faint", "square", "impulses", "silence, then a tone", "chirp")


@pytest.mark.parametrize("name", SOUNDS)
def test_micro_equals_the_device_value_by_value(name):
    sound, tables = _sound(name), microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0)
    expected = _streamed(sound)
    np.testing.assert_array_equal(features.raw_micro(DEVICE, sound), expected)
    np.testing.assert_array_equal(microfrontend.features(tables, sound[None], 160)[0], expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 4.5))
def test_micro_equals_the_device_on_any_level(seed, level):
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.random(20), 400)
    sound = np.clip(rng.normal(size=8000) * envelope * 10**level, -32768, 32767).astype(np.int16)
    np.testing.assert_array_equal(features.raw_micro(DEVICE, sound), _streamed(sound))


def test_micro_of_a_batch_is_that_of_each_clip():
    batch = np.stack([_sound(name) for name in SOUNDS])
    for hop in (10, 20):
        config = dataclasses.replace(DEVICE, hop_ms=hop)
        together = features.raw_micro(config, batch)
        alone = np.stack([features.raw_micro(config, clip) for clip in batch])
        np.testing.assert_array_equal(together, alone)
        assert together.shape == (len(SOUNDS), config.num_frames(24000), 40)
        assert together.any(axis=(1, 2)).sum() >= len(SOUNDS) - 1


def _assert_near(ours: np.ndarray, op: np.ndarray) -> None:
    """Table entries that differ by one move few values, and those by little on broad sound."""
    assert op.any()
    assert np.mean(ours != op) < 0.01
    assert np.abs(ours.astype(float) - op).max() <= 50


@pytest.mark.parametrize("mel_bins", features.MEL_BINS)
@pytest.mark.parametrize("window_ms", features.WINDOWS_MS)
@pytest.mark.parametrize("hop_ms", features.HOPS_MS)
def test_micro_is_near_tensorflows_op_everywhere(mel_bins, window_ms, hop_ms):
    """TensorFlow's op makes its tables in double precision, the device in single."""
    from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op

    config = features.FrontendConfig(mel_bins=mel_bins, window_ms=window_ms, hop_ms=hop_ms)
    sound = _sound("broad")
    op = audio_microfrontend_op.audio_microfrontend(
        tf.constant(sound), 16000, window_ms, hop_ms, mel_bins, 7500.0, 125.0, out_type=tf.uint16
    ).numpy()
    ours = features.raw_micro(config, sound)
    assert ours.shape == op.shape
    _assert_near(ours, op)


def test_micro_at_8_khz():
    from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op

    config = features.FrontendConfig(sample_rate=8000, upper_hz=3500.0)
    sound = _sound("broad")[:8000]
    op = audio_microfrontend_op.audio_microfrontend(
        tf.constant(sound), 8000, 30, 20, 40, 3500.0, 125.0, out_type=tf.uint16
    ).numpy()
    ours = features.raw_micro(config, sound)
    assert ours.shape == op.shape == (49, 40)
    _assert_near(ours, op)


def test_raw_features_are_the_samples_a_hop_in_a_row():
    sound = _sound("chirp")[:1000]
    for hop, samples in ((10, 160), (20, 320)):
        config = features.FrontendConfig(backend="raw", hop_ms=hop)
        assert (config.mel_bins, config.window_ms, config.window, config.hop) == (samples, hop, samples, samples)
        rows = 1000 // samples
        x = features.extract(config, sound)
        assert x.shape == (rows, samples) and x.dtype == np.float32
        np.testing.assert_array_equal(x.ravel() * 32768, sound[: rows * samples])
        np.testing.assert_array_equal(features.compact(config, sound).ravel(), sound[: rows * samples])
        assert features.FrontendConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="mel_bins=160"):
        features.FrontendConfig(mel_bins=160)


@pytest.mark.parametrize("backend", ["micro", "lfbe"])
def test_range_type_and_shape(backend):
    config = features.FrontendConfig(backend=backend)
    clips = np.stack([_sound(name)[:16000] for name in SOUNDS]).astype(np.float32) / 32768
    x = features.extract(config, clips)
    assert x.dtype == np.float32
    assert x.shape == (len(SOUNDS), 49, 40)
    assert x.min() >= 0.0
    assert 15.0 < x.max() < 28.0
    silence = features.extract(config, np.zeros((1, 16000), np.float32))
    np.testing.assert_allclose(silence, 0.0, atol=1e-5)
    alone = features.extract(config, clips[0])
    if backend == "micro":
        np.testing.assert_array_equal(alone, x[0])
    else:
        # TensorFlow's product sums the last rows of a matrix in another order than the others, and which are the last
        # depends on how many clips there are: the last bits of an energy, then the rounding of its logarithm.
        np.testing.assert_allclose(alone, x[0], rtol=1.2e-7, atol=4.8e-7)


def test_float_and_int16_sound_give_the_same():
    sound = _sound("chirp")
    for backend in features.BACKENDS:
        config = features.FrontendConfig(backend=backend)
        from_float = features.extract(config, sound.astype(np.float32) / 32768)
        np.testing.assert_array_equal(features.extract(config, sound), from_float)


def test_scale_of_micro():
    sound = _sound("white")
    raw = features.raw_micro(DEVICE, sound)
    np.testing.assert_allclose(features.extract(DEVICE, sound), raw / 25.6, rtol=1e-6)


@pytest.mark.parametrize("hop_ms", features.HOPS_MS)
def test_lfbe_as_a_graph_gives_the_bits_of_the_ops_one_by_one(hop_ms):
    config = features.FrontendConfig(backend="lfbe", hop_ms=hop_ms)
    sounds = np.stack([_sound(name) for name in SOUNDS]).astype(np.float32) / 32768
    for clips, samples in ((7, 16000), (1, 24000), (5, 480), (3, 1111)):
        audio = sounds[:clips, :samples]
        np.testing.assert_array_equal(features.extract(config, audio), features.tf_frontend(config)(audio).numpy())
    np.testing.assert_array_equal(features.extract(config, sounds[0]), features.tf_frontend(config)(sounds[0]).numpy())


def test_lfbe_equals_its_definition():
    """Every step in float64 numpy, with mel filters made from the formula."""
    config = features.FrontendConfig(backend="lfbe")
    sound = _sound("chirp").astype(np.float64) / 32768
    framed = np.lib.stride_tricks.sliding_window_view(sound, 480)[::320]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)
    power = np.abs(np.fft.rfft(framed * hann, 512)) ** 2
    mel = lambda hz: 1127.0 * np.log1p(np.asarray(hz) / 700.0)  # noqa: E731
    edges = np.linspace(mel(125.0), mel(7500.0), 42)
    bins = mel(np.arange(257) * 16000 / 512)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[0] = 0.0
    expected = np.log(np.maximum(power @ filters, 1e-6)) - np.log(1e-6)
    np.testing.assert_allclose(features.extract(config, sound.astype(np.float32)), expected, atol=5e-3)


@pytest.mark.parametrize("backend", features.BACKENDS)
def test_works_in_a_pipeline_and_in_a_graph(backend):
    config = features.FrontendConfig(backend=backend)
    clips = np.stack([_sound(name)[:16000] for name in SOUNDS]).astype(np.float32) / 32768
    expected = features.extract(config, clips)
    frontend = features.tf_frontend(config)
    pipeline = tf.data.Dataset.from_tensor_slices(clips).map(frontend).batch(len(clips))
    assert pipeline.element_spec.shape.as_list() == [None, *expected.shape[1:]]
    np.testing.assert_allclose(next(iter(pipeline)).numpy(), expected, atol=2e-4)
    graph = tf.function(frontend, input_signature=[tf.TensorSpec([None, 16000])])
    np.testing.assert_allclose(graph(clips).numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("backend", features.BACKENDS)
def test_short_clips_have_no_frames(backend):
    config = features.FrontendConfig(backend=backend)
    window, bands = (320, 320) if backend == "raw" else (480, 40)
    assert features.extract(config, np.zeros((2, window - 1), np.float32)).shape == (2, 0, bands)
    assert features.extract(config, np.zeros((2, window), np.float32)).shape == (2, 1, bands)
    assert features.extract(config, np.zeros((0, window + 320), np.float32)).shape == (0, 2, bands)


@given(
    st.sampled_from(features.WINDOWS_MS),
    st.sampled_from(features.HOPS_MS),
    st.integers(0, 40000),
)
def test_num_frames_counts_the_windows_that_fit(window_ms, hop_ms, samples):
    config = features.FrontendConfig(window_ms=window_ms, hop_ms=hop_ms)
    starts = range(0, max(0, samples - config.window + 1), config.hop)
    assert config.num_frames(samples) == len(starts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mel_bins": 41}, r"mel_bins=41: must be one of \(20, 40, 64\)"),
        ({"window_ms": 20}, r"window_ms=20: must be one of \(25, 30\)"),
        ({"hop_ms": 15}, r"hop_ms=15: must be one of \(10, 20\)"),
        ({"sample_rate": 44100}, "sample_rate=44100"),
        ({"backend": "mfcc"}, r"backend='mfcc': must be one of \('micro', 'lfbe', 'raw'\)"),
        ({"lower_hz": -1.0}, r"lower_hz=-1.0: must be between 0 and 7937.5"),
        ({"upper_hz": 7950.0}, r"upper_hz=7950.0: must be between 125 and 7937.5"),
        ({"upper_hz": float("nan")}, "upper_hz=nan"),
        ({"lower_hz": 300.0, "upper_hz": 300.0}, r"upper_hz=300.0: must be above lower_hz=300.0"),
        ({"sample_rate": 8000}, r"upper_hz=7500.0.*8000 Hz"),
        ({"log_floor": 0.0}, r"log_floor=0.0: must be above 0"),
    ],
)
def test_one_clear_error_per_option(options, message):
    with pytest.raises(ValueError, match=message):
        features.FrontendConfig(**options)


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="melbins"):
        features.FrontendConfig.from_dict({"melbins": 40})


@given(
    st.builds(
        features.FrontendConfig,
        mel_bins=st.sampled_from(features.MEL_BINS),
        window_ms=st.sampled_from(features.WINDOWS_MS),
        hop_ms=st.sampled_from(features.HOPS_MS),
        backend=st.sampled_from(features.BACKENDS),
        lower_hz=st.floats(20, 500),
    )
)
def test_dict_round_trip_and_key(config):
    again = features.FrontendConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.key() == config.key()
    other = dataclasses.replace(config, hop_ms=30 - config.hop_ms)
    assert other.key() != config.key()


@pytest.mark.parametrize("backend", features.BACKENDS)
def test_wrong_sound_is_refused(backend):
    config = features.FrontendConfig(backend=backend)
    with pytest.raises(ValueError, match="int32"):
        features.extract(config, np.zeros((1, 16000), np.int32))
    with pytest.raises(ValueError, match=r"\(1, 1, 16000\)"):
        features.extract(config, np.zeros((1, 1, 16000), np.float32))


def test_tables_refuse_filters_beyond_the_spectrum():
    with pytest.raises(ValueError, match="upper_hz=8000"):
        microfrontend.make_tables(16000, 480, 40, 125.0, 8000.0)
    with pytest.raises(ValueError, match="float32"):
        microfrontend.features(
            microfrontend.make_tables(16000, 480, 40, 125.0, 7500.0), np.zeros((1, 960), np.float32), 160
        )


def test_micro_needs_no_tensorflow():
    code = (
        "import sys, numpy as np; from tfmot_kws import features as f, det; "
        "f.extract(f.FrontendConfig(), np.zeros((1, 16000), np.float32)); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("backend", features.BACKENDS)
@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 16000), max_size=12), hop=st.sampled_from([10, 20]))
@pytest.mark.slow
def test_audio_in_pieces(backend: str, cuts: list[int], hop: int) -> None:
    """However a recording is cut: the frames of the whole, and after a reset the same again."""
    config = features.FrontendConfig(backend=backend, hop_ms=hop, window_ms=30 if hop == 10 else 25)
    sound = _sound("chirp")[:16000]
    expected = features.extract(config, sound)
    stream = features.FrontendStream(config)
    for _ in range(2):
        found = np.concatenate([stream.step(part) for part in np.split(sound, sorted(cuts))])
        if backend == "micro":
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
        stream.reset()
    compact = np.concatenate([stream.step_compact(part) for part in np.split(sound, sorted(cuts))])
    assert compact.dtype == features.compact(config, sound).dtype
    if backend in ("micro", "raw"):
        np.testing.assert_array_equal(compact, features.compact(config, sound))
    else:
        np.testing.assert_allclose(compact, expected, rtol=1e-3, atol=1e-3)


def test_audio_in_pieces_as_floats() -> None:
    config = features.FrontendConfig()
    sound = _sound("white")[:8000].astype(np.float32) / 32768
    stream = features.FrontendStream(config)
    found = np.concatenate([stream.step(sound[:5000]), stream.step(sound[5000:])])
    np.testing.assert_array_equal(found, features.extract(config, sound))
    with pytest.raises(ValueError, match=r"audio: expected \[samples\], got \(2, 3\)"):
        stream.step(np.zeros((2, 3), np.int16))
