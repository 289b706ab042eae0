# SPDX-License-Identifier: Apache-2.0
"""Augmentation: what each step does, and that a seed fixes everything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moved import chirp, milliseconds_late

from tfmot_kws.sound import augment

RATE = 16000


def _tone(seconds: float = 0.5, hz: float = 500.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def _db(power_ratio: float) -> float:
    return 10 * np.log10(power_ratio)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30), st.integers(-40, 40))
def test_shift_moves_and_fills_with_zeros(values, samples):
    sound = np.asarray(values, np.float32)
    out = augment.shift(sound, samples)
    expected = [sound[i - samples] if 0 <= i - samples < len(sound) else 0 for i in range(len(sound))]
    np.testing.assert_array_equal(out, np.asarray(expected, np.float32))


@given(st.floats(-40, 40))
def test_gain_is_in_db(db):
    out = augment.gain(_tone(), db)
    assert _db(np.mean(out**2) / np.mean(_tone() ** 2)) == pytest.approx(db, abs=1e-3)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 7.5, 20.0])
def test_noise_has_the_snr_asked_for(snr_db):
    speech, noise = _tone(), np.random.default_rng(0).normal(size=8000).astype(np.float32) * 5
    added = augment.add_noise(speech, noise, snr_db) - speech
    assert _db(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=1e-2)


def test_noise_leaves_silence_alone():
    silence, noise = np.zeros(100, np.float32), np.ones(100, np.float32)
    np.testing.assert_array_equal(augment.add_noise(silence, noise, 0.0), silence)
    np.testing.assert_array_equal(augment.add_noise(noise, silence, 0.0), noise)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_speed_moves_the_pitch(factor):
    sound = augment.change_speed(_tone(1.0, 500.0), factor)
    assert sound.shape == (RATE,) and sound.dtype == np.float32
    middle = sound[4000:12000]
    peak = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * RATE / len(middle)
    assert peak == pytest.approx(500.0 * factor, abs=3.0)


def test_speed_of_one_changes_nothing_and_zero_is_refused():
    np.testing.assert_array_equal(augment.change_speed(_tone(), 1.0), _tone())
    with pytest.raises(ValueError, match="above 0"):
        augment.change_speed(_tone(), 0.0)


def test_room_decays_by_60_db():
    impulse = augment.room(np.random.default_rng(1), 0.5, RATE)
    assert impulse[0] == 1.0 and len(impulse) == 8000
    early, late = impulse[1000:1800], impulse[5000:5800]  # 0.25 s apart: half of the decay
    assert _db(np.mean(early**2) / np.mean(late**2)) == pytest.approx(30.0, abs=2.0)


def test_reverberation_keeps_length_and_level_and_rings():
    sound = np.zeros(RATE, np.float32)
    sound[2000:4000] = _tone(2000 / RATE)
    out = augment.reverberate(sound, augment.room(np.random.default_rng(1), 0.4, RATE))
    assert out.shape == sound.shape
    assert np.sum(out**2) == pytest.approx(np.sum(sound**2), rel=1e-4)
    assert np.abs(out[:1990]).max() < 1e-4 < np.abs(out[4100:6000]).max()


def _measured(delay: int, seed: int = 1) -> np.ndarray:
    """A room as it is measured: first the time that the sound takes to the microphone, with a little hiss."""
    hiss = np.random.default_rng(seed).normal(size=delay).astype(np.float32) * 1e-3
    return np.concatenate([hiss, augment.room(np.random.default_rng(seed), 0.4, RATE)]) * np.float32(0.05)


@pytest.mark.parametrize("delay", [0, 1, 37, 1600])
def test_measured_rooms_move_no_sound_in_time(delay):
    config = augment.AugmentConfig(
        shift_ms=0.0, gain_db=(0, 0), speed=(1, 1), noise_probability=0.0, reverb_probability=1.0
    )
    clip = chirp(RATE, RATE)
    first, second = (
        augment.augment(clip, np.random.default_rng(0), config, rooms=[_measured(samples)]) for samples in (delay, 5)
    )
    np.testing.assert_allclose(first, second, atol=1e-6)
    np.testing.assert_allclose(first, augment.reverberate(clip, _measured(0)), atol=1e-6)
    assert abs(milliseconds_late(clip, first, RATE)) < 0.1
    assert np.sum(first**2) == pytest.approx(np.sum(clip**2), rel=1e-4)


def test_every_measured_room_is_heard_and_the_seed_says_which():
    config = augment.AugmentConfig(
        shift_ms=0.0, gain_db=(0, 0), speed=(1, 1), noise_probability=0.0, reverb_probability=1.0
    )
    rooms = [_measured(10, seed) for seed in range(3)]
    expected = [augment.reverberate(_tone(), augment.from_direct_path(room)) for room in rooms]
    heard = [augment.augment(_tone(), np.random.default_rng(seed), config, rooms=rooms) for seed in range(20)]
    found = [next(i for i, other in enumerate(expected) if np.allclose(out, other, atol=1e-6)) for out in heard]
    assert set(found) == {0, 1, 2}
    again = augment.augment(_tone(), np.random.default_rng(7), config, rooms=rooms)
    np.testing.assert_array_equal(again, heard[7])


@pytest.mark.parametrize("impulse", [np.zeros(9), np.zeros(0), np.ones((2, 9)), np.array([1.0, np.nan])])
def test_responses_that_are_none_are_refused(impulse):
    with pytest.raises(ValueError, match="impulse response: expected float"):
        augment.from_direct_path(impulse)


def test_short_noise_is_repeated_and_long_noise_cut():
    rng = np.random.default_rng(0)
    out = augment.take_noise(np.arange(5.0), 12, rng)
    assert len(out) == 12
    np.testing.assert_array_equal(np.diff(out) % 5, np.ones(11))
    out = augment.take_noise(np.arange(100.0), 12, rng)
    np.testing.assert_array_equal(np.diff(out), np.ones(11))
    with pytest.raises(ValueError, match="empty"):
        augment.take_noise(np.zeros(0), 3, rng)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_same_seed_same_samples(seed, with_noises):
    noises = [np.random.default_rng(5).normal(size=3000).astype(np.float32)] if with_noises else []
    config = augment.AugmentConfig(reverb_probability=0.5)
    first, again, other = (
        augment.augment(_tone(), np.random.default_rng(value), config, noises) for value in (seed, seed, seed + 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32 and first.shape == _tone().shape
    assert np.abs(first).max() <= 1.0


def test_everything_off_changes_nothing():
    config = augment.AugmentConfig(
        shift_ms=0.0, gain_db=(0, 0), speed=(1, 1), noise_probability=0.0, reverb_probability=0.0
    )
    np.testing.assert_array_equal(augment.augment(_tone(), np.random.default_rng(0), config), _tone())


def test_probabilities_are_shares():
    config = augment.AugmentConfig(
        shift_ms=0.0, gain_db=(0, 0), speed=(1, 1), noise_probability=0.25, reverb_probability=0.0
    )
    changed = [
        not np.array_equal(augment.augment(_tone(0.01), np.random.default_rng(i), config), _tone(0.01))
        for i in range(400)
    ]
    assert 0.17 < np.mean(changed) < 0.33


def test_given_noises_are_used():
    config = augment.AugmentConfig(
        shift_ms=0.0, gain_db=(0, 0), speed=(1, 1), noise_probability=1.0, reverb_probability=0.0, snr_db=(0, 0)
    )
    noise = _tone(1.0, 3000.0)
    out = augment.augment(_tone(0.5, 500.0), np.random.default_rng(0), config, [noise])
    spectrum = np.abs(np.fft.rfft(out))
    assert set(np.argsort(spectrum)[-2:] * RATE / len(out)) == {500.0, 3000.0}


def test_spec_augment_masks_whole_rows_and_columns():
    config = augment.AugmentConfig(time_masks=1, time_mask_frames=6, freq_masks=1, freq_mask_bins=4)
    x = np.ones((20, 10), np.float32)
    seen = set()
    for seed in range(60):
        out = augment.spec_augment(x, np.random.default_rng(seed), config, fill=0.0)
        rows, columns = (out == 0).all(axis=1), (out == 0).all(axis=0)
        assert rows.sum() <= 6 and columns.sum() <= 4
        np.testing.assert_array_equal(out == 0, rows[:, None] | columns[None, :])
        seen.add((int(rows.sum()), int(columns.sum())))
    assert len(seen) > 10
    assert (x == 1).all()
    none = augment.AugmentConfig(time_masks=0, freq_masks=0)
    np.testing.assert_array_equal(augment.spec_augment(x, np.random.default_rng(0), none), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr_db": (20, 0)}, r"snr_db=\(20, 0\): must be two numbers"),
        ({"speed": (0.0, 1.0)}, "speed"),
        ({"gain_db": (0,)}, "gain_db"),
        ({"reverb_seconds": (-1, 1)}, "reverb_seconds"),
        ({"noise_probability": 1.5}, "noise_probability=1.5: must be between 0 and 1"),
        ({"reverb_probability": -0.1}, "reverb_probability"),
        ({"shift_ms": -5}, "shift_ms"),
        ({"time_masks": -1}, "time_masks=-1"),
        ({"freq_mask_bins": 1.5}, "freq_mask_bins=1.5"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        augment.AugmentConfig(**options)


@pytest.mark.parametrize("samples", [400, 401])
def test_motion_says_where_the_sound_came_from(samples, rng):
    ramp = np.arange(1, samples + 1, dtype=np.float32) / 1000  # every sample says where it was
    config = augment.AugmentConfig(
        shift_ms=5.0, gain_db=(0.0, 0.0), speed=(0.8, 1.25), noise_probability=0.0, reverb_probability=0.0
    )
    for draw in range(20):
        motion = augment.draw_motion(np.random.default_rng(draw), config, RATE)
        out = augment.augment(ramp, np.random.default_rng(draw), config, sample_rate=RATE)
        given = np.random.default_rng(draw)
        augment.draw_motion(given, config, RATE)
        np.testing.assert_array_equal(out, augment.augment(ramp, given, config, sample_rate=RATE, motion=motion))
        first, speed = motion.source(samples)
        there = np.flatnonzero(out)
        np.testing.assert_allclose(1000 * out[there] - 1, first + speed * there, atol=2e-2)
    assert augment.Motion().source(samples) == (0.0, 1.0)
