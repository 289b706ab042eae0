# SPDX-License-Identifier: Apache-2.0
"""Pairs of thin layers in the place of dense ones, and the spotter that is made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantization_helpers import features, shake, trained, worst_lsb

import tflite_export
from tfmot_kws.keras import keras
from tfmot_kws.models import low_rank
from tfmot_kws.models import spotters as models
from tfmot_kws.models.time_layers import TimeWindow

L = keras.layers


def model() -> keras.Model:
    x = keras.Input((12, 6), name="x")
    a = TimeWindow(4, name="window")(x)
    a = L.Dense(20, activation="relu", name="wide")(a)
    a = L.BatchNormalization(name="norm")(a)
    b = L.Conv1D(18, 1, activation="sigmoid", name="pointwise")(a)
    c = L.Conv1D(18, 3, padding="same", name="long")(a)
    shared = L.Dense(8, name="shared", use_bias=False)
    return shake(keras.Model(x, L.Add(name="sum")([shared(b), shared(c)])))


@settings(max_examples=20, deadline=None)
@given(inputs=st.integers(1, 12), outputs=st.integers(1, 12), seed=st.integers(0, 2**31), data=st.data())
def test_no_pair_of_that_rank_is_nearer(inputs: int, outputs: int, seed: int, data) -> None:
    kernel = np.random.default_rng(seed).normal(0, 1, (inputs, outputs))
    rank = data.draw(st.integers(1, min(inputs, outputs)))
    (first, second), error = low_rank._halves(kernel, rank)
    assert first.shape == (inputs, rank) and second.shape == (rank, outputs)
    lost = np.linalg.norm(kernel - first.astype(np.float64) @ second)
    values = np.linalg.svd(kernel, compute_uv=False)
    np.testing.assert_allclose(lost, np.sqrt((values[rank:] ** 2).sum()), atol=1e-5)
    np.testing.assert_allclose(error, lost / np.linalg.norm(kernel), atol=1e-5)
    assert low_rank._rank_of(kernel, 1 - error**2 - 1e-9) <= rank


def test_full_rank_changes_nothing() -> None:
    before = model()
    ranks = {"wide": 20, "pointwise": 18, "shared": 8}
    after, report = low_rank.factorize(before, rank=ranks)
    x = features((12, 6))
    np.testing.assert_allclose(after(x), before(x), atol=1e-4)
    assert {s.name: s.rank for s in report.splits} == ranks
    assert all(s.error < 1e-6 for s in report.splits)
    assert [type(after.get_layer(n)).__name__ for n in ("pointwise_thin", "pointwise")] == ["Conv1D", "Conv1D"]
    assert after.get_layer("wide_thin").activation is keras.activations.linear
    assert after.get_layer("wide").activation is keras.activations.relu and after.get_layer("wide").use_bias
    assert not after.get_layer("shared").use_bias and len(after.get_layer("shared").inbound_nodes) == 2


def test_one_rank_for_all_leaves_thin_layers() -> None:
    after, report = low_rank.factorize(model(), rank=7)
    found = {s.name: (s.parameters, s.macs) for s in report.splits}
    assert found == {"wide": ((480, 308), (9 * 480, 9 * 308)), "pointwise": ((360, 266), (9 * 360, 9 * 266))}
    assert after.get_layer("long").kernel.shape == (3, 20, 18)
    shown = str(report).splitlines()
    assert len(shown) == 3 and "24x20" in shown[1] and "480 -> 308" in shown[1]


def test_energy() -> None:
    before = model()
    kernel = before.get_layer("wide").kernel.numpy()
    u, values, v = np.linalg.svd(kernel, full_matrices=False)
    values[3:] *= 1e-3  # all but three directions hardly count
    before.get_layer("wide").kernel.assign((u * values) @ v)
    _, report = low_rank.factorize(before, energy=0.999)
    assert {s.name: s.rank for s in report.splits}["wide"] == 3
    assert report.splits[0].error < 0.04
    with pytest.raises(ValueError, match="no layer would get smaller"):
        low_rank.factorize(model(), energy=1.0)


@pytest.mark.slow
def test_trains_quantizes_and_exports() -> None:
    after, _ = low_rank.factorize(model(), rank=5)
    x = features((12, 6))
    quantized = trained(after, x, {"bits": 4})
    assert worst_lsb(quantized, x) < 1e-3
    low_rank.factorize(keras.Sequential([keras.Input((9,)), L.Dense(9, name="d")]), rank=2)


@pytest.mark.slow
def test_errors() -> None:
    for options, message in (
        ({}, "give either rank or energy"),
        ({"rank": 3, "energy": 0.5}, "give either rank or energy"),
        ({"energy": 0.0}, "energy=0.0: must be above 0"),
        ({"rank": {"wide": 21}}, "rank of layer 'wide': must be a whole number between 1 and 20, found 21"),
        ({"rank": {"long": 2}}, r"no dense layer or 1x1 convolution is called \['long'\]"),
        ({"rank": 1.5}, "must be a whole number"),
        ({"rank": 0}, "must be a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            low_rank.factorize(model(), **options)
    with pytest.raises(TypeError, match="needs a functional or sequential tf_keras model, found Dense"):
        low_rank.factorize(L.Dense(3), rank=1)


def test_svd_50k() -> None:
    spotter = models.svd_50k()
    assert spotter.input_shape == (None, 31, 20) and spotter.count_params() == 49_782
    assert [layer.units for layer in spotter.layers if isinstance(layer, L.Dense)] == [39, 128, 39, 128, 39, 128, 2]
    long = models.svd_50k(3, frames=49)
    assert long.output_shape == (None, 3) and isinstance(long.layers[-1], L.GlobalAveragePooling1D)
    for options in ({"context": 32}, {"rank": 0}, {"num_classes": 0}):
        with pytest.raises(ValueError, match=f"svd_50k: {next(iter(options))} must"):
            models.svd_50k(**options)


@pytest.mark.slow
def test_svd_50k_streams() -> None:
    small = models.svd_50k(2, 9, 4, 6, 8, 3, 2)
    x = features((9, 4), 16)
    quantized = trained(shake(small), x)
    stream = tflite_export.StreamInterpreter(tflite_export.convert(quantized, streaming="internal"))
    assert stream.hop == 1 and stream.receptive == 9
    np.testing.assert_array_equal(
        stream.step(x[0])[0], tflite_export.Interpreter(tflite_export.convert(quantized)).run(x)[0]
    )
