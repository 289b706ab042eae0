# SPDX-License-Identifier: Apache-2.0
"""Runs .tflite files in every runtime there is and says whether they agree."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

import tflite_export
from tflite_export import ir
from tflite_export.reference import arithmetic
from tflite_export.runtimes import interpreter

_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class RuntimeRun:
    """One file in one runtime.

    Attributes:
        runtime: one of ``tflite_export.interpreter.RUNTIMES``.
        outputs: [clips, classes], int8 or float32 as the file gives them; None where the runtime cannot run it.
        seconds: for all clips.
        grid: quantization of int8 outputs, None for float32 ones.
        arena_bytes: TFLM only.
        problem: why it cannot run, in one line.
    """

    runtime: str
    outputs: np.ndarray | None
    seconds: float = 0.0
    grid: ir.Quantization | None = None
    arena_bytes: int | None = None
    problem: str = ""

    def real(self) -> np.ndarray:
        """float32 [clips, classes], the real values of the outputs."""
        return self.outputs if self.grid is None else arithmetic.dequantize(self.outputs, self.grid)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far what runs is from the integer reference, and Keras from what runs.

    Attributes:
        clips: on how many clips.
        identical: by runtime, whether every output byte equals the reference; None where it cannot run.
        keras_lsb: largest difference of Keras to the reference in steps of the output's scale.
        keras_argmax: share of clips (0..1) for which Keras names the same class.
    """

    clips: int
    identical: dict[str, bool | None]
    keras_lsb: float
    keras_argmax: float

    @property
    def all_identical(self) -> bool:
        """Whether all that can run agree bit for bit, and at least one can."""
        known = [value for value in self.identical.values() if value is not None]
        return bool(known) and all(known)


def run_file(
    flatbuffer: bytes, features: np.ndarray, runtime: str, progress: Callable[[int, int], None] | None = None,
    trust: bool = False,
) -> RuntimeRun:  # fmt: skip
    """All clips, float32 [clips, frames, mel], through a file with one input and one output; int8 where it is int8.

    ``trust`` is for files that this process made, which may have stock ops that are not checked.
    """
    try:
        with quiet():
            runner = tflite_export.Interpreter(flatbuffer, runtime, trust=trust)
    except (ImportError, RuntimeError, OSError) as error:
        return RuntimeRun(runtime, None, problem=" ".join(str(error).split()))
    if len(runner.inputs) != 1 or len(runner.outputs) != 1:
        raise ValueError(
            f"the model has {len(runner.inputs)} inputs and {len(runner.outputs)} outputs; needed is one each"
        )
    taken = runner.inputs[0]
    shape = taken.shape
    if tuple(features.shape[1:]) != tuple(shape):
        raise ValueError(f"features have shape {list(features.shape[1:])}, the model needs {list(shape)}")
    start, parts = time.perf_counter(), []
    for first in range(0, len(features), _CHUNK):
        chunk = features[first : first + _CHUNK]
        parts.append(runner.run(taken.to_tensor(chunk)))
        if progress is not None:
            progress(min(first + _CHUNK, len(features)), len(features))
    seconds = time.perf_counter() - start
    arena = runner.arena_bytes() if runtime == "tflm" else None
    return RuntimeRun(runtime, np.concatenate(parts), seconds, runner.outputs[0].quantization, arena)


def run_everywhere(
    flatbuffer: bytes, features: np.ndarray, progress: Callable[[int, int], None] | None = None
) -> dict[str, RuntimeRun]:
    """A packed file in every runtime, by name."""
    total = len(interpreter.RUNTIMES) * len(features)
    runs = {}
    for index, runtime in enumerate(interpreter.RUNTIMES):
        done = index * len(features)
        step = None if progress is None else lambda n, _, done=done: progress(done + n, total)
        runs[runtime] = run_file(flatbuffer, features, runtime, step)
    return runs


def agreement(runs: dict[str, RuntimeRun], keras_outputs: np.ndarray) -> Agreement:
    """Compares the runs of ``run_everywhere`` with the reference, and Keras (float32 real values) with it."""
    wanted = runs["reference"].outputs
    if wanted is None:
        raise RuntimeError(f"the integer reference cannot run the file: {runs['reference'].problem}")
    identical = {
        name: None if run.outputs is None else bool(np.array_equal(run.outputs, wanted))
        for name, run in runs.items()
        if name != "reference"
    }
    lsb = float(np.abs(keras_outputs - runs["reference"].real()).max() / runs["reference"].grid.scale)
    same = float(np.mean(np.argmax(keras_outputs, axis=1) == np.argmax(wanted, axis=1)))
    return Agreement(len(wanted), identical, round(lsb, 3), same)


def float_tflite(model) -> bytes:
    """A float32 .tflite of a float Keras model with one input, by TensorFlow's own converter, for one clip."""
    import tensorflow as tf

    model = with_convolutions(model)
    call = tf.function(lambda x: model(x, training=False), autograph=False)
    traced = call.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:]), tf.float32))
    owner = tf.Module()  # of the variables: for a Keras model the converter would trace every layer anew
    owner.variables_of_model = model.variables
    with quiet():
        return tf.lite.TFLiteConverter.from_concrete_functions([traced], owner).convert()


def with_convolutions(model):
    """The same float model with convolutions over time where it has windows and dense layers on them.

    The converter makes a slice per frame of a window, and TFLM joins at most ten. A model that is no plain chain of
    layers comes back as it is.
    """
    from tfmot_kws.keras import keras
    from tfmot_kws.models import time_layers as streaming

    chain = model.layers
    if any(len(layer.inbound_nodes) != 1 or isinstance(layer.input, list) for layer in chain):
        return model
    x = inputs = keras.Input(model.input_shape[1:])
    window, copies = None, []
    for before, layer in zip(chain, chain[1:]):
        if layer.input is not before.output:
            return model
        if isinstance(layer, streaming.TimeWindow) and layer.padding == "valid":
            window = layer
            continue
        copy, weights = layer.__class__.from_config(layer.get_config()), layer.get_weights()
        if window is not None:
            if not isinstance(layer, keras.layers.Dense) or (window.stride > 1 and window.dilation > 1):
                return model
            copy = keras.layers.Conv1D(
                layer.units,
                window.size,
                window.stride,
                dilation_rate=window.dilation,
                activation=layer.activation,
                use_bias=layer.use_bias,
            )
            weights[0] = weights[0].reshape(window.size, -1, layer.units)
            window = None
        x = copy(x)
        copies.append((copy, weights))
    for copy, weights in copies:
        copy.set_weights(weights)
    return model if window is not None else keras.Model(inputs, x)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what C code writes to stderr; shows it where the block raises."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
