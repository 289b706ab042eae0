# SPDX-License-Identifier: Apache-2.0
"""The fixed-point audio front end of TensorFlow Lite Micro, in numpy, value for value.

TFLM devices compute their features with integers only: a windowed 16-bit FFT, triangular mel
filters, a running noise estimate that is subtracted, an automatic gain (PCAN), which may be off, and a logarithm.
This module does the same arithmetic for many clips at once. Its results equal those of a
device, and with the gain those of ``pymicro-features``, to the last bit.

TensorFlow's own ``audio_microfrontend`` op is close but not equal: it makes its tables with
double precision where the device library uses single precision, so a few table entries differ
by one and about one feature in a thousand differs by a few units. Hence this module.

Sources of the formulas: the TFLM microfrontend library (Apache-2.0), its FFT (Kiss FFT, a
radix-4 decimation in time with rounding after every product), and for PCAN: Wang et al.,
"Trainable Frontend For Robust and Far-Field Keyword Spotting", 2017. Imports numpy only.
"""

from __future__ import annotations

import dataclasses

import numpy as np

_F32 = np.float32
_WINDOW_BITS = 12
_FILTER_BITS = 12
_NOISE_BITS = 14
_SMOOTHING_BITS = 10
EVEN_SMOOTHING = int(_F32(0.025) * _F32(1 << _NOISE_BITS))
ODD_SMOOTHING = int(_F32(0.06) * _F32(1 << _NOISE_BITS))
MIN_SIGNAL = int(_F32(0.05) * _F32(1 << _NOISE_BITS))
_PCAN_STRENGTH = _F32(0.95)
_PCAN_OFFSET = _F32(80.0)
_PCAN_GAIN_BITS = 21
_PCAN_SNR_BITS = 12
_PCAN_OUTPUT_BITS = 6
_LOG_SEGMENT_BITS = 7
_LOG_SCALE_BITS = 16
_LN2_16 = 45426  # round(ln(2) * 2**16)
_LOG_OUTPUT_SHIFT = 6
_MASK32 = np.int64(0xFFFFFFFF)
_LOG1P_COEFFICIENTS = (  # highest power first
    1.4798198640e-01,
    1.5313838422e-01,
    1.8183572590e-01,
    2.2222198546e-01,
    2.8571429849e-01,
    4.0000000596e-01,
    6.6666668653e-01,
)
_CHUNK = 512  # frames per FFT call: keeps the working set in cache


@dataclasses.dataclass(frozen=True, repr=False)
class Tables:
    """Everything that depends on the configuration alone; build with ``make_tables``.

    Attributes:
        window: int32 [window], Hann window in 1/4096.
        fft_size: real FFT length, the power of two at or above the window.
        start: first FFT bin in use.
        filters: float64 [bins, mel], integers in 1/4096; bins start at ``start``.
        gain: int64 [33, 3], value and two coefficients of the PCAN gain per octave; None where it is off.
        gain_01: int64 [2], PCAN gain at an estimate of 0 and of 1; None where it is off.
        correction_bits: left shift before the logarithm.
        log_lut: int64 [130], ``log2(1 + i/128) - i/128`` in 1/65536.
        turns: int32 [2, fft_size / 2], cosines and sines around the circle of the FFT, in 1/32767.
        last_turns: int32 [2, fft_size / 4], those of its last step, which makes a spectrum of real numbers.
    """

    window: np.ndarray
    fft_size: int
    start: int
    filters: np.ndarray
    gain: np.ndarray | None
    gain_01: np.ndarray | None
    correction_bits: int
    log_lut: np.ndarray
    turns: np.ndarray
    last_turns: np.ndarray

    @property
    def mel_bins(self) -> int:
        """Mel channels."""
        return self.filters.shape[1]

    def num_frames(self, num_samples: int, hop: int) -> int:
        """Frames in ``num_samples`` samples; 0 when shorter than one window."""
        window = len(self.window)
        return 0 if num_samples < window else 1 + (num_samples - window) // hop


def make_tables(
    sample_rate: int, window: int, mel_bins: int, lower_hz: float, upper_hz: float, pcan: bool = True
) -> Tables:
    """Computes the tables of one configuration, in single precision as the device does.

    Args:
        sample_rate: samples per second.
        window: window length in samples.
        mel_bins: number of mel channels.
        lower_hz: lower edge of the first filter.
        upper_hz: upper edge of the last filter; its filters must end below half the rate.
        pcan: with the automatic gain, ``enable_pcan`` of the device's library.

    Returns:
        The tables.

    Raises:
        ValueError: the last filter reaches the Nyquist frequency.
    """
    fft_size = 1 << max(1, int(window - 1).bit_length())
    start, filters = _mel_filters(sample_rate, fft_size // 2 + 1, mel_bins, lower_hz, upper_hz)
    correction_bits = int(fft_size).bit_length() - 1 - _FILTER_BITS // 2
    gain, gain_01 = _pcan_tables(_SMOOTHING_BITS - correction_bits) if pcan else (None, None)
    steps = np.arange(130, dtype=np.float64) / (1 << _LOG_SEGMENT_BITS)
    log_lut = np.rint((np.log2(1.0 + steps) - steps) * (1 << _LOG_SCALE_BITS)).astype(np.int64)
    log_lut[129] = 0
    half = fft_size // 2
    return Tables(
        window=_hann(window),
        fft_size=fft_size,
        start=start,
        filters=filters,
        gain=gain,
        gain_01=gain_01,
        correction_bits=correction_bits,
        log_lut=log_lut,
        turns=_turns(-2 * np.pi * np.arange(half) / half),
        last_turns=_turns(-np.pi * (np.arange(1, half // 2 + 1) / half + 0.5)),
    )


def features(tables: Tables, audio: np.ndarray, hop: int, estimate: np.ndarray | None = None) -> np.ndarray:
    """Computes the features of a batch of clips, each from a fresh noise estimate unless one is given.

    Args:
        tables: from ``make_tables``.
        audio: int16 [batch, samples].
        hop: samples between frames.
        estimate: int64 [batch, mel], the noise estimate before the first frame, zeros at the start of a recording;
            afterwards that of the last frame, so that the next call can go on from it.

    Returns:
        uint16 [batch, frames, mel], ``64 * ln(gain-controlled energy)``, about 0..670, without PCAN of the energy's
        root itself, about 0..990; frames is 0 where the clip is shorter than one window.

    Raises:
        ValueError: ``audio`` is not int16 with two axes, ``hop`` is below 1, or ``estimate`` is none of such clips.
    """
    check(tables, audio, hop, estimate)
    window, mel = len(tables.window), tables.mel_bins
    batch, frames = len(audio), tables.num_frames(audio.shape[1], hop)
    if batch * frames == 0:
        return np.zeros((batch, frames, mel), np.uint16)
    framed = np.lib.stride_tricks.sliding_window_view(audio, window, axis=1)[:, ::hop]
    signal = np.empty((batch * frames, mel), np.int64)
    clips = max(1, _CHUNK // frames)
    for first in range(0, batch, clips):
        part = framed[first : first + clips].reshape(-1, window)
        for row in range(0, len(part), _CHUNK):
            at = first * frames + row
            rows = part[row : row + _CHUNK]
            signal[at : at + len(rows)] = _filterbank(tables, rows)
    if estimate is None:
        estimate = np.zeros((batch, mel), np.int64)
    return _normalize(tables, signal.reshape(batch, frames, mel), estimate)


def check(tables: Tables, audio: np.ndarray, hop: int, estimate: np.ndarray | None) -> None:
    """Refuses what ``features`` does not take.

    Args:
        tables: from ``make_tables``.
        audio: int16 [batch, samples].
        hop: samples between frames, 1 or more.
        estimate: int64 [batch, mel], each 0..2**32 - 1, that can be written to; or None.

    Raises:
        ValueError: one of them is something else.
    """
    if audio.dtype != np.int16 or audio.ndim != 2:
        raise ValueError(f"audio: expected int16 [batch, samples], got {audio.dtype} with shape {audio.shape}")
    if hop < 1:
        raise ValueError(f"hop={hop}: must be 1 sample or more")
    if estimate is None:
        return
    expected = (len(audio), tables.mel_bins)
    if estimate.dtype != np.int64 or estimate.shape != expected:
        raise ValueError(f"estimate: expected int64 {list(expected)}, got {estimate.dtype} {list(estimate.shape)}")
    if not estimate.flags.writeable:
        raise ValueError("estimate: it is read-only, and the estimate of the last frame is written to it")
    if estimate.size and not 0 <= estimate.min() <= estimate.max() <= _MASK32:
        raise ValueError(f"estimate: {estimate.min()}..{estimate.max()} found, must be 0..2**32 - 1")


def _hann(window: int) -> np.ndarray:
    step = _F32(_F32(np.pi) * _F32(2.0)) / _F32(window)
    phase = step * (np.arange(window, dtype=_F32) + _F32(0.5))
    cosine = np.cos(phase.astype(np.float64)).astype(_F32)
    value = _F32(0.5) - _F32(0.5) * cosine
    return np.floor(value * _F32(1 << _WINDOW_BITS) + _F32(0.5)).astype(np.int32)


def _log1p_single(x: np.ndarray) -> np.ndarray:
    """float32 ``log(1 + x)`` for x >= 0 as C libraries of devices round it.

    A few mel weights lie so near a rounding boundary that the last bit of the logarithm
    matters. This is the classic argument reduction and polynomial of fdlibm, which newlib
    and glibc before 2.41 use: 1 + x = 2**k * (1 + f) with f in [sqrt(1/2) - 1, sqrt(2) - 1].
    """
    x = np.asarray(x, _F32)
    one, half = _F32(1.0), _F32(0.5)
    u = one + x
    mantissa, exponent = np.frexp(u)  # mantissa in [0.5, 1)
    k = exponent - 1
    lost = np.where(k > 0, one - (u - x), x - (u - one)) / u
    halve = mantissa * _F32(2.0) >= _F32(1.41421354)
    k = k + halve
    f = np.where(halve, mantissa, mantissa * _F32(2.0)) - one
    small = x < _F32(0.41421354)
    k, f, lost = np.where(small, 0, k), np.where(small, x, f), np.where(small, 0, lost)
    k, lost = k.astype(_F32), lost.astype(_F32)
    half_square = half * f * f
    s = f / (_F32(2.0) + f)
    z = s * s
    rest = np.zeros_like(z)
    for coefficient in _LOG1P_COEFFICIENTS:
        rest = z * (_F32(coefficient) + rest)
    curved = s * (half_square + rest)
    near = f - (half_square - curved)
    far = k * _F32(6.9313812256e-01) - ((half_square - (curved + (k * _F32(9.0580006145e-06) + lost))) - f)
    return np.where(k == 0, near, far)


def _hz_to_mel(hz: np.ndarray) -> np.ndarray:
    return _F32(1127.0) * _log1p_single(np.asarray(hz, _F32) / _F32(700.0))


def _mel_filters(
    sample_rate: int, spectrum: int, mel_bins: int, lower_hz: float, upper_hz: float
) -> tuple[int, np.ndarray]:
    low, high = _hz_to_mel(_F32(lower_hz)), _hz_to_mel(_F32(upper_hz))
    spacing = _F32(high - low) / _F32(mel_bins + 1)
    centers = low + spacing * np.arange(1, mel_bins + 2, dtype=_F32)
    hz_per_bin = _F32(0.5 * sample_rate) / _F32(spectrum - 1)
    start = int(_F32(1.5) + _F32(lower_hz) / hz_per_bin)
    bins = np.arange(start, spectrum, dtype=_F32)
    mel = _hz_to_mel(bins * hz_per_bin)
    channel = np.searchsorted(centers, mel, side="left")
    used = channel <= mel_bins
    if used.all():
        raise ValueError(
            f"upper_hz={upper_hz}: the last mel filter reaches half the sample rate "
            f"({sample_rate / 2} Hz); lower it by at least {float(hz_per_bin)} Hz"
        )
    channel, mel = channel[used], mel[used]
    edges = np.concatenate([np.asarray([low], _F32), centers[:-1]])
    weight = (centers[channel] - mel) / (centers[channel] - edges[channel])
    scale, half = _F32(1 << _FILTER_BITS), _F32(0.5)
    towards_low = np.floor(weight * scale + half)
    towards_high = np.floor((_F32(1.0) - weight) * scale + half)
    # Output c peaks at center c: it rises through segment c, falls through segment c + 1.
    filters = np.zeros((len(channel), mel_bins), np.float64)
    rows = np.arange(len(channel))
    keep = channel >= 1
    filters[rows[keep], channel[keep] - 1] += towards_low[keep]
    keep = channel < mel_bins
    filters[rows[keep], channel[keep]] += towards_high[keep]
    return start, filters


def _pcan_gain(input_bits: int, estimate: int) -> int:
    level = _F32(_F32(estimate) / _F32(1 << input_bits)) + _PCAN_OFFSET
    power = _F32(np.power(np.float64(level), -np.float64(_PCAN_STRENGTH)))
    gain = _F32(1 << _PCAN_GAIN_BITS) * power
    return 0x7FFF if gain > 0x7FFF else int(gain + _F32(0.5))


def _pcan_tables(input_bits: int) -> tuple[np.ndarray, np.ndarray]:
    gain = np.zeros((33, 3), np.int64)
    for octave in range(2, 33):
        x0 = 1 << (octave - 1)
        x2 = 2 * x0 - (octave == 32)
        y0, y1, y2 = (_pcan_gain(input_bits, x) for x in (x0, x0 + x0 // 2, x2))
        linear = 4 * (y1 - y0) - (y2 - y0)
        gain[octave] = y0, linear, (y2 - y0) - linear
    first = np.asarray([_pcan_gain(input_bits, 0), _pcan_gain(input_bits, 1)], np.int64)
    return gain, first


def _bit_length(values: np.ndarray) -> np.ndarray:
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _filterbank(tables: Tables, frames: np.ndarray) -> np.ndarray:
    """int16 [n, window] -> int64 [n, mel]: square roots of the filtered energies."""
    windowed = ((frames.astype(np.int32) * tables.window) >> _WINDOW_BITS).astype(np.int16)
    peak = np.maximum(np.abs(windowed).max(axis=1), 0)  # |-32768| wraps and does not count
    shift = (15 - _bit_length(peak)).astype(np.int32)
    padded = np.zeros((tables.fft_size, len(frames)), np.int16)
    padded[: frames.shape[1]] = (windowed.astype(np.int32) << shift[:, None]).astype(np.int16).T
    real, imag = _real_fft(tables, padded)
    bins = slice(tables.start, tables.start + len(tables.filters))
    real, imag = real[bins].astype(np.float64), imag[bins].astype(np.float64)
    # Below 2**53, hence exact in float64, which is what makes the product fast.
    energy = ((real * real + imag * imag).T @ tables.filters).astype(np.int64)
    return _rounded_sqrt(energy) >> shift[:, None].astype(np.int64)


def _rounded_sqrt(values: np.ndarray) -> np.ndarray:
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= root * root > values
    up = values - root * root > root
    return root + (up & ~((values <= _MASK32) & (root == 0xFFFF)))


def _round_shift(values: np.ndarray) -> np.ndarray:
    values += 1 << 14
    values >>= 15
    return values.astype(np.int16)


def _times(real: np.ndarray, imag: np.ndarray, factor_r: np.ndarray, factor_i: np.ndarray):
    real, imag = real.astype(np.int32), imag.astype(np.int32)
    return (
        _round_shift(real * factor_r - imag * factor_i),
        _round_shift(real * factor_i + imag * factor_r),
    )


def _turns(phase: np.ndarray) -> np.ndarray:
    return np.floor(0.5 + 32767 * np.stack([np.cos(phase), np.sin(phase)])).astype(np.int32)


def _complex_fft(real: np.ndarray, imag: np.ndarray, turns: np.ndarray):
    """int16 [n, groups] -> the same: n-point transforms down the first axis.

    ``turns`` is the circle of the outermost transform.
    """
    n, groups = real.shape
    if n == 1:
        return real, imag
    radix = 4 if n % 4 == 0 else 2
    m = n // radix
    real, imag = _complex_fft(real.reshape(m, radix * groups), imag.reshape(m, radix * groups), turns)
    real, imag = real.reshape(m, radix, groups), imag.reshape(m, radix, groups)
    part = 32767 // radix
    real = _round_shift(real.astype(np.int32) * part)
    imag = _round_shift(imag.astype(np.int32) * part)
    index = (turns.shape[1] // n) * np.arange(m)[:, None] * np.arange(1, radix)
    factor_r, factor_i = turns[:, index]
    turned_r, turned_i = _times(real[:, 1:], imag[:, 1:], factor_r[:, :, None], factor_i[:, :, None])
    out_r, out_i = np.empty((radix, m, groups), np.int16), np.empty((radix, m, groups), np.int16)
    base_r, base_i = real[:, 0], imag[:, 0]
    if radix == 2:
        out_r[0], out_r[1] = base_r + turned_r[:, 0], base_r - turned_r[:, 0]
        out_i[0], out_i[1] = base_i + turned_i[:, 0], base_i - turned_i[:, 0]
    else:
        minus_r, minus_i = base_r - turned_r[:, 1], base_i - turned_i[:, 1]
        plus_r, plus_i = base_r + turned_r[:, 1], base_i + turned_i[:, 1]
        sum_r, sum_i = turned_r[:, 0] + turned_r[:, 2], turned_i[:, 0] + turned_i[:, 2]
        diff_r, diff_i = turned_r[:, 0] - turned_r[:, 2], turned_i[:, 0] - turned_i[:, 2]
        out_r[0], out_i[0] = plus_r + sum_r, plus_i + sum_i
        out_r[1], out_i[1] = minus_r + diff_i, minus_i - diff_r
        out_r[2], out_i[2] = plus_r - sum_r, plus_i - sum_i
        out_r[3], out_i[3] = minus_r - diff_i, minus_i + diff_r
    return out_r.reshape(n, groups), out_i.reshape(n, groups)


def _real_fft(tables: Tables, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int16 [2n, frames] -> int16 [n, frames] real and imaginary parts; bin 0 is left at 0."""
    half = len(samples) // 2
    real, imag = _complex_fft(samples[0::2].copy(), samples[1::2].copy(), tables.turns)
    k = np.arange(1, half // 2 + 1)

    def halved(values: np.ndarray) -> np.ndarray:
        return _round_shift(values.astype(np.int32) * 16383)

    near_r, near_i = halved(real[k]), halved(imag[k])
    far_r, far_i = halved(real[half - k]), halved(-imag[half - k])
    even_r, even_i = near_r + far_r, near_i + far_i
    factor_r, factor_i = tables.last_turns
    odd_r, odd_i = _times(near_r - far_r, near_i - far_i, factor_r[:, None], factor_i[:, None])
    even_r, even_i, odd_r, odd_i = (v.astype(np.int32) for v in (even_r, even_i, odd_r, odd_i))
    out_r, out_i = np.zeros((half, samples.shape[1]), np.int16), np.zeros_like(real)
    out_r[k], out_i[k] = (even_r + odd_r) >> 1, (even_i + odd_i) >> 1
    out_r[half - k], out_i[half - k] = (even_r - odd_r) >> 1, (odd_i - even_i) >> 1
    return out_r, out_i


def _normalize(tables: Tables, signal: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """int64 [batch, frames, mel] -> uint16: noise reduction, gain control, logarithm. Moves the estimate on."""
    batch, frames, mel = signal.shape
    smoothing = np.where(np.arange(mel) % 2 == 0, EVEN_SMOOTHING, ODD_SMOOTHING)
    rest = (1 << _NOISE_BITS) - smoothing
    out = np.empty(signal.shape, np.uint16)
    several = max(1, _CHUNK // batch)
    for first in range(0, frames, several):
        now = signal[:, first : first + several]
        scaled = (now << _SMOOTHING_BITS) & _MASK32
        # Only the estimate needs one frame after the other.
        fresh, estimates = scaled * smoothing, np.empty_like(scaled)
        for frame in range(now.shape[1]):
            estimate[...] = (fresh[:, frame] + estimate * rest) >> _NOISE_BITS
            estimates[:, frame] = estimate
        clean = (scaled - np.minimum(estimates, scaled)) >> _SMOOTHING_BITS
        clean = np.maximum(clean, (now * MIN_SIGNAL) >> _NOISE_BITS)
        if tables.gain is not None:
            clean = _gain_control(tables, clean, estimates)
        out[:, first : first + several] = _log(tables, clean)
    return out


def _gain_control(tables: Tables, signal: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    octave = _bit_length(estimate)
    fraction = np.where(
        octave < 11,
        estimate << np.maximum(11 - octave, 0),
        estimate >> np.maximum(octave - 11, 0),
    )
    fraction &= 0x3FF
    value, linear, square = np.moveaxis(tables.gain[octave], -1, 0)
    gain = (((square * fraction) >> 5) + (linear << 5)) * fraction
    gain = ((gain + (1 << 14)) >> 15) + value
    gain = np.where(estimate < 2, tables.gain_01[np.minimum(estimate, 1)], gain)
    snr_shift = _PCAN_GAIN_BITS - tables.correction_bits - _PCAN_SNR_BITS
    snr = ((signal * gain) >> snr_shift) & _MASK32
    small = (snr * snr) >> (2 + 2 * _PCAN_SNR_BITS - _PCAN_OUTPUT_BITS)
    large = (snr >> (_PCAN_SNR_BITS - _PCAN_OUTPUT_BITS)) - (1 << _PCAN_OUTPUT_BITS)
    return np.where(snr < (2 << _PCAN_SNR_BITS), small, large)


def _log(tables: Tables, signal: np.ndarray) -> np.ndarray:
    bits = tables.correction_bits
    value = (signal << bits) & _MASK32 if bits >= 0 else signal >> -bits
    safe = np.maximum(value, 1)
    whole = _bit_length(safe) - 1
    fraction = safe - (np.int64(1) << whole)
    fraction = np.where(
        whole < _LOG_SCALE_BITS,
        fraction << np.maximum(_LOG_SCALE_BITS - whole, 0),
        fraction >> np.maximum(whole - _LOG_SCALE_BITS, 0),
    )
    segment_bits = _LOG_SCALE_BITS - _LOG_SEGMENT_BITS
    segment = fraction >> segment_bits
    low, high = tables.log_lut[segment], tables.log_lut[segment + 1]
    bend = ((high - low) * (fraction - (segment << segment_bits))) >> _LOG_SCALE_BITS
    log2 = (whole << _LOG_SCALE_BITS) + fraction + low + bend
    half = 1 << (_LOG_SCALE_BITS - 1)
    natural = (_LN2_16 * log2 + half) >> _LOG_SCALE_BITS
    scaled = ((natural << _LOG_OUTPUT_SHIFT) + half) >> _LOG_SCALE_BITS
    return np.where(value > 1, np.minimum(scaled, 0xFFFF), 0)
