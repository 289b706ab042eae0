"""Graphs of single ops on float tensors, for tests of dynamic quantization, and inputs that are hard to quantize."""

from __future__ import annotations

import numpy as np

from tflite_export import ir

GRIDS = ("mid-rise", "mid-tread", "linear")
WIDTHS = [
    *((bits, grid) for grid in GRIDS for bits in range(2 if grid == "mid-tread" else 1, 9)),
    (16, "linear"),
]
"""Every width and grid of weights."""
INPUT_BITS = (2, 3, 4, 5, 6, 7, 8)
SIZES = (1, 3, 8, 15, 16, 17, 31, 32, 33, 39, 48, 63, 64, 65, 127, 128, 129)
"""Inputs of random cases."""
F = np.float32
Case = tuple[ir.Graph, dict[str, np.ndarray]]


def input_bits(bits: int) -> tuple[int, ...]:
    """Bits of inputs that weights of so many bits may have."""
    return (16,) if bits == 16 else INPUT_BITS


def weights(rng: np.random.Generator, outputs: int, inputs: int, bits: int, grid: str, corner: str = "random"):
    """Codes [outputs, inputs], random or at the ends of their range: "least", "most", "alternating"."""
    low, high = 1 if grid == "mid-tread" else 0, (1 << bits) - 1
    codes = rng.integers(low, high + 1, (outputs, inputs))
    zeros = rng.integers(0, high + 1, outputs)
    if corner == "alternating":
        codes = np.where(np.arange(inputs) % 2, low, high) + np.zeros((outputs, 1), int)
    elif corner != "random":
        codes[:] = low if corner == "least" else high
        zeros[:] = high if corner == "least" else 0
    return ir.ColumnWeights(codes.astype(np.uint16), bits, grid, zeros.astype(np.int32) if grid == "linear" else None)


def dense(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    outputs: int,
    bits: int,
    codes: int,
    grid: str,
    window: ir.Window | None = None,
    corner: str = "random",
    function: str | None = None,
    unit: float | None = None,
) -> ir.Graph:
    """A dense layer whose inputs have ``codes`` bits; gains and biases of one or two bytes, or no bias."""
    inputs = shape[-1] * (window.taps if window else 1)
    function = function or str(rng.choice(ir.FUNCTIONS))
    if unit is None:
        unit = 2.0 ** -int(rng.integers(8, 30))
    most = [127 if rng.random() < 0.4 else 32767 for _ in range(2)]
    gain = rng.integers(-most[0], most[0] + 1, outputs).astype(np.int16)
    bias = rng.integers(-most[1], most[1] + 1, outputs).astype(np.int16) if rng.random() < 0.8 else None
    bias_unit = float(F(rng.random() / most[1])) if bias is not None else 0.0
    w = weights(rng, outputs, inputs, bits, grid, corner)
    op = ir.DynamicDense("d", "x0", "y", w, codes, gain, float(F(unit)), bias, bias_unit, function, window)
    return single(op, shape)


def single(op: ir.Op, *shapes: tuple[int, ...]) -> ir.Graph:
    """A graph of one op on float tensors x0, x1, ... whose output is y."""
    x = [ir.Tensor(f"x{i}", shape, None) for i, shape in enumerate(shapes)]
    if isinstance(op, (ir.DynamicDense, ir.FloatDepthwise)):
        outputs = len(op.gain) if isinstance(op, ir.DynamicDense) else op.kernel.shape[1]
        windowed = op.window is not None
        shape = ir.windowed_shape(x[0].shape, op.window, outputs, op.name) if windowed else (*x[0].shape[:-1], outputs)
    else:
        shape = ir.Graph._output_shape(None, op, x, None)  # type: ignore[arg-type]
    tensors = {t.name: t for t in x} | {"y": ir.Tensor("y", tuple(shape), None)}
    return ir.Graph(tensors, (op,), tuple(t.name for t in x), ("y",))


HARD = (
    "normal",
    "huge",
    "tiny",
    "subnormal",
    "nan",
    "infinite",
    "constant",
    "zero",
    "mixed",
    "positive",
    "negative",
    "borders",
)


def rows(rng: np.random.Generator, shape: tuple[int, ...], kind: str | None = None) -> np.ndarray:
    """float32 values [...], each row (last axis) of one of the kinds in HARD, or all of one."""
    flat = np.empty((int(np.prod(shape[:-1], dtype=int)), shape[-1]), F)
    for row in flat:
        row[:] = _row(rng, len(row), kind or str(rng.choice(HARD)))
    return flat.reshape(shape)


def _row(rng: np.random.Generator, n: int, kind: str) -> np.ndarray:
    x = rng.normal(size=n).astype(F)
    with np.errstate(over="ignore", under="ignore"):
        if kind == "huge":
            return (x * F(2.0**126)).astype(F)
        if kind == "tiny":
            return x * F(2.0 ** -int(rng.integers(30, 125)))
        if kind == "subnormal":
            x = x * F(2.0**-126)
            x[rng.integers(0, n)] = F(2.0 ** -int(rng.integers(20, 149)))
            return x
        if kind == "borders":
            # Between two codes, and the least value is a subnormal number: codes show whether it was taken for 0.
            low, span = -1.7 * 2.0**-127, 2.0**-99 * rng.random() + 2.0**-100
            step = span / rng.choice([255, 65535])
            x = (rng.integers(0, 4, n) + 0.5) * step + low * rng.random(n)
            x[rng.permutation(n)[:2]] = [low, low + span][: min(n, 2)]
            return x.astype(F)
        if kind == "constant":
            x[:] = rng.choice([0.0, -0.0, 1.5, -2.25e-38, 1e-41, 3e38, np.inf, -np.inf, np.nan])
        if kind == "zero":
            x[rng.random(n) < 0.5] = rng.choice([0.0, -0.0])
        if kind in ("nan", "mixed"):
            x[rng.random(n) < 0.2] = np.nan
            x[rng.random(n) < 0.1] = np.array([0xFFC12345], np.uint32).view(F)[0]
        if kind in ("infinite", "mixed"):
            x[rng.random(n) < 0.2] = rng.choice([np.inf, -np.inf])
        if kind == "positive":
            x = np.abs(x)
        if kind == "negative":
            x = -np.abs(x)
    return x


def samples() -> np.ndarray:
    """Floats from all exponents and both signs, the special ones, and many around 0."""
    bits = np.arange(0, 1 << 31, 40009, dtype=np.uint64).astype(np.uint32)
    near = np.linspace(-20, 20, 20001).astype(F)
    special = np.array([0.0, -0.0, 1e-45, 87.0, -87.0, 86.99999, 43.5, 3e38, np.inf, -np.inf, np.nan], F)
    return np.concatenate([bits.view(F), (bits | np.uint32(1 << 31)).view(F), near, special])


def dense_cases(rng: np.random.Generator, sizes: int) -> list[Case]:
    """``sizes`` random sizes for each width and grid, the largest sums, long rows and windows."""
    out = []
    for bits, grid in WIDTHS:
        for _ in range(sizes):
            n, codes = int(rng.choice(SIZES)), int(rng.choice(input_bits(bits)))
            graph = dense(rng, (n,), int(rng.choice([1, 2, 7, 8, 9, 16, 17, 24, 31])), bits, codes, grid)
            out.append((graph, {"x0": rows(rng, (int(rng.choice([1, 2])), n))}))
        for corner in ("least", "most", "alternating"):
            for n in (64, 71, 1040, 2064):
                graph = dense(rng, (n,), 9, bits, input_bits(bits)[-1], grid, None, corner, "linear")
                x = np.ones((2, n), F)
                x[0, 0], x[1, 1:] = -1, -1
                out.append((graph, {"x0": x}))
        for window in (ir.Window((3, 1)), ir.Window((3, 1), (2, 1), (2, 1), (1, 2, 0, 0))):
            shape = (9, int(rng.choice([5, 16, 32])))
            graph = dense(rng, shape, 9, bits, input_bits(bits)[-1], grid, window)
            out.append((graph, {"x0": rows(rng, (2, *shape))}))
        picture = ir.Window((2, 3), (1, 2), (1, 1), (1, 0, 1, 1))
        graph = dense(rng, (4, 5, 3), 10, bits, input_bits(bits)[-1], grid, picture)
        out.append((graph, {"x0": rows(rng, (1, 4, 5, 3))}))
    w = weights(rng, 3, 32767, 16, "linear", "least")
    w.codes[1], w.zeros[1] = 65535, 0
    w.codes[2, ::2], w.zeros[2] = 65535, 32768
    op = ir.DynamicDense("d", "x0", "y", w, 16, np.array([1, 2, 3], np.int16), 2.0**-20)
    x = np.ones((2, 32767), F)
    x[0, 0], x[1, 1:] = -1, -1
    out.append((single(op, (32767,)), {"x0": x}))
    for kind in HARD:
        for bits, grid in ((4, "linear"), (16, "linear"), (7, "mid-tread")):
            for function in ir.FUNCTIONS:
                unit = float(rng.choice([2.0**-20, 2.0**-39, 2.0**-60, 2.0**-140]))
                n, codes = int(rng.choice([5, 37, 64])), input_bits(bits)[-1]
                graph = dense(rng, (n,), 13, bits, codes, grid, function=function, unit=unit)
                out.append((graph, {"x0": rows(rng, (2, n), kind)}))
    return out


def other_cases(rng: np.random.Generator) -> list[Case]:
    """The other ops on floats."""
    out = []
    x = samples()[::11]
    for function in ir.FUNCTIONS:
        out.append((single(ir.FloatFunction("f", "x0", "y", function), x.shape), {"x0": x[None]}))
    for n in (1, 2, 12, 35):
        graph = single(ir.FloatSoftmax("s", "x0", "y"), (3, n))
        out.append((graph, {"x0": (rng.normal(size=(2, 3, n)) * 5).astype(F)}))
    picture = ir.Window((2, 3), (1, 2), (1, 1), (1, 0, 1, 1))
    for window in (ir.Window((3, 1)), ir.Window((3, 1), (2, 1), (2, 1), (1, 2, 0, 0)), picture):
        for channels in (1, 4, 7):
            shape = (4, 5, channels) if window is picture else (9, channels)
            kernel = rng.normal(size=(window.taps, 2 * channels)).astype(F)
            bias = rng.normal(size=2 * channels).astype(F)
            function = str(rng.choice(ir.FUNCTIONS))
            ops = [
                ir.FloatDepthwise("d", "x0", "y", kernel, bias, function, window),
                ir.FloatAverage("p", "x0", "y", window),
            ]
            if window.dilation[0] > 1:  # the others are TensorFlow Lite's own
                ops.append(ir.MaxPool("p", "x0", "y", window))
            out += [(single(op, shape), {"x0": rows(rng, (2, *shape), "normal")}) for op in ops]
    for op_type in (ir.FloatAdd, ir.FloatMultiply):
        for function in ir.FUNCTIONS:
            graph = single(op_type("p", ("x0", "x1"), "y", function), (3, 7), (3, 7))
            out.append((graph, {f"x{i}": rows(rng, (2, 3, 7)) for i in range(2)}))
    return out


def all_cases(rng: np.random.Generator, sizes: int) -> list[Case]:
    return dense_cases(rng, sizes) + other_cases(rng)
