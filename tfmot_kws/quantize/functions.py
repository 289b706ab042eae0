"""Functions of one value that a table of 256 entries computes: the one place where they are defined.

Training, the table that is exported and float layers all call what stands here.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

Function = Callable[[tf.Tensor, float], tf.Tensor]


def _elu(x, alpha):
    return tf.where(x > 0.0, x, alpha * (tf.exp(tf.minimum(x, 0.0)) - 1.0))


def _power(x, alpha):
    whole = tf.equal(alpha, tf.round(alpha))  # other powers of values below zero are no numbers
    return tf.pow(tf.where(whole, x, tf.maximum(x, 1e-12)), alpha)


# (value, alpha) -> value, by the name of Keras's activation where it has one. A function is added here, and nowhere
# else: the device looks all of them up in a table.
FUNCTIONS: dict[str, Function] = {
    "linear": lambda x, alpha: x,
    "relu": lambda x, alpha: tf.nn.relu(x),
    "relu6": lambda x, alpha: tf.nn.relu6(x),
    "leaky_relu": lambda x, alpha: tf.where(x > 0.0, x, alpha * x),
    "clipped_relu": lambda x, alpha: tf.clip_by_value(x, 0.0, alpha),
    "thresholded_relu": lambda x, alpha: tf.where(x > alpha, x, 0.0),
    "sigmoid": lambda x, alpha: tf.sigmoid(x),
    "log_sigmoid": lambda x, alpha: tf.math.log_sigmoid(x),
    "tanh": lambda x, alpha: tf.tanh(x),
    "hard_sigmoid": lambda x, alpha: tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0),
    "hard_sigmoid_3": lambda x, alpha: tf.nn.relu6(x + 3.0) / 6.0,
    "hard_swish": lambda x, alpha: x * tf.nn.relu6(x + 3.0) / 6.0,
    "hard_tanh": lambda x, alpha: tf.clip_by_value(x, -1.0, 1.0),
    "swish": lambda x, alpha: x * tf.sigmoid(x),
    "gelu": lambda x, alpha: tf.nn.gelu(x),
    "gelu_tanh": lambda x, alpha: tf.nn.gelu(x, approximate=True),
    "mish": lambda x, alpha: x * tf.tanh(tf.math.softplus(x)),
    "elu": _elu,
    "selu": lambda x, alpha: tf.nn.selu(x),
    "softplus": lambda x, alpha: tf.math.softplus(x),
    "softsign": lambda x, alpha: tf.math.softsign(x),
    "exponential": lambda x, alpha: tf.exp(x),
    "abs": lambda x, alpha: tf.abs(x),
    "square": lambda x, alpha: tf.square(x),
    "sqrt": lambda x, alpha: tf.sqrt(tf.maximum(x, 1e-12)),
    "rsqrt": lambda x, alpha: tf.math.rsqrt(tf.maximum(x, 0.0) + tf.maximum(alpha, 1e-12)),
    "reciprocal": lambda x, alpha: 1.0 / tf.where(tf.abs(x) < 1e-6, tf.where(x < 0.0, -1e-6, 1e-6), x),
    "power": _power,
    "log": lambda x, alpha: tf.math.log(tf.maximum(x, 1e-12)),
    "log1p": lambda x, alpha: tf.math.log1p(tf.maximum(x, 1e-7 - 1.0)),
    "expm1": lambda x, alpha: tf.math.expm1(x),
    "erf": lambda x, alpha: tf.math.erf(x),
    "atan": lambda x, alpha: tf.math.atan(x),
    "swish_beta": lambda x, alpha: x * tf.sigmoid(alpha * x),
    "sin": lambda x, alpha: tf.sin(x),
    "cos": lambda x, alpha: tf.cos(x),
    "shift": lambda x, alpha: x + alpha,
    "reverse": lambda x, alpha: alpha - x,
    "at_least": lambda x, alpha: tf.maximum(x, alpha),
    "at_most": lambda x, alpha: tf.minimum(x, alpha),
}

BOUNDS = {
    **dict.fromkeys(("sigmoid", "hard_sigmoid", "hard_sigmoid_3"), (0, 1)),
    **dict.fromkeys(("tanh", "hard_tanh", "softsign", "sin", "cos", "erf"), (-1, 1)),
}
"""Functions whose range is known: their grid is fixed, whatever a calibration sees. Ends are 0..1 or -1..1."""

ALIASES = {"silu": "swish", "exp": "exponential", "hard_silu": "hard_swish", "hardtanh": "hard_tanh"}
"""Other names of some of them."""
DEFAULT_ALPHA = {"leaky_relu": 0.2, "elu": 1.0}
"""``alpha`` of activations that Keras takes by their name alone."""
HIDDEN = (
    "rsqrt",
    "reciprocal",
    "power",
    "log",
    "log1p",
    "expm1",
    "erf",
    "atan",
    "swish_beta",
    "shift",
    "reverse",
    "at_least",
    "at_most",
    "clipped_relu",
    "thresholded_relu",
    "gelu_tanh",
    "hard_sigmoid_3",
)
"""No names of activations: arithmetic with a constant, and options of layers."""
NAMES = tuple(name for name in FUNCTIONS if name not in HIDDEN)
"""Names that a layer's ``activation`` may have."""


def function_of(name: str) -> tuple[str, float] | None:
    """(key of ``FUNCTIONS``, alpha) of an activation's name; None where there is none."""
    name = ALIASES.get(name, name)
    return (name, DEFAULT_ALPHA.get(name, 0.0)) if name in NAMES else None


def check_function(function: str, layer_name: str) -> str:
    """``function`` where it is a key of ``FUNCTIONS``; else a ValueError that names the layer."""
    if function not in FUNCTIONS:
        raise ValueError(f"layer {layer_name!r}: function must be one of {sorted(FUNCTIONS)}, found {function!r}")
    return function
