"""What stock TFLite ops can express: functions of a lookup table, fused activation ranges, paddings."""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export import ir

LOGISTIC_OUTPUT = ir.Quantization(1 / 256, -128)
TANH_OUTPUT = ir.Quantization(1 / 128, 0)


@dataclasses.dataclass(frozen=True)
class StockFunction:
    """A stock op of one input; ``output`` is the quantization that it insists on, None where it takes any."""

    builtin: str
    alpha: float = 0.0
    output: ir.Quantization | None = None


def _apply(builtin: str, real: np.ndarray, alpha: float) -> np.ndarray:
    if builtin == "RELU":
        return np.maximum(real, 0)
    if builtin == "LEAKY_RELU":
        return np.where(real < 0, alpha * real, real)
    if builtin == "LOGISTIC":
        return 1 / (1 + np.exp(-real))
    if builtin == "TANH":
        return np.tanh(real)
    return real  # QUANTIZE


def _quantize(real: np.ndarray, q: ir.Quantization) -> np.ndarray:
    return np.clip(np.floor(real / q.scale + 0.5) + q.zero_point, ir.INT8_MIN, ir.INT8_MAX)


def expected_table(function: StockFunction, x: ir.Quantization, y: ir.Quantization) -> np.ndarray:
    """int8 [256] outputs (as float64) for inputs -128..127, a QUANTIZE after the op included where it needs one."""
    real = x.scale * (np.arange(ir.INT8_MIN, ir.INT8_MAX + 1, dtype=np.float64) - x.zero_point)
    made = _apply(function.builtin, real, function.alpha)
    if function.output is not None and function.output != y:
        steps = _quantize(made, function.output)
        made = function.output.scale * (steps - function.output.zero_point)
    return _quantize(made, y)


def stock_function(op: ir.Lookup, x: ir.Quantization, y: ir.Quantization) -> StockFunction | None:
    """The stock op that is within one step of the table for every input, or None.

    The table decides, not the name that it carries: a name can be missing or too general.
    """
    candidates = [StockFunction("QUANTIZE"), StockFunction("RELU")]
    if op.alpha:
        candidates.append(StockFunction("LEAKY_RELU", op.alpha))
    candidates += [StockFunction("LOGISTIC", output=LOGISTIC_OUTPUT), StockFunction("TANH", output=TANH_OUTPUT)]
    for candidate in candidates:
        if np.abs(expected_table(candidate, x, y) - op.table).max() <= 1:
            return candidate
    return None


def clip_range(op: ir.Lookup, x: ir.Quantization, y: ir.Quantization) -> tuple[int, int] | None:
    """(low, high) where the table is exactly ``clip(q, low, high)`` of an unchanged quantization, else None."""
    low, high = int(op.table.min()), int(op.table.max())
    same = x == y and np.array_equal(op.table, np.clip(np.arange(ir.INT8_MIN, ir.INT8_MAX + 1), low, high))
    return (low, high) if same else None


def fused_activation(q: ir.Quantization, low: int, high: int) -> str | None:
    """Name of TFLite's fused activation that clips ``q`` to low..high, or None."""
    ranges = {"NONE": (None, None), "RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
    for name, (real_low, real_high) in ranges.items():
        found_low = ir.INT8_MIN if real_low is None else int(_quantize(np.float64(real_low), q))
        found_high = ir.INT8_MAX if real_high is None else int(_quantize(np.float64(real_high), q))
        if (found_low, found_high) == (low, high):
            return name
    return None


def stock_padding(window: ir.Window, height: int, width: int) -> str | None:
    """ "VALID" or "SAME" where that is the padding of the window on a picture of this size, else None."""
    if window.padding == (0, 0, 0, 0):
        return "VALID"
    out = window.output_size(height, width)
    for axis, length in enumerate((height, width)):
        reach = (window.size[axis] - 1) * window.dilation[axis] + 1
        total = max((out[axis] - 1) * window.stride[axis] + reach - length, 0)
        if out[axis] != -(-length // window.stride[axis]) or window.padding[2 * axis] != total // 2:
            return None
    return "SAME"
