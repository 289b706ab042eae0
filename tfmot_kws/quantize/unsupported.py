"""What is said of layers that cannot be quantized: each with what was found and what to do, all of a model at once."""

from __future__ import annotations

from collections.abc import Sequence

from tfmot_kws.keras import keras

_NO_WAY = "no way yet: the device has no op for it"
_IN_FLOAT = (
    "annotate the other layers with tfmot's quantize_annotate_layer to leave such a layer in float "
    "(the model then trains, but does not export)"
)
OWN_CODE = "write its call of supported layers and functions of tensors, or take it out of the model"
_FEATURES = "do this to the features, ahead of the model, where the training data is read"
_STATE = f"{_NO_WAY}; LSTM and GRU are taken, and a stack of causal convolutions (padding='causal')"
_CELLS = f"{_NO_WAY}; LSTM, GRU, SimpleRNN and RNN are taken, which run a cell over time"
_ATTENTION = f"{_NO_WAY}; GlobalAveragePooling1D, or a sigmoid gate by Multiply, weighs without a softmax over time"
_PER_PLACE = "use Conv1D or Conv2D, which share their weights"

WAYS_OUT = {
    "Bidirectional": _STATE, "ConvLSTM1D": _STATE, "ConvLSTM2D": _STATE, "GRUCell": _CELLS,
    "LSTMCell": _CELLS, "SimpleRNNCell": _CELLS, "StackedRNNCells": _CELLS,
    "Attention": _ATTENTION, "AdditiveAttention": _ATTENTION, "MultiHeadAttention": _ATTENTION, "Dot": _ATTENTION,
    "GroupNormalization": f"{_NO_WAY}; BatchNormalization folds into the layer ahead of it",
    "UnitNormalization": f"{_NO_WAY}; BatchNormalization folds into the layer ahead of it",
    "SpectralNormalization": "remove the wrapper once the model is trained, and quantize the layer inside",
    "Conv1DTranspose": "use UpSampling1D and Conv1D", "Conv2DTranspose": "use UpSampling2D and Conv2D",
    "LocallyConnected1D": _PER_PLACE, "LocallyConnected2D": _PER_PLACE,
    "Resizing": _FEATURES, "CenterCrop": "use Cropping2D, or the features ahead of the model",
    "StringLookup": _FEATURES, "IntegerLookup": _FEATURES, "TextVectorization": _FEATURES, "Discretization": _FEATURES,
    "CategoryEncoding": _FEATURES, "Hashing": _FEATURES, "MelSpectrogram": _FEATURES, "STFTSpectrogram": _FEATURES,
    "Embedding": f"{_NO_WAY}; give the model its vectors as features",
    "Masking": f"{_NO_WAY}: a device knows no masks; pad the clips and train on them as they are",
    "Conv3D": "use Conv2D", "MaxPooling3D": "use MaxPooling2D", "AveragePooling3D": "use AveragePooling2D",
    "QuantizeAnnotate": "annotate layers of the outer model, or name their widths by kws_scheme(layer_bits=...)",
    "QuantizeWrapperV2": "start from the float model, as it was before another scheme quantized it",
    "PruneLowMagnitude": "call tfmot.sparsity.keras.strip_pruning(model) first",
    "ClusterWeights": "call tfmot.clustering.keras.strip_clustering(model) first",
    "RepeatVector": "use Reshape and UpSampling1D",
}  # fmt: skip
"""What to do instead, by the name of a layer's class; tf_keras and Keras 3 share them."""


class UnsupportedLayerError(ValueError):
    """Layers that cannot be quantized and exported; the message names each, what was found and the way out.

    Args:
      layer: one layer.
      found: what was found in it, where its class alone is not the reason.
      way_out: what to do.

    Attributes:
      problems: a line for each layer.
    """

    def __init__(self, layer: keras.layers.Layer, found: str = "", way_out: str = ""):
        kind = type(layer).__name__
        detail = f" with {found}" if found else ""
        way_out = way_out or f"{WAYS_OUT.get(kind, _NO_WAY)}; or {_IN_FLOAT}"
        self.problems = [f"layer {layer.name!r} ({kind}){detail} cannot be quantized: {way_out}"]
        super().__init__(self.problems[0])

    @classmethod
    def of_all(cls, errors: Sequence[UnsupportedLayerError]) -> UnsupportedLayerError:
        """One error for all; the first where there is one only."""
        lines = list(dict.fromkeys(line for error in errors for line in error.problems))
        joined = cls.__new__(cls)
        joined.problems = lines
        text = lines[0] if len(lines) == 1 else f"{len(lines)} layers cannot be quantized:\n  " + "\n  ".join(lines)
        ValueError.__init__(joined, text)
        return joined
