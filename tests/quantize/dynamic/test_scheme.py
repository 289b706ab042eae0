"""Dynamic quantization: the scheme, training and saving."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import features, shake

import tfmot_kws
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import saving
from tfmot_kws.quantize.dynamic.layers import DynamicDense, DynamicKernel
from tfmot_kws.quantize.dynamic.scheme import low_rank_pairs
from tfmot_kws.quantize.layer_bits import DynamicBits
from tfmot_kws.training import stages as train

pytestmark = pytest.mark.slow

L = keras.layers
annotate = tfmot.quantization.keras.quantize_annotate_layer
INPUTS = (2, 3, 4, 5, 6, 7, 8, 16)
WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 16)


# -- the scheme ------------------------------------------------------------------------------------------------------


def widths(model: keras.Model) -> dict[str, int]:
    return {layer.name: layer.bits.bits for layer in model.layers if isinstance(layer, DynamicKernel)}


def apply(model: keras.Model, *args, **kwargs) -> keras.Model:
    return tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(*args, **kwargs))


def everything() -> keras.Model:
    x = keras.Input((16, 6), name="x")
    a = L.Conv1D(8, 3, padding="causal", use_bias=False, kernel_regularizer="l2", name="conv")(x)
    a = L.BatchNormalization(name="norm")(a)
    a = L.ReLU(6, name="relu6")(a)
    a = L.SeparableConv1D(8, 3, strides=2, padding="causal", activation="relu", name="separable")(a)
    a = L.DepthwiseConv1D(3, padding="same", name="depth")(a)
    a = L.LeakyReLU(name="leaky")(a)
    shared = L.Dense(8, activation="gelu", name="shared")
    a = L.Add(name="sum")([shared(a), shared(L.MaxPooling1D(1, name="pool")(a))])
    a = L.LSTM(5, name="lstm")(a) * 2.0
    b = L.Dense(4, name="wide")(a)
    b = L.BatchNormalization(name="last_norm")(b)
    return keras.Model(x, [b, L.Dense(3, activation="softmax", name="classes")(a)], name="everything")


@pytest.mark.tf221
def test_layers_are_replaced_and_folded() -> None:
    before = shake(everything())
    after = apply(before, 16)
    x = features((16, 6))
    for found, expected in zip(after(x), before(x)):
        np.testing.assert_allclose(found, expected, atol=2e-3)
    assert widths(after) == dict.fromkeys(("conv", "separable", "shared", "wide", "classes_quantized"), 16)
    assert after.output_names == before.output_names == ["last_norm", "classes"]
    assert after.input_names == before.input_names and after.name == before.name
    names = [layer.name for layer in after.layers]
    assert "norm" not in names and "relu6" not in names and len(after.get_layer("shared").inbound_nodes) >= 2
    assert after.get_layer("conv").activation == "relu6" and after.get_layer("conv").batch_norm is not None
    assert after.get_layer("conv").kernel_regularizer is not None and len(after.losses) == len(before.losses) == 1
    assert (
        after.get_layer("separable_depthwise").padding == "causal" and after.get_layer("shared").activation == "linear"
    )
    assert isinstance(after.get_layer("shared_gelu"), L.Activation)
    for name in ("depth", "lstm"):
        for mine, original in zip(after.get_layer(name).get_weights(), before.get_layer(name).get_weights()):
            np.testing.assert_array_equal(mine, original)


def test_two_axes() -> None:
    x = keras.Input((8, 7, 2), name="x")
    a = L.SeparableConv2D(4, 3, depth_multiplier=2, padding="same", strides=2, name="sep")(x)
    a = L.Activation("tanh", name="act")(L.BatchNormalization(name="norm")(a))
    a = L.Conv2D(6, 3, groups=2, name="grouped")(a)
    before = shake(keras.Model(x, L.Flatten(name="flat")(a)))
    after = apply(before, 16)
    v = features((8, 7, 2))
    np.testing.assert_allclose(after(v), before(v), atol=5e-3)
    assert widths(after) == {"sep": 16} and type(after.get_layer("grouped")) is L.Conv2D
    assert after.get_layer("sep").activation == "tanh"


def test_lengths_that_are_not_known() -> None:
    model = keras.Sequential([keras.Input((None, 4)), L.Conv1D(3, 3, 2, "same", name="c"), L.Dense(2)])
    after = apply(model, 16)
    assert after.output_shape == (None, None, 2)
    np.testing.assert_allclose(after(features((7, 4))), model(features((7, 4))), atol=1e-3)


@pytest.mark.tf221
def test_the_hybrid_of_the_paper() -> None:
    after = apply(models.svd_50k(), "4-8")
    eight = dict.fromkeys(("linear_1", "sigmoid_1", "sigmoid_2", "sigmoid_3", "logits"), 8)
    assert widths(after) == {**eight, "linear_2": 4, "linear_3": 4}
    assert all(layer.bits.input_bits == layer.bits.bits for layer in after.layers if isinstance(layer, DynamicKernel))
    assert {v.bits.input_bits for v in apply(models.svd_50k(), "4-8", "tanh").layers if hasattr(v, "bits")} == {8}
    names = [layer.name for layer in models.svd_50k().layers]
    assert low_rank_pairs(models.svd_50k(), names) == [(f"linear_{i}", f"sigmoid_{i}") for i in (1, 2, 3)]
    two, _ = tfmot_kws.factorize(models.ds_cnn_stream(), rank=8)
    assert sorted(set(widths(apply(two, "4-8")).values())) == [4, 8]
    with pytest.raises(ValueError, match=r"bits='4-8' needs a model of two or more low-rank pairs .*found \[\]"):
        apply(keras.Sequential([keras.Input((3,)), L.Dense(2)]), "4-8")


def test_widths_by_name() -> None:
    x = models.svd_50k()
    assert widths(apply(x, {"*": 2, "linear_*": 4, "linear_1": 1}))["linear_1"] == 4
    found = widths(apply(x, {"linear_1": 16, "sigmoid_[12]": 3}))
    assert found == {**dict.fromkeys(found, 8), "linear_1": 16, "sigmoid_1": 3, "sigmoid_2": 3}
    with pytest.raises(ValueError, match="bits: 'stack' matches no layer that is quantized; there are linear_1, "):
        apply(x, {"stack": 4})
    a, b = (tfmot_kws.dynamic_scheme({"x": 4}) for _ in range(2))
    assert a == b and hash(a) == hash(b) and a != tfmot_kws.dynamic_scheme({"x": 5})


def test_annotated_models() -> None:
    x = keras.Input((5, 4), name="x")
    y = annotate(L.Conv1D(6, 3, name="conv"))(x)
    y = annotate(L.BatchNormalization(name="norm"))(y)
    y = L.ReLU(name="relu")(y)
    y = L.Dense(5, name="free")(y)
    model = keras.Model(x, annotate(L.Dense(3, name="logits"))(y))
    after = apply(model, 4)
    assert widths(after) == {"conv": 4, "logits": 4}
    assert type(after.get_layer("free")) is L.Dense and type(after.get_layer("relu")) is L.ReLU
    assert after.get_layer("conv").batch_norm is not None
    plain = shake(everything_simple())
    every = tfmot.quantization.keras.quantize_annotate_model(plain)
    v = features((6,))
    np.testing.assert_array_equal(apply(every, 3)(v), apply(plain, 3)(v))
    config = tfmot_kws.KwsQuantizeConfig(bits=2)
    model = keras.Sequential([keras.Input((3,)), annotate(L.Dense(2, name="d"), config)])
    with pytest.raises(ValueError, match=r"layer 'd' is annotated with a KwsQuantizeConfig.*bits=\{'d': 2\}"):
        apply(model)
    default = tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme().get_quantize_registry()
    config = default.get_quantize_config(L.Dense(2))
    model = keras.Sequential([keras.Input((3,)), annotate(L.Dense(2, name="d"), config)])
    with pytest.raises(
        ValueError, match=f"layer 'd' is annotated with {type(config).__name__}, which a dynamic_scheme"
    ):
        apply(model)


def everything_simple() -> keras.Model:
    layers = [L.Dense(8, name="a"), L.BatchNormalization(name="n"), L.ReLU(name="r"), L.Dense(3, name="b")]
    return keras.Sequential([keras.Input((6,), name="x"), *layers], name="simple")


BAD = [
    ({"bits": 0}, "^dynamic_scheme: bits must be 16 or a whole number from 1 to 8, found 0$"),
    ({"bits": 12}, "^dynamic_scheme: bits must be 16 or a whole number from 1 to 8, found 12$"),
    ({"bits": True}, "^dynamic_scheme: bits must be 16 or a whole number from 1 to 8, found True$"),
    ({"bits": 4.0}, "found 4.0$"),
    ({"bits": "8-4"}, "^bits must be a number, '4-8', 'learned' or a mapping of layer names to numbers, found '8-4'$"),
    ({"bits": {}}, "^bits: the mapping of layer names to numbers is empty$"),
    ({"bits": {"a": 9}}, r"^bits\['a'\]: bits must be 16 or a whole number from 1 to 8, found 9$"),
    ({"weights": "odd"}, "^weights must be 'linear' or 'tanh', found 'odd'$"),
    ({"bits": 16, "weights": "tanh"}, "^bits=16 needs weights='linear', found weights='tanh'"),
    ({"bits": 8, "input_bits": 16}, "^bits=8 and input_bits=16: weights of 16 bits go with inputs of 16 bits"),
    ({"bits": 16, "input_bits": 8}, "^bits=16 and input_bits=8: "),
    ({"bits": {"a": 16}, "input_bits": 8}, "^bits=16 and input_bits=8: "),
    ({"input_bits": 1}, "^input_bits: bits must be a whole number from 2 to 8, found 1$"),
    ({"gain_bits": 17}, "^gain_bits: bits must be a whole number from 2 to 16, found 17$"),
    ({"bias_bits": 1}, "^bias_bits: bits must be a whole number from 2 to 16, found 1$"),
    ({"grid": "mid-rise"}, "^grid='mid-rise' needs weights='tanh'"),
    ({"weights": "tanh", "grid": "odd"}, "grid must be 'auto', 'mid-rise' or 'mid-tread', found 'odd'$"),
]


@pytest.mark.parametrize("options, message", BAD)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tfmot_kws.dynamic_scheme(**options)


def test_default_widths_of_inputs() -> None:
    assert [DynamicBits(b).input_bits for b in WEIGHTS] == [2, 2, 3, 4, 5, 6, 7, 8, 16]
    assert {DynamicBits(b, weights="tanh").input_bits for b in range(1, 9)} == {8}
    assert [DynamicBits(b, weights="tanh").grid for b in (1, 8)] == ["mid-rise", "mid-tread"]


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="model 'none' has no layer that a dynamic_scheme quantizes"):
        apply(keras.Sequential([keras.Input((3,)), L.ReLU()], name="none"))
    quantized = apply(everything_simple())
    for again in (tfmot_kws.dynamic_scheme(), tfmot_kws.kws_scheme()):
        with pytest.raises(ValueError, match="model 'simple' is quantized already"):
            tfmot_kws.quantize_apply(quantized, again)
    with pytest.raises(ValueError, match="model 'simple' is quantized by a dynamic_scheme, which has no stages"):
        train.set_stage(quantized, 2)
    with pytest.raises(TypeError, match="needs a Keras model, found builtins.int"):
        apply(3)
    with pytest.raises(ValueError, match=r"layer 'd': activation must be one of \('linear', .*found 'gelu'"):
        DynamicDense(2, activation="gelu", name="d")


def test_the_float_model_is_left_as_it_is() -> None:
    before = shake(everything_simple())
    weights, config, x = before.get_weights(), before.get_config(), features((6,))
    after = apply(before, 2)
    steps(after, x, 2)
    assert before.get_config() == config and len(before.get_layer("a").inbound_nodes) == 1
    for mine, original in zip(before.get_weights(), weights):
        np.testing.assert_array_equal(mine, original)


# -- training --------------------------------------------------------------------------------------------------------


def steps(model: keras.Model, x: np.ndarray, count: int, rate: float = 0.02) -> list[float]:
    """Losses of a few eager steps towards a fixed target."""
    outputs = model.output_shape[-1]
    target = np.tanh(x.reshape(len(x), -1)[:, :outputs])
    optimizer, losses = keras.optimizers.legacy.Adam(rate), []
    for _ in range(count):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.cast(model(x, training=True), tf.float32) - target) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        assert all(g is not None and np.isfinite(g).all() for g in gradients)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize("bits, weights", [(16, "linear"), (8, "linear"), (4, "linear"), (2, "tanh"), (1, "tanh")])
def test_training_lowers_the_loss(bits: int, weights: str) -> None:
    after = apply(shake(everything_simple()), bits, weights)
    losses = steps(after, features((6,), 128), 30)
    assert losses[-1] < 0.7 * losses[0]


def test_training_moves_moving_averages_as_batch_norm_does() -> None:
    before = shake(everything_simple())
    after, x = apply(before, 16), features((6,), 64)
    for training in (True, False):
        np.testing.assert_allclose(after(x, training=training), before(x, training=training), atol=5e-3)
    old, new = before.get_layer("n"), after.get_layer("a")
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(getattr(new, name).numpy(), getattr(old, name).numpy(), rtol=2e-3, atol=1e-4)


def test_naive_parity_on_the_low_rank_spotter() -> None:
    """No training: 16 bits hardly differ from float, and every bit less costs something."""
    before, x = models.svd_50k(), features((31, 20))
    y = before(x).numpy()
    worst = [np.abs(apply(before, bits)(x) - y).max() / np.abs(y).max() for bits in (16, 8, "4-8", 4)]
    assert worst[0] < 2e-4 and worst[1] < 0.03 and worst[2] < 0.1 and worst == sorted(worst)


def test_mixed_precision() -> None:
    """Dynamic layers compute in float32 under every policy."""
    before = shake(everything_simple())
    x = features((6,))
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        after = apply(before, 8)
        again = DynamicDense.from_config(after.get_layer("a").get_config())
        assert again(tf.cast(x, tf.float16)).dtype == tf.float32
        half = everything_simple()
        half.set_weights(before.get_weights())
        np.testing.assert_allclose(apply(half, 8)(x), after(x), atol=1e-5)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_array_equal(after(x), apply(before, 8)(x))


# -- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.tf221
@pytest.mark.parametrize(
    "ending, weights", [(".keras", "linear"), (".h5", "linear"), ("", "linear"), (".keras", "tanh"), (".h5", "tanh")]
)
def test_save_and_load(ending: str, weights: str, tmp_path: pathlib.Path) -> None:
    x = keras.Input((9, 4), name="x")
    y = L.SeparableConv1D(5, 3, padding="causal", name="sep")(L.Conv1D(6, 3, kernel_regularizer="l2", name="c")(x))
    y = L.Flatten(name="flat")(L.Activation("swish", name="act")(L.BatchNormalization(name="n")(y)))
    after = apply(shake(keras.Model(x, L.Dense(3, activation="sigmoid", name="d")(y))), 4, weights)
    path = str(tmp_path / f"model{ending}")
    after.save(path, **({} if ending else {"save_format": "tf"}))
    again = saving.load_model(path)
    v = features((9, 4))
    np.testing.assert_array_equal(again(v), after(v))
    assert again.get_layer("c").bits == after.get_layer("c").bits == DynamicBits(4, weights=weights)
    np.testing.assert_array_equal(again.get_layer("d").integers().codes, after.get_layer("d").integers().codes)


def test_the_function_is_no_module() -> None:
    """``tfmot_kws.dynamic_scheme`` stays the function, whatever was imported; and nothing is imported for its name."""
    code = (
        "import sys, tfmot_kws; assert 'dynamic_scheme' in dir(tfmot_kws) and 'tensorflow' not in sys.modules\n"
        "import tfmot_kws.quantize.dynamic.scheme\nassert tfmot_kws.dynamic_scheme(4) == tfmot_kws.dynamic_scheme(4)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
