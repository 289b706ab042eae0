"""Compiles models of stock ops for Arm's Ethos-U, by Vela: ``npu.compile(tflite_export.convert(..., ops="builtin"))``.

Vela compresses weights: few levels and long runs of one value take little flash, so that narrow weights pay although
the file that is compiled holds them as int8.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import struct
from typing import Any

from tflite_export.flatbuffer import reader
from tflite_export.npu import vela
from tflite_export.npu.vela import ACCELERATORS, NpuError
from tflite_export.packed import op_options
from tflite_export.streaming import schedule as stream_schedule

__all__ = ["ACCELERATORS", "Compiled", "CpuOp", "NpuError", "check", "compile"]

_STATE_INSIDE = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True)
class CpuOp:
    """An op that the NPU does not run.

    Attributes:
        op: its name, GATHER say.
        output: the tensor that it writes.
        reason: Vela's words.
    """

    op: str
    output: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A model for an Ethos-U, and what Vela estimates of it. No Ethos-U was run for these numbers.

    Attributes:
        flatbuffer: the compiled .tflite file, for TensorFlow Lite Micro with its Ethos-U op.
        accelerator: what it is for.
        system_config: the clock and memories that were assumed, by their name in vela.ini.
        memory_mode: which memory has weights, which activations, by its name in vela.ini.
        vela: Vela's version.
        clock_hz: of the accelerator, in that system.
        flash: bytes of compressed weights, biases and scales; the whole file, ``len(flatbuffer)``, holds the commands
            of the NPU, too.
        sram: bytes of activations at their peak, inputs and outputs included.
        dram: bytes of DRAM; 0 but in memory modes that have it.
        cycles: of an inference, at that clock.
        npu_ops: ops of the model that the NPU runs, or that are gone.
        cpu_ops: those that stay on the CPU.
        hop: frames that an inference takes, for a stream; None for a model of whole clips.
        state: bytes of a stream's state, which the caller keeps beside ``sram``; 0 for a model of whole clips.
    """

    flatbuffer: bytes
    accelerator: str
    system_config: str
    memory_mode: str
    vela: str
    clock_hz: float
    flash: int
    sram: int
    dram: int
    cycles: int
    npu_ops: int
    cpu_ops: tuple[CpuOp, ...]
    hop: int | None
    state: int

    @property
    def npu_share(self) -> float:
        """Ops of the model that the NPU runs, 0..1 of all."""
        return self.npu_ops / (self.npu_ops + len(self.cpu_ops))

    @property
    def seconds(self) -> float:
        """Of an inference, without the ops on the CPU."""
        return self.cycles / self.clock_hz

    def cycles_a_second(self, frame_seconds: float) -> float:
        """Cycles that a second of sound takes, which is what a stream costs.

        Args:
            frame_seconds: from frame to frame, the front end's hop: 0.02, say.

        Raises:
            ValueError: a model of whole clips, which takes as many as it is asked for; or no time above 0.
        """
        if self.hop is None:
            raise ValueError("cycles a second of sound: are those of a stream; this model takes whole clips")
        if not frame_seconds > 0:
            raise ValueError(f"frame_seconds must be above 0, found {frame_seconds!r}")
        return self.cycles / (self.hop * frame_seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: everything but the file itself, whose bytes are counted in ``file_bytes``."""
        values = dataclasses.asdict(self)
        del values["flatbuffer"]
        return {**values, "file_bytes": len(self.flatbuffer), "npu_share": self.npu_share}


def compile(
    model: bytes | str | os.PathLike,
    accelerator: str = "ethos-u55-128",
    *,
    system_config: str | None = None,
    memory_mode: str | None = None,
    config: str | os.PathLike | None = None,
    optimise: str = "performance",
) -> Compiled:
    """A .tflite file of stock ops, compiled for an Ethos-U.

    For a stream take ``convert(model, ops="builtin", streaming="external")``: the NPU has no memory that stays between
    two inferences, so the state goes in and out. See docs/how-to/npu.md.

    Args:
        model: the file, or its path: what ``convert(..., ops="builtin")`` gave.
        accelerator: one of ``ACCELERATORS``.
        system_config: which clock and memories Vela counts with, a name in its vela.ini. None: SRAM and off-chip flash
            (Ethos_U55_High_End_Embedded, Ethos_U65_Embedded, Ethos_U85_SYS_Flash_High).
        memory_mode: what lies in which memory, a name in vela.ini. None: Shared_Sram, weights in flash.
        config: a vela.ini of your own chip; it needs the two names above as well. None: Arm's, which Vela brings.
        optimise: "performance" for fewer cycles, "size" for less SRAM.

    Returns:
        The compiled file, memory, cycles, and the ops that stay on the CPU.

    Raises:
        ValueError: an accelerator or a name that there is none, a damaged file (``FormatError``), one of our packed
            ops, one that keeps its state inside, or one that is compiled already.
        OSError: a file cannot be read.
        ImportError: Vela is not installed.
        NpuError: Vela failed, or the NPU can run nothing of the model.
    """
    chosen = vela.target(accelerator, system_config, memory_mode, config, optimise)
    if isinstance(model, (bytes, bytearray, memoryview)):
        return _compiled(bytes(model), chosen)
    path = pathlib.Path(model)
    try:
        return _compiled(path.read_bytes(), chosen)
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from error
    except NpuError as error:
        raise NpuError(f"{path}: {error}") from error


def check(
    accelerator: str,
    *,
    system_config: str | None = None,
    memory_mode: str | None = None,
    config: str | os.PathLike | None = None,
    optimise: str = "performance",
) -> None:
    """Raises what ``compile`` raises for these options, before there is a model.

    Args:
        accelerator: as for ``compile``.
        system_config: as for ``compile``.
        memory_mode: as for ``compile``.
        config: as for ``compile``.
        optimise: as for ``compile``.
    """
    vela.target(accelerator, system_config, memory_mode, config, optimise)


def _compiled(data: bytes, chosen: vela.Target) -> Compiled:
    model = _checked(data)
    found = vela.run(data, chosen)
    made = _ops(found.flatbuffer)
    on_cpu = tuple(
        CpuOp(name, output, found.reasons.get(output, "Vela names no reason"))
        for name, custom, output in made
        if not (custom and name == reader.ETHOS_U)
    )
    kept = {op.output for op in on_cpu}
    on_npu = sum(output not in kept for _, _, output in _ops(data))
    if len(on_cpu) == len(made):
        named = "; ".join(f"{op.op} {op.output!r}: {op.reason}" for op in on_cpu[:_MOST_NAMED])
        raise NpuError(f"{chosen.accelerator} runs nothing of this model, it takes int8 layers only: {named}")
    hop, state = None, 0
    if stream_schedule.METADATA in model.metadata:
        schedule = stream_schedule.from_metadata(model.metadata)
        kept_by_caller = {before for before, _ in schedule.states}
        hop = schedule.hop
        state = sum(t.bytes for t in (model.tensors[i] for i in model.inputs) if t.name in kept_by_caller)
    return Compiled(
        found.flatbuffer, chosen.accelerator, chosen.system_config, chosen.memory_mode, vela.version(), found.clock_hz,
        found.flash, found.sram, found.dram, found.cycles, on_npu, on_cpu, hop, state,
    )  # fmt: skip


def _checked(data: bytes) -> reader.Model:
    """A file that can be compiled; ValueError says what another one is."""
    model = reader.parse(data)
    custom = sorted({op.name for op in model.operators if op.custom})
    if custom:
        what = "has packed ops" if set(custom) <= set(op_options.KINDS) else "has custom ops"
        raise ValueError(
            f"{what} ({', '.join(custom)}), which no NPU knows; export the model with ops='builtin' "
            "('tfmot-kws npu MODEL.keras' does)"
        )
    inside = sorted({op.name for op in model.operators} & set(_STATE_INSIDE))
    if inside:
        raise ValueError(
            f"keeps a stream's state inside ({', '.join(inside)}): these ops stay on the CPU, and Vela puts what fills "
            "the variables behind what reads them; export it with streaming='external'"
        )
    return model


def _ops(data: bytes) -> list[tuple[str, bool, str]]:
    """(name, whether it is a custom one, the first tensor that it writes) of each op of the main subgraph."""
    model = reader.Table(data, struct.unpack_from("<I", data)[0], "model")
    codes = model.tables(1, "operator code", lambda t: (max(t.scalar(0, "<b"), t.scalar(3)), t.text(1)))
    graphs = model.tables(2, "subgraph", lambda t: t)
    if not graphs:
        raise reader.FormatError("model: has no subgraph; the file is damaged")
    names = graphs[0].tables(0, "tensor", lambda t: t.text(3))

    def op(table: reader.Table) -> tuple[str, bool, str]:
        index, outputs = table.scalar(0, "<I"), table.numbers(2)
        if index >= len(codes) or any(not 0 <= i < len(names) for i in outputs[:1]):
            raise reader.FormatError(f"{table.where}: an index past the end; the file is damaged")
        number, custom_code = codes[index]
        custom = number == reader.CUSTOM
        name = custom_code if custom else reader.BUILTIN_NAMES.get(number, f"BUILTIN_{number}")
        return name, custom, names[outputs[0]] if outputs else ""

    return graphs[0].tables(3, "operator", op)
