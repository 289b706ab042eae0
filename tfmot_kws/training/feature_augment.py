# SPDX-License-Identifier: Apache-2.0
"""Random changes of features while a model is trained: shifts, masks, bends of the mel axis."""

from __future__ import annotations

import dataclasses
import numbers

import tensorflow as tf

from tfmot_kws.frontend.features import FrontendConfig


@dataclasses.dataclass(frozen=True)
class FeatureAugment:
    """Random changes of features, drawn anew for every batch.

    Attributes:
        time_masks: SpecAugment masks over frames, per clip.
        time_mask_frames: longest time mask in frames.
        freq_masks: SpecAugment masks over mel channels, per clip.
        freq_mask_bins: widest frequency mask in channels.
        shift_frames: the clip moves by up to this many frames either way; zeros (silence) come in.
        warp: 0..0.25; the mel channel at three quarters of the axis moves by up to this share of the axis either way,
            those below and above it in proportion, the ends stay: as if the speaker's vocal tract were longer or
            shorter (Jaitly and Hinton 2013, "Vocal tract length perturbation", there in Hz).

    Raises:
        ValueError: a value is no whole number of at least 0, or the warp is out of its range; the message names it.
    """

    time_masks: int = 1
    time_mask_frames: int = 5
    freq_masks: int = 1
    freq_mask_bins: int = 5
    shift_frames: int = 2
    warp: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.warp, bool) or not isinstance(self.warp, numbers.Real) or not 0.0 <= self.warp <= 0.25:
            raise ValueError(f"FeatureAugment.warp={self.warp!r}: must be between 0 and 0.25")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "warp":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"FeatureAugment.{field.name}={value!r}: must be a whole number of at least 0")


def augment_of(frontend: FrontendConfig) -> FeatureAugment:
    """The usual changes for features of a front end: rows of samples have no bands that could be masked."""
    return FeatureAugment(freq_masks=0) if frontend.backend == "raw" else FeatureAugment()


def augment_batch(x: tf.Tensor, seed: tf.Tensor, config: FeatureAugment, share: tuple[int, int] = (0, 1)) -> tf.Tensor:
    """Shifts, bends and masks a whole batch, or one of the equal shares that it is cut into.

    Args:
        x: float32 [batch, frames, mel]; 0 is silence.
        seed: int64 scalar; the same seed gives the same result.
        config: ranges.
        share: (which, of how many) shares of a batch ``x`` is: it changes as it would within the whole batch.

    Returns:
        Like ``x``.
    """
    shape = tf.shape(x)
    seeds = _seeds(seed)
    if config.shift_frames:
        x = _shift(x, seeds[0], config.shift_frames, 0.0, share)
    if config.warp:
        x = _warp(x, tf.random.experimental.stateless_fold_in(seeds[0], 1), config.warp, share)
    for axis, count, widest, key in (
        (1, config.time_masks, config.time_mask_frames, seeds[1]),
        (2, config.freq_masks, config.freq_mask_bins, seeds[2]),
    ):
        if not count or not widest:
            continue
        size = shape[axis]
        drawn = tf.random.stateless_uniform((2, shape[0] * share[1], count, 1), key)
        drawn = _of_share(drawn, share, axis=1)
        width = tf.minimum(tf.cast(tf.floor(drawn[0] * (widest + 1.0)), tf.int32), size)
        first = tf.cast(tf.floor(drawn[1] * tf.cast(size - width + 1, tf.float32)), tf.int32)
        places = tf.range(size)[None, None]
        masked = tf.reduce_any((places >= first) & (places < first + width), axis=1)
        kept = 1.0 - tf.cast(masked, x.dtype)
        x *= kept[:, :, None] if axis == 1 else kept[:, None, :]
    return x


def augment_labels(labels: tf.Tensor, seed: tf.Tensor, config: FeatureAugment, silence: int = 0) -> tf.Tensor:
    """Moves labels of frames as ``augment_batch`` moves the frames with the same seed; masks change no label.

    Args:
        labels: int32 [batch, frames].
        seed: as ``augment_batch`` got it.
        config: as ``augment_batch`` got it.
        silence: the label of the frames that come in.

    Returns:
        Like ``labels``.
    """
    return _shift(labels, _seeds(seed)[0], config.shift_frames, silence) if config.shift_frames else labels


_WARP_KNOT = 0.75
"""Of the mel axis; what lies above is squeezed or stretched up to the end."""


def _of_share(drawn: tf.Tensor, share: tuple[int, int], axis: int = 0) -> tf.Tensor:
    """What was drawn for the clips of a share, of what was drawn for those of a whole batch."""
    return tf.split(drawn, share[1], axis)[share[0]]


def _warp(x: tf.Tensor, seed: tf.Tensor, widest: float, share: tuple[int, int]) -> tf.Tensor:
    """Bends the mel axis of each clip: between two channels the features lie on a straight line."""
    last = tf.cast(tf.shape(x)[2] - 1, x.dtype)
    knot = _WARP_KNOT * last
    drawn = tf.random.stateless_uniform((tf.shape(x)[0] * share[1], 1), seed, -widest, widest)
    moved = knot - last * _of_share(drawn, share)
    to = tf.range(last + 1.0)[None]
    above = moved + (to - knot) * (last - moved) / tf.maximum(last - knot, 1e-6)
    source = tf.where(to <= knot, to * moved / tf.maximum(knot, 1e-6), above)
    return tf.matmul(x, between(source, tf.shape(x)[2]), transpose_b=True)


def between(places: tf.Tensor, count: tf.Tensor | int) -> tf.Tensor:
    """Weights that read values between two neighbours on a straight line.

    Args:
        places: float32 [batch, n], each 0..count - 1.
        count: values.

    Returns:
        float32 [batch, n, count]; times the values [batch, count, ...] it gives those at the places.
    """
    return tf.nn.relu(1.0 - tf.abs(places[:, :, None] - tf.range(tf.cast(count, tf.float32))[None, None]))


def _seeds(seed: tf.Tensor) -> tf.Tensor:
    """Of shifts, of masks over time and of masks over bands."""
    return tf.random.experimental.stateless_split(tf.stack([seed, seed + 1]), 3)


def _shift(x: tf.Tensor, seed: tf.Tensor, most: int, fill: float, share: tuple[int, int] = (0, 1)) -> tf.Tensor:
    """Moves every row of [batch, frames, ...] by up to ``most`` frames either way."""
    shape = tf.shape(x)
    first = tf.random.stateless_uniform((shape[0] * share[1], 1), seed, 0, 2 * most + 1, tf.int32)
    first = _of_share(first, share)
    padded = tf.pad(x, [[0, 0], [most, most]] + [[0, 0]] * (len(x.shape) - 2), constant_values=fill)
    return tf.ensure_shape(tf.gather(padded, first + tf.range(shape[1])[None], batch_dims=1), x.shape)
