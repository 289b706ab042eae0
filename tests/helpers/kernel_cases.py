"""Cases for arm/run_cases.c: dense and depthwise ops of every width in every layout, and what they must give."""

from __future__ import annotations

import pathlib
import platform
import struct
from collections.abc import Callable

import export_graphs as eg
import kept
import numpy as np
import pytest
import recurrent_graphs as rg
import waveform_graphs as wg

from benchmarks import emulation
from tflite_export import ir
from tflite_export.packed import packing
from tflite_export.reference import run as reference

RUNNER = pathlib.Path(__file__).resolve().parent / "arm" / "run_cases.c"


WIDTHS = [(bits, grid) for grid in ("mid-rise", "mid-tread") for bits in range(1 if grid == "mid-rise" else 2, 9)]


INPUTS = (1, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 127, 128, 129, 160, 255, 256, 257)


OUTPUTS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33)


BATCHES = (1, 1, 2, 4, 5)


def extreme(rng: np.random.Generator, corner: str, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """All at one end of low..high, alternating ends, or anything between."""
    if corner == "random":
        return rng.integers(low, high + 1, shape)
    if corner == "alternating":
        return np.where(np.arange(int(np.prod(shape))).reshape(shape) % 2, low, high)
    return np.full(shape, low if corner == "least" else high)


def typical(rng: np.random.Generator, outputs: int, bound: int, terms: int) -> ir.Requantization:
    """Constants as the exporter makes them: one byte each, and a multiplier of 16 bits."""
    gain, bias = (rng.integers(-128, 128, outputs).astype(np.int16) for _ in range(2))
    shift = 15 + int(np.clip(np.log2(max(1.0, bound / (3 * np.sqrt(terms)) * 64 / 40)), 1, 30))
    shift = max(1, shift - int(rng.choice([0, 0, 0, 6, 12])))  # some clip most outputs
    low = int(rng.choice([-128, -128, -100]))
    bias_shift = max(0, shift - int(rng.integers(-3, 10)))
    return ir.Requantization(gain, bias, int(rng.integers(1 << 15, (1 << 16) + 1)), bias_shift, shift, low, 127)


def dense_case(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    outputs: int,
    bits: int,
    grid: ir.Grid,
    batch: int,
    corners: tuple[str, str] = ("random", "random"),
    window: ir.Window | None = None,
) -> tuple[ir.Graph, dict[str, np.ndarray]]:
    inputs = shape[-1] * (window.taps if window else 1)
    codes = extreme(rng, corners[0], (outputs, inputs), 0 if grid == "mid-rise" else 1, (1 << bits) - 1)
    weights = ir.Weights(codes.astype(np.uint8), bits, grid)
    bound = int(np.abs(weights.levels).sum(axis=1).max()) * 255
    make = typical if rng.random() < 0.75 else eg.requantization
    op = ir.PackedDense("dense", "x0", "y", weights, make(rng, outputs, bound, inputs), window)
    x = extreme(rng, corners[1], (batch, *shape), -128, 127).astype(np.int8)
    return eg.single(rng, op, shape), {"x0": x}


def cases(rng: np.random.Generator, sizes: int) -> list[tuple[ir.Graph, dict[str, np.ndarray]]]:
    """``sizes`` random sizes for each width and grid, the corners, one long row, and windows."""
    out = []
    for bits, grid in WIDTHS:
        for _ in range(sizes):
            shape, outputs = (int(rng.choice(INPUTS)),), int(rng.choice(OUTPUTS))
            out.append(dense_case(rng, shape, outputs, bits, grid, int(rng.choice(BATCHES))))
        for corner in ("least", "most", "alternating"):
            for other in ("least", "most", "alternating", "random"):
                shape, outputs = (int(rng.choice(INPUTS[7:])),), int(rng.choice(OUTPUTS[4:]))
                out.append(dense_case(rng, shape, outputs, bits, grid, 1, (corner, other)))
        out.append(dense_case(rng, (1040,), 9, bits, grid, 1, (str(rng.choice(["most", "least"])), "least")))
        # the largest sum of a row whose codes are signed: -1 * -128 of every input at 1 bit
        out.append(dense_case(rng, (2064,), 9, bits, grid, 1, ("least", "least")))
        if bits == 1:  # and the least sum of one whose codes have no sign
            out.append(dense_case(rng, (2064,), 9, bits, grid, 1, ("most", "least")))
        for window in (ir.Window((3, 1)), ir.Window((3, 1), (2, 1), (2, 1), (1, 2, 0, 0))):
            out.append(dense_case(rng, (9, int(rng.choice([5, 16, 32]))), 9, bits, grid, 2, window=window))
        picture = ir.Window((2, 3), (1, 2), (1, 1), (1, 0, 1, 1))
        out.append(dense_case(rng, (4, 5, 3), 10, bits, grid, 1, window=picture))
    return out


def write_cases(
    path: pathlib.Path, rng: np.random.Generator, chosen: list[tuple[ir.Graph, dict[str, np.ndarray]]]
) -> int:
    """Writes the file that arm/run_cases.c describes, every case in each layout of its width; returns how many."""
    blobs = []
    for graph, values in chosen:
        expected = reference.run(graph, values)["y"]
        (op,) = graph.ops
        packed = {ir.PackedDense: "weights", ir.Recurrent: "kernel", ir.Waveform: "weights"}.get(type(op))
        targets = packing.different_targets(getattr(op, packed).bits) if packed else ["any"]
        for target in targets:
            call = eg.call_of(graph, values, target)
            kind, dims, x = call.inputs[0]
            data = [values.tobytes() for _, _, values in call.inputs[1:]]
            data += [b""] * (2 - len(data))
            parts = [call.options, x.tobytes(), *data, expected.tobytes()]
            shifts = (int(rng.integers(0, 4)), int(rng.choice([0, 0, 0, 1, 2, 4])))
            if call.output_type == eg.FLOAT32:  # floats must be aligned; packed weights need not
                shifts = (0, shifts[1] if isinstance(op, ir.DynamicDense) else 0)
            if isinstance(op, ir.Waveform):
                shifts = (shifts[0] & ~1, shifts[1])
            sizes_of = [len(part) for part in parts]
            padded = [*dims, *[1] * (6 - len(dims))]
            blobs.append(struct.pack("<15i", call.kind, *sizes_of, *shifts, len(dims), *padded))
            blobs.append(b"".join(parts))
    path.write_bytes(struct.pack("<i", len(blobs) // 2) + b"".join(blobs))
    return len(blobs) // 2


def take_cases(
    factory: pytest.TempPathFactory,
    folder: pathlib.Path,
    name: str,
    make: Callable[[np.random.Generator], list[tuple[ir.Graph, dict[str, np.ndarray]]]],
) -> int:
    """Puts the cases that ``make`` gives where the runner looks for them; returns how many there are.

    What they must give is computed once in a run of the tests, for all cores and workers.
    """

    def write(made: pathlib.Path) -> None:
        rng = np.random.default_rng(0)
        write_cases(made / "cases.bin", rng, make(rng))

    path = kept.once(factory, name, write) / "cases.bin"
    (folder / "cases.bin").symlink_to(path)
    with path.open("rb") as file:
        return int(struct.unpack("<i", file.read(4))[0])


def check(
    core: emulation.Core,
    folder: pathlib.Path,
    count: int,
    flags: tuple[str, ...],
    kernel_objects: list[pathlib.Path] | None = None,
    compiler: tuple[str, ...] | None = None,
) -> dict[str, int]:
    """Builds, runs, and returns the cases that each kernel ran; fails with what the runner printed."""
    program = emulation.build(core, [RUNNER], folder, flags, compiler=compiler, kernel_objects=kernel_objects)
    try:
        said = emulation.run(core, program)
    except emulation.EmulationError as error:
        pytest.fail(str(error))
    lines = said.splitlines()
    assert lines[-1] == f"done {count}", said
    ran = {}
    for line in lines[:-1]:
        name, cases_run, wrong = line.split()
        assert wrong == "0", said
        ran[name] = int(cases_run)
    return ran


def processor_flags() -> set[str]:
    """What Linux says that this machine's processor has, on x86."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}


EXPECTED = {
    "host": {"c", "avx2"} if platform.machine() == "x86_64" else {"c", "neon", "tables"},
    "cortex-a53": {"c", "neon", "tables"},
    "cortex-a76": {"c", "neon", "tables", "dotprod"},
    "armv8-i8mm": {"c", "neon", "tables", "dotprod", "i8mm"},
    "cortex-a7": {"c", "neon"},
    "cortex-m0plus": {"c"},
    "cortex-m3": {"c"},
    "cortex-m4": {"c", "dsp_rows", "dsp"},
    "cortex-m7": {"c", "dsp_rows", "dsp"},
    "cortex-m33": {"c", "dsp_rows", "dsp"},
    "cortex-m55": {"c", "mve"},
}
"""Kernels that a core must have beside the reference: a variant that is left out would not be tested."""

DEPTHWISE = {name: {"c", *(kernels & {"avx2", "neon", "mve", "dsp"})} for name, kernels in EXPECTED.items()}
"""The same of the depthwise op."""


def recurrent_cases(rng: np.random.Generator) -> list[tuple[ir.Graph, dict[str, np.ndarray]]]:
    """Every cell and width, with inputs and units that fill vectors and that do not."""
    out = []
    for number, (bits, cell) in enumerate((bits, cell) for bits in range(1, 9) for cell in ir.CELLS):
        units, channels = ((5, 16), (16, 7), (9, 33), (3, 1))[number % 4]
        form = {"zero_point": (0, -128, 7)[number % 3], "sequences": bool(number % 2), "time": 4}
        case = rg.random_case(cell, bits, units=units, channels=channels, seed=number, **form)
        out.append((case.graph, {"x": rg.values(case)}))
    return out


def waveform_cases(rng: np.random.Generator) -> list[tuple[ir.Graph, dict[str, np.ndarray]]]:
    """Filters of every width and grid over samples, with taps and filters that fill vectors and that do not."""
    out = []
    for number, (bits, grid) in enumerate(WIDTHS):
        for taps, filters in ((33, 5), (64, 8), (1, 1), (160, 19)):
            sizes = {"stride": (3, 16, 25)[number % 3], "average": 1 + number % 4}
            op = wg.op(rng, filters=filters, taps=taps, bits=bits, grid=grid, **sizes)
            graph = wg.graph(op, op.span + 2 * op.hop, int(rng.choice([-128, 0])))
            out.append((graph, {"x": wg.samples(rng, graph)}))
    return out


def depthwise_case(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    window: ir.Window | None,
    multiple: int,
    corners: tuple[str, str],
    make: Callable[..., ir.Requantization] | None = None,
) -> tuple[ir.Graph, dict[str, np.ndarray]]:
    outputs, taps = shape[-1] * multiple, window.taps if window else 1
    levels = extreme(rng, corners[0], (taps, outputs), -128, 127).astype(np.int8)
    bound = max(1, int(np.abs(levels.astype(int)).sum(axis=0).max()) * 255)
    make = make or (typical if rng.random() < 0.75 else eg.requantization)
    op = ir.Depthwise("depthwise", "x0", "y", levels, make(rng, outputs, bound, taps), window)
    x = extreme(rng, corners[1], (2, *shape), -128, 127).astype(np.int8)
    return eg.single(rng, op, shape), {"x0": x}


def large_biases(rng: np.random.Generator, outputs: int, bound: int, terms: int) -> ir.Requantization:
    """Constants that kernels scale up until a bias is shifted as far as they allow."""
    gain, bias = rng.integers(-128, 128, outputs).astype(np.int16), rng.integers(-1, 2, outputs).astype(np.int16)
    return ir.Requantization(gain, bias, 1 << 10, 40, 30, -128, 127)


def depthwise_cases(rng: np.random.Generator) -> list[tuple[ir.Graph, dict[str, np.ndarray]]]:
    chosen = []
    for channels in (1, 3, 4, 5, 15, 16, 17, 31, 32, 63, 64, 65, 70, 128, 133):
        for shape, window in (
            ((7, channels), ir.Window((3, 1))),
            ((5, channels), ir.Window((5, 1))),
            ((9, channels), ir.Window((3, 1), (2, 1), (2, 1), (1, 2, 0, 0))),
            ((4, 5, channels), ir.Window((2, 3), (1, 2), (1, 1), (1, 0, 1, 1))),
            ((1, 2, channels), ir.Window((1, 1), padding=(1, 0, 0, 1))),
            ((4, 1, channels), ir.Window((2, 3), padding=(0, 0, 1, 1))),
            ((11, channels), ir.Window((10, 1))),
            ((3, 4, channels), ir.Window((3, 3), padding=(1, 1, 1, 1))),
            ((3, 8, channels), ir.Window((2, 4), dilation=(2, 2), padding=(0, 1, 1, 2))),
            ((3, channels), None),
        ):
            corners = tuple(rng.choice(["random", "random", "least", "most", "alternating"], 2))
            chosen.append(depthwise_case(rng, shape, window, int(rng.choice([1, 1, 1, 2])), corners))
        chosen.append(depthwise_case(rng, (4, channels), ir.Window((2, 1)), 1, ("random", "random"), large_biases))
    return chosen
