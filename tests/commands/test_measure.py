"""What the demo measures with: float .tflite files, runs in every runtime, agreement."""

from __future__ import annotations

import numpy as np
import pytest

import tflite_export
from tfmot_kws.commands.parts import measure
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

pytestmark = pytest.mark.slow

WINDOWS = (models.WindowSpec(12, 2), models.WindowSpec(2, 1, 2))


def model_of(windows=WINDOWS):
    model = models.build(models.ModelConfig(3, 30, 5, 6, windows, 1))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + np.abs(rng.normal(0, 0.1, weight.shape)))
    return model


@pytest.fixture
def clips(rng) -> np.ndarray:
    return rng.normal(1.0, 1.0, (9, 30, 5)).astype(np.float32)


@pytest.fixture
def packed(clips) -> tuple[bytes, np.ndarray]:
    """A packed file and what Keras says of the clips."""
    quantized = apply.quantize_apply(model_of(), scheme.kws_scheme(bits=4))
    train.calibrate(quantized, clips)
    return tflite_export.convert(quantized), quantized(clips, training=False).numpy()


def test_float_file_is_the_float_model(clips) -> None:
    model = model_of()
    flatbuffer = measure.float_tflite(model)
    for clip in clips[:3, None]:  # the file is made for one clip at a time
        run = measure.run_file(flatbuffer, clip, "tflite")
        assert run.grid is None and np.allclose(run.outputs, model(clip), atol=1e-4)
        assert np.array_equal(run.real(), run.outputs)


def test_windows_become_convolutions_where_they_can(clips) -> None:
    model = model_of()
    assert np.allclose(measure.with_convolutions(model)(clips), model(clips), atol=1e-4)
    strided = model_of((models.WindowSpec(3, 2, 2),))
    assert measure.with_convolutions(strided) is strided


def test_float_file_runs_in_tflm(clips, require_module) -> None:
    require_module("tflite_micro")
    run = measure.run_file(measure.float_tflite(model_of()), clips, "tflm")
    assert run.problem == "" and run.arena_bytes > 0


def test_everything_agrees(clips, packed) -> None:
    steps = []
    runs = measure.run_everywhere(packed[0], clips, lambda *step: steps.append(step))
    assert steps[-1] == (36, 36)
    found = measure.agreement(runs, packed[1])
    assert found.all_identical and found.clips == 9 and found.keras_lsb <= 1.0 and found.keras_argmax == 1.0


def test_what_differs_is_seen(clips, packed) -> None:
    runs = measure.run_everywhere(packed[0], clips)
    outputs = runs["tflite"].outputs.copy()
    outputs[3, 1] ^= 1
    runs["tflite"] = measure.RuntimeRun("tflite", outputs, grid=runs["tflite"].grid)
    found = measure.agreement(runs, packed[1] + 10.0)
    assert found.identical["tflite"] is False and not found.all_identical and found.keras_lsb > 1.0


def test_a_missing_runtime_is_no_disagreement(clips, packed, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro", None)
    runs = measure.run_everywhere(packed[0], clips)
    assert runs["tflm"].outputs is None and "pip install" in runs["tflm"].problem
    found = measure.agreement(runs, packed[1])
    assert found.identical["tflm"] is None and found.all_identical


def test_features_of_another_shape(clips, packed) -> None:
    with pytest.raises(ValueError, match=r"\[20, 5\], the model needs \[30, 5\]"):
        measure.run_file(packed[0], clips[:, :20], "tflite")


def test_held_back_messages_are_shown_on_errors(capfd) -> None:
    import os

    with measure.quiet():
        os.write(2, b"noise")
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError), measure.quiet():
        os.write(2, b"why")
        raise RuntimeError
    assert capfd.readouterr().err == "why"


def test_a_reference_that_cannot_run_says_why() -> None:
    runs = {"reference": measure.RuntimeRun("reference", None, problem="the schema is missing")}
    with pytest.raises(RuntimeError, match="reference cannot run the file: the schema is missing"):
        measure.agreement(runs, np.zeros((1, 3), np.float32))
