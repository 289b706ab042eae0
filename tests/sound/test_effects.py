# SPDX-License-Identifier: Apache-2.0
"""Effects of cheap devices: what each does, that none moves sound in time, and that a seed fixes everything."""

import dataclasses
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moved import chirp, milliseconds_late

from tfmot_kws.sound import codecs, effects

RATE = 16000
ALL_OFF = dict.fromkeys(effects._PROBABILITIES, 0.0)
ALL_ON = dict.fromkeys(effects._PROBABILITIES, 1.0)
CHIRP = chirp(RATE, RATE)


def _tone(hz: float, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(rate) / rate)).astype(np.float32)


def _gain_db(change, hz: float, rate: int = RATE) -> float:
    """Of a tone, in the middle of the sound, where no edge is heard."""
    middle = slice(rate // 4, 3 * rate // 4)
    return 20 * math.log10(np.std(change(_tone(hz, rate))[middle]) / np.std(_tone(hz, rate)[middle]))


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize(
    ("band", "expected"),
    [
        (effects.Band("peak", 1000.0, 9.0, 1.0), {1000: 9.0, 1414.2: 4.5, 707.1: 4.5, 3000: 0.0}),
        (effects.Band("peak", 1000.0, -12.0, 2.0), {1000: -12.0, 2000: -6.0, 500: -6.0}),
        (effects.Band("low shelf", 800.0, 6.0, 1.0), {100: 6.0, 800: 3.0, 3500: 0.0}),
        (effects.Band("high shelf", 800.0, -6.0, 1.0), {100: 0.0, 800: -3.0, 3500: -6.0}),
    ],
)
def test_bands_of_the_equalizer_have_the_gain_asked_for(band, expected, rate):
    for hz, db in expected.items():
        assert _gain_db(lambda sound: effects.equalize(sound, [band], rate), hz, rate) == pytest.approx(db, abs=0.3)


def test_gains_of_bands_add_up():
    bands = [effects.Band("peak", 500.0, 6.0), effects.Band("high shelf", 2000.0, -10.0, 0.5)]
    for hz in (500, 1000, 2000, 5000):
        apart = sum(_gain_db(lambda sound, b=band: effects.equalize(sound, [b]), hz) for band in bands)
        assert _gain_db(lambda sound: effects.equalize(sound, bands), hz) == pytest.approx(apart, abs=0.1)
    np.testing.assert_array_equal(effects.equalize(CHIRP, []), CHIRP)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize(("low", "high"), [(50.0, 2500.0), (400.0, 7500.0), (300.0, 3400.0)])
def test_a_band_loses_3_db_at_its_ends_and_6_an_octave_beyond(low, high, order):
    def change(sound):
        return effects.band_limit(sound, low, high, RATE, order)

    def lost(hz):
        return -10 * math.log10((1 + (low / hz) ** (2 * order)) * (1 + (hz / high) ** (2 * order)))

    for hz in (low, 1000.0, high):
        assert _gain_db(change, hz) == pytest.approx(lost(hz), abs=0.5)
    assert _gain_db(change, low / 2) < -0.8 * 6.0 * order + 1.0


def test_a_band_without_a_lower_end_keeps_the_bass():
    assert _gain_db(lambda sound: effects.band_limit(sound, 0.0, 4000.0), 40.0) == pytest.approx(0.0, abs=0.1)


@given(st.floats(0.01, 1.0), st.booleans())
def test_clipping_cuts_at_a_share_of_the_peak(share, soft):
    out = effects.clip(CHIRP, share, soft)
    level = share * np.abs(CHIRP).max()
    assert np.abs(out).max() <= level * (1 + 1e-6) and out.dtype == np.float32
    if soft:
        np.testing.assert_allclose(out, level * np.tanh(CHIRP / level), atol=1e-6)
    else:
        quiet = np.abs(CHIRP) < level
        np.testing.assert_array_equal(out[quiet], CHIRP[quiet])
        np.testing.assert_allclose(np.abs(out[~quiet]), level, rtol=1e-6)


@given(st.floats(-60.0, 30.0))
def test_recordings_are_16_bit_at_another_level(db):
    out = effects.record(CHIRP, db)
    steps = out.astype(np.float64) * 32768
    np.testing.assert_array_equal(steps, np.rint(steps))
    assert steps.min() >= -32768 and steps.max() <= 32767
    expected = np.clip(CHIRP.astype(np.float64) * 32768 * 10 ** (db / 20), -32768, 32767)
    assert np.abs(steps - expected).max() <= 0.5 + 1e-9


def test_what_is_quieter_than_a_step_is_not_heard():
    assert not effects.record(CHIRP, -96.0).any()


EFFECTS = {
    "equalizer": lambda sound: effects.equalize(sound, [effects.Band("low shelf", 300.0, -12.0, 0.5)]),
    "band": lambda sound: effects.band_limit(sound, 400.0, 2500.0),
    "hard clipping": lambda sound: effects.clip(sound, 0.2),
    "soft clipping": lambda sound: effects.clip(sound, 0.2, soft=True),
    "level": lambda sound: effects.record(sound, -40.0),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_no_effect_moves_sound_and_all_keep_its_length(name):
    for sound in (CHIRP, np.eye(1, RATE, 5000, dtype=np.float32)[0]):
        out = EFFECTS[name](sound)
        assert out.shape == sound.shape and out.dtype == np.float32 and np.isfinite(out).all()
        assert not np.array_equal(out, sound) or not np.count_nonzero(sound) > 1
        assert abs(milliseconds_late(sound, out, RATE)) < 0.1
    for samples in (0, 1, 7, 3000):
        silence = np.zeros(samples, np.float32)
        np.testing.assert_array_equal(EFFECTS[name](silence), silence)


@pytest.mark.parametrize("name", ["equalizer", "band"])
def test_filters_are_a_hundred_times_faster_than_sound(name):
    minute = np.tile(CHIRP, 60)
    EFFECTS[name](CHIRP)
    before = time.process_time()
    EFFECTS[name](minute)
    assert time.process_time() - before < 0.6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([8000, 16000]), st.sampled_from([0.5, 1.0]))
def test_a_clip_stays_whole_in_its_place_and_the_same_for_a_seed(seed, rate, probability):
    config = effects.EffectsConfig(**dict.fromkeys(effects._PROBABILITIES, probability), level_db=(-20.0, 6.0))
    sound = chirp(rate, rate)
    out = effects.apply(sound, np.random.default_rng(seed), config, rate)
    assert out.shape == sound.shape and out.dtype == np.float32
    assert np.isfinite(out).all() and np.abs(out).max() <= 1.0
    assert abs(milliseconds_late(sound, out, rate)) < 1.0
    np.testing.assert_array_equal(effects.apply(sound, np.random.default_rng(seed), config, rate), out)
    silence = np.zeros(rate, np.float32)
    np.testing.assert_array_equal(effects.apply(silence, np.random.default_rng(seed), config, rate), silence)


def test_draws_do_not_depend_on_the_sound():
    config, first, second = effects.EffectsConfig(), np.random.default_rng(3), np.random.default_rng(3)
    effects.apply(CHIRP, first, config)
    effects.apply(np.zeros(5, np.float32), second, config)
    assert first.random() == second.random()


def test_everything_off_changes_nothing():
    out = effects.apply(CHIRP, np.random.default_rng(0), effects.EffectsConfig(**ALL_OFF))
    np.testing.assert_array_equal(out, CHIRP)


@pytest.mark.parametrize("name", [name for name in effects._PROBABILITIES if name != "soft_probability"])
def test_probabilities_are_shares(name):
    config = effects.EffectsConfig(**{**ALL_OFF, name: 0.25}, level_db=(-40.0, -1.0), codecs=("ulaw",))
    sound = CHIRP[6000:6200]
    changed = [
        not np.array_equal(effects.apply(sound, np.random.default_rng(seed), config), sound) for seed in range(400)
    ]
    assert 0.17 < np.mean(changed) < 0.33


def test_the_order_is_that_of_a_device():
    config = effects.EffectsConfig(**{**ALL_ON, "codec_probability": 0.0}, level_db=(-30.0, -30.0))
    steps = effects.apply(CHIRP, np.random.default_rng(0), config) * 32768
    np.testing.assert_array_equal(steps, np.rint(steps))  # the converter comes behind filters and clipping


def test_what_the_equalizer_lifts_beyond_full_scale_is_turned_down_and_not_clipped():
    config = effects.EffectsConfig(**{**ALL_OFF, "eq_probability": 1.0}, eq_gain_db=(24.0, 24.0))
    out = effects.apply(_tone(900.0) * 3, np.random.default_rng(1), config)
    assert np.abs(out).max() == pytest.approx(1.0, abs=1e-6)
    assert np.mean(np.abs(out) > 0.999) < 0.1  # a sine is there 3 % of the time, a clipped one most of it


def test_named_codecs_are_the_ones_that_are_heard():
    config = effects.EffectsConfig(**{**ALL_OFF, "codec_probability": 1.0}, codecs=["gsm-8k", "alaw"])
    heard = [effects.apply(CHIRP, np.random.default_rng(seed), config) for seed in range(12)]
    expected = [codecs.transcode(CHIRP, name) for name in config.codecs]
    found = {index for out in heard for index, other in enumerate(expected) if np.array_equal(out, other)}
    assert found == {0, 1}


def test_a_named_codec_that_is_not_there_raises_before_anything_is_drawn(monkeypatch):
    codecs._trouble.cache_clear()
    monkeypatch.setattr(codecs, "CODECS", {**codecs.CODECS, "gsm-8k": codecs.Codec("FLAC", "GSM610")})
    try:
        config = effects.EffectsConfig(codec_probability=1e-9, codecs=("ulaw", "gsm-8k"))
        with pytest.raises(ValueError, match="codec 'gsm-8k' at 16000 Hz.*it can use ulaw"):
            effects.apply(CHIRP, np.random.default_rng(0), config)
    finally:
        codecs._trouble.cache_clear()


def test_config_survives_json():
    config = effects.EffectsConfig(codecs=["ulaw"], eq_bands=[2, 3])
    assert effects.EffectsConfig(**json.loads(json.dumps(config.to_dict()))) == config
    assert dataclasses.replace(config) == config


@pytest.mark.parametrize(
    "options",
    [
        *({name: value} for name in effects._PROBABILITIES for value in (-0.1, 1.1, math.nan, True, "1")),
        *({name: value} for name in effects._RANGES for value in ((2.0, 1.0), (1.0,), 3.0, (math.nan, 1.0), (0, 1e6))),
        *({"eq_bands": value} for value in ((0, 2), (3, 2), (1, 17), (1.5, 2), 3, (True, 2))),
        {"high_pass_hz": (50.0, 3000.0)},
        {"codecs": ("speex",)},
        {"codecs": ()},
        {"codecs": "ulaw"},
    ],
)
def test_bad_configurations_name_the_field(options):
    with pytest.raises(ValueError, match=rf"EffectsConfig\.{next(iter(options))}"):
        effects.EffectsConfig(**options)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: effects.Band("notch", 100.0, 3.0), "Band.shape='notch'"),
        (lambda: effects.Band("peak", 0.0, 3.0), "Band.hz=0.0"),
        (lambda: effects.Band("peak", 100.0, math.nan), "Band.gain_db=nan"),
        (lambda: effects.Band("peak", 100.0, 3.0, -1.0), "Band.octaves=-1.0"),
        (lambda: effects.band_limit(CHIRP, 500.0, 400.0), "low_hz=500.0, high_hz=400.0"),
        (lambda: effects.band_limit(CHIRP, 50.0, 400.0, order=0), "order=0"),
        (lambda: effects.clip(CHIRP, 0.0), "share=0.0"),
        (lambda: effects.record(CHIRP, math.inf), "gain_db=inf"),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("name", [*EFFECTS, "codec", "all"])
@pytest.mark.parametrize(
    ("audio", "match"),
    [
        (np.zeros((2, 3), np.float32), r"audio: expected float \[samples\] in \[-1, 1\], got float32 \[2, 3\]"),
        (np.full(3, 1000, np.int16), r"got int16 \[3\]"),
        ([0.5], "got list"),
        (np.array([0.5, np.nan], np.float32), "not finite"),
        (np.array([0.5, np.inf]), "not finite"),
    ],
)
def test_bad_sound_is_refused(name, audio, match):
    effect = EFFECTS.get(name) or {
        "codec": lambda sound: codecs.transcode(sound, "ulaw"),
        "all": lambda sound: effects.apply(sound, np.random.default_rng(0), effects.EffectsConfig()),
    }.get(name)
    with pytest.raises(ValueError, match=match):
        effect(audio)


@pytest.mark.parametrize("rate", [0, 999, 16000.0, True])
def test_bad_rates_are_refused(rate):
    with pytest.raises(ValueError, match=f"sample_rate={rate!r}: must be an integer, 1000 or more"):
        effects.apply(CHIRP, np.random.default_rng(0), effects.EffectsConfig(), rate)


@pytest.mark.parametrize("rate", [11025, 22050, 44100, 48000])
def test_other_rates_take_the_codecs_that_there_are(rate):
    config = effects.EffectsConfig(**ALL_ON, level_db=(-10.0, 0.0))
    sound = chirp(rate, rate)
    for seed in range(6):
        out = effects.apply(sound, np.random.default_rng(seed), config, rate)
        assert out.shape == sound.shape and abs(milliseconds_late(sound, out, rate)) < 1.0
