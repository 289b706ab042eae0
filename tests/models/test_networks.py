"""Networks by description: blocks, files, refusals; all of them are quantized, exported and streamed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tflite_export
import tfmot_kws
from tfmot_kws.models import networks
from tfmot_kws.models.networks import BlockSpec, NetworkConfig
from tfmot_kws.models.spotters import SincSpec

BLOCKS = (
    BlockSpec("dense", 8, 3, stride=2),
    BlockSpec("separable", 8, 5, squeeze=True),
    BlockSpec("bottleneck", 8, 3, expansion=2, squeeze=True),
    BlockSpec("bottleneck", 12, 5, stride=2, expansion=3),
    BlockSpec("dense", 12, 3, squeeze=True),
    BlockSpec("separable", 16, 9),
)
FLAT = NetworkConfig(3, 24, 10, BLOCKS, squeeze_frames=4)
PICTURE = NetworkConfig(
    3, 24, 10, (BlockSpec("dense", 4, 3, 2, 2), BlockSpec("separable", 6, 5, 2, 2, squeeze=True), *BLOCKS[2:3]),
    "time and band", squeeze_frames=4,
)  # fmt: skip
SOUND = NetworkConfig(3, 24, 64, BLOCKS[:2], sinc=SincSpec(6, 80, 2))
ALL = pytest.mark.parametrize("config", [FLAT, PICTURE, SOUND], ids=["time", "time and band", "sound"])


@ALL
def test_shapes_and_residuals(config: NetworkConfig) -> None:
    model = networks.build(config)
    assert model.input_shape == (None, config.frames, config.mel_bins) and model.output_shape == (None, 3)
    inputs, adds = config.bands if config.over == "time" else 1, []
    for number, block in enumerate(config.blocks, 1):
        adds += [f"block_{number}_add"] if block.adds(inputs) else []
        inputs = block.outputs
    assert [layer.name for layer in model.layers if layer.name.endswith("_add")] == adds


@ALL
def test_they_look_back_only(config: NetworkConfig) -> None:
    """What comes after a row changes nothing before it."""
    model = networks.build(config)
    keras = tfmot_kws.keras.keras
    rows = keras.Model(model.inputs, model.get_layer("logits").output)
    x = np.random.default_rng(0).normal(size=(1, config.frames, config.mel_bins)).astype(np.float32)
    before = rows(x).numpy()
    y = x.copy()
    y[:, config.frames // 2 :] += 1.0
    after = rows(y).numpy()
    kept = before.shape[1] // 2
    np.testing.assert_allclose(after[:, :kept], before[:, :kept], atol=1e-6)
    assert np.abs(after[:, -1] - before[:, -1]).max() > 1e-6


@ALL
@pytest.mark.slow
def test_they_are_quantized_exported_and_streamed(config: NetworkConfig) -> None:
    """The clip's file gives Keras' integers; the stream's, fed in pieces, the clip's rows."""
    model = tfmot_kws.quantize_apply(networks.build(config), tfmot_kws.kws_scheme(bits=3))
    x = np.random.default_rng(1).normal(size=(64, config.frames, config.mel_bins)).astype(np.float32)
    x = x / 8 if config.sinc is not None else x
    tfmot_kws.calibrate(model, x)
    clip = tflite_export.Interpreter(tflite_export.convert(model), runtime="reference")
    apart = np.abs(clip.run(x[:8]) - model.predict(x[:8], verbose=0)).max()
    assert apart <= 1.001 * clip.outputs[0].scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no delay, so no warning of one
        data = tflite_export.convert(model, streaming="internal")
    stream = tflite_export.StreamInterpreter(data, "reference")
    whole = stream.step(stream.inputs[0].to_tensor(x[0]))
    stream.reset()
    parts = [stream.step(stream.inputs[0].to_tensor(piece)) for piece in np.array_split(x[0], [1, 6, 13])]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_allclose(whole[-1] * clip.outputs[0].scale, clip.run(x[:1])[0], rtol=1e-6)


@ALL
def test_descriptions_are_read_back(config: NetworkConfig) -> None:
    assert NetworkConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockSpec("conv", 8), "BlockSpec.kind='conv'"),
        (lambda: BlockSpec("dense", 0), "BlockSpec.outputs=0"),
        (lambda: BlockSpec("dense", 8, kernel=True), "BlockSpec.kernel=True"),
        (lambda: BlockSpec("dense", 8, expansion=2), "goes with kind 'bottleneck'"),
        (lambda: BlockSpec("dense", 8, squeeze=1), "BlockSpec.squeeze=1"),
        (lambda: BlockSpec("dense", 8, bits=9), "BlockSpec.bits=9"),
        (lambda: NetworkConfig(3, 24, 10, ()), "NetworkConfig.blocks: none"),
        (lambda: NetworkConfig(0, 24, 10, BLOCKS), "NetworkConfig.num_classes=0"),
        (lambda: NetworkConfig(3, 24, 10, BLOCKS, "band"), "NetworkConfig.over='band'"),
        (lambda: NetworkConfig(3, 24, 10, BLOCKS[:1], "time and band", 2), "band_kernel=2: must be odd"),
        (lambda: NetworkConfig(3, 24, 10, BLOCKS, "time and band"), "block 4 has stride 2 and band_stride 1"),
        (lambda: NetworkConfig(3, 24, 10, PICTURE.blocks), "a band_stride goes with over='time and band'"),
        (lambda: NetworkConfig(3, 24, 63, BLOCKS, sinc=SincSpec(6, 80, 2)), "63 samples is no whole number"),
        (lambda: NetworkConfig.from_json("{"), "is no JSON"),
        (lambda: NetworkConfig.from_json('{"blocks": 1}'), "a list 'blocks'"),
        (lambda: NetworkConfig.from_json('{"blocks": [1]}'), "blocks: must be a table, found 1"),
        (lambda: NetworkConfig.from_json('{"blocks": [{"kind": "dense"}]}'), "'outputs' is missing"),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
