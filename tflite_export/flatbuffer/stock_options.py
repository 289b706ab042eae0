"""The options of stock ops, field by field, as the .tflite schema numbers them.

An op is read in full: a type of options that is not the op's own, or a field that is not listed, is refused, because an
interpreter would act on what was not looked at.
"""

from __future__ import annotations

from typing import Any

NO_FIELDS: tuple = ()
_FUSED = ("fused", "<b", 0)
_PADDING, _STRIDES = ("padding", "<b", 0), (("stride_w", "<i", 0), ("stride_h", "<i", 0))
_DILATIONS = (("dilation_w", "<i", 1), ("dilation_h", "<i", 1))

OPTIONS: dict[str, tuple[int, tuple[tuple[str, str, Any], ...]]] = {
    "ADD": (11, (_FUSED, ("pot_scale_int16", "<B", 1))),
    "ASSIGN_VARIABLE": (113, NO_FIELDS),
    "AVERAGE_POOL_2D": (5, (_PADDING, *_STRIDES, ("width", "<i", 0), ("height", "<i", 0), _FUSED)),
    "CALL_ONCE": (103, (("subgraph", "<i", 0),)),
    "CAST": (37, (("from_type", "<b", 0), ("to_type", "<b", 0))),
    "CONCATENATION": (10, (("axis", "<i", 0), _FUSED)),
    "CONV_2D": (1, (_PADDING, *_STRIDES, _FUSED, *_DILATIONS, ("bias_type", "<b", 0))),
    "DEPTHWISE_CONV_2D": (2, (_PADDING, *_STRIDES, ("depth_multiplier", "<i", 0), _FUSED, *_DILATIONS)),
    "DEQUANTIZE": (38, NO_FIELDS),
    "EXPAND_DIMS": (52, NO_FIELDS),
    "FULLY_CONNECTED": (
        8,
        (_FUSED, ("weights_format", "<b", 0), ("keep_dims", "<B", 0), ("asymmetric", "<B", 0), ("bias_type", "<b", 0)),
    ),
    "GATHER": (23, (("axis", "<i", 0), ("batch_dims", "<i", 0))),
    "HARD_SWISH": (91, NO_FIELDS),
    "LEAKY_RELU": (75, (("alpha", "<f", 0.0),)),
    "MAXIMUM": (39, NO_FIELDS),
    "MAX_POOL_2D": (5, (_PADDING, *_STRIDES, ("width", "<i", 0), ("height", "<i", 0), _FUSED)),
    "MEAN": (27, (("keep_dims", "<B", 0),)),
    "MINIMUM": (39, NO_FIELDS),
    "MUL": (21, (_FUSED,)),
    "PAD": (22, NO_FIELDS),
    "PADV2": (43, NO_FIELDS),
    "QUANTIZE": (89, NO_FIELDS),
    "READ_VARIABLE": (112, NO_FIELDS),
    "RESHAPE": (17, (("shape", "i*", ()),)),
    "SOFTMAX": (9, (("beta", "<f", 0.0),)),
    "SPLIT_V": (79, (("parts", "<i", 0),)),
    "SQUEEZE": (30, (("axes", "i*", ()),)),
    "STRIDED_SLICE": (
        32,
        (
            *((f"{name}_mask", "<i", 0) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")),
            ("offset", "<B", 0),
        ),
    ),
    "SUB": (28, (_FUSED, ("pot_scale_int16", "<B", 1))),
    "SUM": (27, (("keep_dims", "<B", 0),)),
    "TRANSPOSE": (26, NO_FIELDS),
    "VAR_HANDLE": (111, (("container", "text", ""), ("shared_name", "text", ""))),
}
"""Op -> number of its options in the schema's union, and (name, layout, default) of each field; ops without options
(RELU, LOGISTIC, ...) are not listed."""
