"""kws_scheme and quantize_apply: widths, annotations, what is refused and how."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import features, quick, shake, trained

import tfmot_kws
from tflite_export import from_keras
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.quantize import layers as ql
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.layer_bits import LayerBits
from tfmot_kws.quantize.unsupported import UnsupportedLayerError
from tfmot_kws.training import stages as train

pytestmark = pytest.mark.slow

L = keras.layers
annotate = tfmot.quantization.keras.quantize_annotate_layer


def spotter() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((10, 4), name="x"),
            L.Conv1D(6, 3, name="conv"),
            L.BatchNormalization(name="norm"),
            L.ReLU(name="relu"),
            L.DepthwiseConv1D(3, name="depth"),
            L.SeparableConv1D(5, 3, name="sep"),
            L.GlobalAveragePooling1D(name="mean"),
            L.Dense(7, activation="sigmoid", name="dense_1"),
            L.Dense(3, name="dense_2"),
        ],
        name="spotter",
    )


def little() -> keras.Model:
    layers = [L.Dense(5, activation="relu", name="dense_1"), L.Dense(3, name="dense_2")]
    return keras.Sequential([keras.Input((6,), name="x"), *layers])


def widths(model: keras.Model) -> dict[str, LayerBits]:
    return {layer.name: layer.bits for layer in model.layers if isinstance(layer, ql.QuantizedKernel)}


@pytest.mark.tf221
def test_widths() -> None:
    found = widths(tfmot_kws.quantize_apply(spotter(), tfmot_kws.kws_scheme(3)))
    three, depthwise = LayerBits(3), LayerBits(8)
    assert found == {
        "conv": three, "depth": depthwise, "sep_depthwise": depthwise, "sep": three, "dense_1": three, "dense_2": three,
    }  # fmt: skip


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_width(bits: int) -> None:
    model = keras.Sequential([keras.Input((5,)), L.Dense(4, name="dense")])
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits))
    assert widths(quantized) == {"dense": LayerBits(bits)}
    x = np.eye(5, dtype=np.float32)
    response = quantized(x) / (quantized.get_layer("dense").gain * quantized.get_layer("dense").amplitude)
    assert all(len(np.unique(np.round(column, 5))) <= 2**bits for column in response.numpy().T)


def test_the_other_widths() -> None:
    options = {"activation_bits": 6, "bias_bits": 9, "gain_bits": 16}
    model = apply.quantize_apply(
        spotter(), scheme.kws_scheme(3, {"dense_*": 8}, depthwise_bits=2, grid="mid-tread", **options)
    )
    found = widths(model)
    assert found["conv"] == LayerBits(3, grid="mid-tread", **options)
    assert found["depth"] == found["sep_depthwise"] == LayerBits(2, grid="auto", **options)
    assert found["dense_1"] == LayerBits(8, grid="mid-tread", **options)
    for layer in model.layers:
        assert getattr(layer, "activation_bits", 6) == 6
        if hasattr(layer, "output_grid"):
            assert layer.output_grid.bits == 6


def test_default_scheme_is_4_bits() -> None:
    model = keras.Sequential([keras.Input((5,)), L.Dense(4, name="dense")])
    assert widths(tfmot_kws.quantize_apply(model)) == {"dense": LayerBits(4)}


@pytest.mark.parametrize(
    "layer_bits, expected",
    [
        ({"dense_1": 1, "dense_*": 2}, {"dense_1": 1, "dense_2": 2}),
        ({"dense_*": 2, "dense_1": 1}, {"dense_1": 2, "dense_2": 2}),
        ({"depth": 3, "sep": 5}, {"depth": 3, "sep": 5, "conv": 4}),
        ({"dense_[!1]": 7, "*": 6}, {"dense_2": 7, "dense_1": 6, "conv": 6, "depth": 6}),
    ],
)
def test_first_matching_pattern_counts(layer_bits: dict, expected: dict) -> None:
    rules, model = scheme.kws_scheme(4, layer_bits), spotter()
    for name, bits in expected.items():
        assert rules.bits_of(model.get_layer(name)).bits == bits
    assert rules.bits_of(model.get_layer("sep"), depthwise=True).bits == layer_bits.get("sep", layer_bits.get("*", 8))
    rules.check_names([layer.name for layer in model.layers])


def test_a_pattern_that_matches_nothing() -> None:
    message = "layer_bits: 'dnese' matches no layer; the model has .*conv, norm, .*dense_1, dense_2$"
    with pytest.raises(ValueError, match=message):
        apply.quantize_apply(spotter(), scheme.kws_scheme(4, {"dnese": 2}))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"bits": 0}, "^kws_scheme: bits must be a whole number from 1 to 8, found 0$"),
        ({"bits": 9}, "^kws_scheme: bits must be a whole number from 1 to 8, found 9$"),
        ({"layer_bits": {"conv": 0}}, r"^layer_bits\['conv'\]: bits must be a whole number from 1 to 8, found 0$"),
        ({"layer_bits": {"conv": 1}, "grid": "mid-tread"}, r"^layer_bits\['conv'\]: a mid-tread grid of 1 bit"),
        ({"activation_bits": 1}, "^activation_bits: bits must be a whole number from 2 to 8, found 1$"),
        ({"bias_bits": 17}, "^bias_bits: bits must be a whole number from 2 to 16, found 17$"),
        ({"gain_bits": "8"}, "^gain_bits: bits must be a whole number from 2 to 16, found '8'$"),
        ({"depthwise_bits": 12}, "^depthwise_bits: bits must be a whole number from 1 to 8, found 12$"),
        ({"grid": "odd"}, "grid must be 'auto', 'mid-rise' or 'mid-tread', found 'odd'$"),
        ({"target": "npu"}, "^kws_scheme: target must be 'any' or 'ethos-u', found 'npu'$"),
        (
            {"bits": 8, "grid": "mid-rise", "target": "ethos-u"},
            "^kws_scheme: 8 bits on grid='mid-rise' .* are int8; use",
        ),
        (
            {"layer_bits": {"conv": 8}, "grid": "mid-rise", "target": "ethos-u"},
            r"^layer_bits\['conv'\]: 8 bits on grid='mid-rise'",
        ),
        (
            {"bits": "learned", "budget": Budget(average_bits=3), "target": "ethos-u"},
            "^kws_scheme: bits='learned' goes with target='any', found 'ethos-u'",
        ),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scheme.kws_scheme(**options)


@pytest.mark.parametrize("target, widest", [("any", 7), ("ethos-u", 5)])
def test_grids_of_a_target(target: str, widest: int) -> None:
    """Of the default width, of layers by name, and of depthwise kernels; a grid that is asked for stays."""
    model = spotter()
    conv, dense, depth = (model.get_layer(name) for name in ("conv", "dense_1", "depth"))
    for bits in range(1, 9):
        grid = "mid-rise" if bits <= widest else "mid-tread"
        rules = scheme.kws_scheme(bits, {"dense_*": bits}, depthwise_bits=bits, target=target)
        assert [rules.bits_of(layer) for layer in (conv, dense, depth)] == 3 * [LayerBits(bits, grid=grid)]
        if bits > 1:
            zeros = scheme.kws_scheme(bits, {"dense_*": bits}, keep_zeros=True, target=target)
            assert {zeros.bits_of(layer).grid for layer in (conv, dense)} == {"mid-tread"}
        if 1 < bits < 8:
            for asked in ("mid-rise", "mid-tread"):
                rules = scheme.kws_scheme(bits, {"dense_*": bits}, grid=asked, target=target)
                assert {rules.bits_of(layer).grid for layer in (conv, dense)} == {asked}


def train_step(model: keras.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """One eager step; how far each trainable variable moved."""
    before = [v.numpy() for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        y = tf.cast(model(x, training=True), tf.float32)
        loss = tf.reduce_mean((y - 1.0) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    pairs = [(g, v) for g, v in zip(gradients, model.trainable_variables) if g is not None]
    keras.optimizers.legacy.SGD(0.1).apply_gradients(pairs)
    return {v.name: np.abs(v.numpy() - old).max() for v, old in zip(model.trainable_variables, before)}


def partly_annotated() -> keras.Model:
    x = keras.Input((9, 4), name="x")
    y = annotate(L.Conv1D(6, 3, activation="relu", name="conv"))(x)
    y = L.Conv1D(5, 3, activation="gelu", name="free")(y)
    y = annotate(L.GlobalAveragePooling1D(name="mean"))(y)
    return keras.Model(x, annotate(L.Dense(3, name="logits"))(y))


@pytest.mark.tf221
def test_layers_without_annotation_stay_float_and_train() -> None:
    model = partly_annotated()
    free = model.get_layer("free").get_weights()
    x = features((9, 4))
    quantized = apply.quantize_apply(model, scheme.kws_scheme(2))
    assert type(quantized.get_layer("free")) is L.Conv1D
    for mine, original in zip(quantized.get_layer("free").get_weights(), free):
        np.testing.assert_array_equal(mine, original)
    assert set(widths(quantized)) == {"conv", "logits"}
    for stage in (1, 2):
        train.set_stage(quantized, stage)
        moved = train_step(quantized, x)
        assert moved["free/kernel:0"] > 0 and moved["conv/kernel:0"] > 0 and moved["logits/kernel:0"] > 0
    with pytest.raises(
        from_keras.ExportError, match=r"layer 'free' \(Conv1D\) is in float and cannot be exported: quantize it"
    ):
        from_keras.to_graph(quantized)


def test_a_fully_annotated_model_is_a_plain_one() -> None:
    x = features((10, 4))
    plain = shake(spotter())
    annotated = tfmot.quantization.keras.quantize_annotate_model(plain)
    a, b = (apply.quantize_apply(m, scheme.kws_scheme(3)) for m in (plain, annotated))
    assert widths(a) == widths(b)
    np.testing.assert_array_equal(a(x), b(x))


def test_config_of_an_annotation_overrides_the_scheme() -> None:
    model = keras.Sequential(
        [
            keras.Input((7,)),
            annotate(L.Dense(6, name="a"), tfmot_kws.KwsQuantizeConfig(bits=2, gain_bits=11, grid="mid-tread")),
            annotate(L.Dense(5, name="b")),
            annotate(L.ReLU(name="c"), tfmot_kws.KwsQuantizeConfig(activation_bits=5)),
        ]
    )
    quantized = apply.quantize_apply(model, scheme.kws_scheme(6, {"a": 7}))
    assert widths(quantized) == {"a": LayerBits(2, gain_bits=11, grid="mid-tread"), "b": LayerBits(6)}


def test_a_foreign_config_is_refused() -> None:
    default = tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme().get_quantize_registry()
    config = default.get_quantize_config(L.Dense(2))
    model = keras.Sequential([keras.Input((3,)), annotate(L.Dense(2, name="d"), config)])
    with pytest.raises(ValueError, match=f"layer 'd' is annotated with {type(config).__name__}, which a kws_scheme"):
        apply.quantize_apply(model)


@pytest.mark.tf221
def test_the_float_model_is_left_as_it_is() -> None:
    model = shake(spotter())
    model.compile("sgd", "mse")
    config, weights, x = model.get_config(), model.get_weights(), features((10, 4))
    before = model(x).numpy()
    train_step(apply.quantize_apply(model, scheme.kws_scheme(2)), x)
    assert model.get_config() == config and all(not hasattr(v, "stage") for v in model.layers)
    for mine, original in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(mine, original)
    np.testing.assert_array_equal(model(x), before)
    assert model.optimizer is not None


def test_two_schemes_do_not_disturb_each_other() -> None:
    """One model, two schemes, one scheme, two models: each result is what it would be alone."""
    x, model = features((6,)), shake(little())
    two, seven = scheme.kws_scheme(2), scheme.kws_scheme(7, {"dense_2": 1})
    a, b, again = (apply.quantize_apply(model, s) for s in (two, seven, two))
    assert {w.bits for w in widths(a).values()} == {2}
    assert widths(b)["dense_2"].bits == 1 and widths(b)["dense_1"].bits == 7
    np.testing.assert_array_equal(a(x), again(x))
    kept = again(x).numpy()
    train_step(a, x)
    train.calibrate(b, x)
    np.testing.assert_array_equal(again(x), kept)
    assert [train.get_stage(m) for m in (a, b, again)] == [1, 2, 1]
    assert two == scheme.kws_scheme(2) and hash(two) == hash(scheme.kws_scheme(2)) and two != seven


def refused(*layers: L.Layer, shape: tuple[int, ...] = (8, 4)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers, L.Dense(2, name="last")])


def dotted() -> keras.Model:
    x = keras.Input((8, 4))
    return keras.Model(x, L.Dense(2)(L.Dot((1, 1), name="bad")([x, x])))


REFUSED = {
    "ConvLSTM1D": (
        lambda: refused(L.ConvLSTM1D(3, 2, name="bad"), shape=(6, 4, 2)),
        "no way yet.*a stack of causal convolutions",
    ),
    "Lambda": (
        lambda: refused(
            L.Lambda(lambda x: tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), x.shape), name="bad")
        ),
        "cannot be followed.*write its call of supported",
    ),
    "PReLU": (lambda: shake(refused(L.PReLU(name="bad"))), "a slope for each place.*use PReLU(shared_axes=[1])"),
    "ReLU": (lambda: refused(L.ReLU(4, 0.1, name="bad")), "max_value=4.*give one of the three: ReLU(limit)"),
    "Dot": (dotted, "no way yet.*GlobalAveragePooling1D"),
    "UpSampling2D": (
        lambda: refused(L.UpSampling2D(interpolation="bilinear", name="bad"), shape=(4, 4, 2)),
        "interpolation='bilinear'.*use 'nearest'",
    ),
    "Resizing": (
        lambda: refused(L.Resizing(4, 4, name="bad"), shape=(8, 8, 1)),
        "with (8, 8) -> (4, 4) cannot.*do this to the features",
    ),
    "Normalization": (
        lambda: refused(L.Normalization(axis=1, mean=np.arange(8.0), variance=np.ones(8), name="bad")),
        "a constant of shape (1, 8, 1).*or one for each channel",
    ),
    "TimeDistributed": (
        lambda: refused(L.TimeDistributed(L.Conv2D(2, 2), name="bad"), shape=(3, 5, 5, 1)),
        "a Conv2D for each step.*kernel (1, n)",
    ),
    "Softmax": (lambda: refused(L.Softmax(axis=1, name="bad")), "with axis=1.*axis=-1"),
    "Conv1D": (lambda: refused(L.Conv1D(4, 3, groups=2, name="bad")), "groups=2.*use groups=1 or a DepthwiseConv"),
    "Conv2D": (
        lambda: refused(L.Conv2D(4, 3, data_format="channels_first", name="bad"), shape=(2, 8, 8)),
        "with data_format='channels_first'.*use data_format='channels_last'",
    ),
    "GlobalAveragePooling1D": (
        lambda: refused(L.GlobalAveragePooling1D("channels_first", name="bad")),
        "use data_format='channels_last'",
    ),
    "MaxPooling1D": (
        lambda: refused(L.MaxPooling1D(2, data_format="channels_first", name="bad")),
        "use data_format='channels_last'",
    ),
    "BatchNormalization": (lambda: refused(L.BatchNormalization(1, name="bad")), "axis=[1].*normalize the last axis"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_cannot_be_quantized(name: str) -> None:
    make, way_out = REFUSED[name]
    pattern = rf"layer 'bad' \({name.split()[0]}\).* cannot be quantized: "
    with pytest.raises(UnsupportedLayerError, match=pattern) as caught:
        apply.quantize_apply(make())
    assert re.search(".*".join(map(re.escape, way_out.split(".*"))), str(caught.value)), str(caught.value)


def test_operators_and_batch_axis_are_refused() -> None:
    x = keras.Input((4,), name="x")
    message = (
        r"layer 'tf.math.cumsum' \(TFOpLambda\) with the function 'math.cumsum' cannot be quantized: use a layer, or"
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        apply.quantize_apply(keras.Model(x, tf.math.cumsum(L.Dense(2)(x))))
    joined = L.Concatenate(0, name="bad")([L.Dense(2)(x), L.Dense(2)(x)])
    with pytest.raises(UnsupportedLayerError, match=r"layer 'bad' \(Concatenate\) with axis=0"):
        apply.quantize_apply(keras.Model(x, joined))


def test_other_things_that_are_no_model() -> None:
    with pytest.raises(TypeError, match="quantize_apply needs a Keras model, found builtins.str: build it with"):
        apply.quantize_apply("model")


class Subclassed(keras.Model):
    """Its call adds its layers up, ``twice`` or as often as the data says."""

    def __init__(self, twice: bool, **kwargs) -> None:
        super().__init__(**kwargs)
        self.first, self.second, self.twice = L.Dense(4, name="first"), L.Dense(2, name="second"), twice

    def call(self, x):
        y = self.first(x)
        if not self.twice and tf.reduce_sum(y) > 0:
            return self.second(y)
        return self.second(tf.nn.relu(y) + y)


def test_subclassed_models_are_refused_where_they_cannot_be_followed() -> None:
    with pytest.raises(TypeError, match=r"model 'mine' is a subclassed model \(.*Subclassed\) that has seen no input"):
        apply.quantize_apply(Subclassed(True, name="mine"))
    model = Subclassed(False, name="mine")
    model(np.zeros((1, 4), np.float32))
    with pytest.raises(TypeError, match="whose call cannot be followed .*: write it with the functional API"):
        apply.quantize_apply(model)


def test_nested_models_are_refused_where_layers_are_annotated() -> None:
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3)], name="inner")
    outer = keras.Sequential([keras.Input((4,)), inner, annotate(L.Dense(2))], name="outer")
    with pytest.raises(ValueError, match=r"layer 'inner' \(Sequential\) of model 'outer' is a nested model: put its"):
        apply.quantize_apply(outer)


def test_all_offenders_are_named_at_once() -> None:
    x = keras.Input((8, 4), name="x")
    y = L.Conv1D(4, 3, groups=2, name="grouped")(tf.math.cumsum(x, 1, name="sums"))
    y = L.GRU(4, activation="relu", name="memory")(L.Conv1D(4, 3, activation="relu", name="good")(y))
    with pytest.raises(UnsupportedLayerError) as caught:
        apply.quantize_apply(keras.Model(x, L.Dense(2, name="last")(L.GroupNormalization(2, name="norm")(y))))
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 layers cannot be quantized:"
    for name in ("grouped", "tf.math.cumsum", "memory", "norm"):
        (line,) = [line for line in lines if f"'{name}" in line]  # Keras may number a function's layer
        assert "cannot be quantized: " in line
    assert "good" not in str(caught.value) and "last" not in str(caught.value)


def test_inputs_of_any_length_are_refused() -> None:
    model = keras.Sequential([keras.Input((None, 4), name="x"), L.Conv1D(3, 2), L.GlobalAveragePooling1D()])
    with pytest.raises(ValueError, match=r"input 'x': shape \(None, 4\) is not fixed, .* give keras.Input a fixed"):
        apply.quantize_apply(model)


def test_a_quantized_model_is_refused() -> None:
    quantized = apply.quantize_apply(spotter())
    with pytest.raises(ValueError, match="model 'spotter' is quantized already"):
        apply.quantize_apply(quantized)
    with pytest.raises(ValueError, match="model 'outer' holds model 'spotter', which is quantized already"):
        apply.quantize_apply(keras.Sequential([quantized, L.Softmax()], name="outer"))


def overlapping_classes(clips: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes whose clouds overlap: no model gets much more than nine in ten right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, clips)
    centres = np.random.default_rng(7).normal(0, 1, (4, 12))
    return (centres[labels] * 0.72 + rng.normal(0, 1, (clips, 12))).astype(np.float32), labels


@pytest.fixture(scope="module")
def float_spotter() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [L.Dense(24), L.BatchNormalization(), L.ReLU(), L.Dense(24, "relu"), L.Dense(4)]
    model = keras.Sequential([keras.Input((12,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.legacy.Adam(3e-3), loss)
    quick(model).fit(*overlapping_classes(4000, 0), batch_size=200, epochs=6, verbose=0)
    return model


def accuracy(model: keras.Model) -> float:
    x, labels = overlapping_classes(10000, 1)
    return float((model(x, training=False).numpy().argmax(-1) == labels).mean())


@pytest.mark.tf221
@pytest.mark.parametrize("bits", [5, 6, 7, 8])
def test_starts_from_trained_float_weights(float_spotter: keras.Model, bits: int) -> None:
    """Nothing is lost by 5 bits and more, before any training: weights quantized (stage 1), then everything."""
    expected = accuracy(float_spotter)
    assert 0.8 < expected < 0.97
    quantized = apply.quantize_apply(float_spotter, scheme.kws_scheme(bits))
    assert abs(accuracy(quantized) - expected) < 0.01
    train.calibrate(quantized, overlapping_classes(1000, 2)[0])
    assert abs(accuracy(quantized) - expected) < 0.01


def test_regularizers_follow_their_kernels() -> None:
    l1, l2 = keras.regularizers.L1(0.3), keras.regularizers.L2(0.2)
    layers = [
        L.Conv1D(4, 3, kernel_regularizer=l1, name="conv"),
        L.DepthwiseConv1D(3, depthwise_regularizer=l2, name="depth"),
        L.SeparableConv1D(4, 3, depthwise_regularizer=l1, pointwise_regularizer=l2, name="sep"),
        L.Dense(2, name="dense"),
    ]
    quantized = apply.quantize_apply(keras.Sequential([keras.Input((9, 4)), *layers]))
    found = {name: type(quantized.get_layer(name).kernel_regularizer) for name in widths(quantized)}
    one, two = keras.regularizers.L1, keras.regularizers.L2
    assert found == {"conv": one, "depth": two, "sep_depthwise": one, "sep": two, "dense": type(None)}
    assert len(quantized.losses) == 4
    kernel = quantized.get_layer("conv").kernel
    np.testing.assert_allclose(quantized.losses[0], 0.3 * np.abs(kernel).sum(), rtol=1e-5)


def test_options_reach_the_export() -> None:
    x = features((10, 4))
    graph = from_keras.to_graph(trained(shake(spotter()), x, {"bits": 3, "layer_bits": {"dense_2": 6}}, steps=1))
    packed = {op.name: op.weights.bits for op in graph.ops if hasattr(op, "weights") and hasattr(op.weights, "bits")}
    assert packed == {"conv": 3, "sep": 3, "dense_1": 3, "dense_2": 6}
