# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws npu``."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmot_kws import atomic, extras
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts.options import Refractory, Smooth, Threshold

if TYPE_CHECKING:
    from tflite_export import npu as npus
    from tfmot_kws.commands.parts import spotter
    from tfmot_kws.commands.parts.sidecar import Sidecar

_SUFFIXES = (".keras", ".tflite")
_ROWS = ({"key": "what", "label": "", "format": ""}, {"key": "value", "label": "", "format": "", "justify": "right"})
_CPU = (
    {"key": "op", "label": "op on the CPU", "format": ""},
    {"key": "output", "label": "output", "format": ""},
    {"key": "reason", "label": "why, in Vela's words", "format": ""},
)


def npu(
    model: Annotated[
        pathlib.Path, typer.Argument(help="Quantized model made by quantize, .keras; or a .tflite of stock ops.")
    ],
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the files.")],
    accelerator: Annotated[
        str,
        typer.Option(
            help="ethos-u55-32, -64, -128, -256, ethos-u65-256, -512, ethos-u85-128, -256, -512, -1024, -2048."
        ),
    ] = "ethos-u55-128",
    stream: Annotated[
        bool, typer.Option("--stream", help="For streams: takes new frames only, and its state goes in and out.")
    ] = False,
    system_config: Annotated[
        str | None,
        typer.Option(help="Clock and memories, a name in vela.ini.", show_default="SRAM and off-chip flash"),
    ] = None,
    memory_mode: Annotated[
        str | None, typer.Option(help="What lies where, a name in vela.ini.", show_default="Shared_Sram")
    ] = None,
    config: Annotated[
        pathlib.Path | None, typer.Option(help="A vela.ini of your own, with both names.", show_default="Arm's")
    ] = None,
    optimise: Annotated[
        str, typer.Option(help="performance (fewer cycles) or size (less SRAM), by Vela.")
    ] = "performance",
    c_array: Annotated[
        bool,
        typer.Option(
            "--c-array",
            help="Also write C++ for firmware: the file, and of a stream its states, front end and detector.",
        ),
    ] = False,
    threshold: Threshold = None,
    smooth: Smooth = None,
    refractory: Refractory = None,
) -> None:
    """Compiles a quantized model for an Arm Ethos-U by Vela, and says what it takes.

    Writes NAME_ACCELERATOR.tflite for firmware, its numbers as .report.json, and NAME_stock.tflite, the file that was
    compiled, which 'evaluate' measures; of a stream NAME is NAME_stream. Needs: pip install "tfmot-kws\\[npu]"

    Examples:
      tfmot-kws npu q.keras --accelerator ethos-u55-128 --out npu
      tfmot-kws npu q.keras --accelerator ethos-u85-256 --stream --out npu
      tfmot-kws npu q.keras --stream --c-array --threshold 2 --out src
    """
    settings = (threshold, smooth, refractory)
    run(model, out, accelerator, stream, system_config, memory_mode, config, optimise, c_array, settings)


def run(
    model: pathlib.Path,
    out: pathlib.Path,
    accelerator: str,
    stream: bool = False,
    system_config: str | None = None,
    memory_mode: str | None = None,
    config: pathlib.Path | None = None,
    optimise: str = "performance",
    c_array: bool = False,
    settings: tuple[str | float | None, float | None, float | None] = (None, None, None),
) -> None:
    """Compiles, writes the files and prints a table; a mistake in an option says so before the model is loaded."""
    from tflite_export import npu as npus
    from tflite_export.c import external
    from tflite_export.flatbuffer import reader
    from tfmot_kws.commands import firmware
    from tfmot_kws.commands.parts import results, sidecar

    extras.require("ethosu", "compiling for an Ethos-U")
    if model.suffix not in _SUFFIXES:
        raise ValueError(f"{model}: must end in {' or '.join(_SUFFIXES)}")
    chosen = {"system_config": system_config, "memory_mode": memory_mode, "config": config, "optimise": optimise}
    npus.check(accelerator, **chosen)
    if settings != (None, None, None) and not c_array:
        raise ValueError("--threshold, --smooth, --refractory: are for the firmware's detector; they go with --c-array")
    stem = f"{model.stem}_stream" if stream else model.stem
    compiled_path, stock_path = out / f"{stem}_{accelerator}.tflite", out / f"{stem}_stock.tflite"
    report_path = compiled_path.with_suffix(".report.json")
    about, stock = _stock(model, stream)
    of_keras = about is not None
    about = about or (sidecar.read(model) if sidecar.path_of(model).is_file() else None)
    for path in (compiled_path, *([stock_path] if of_keras else [])):
        results.check_output(path, ".tflite", "--out")
    results.check_writable(report_path, "--out")
    try:
        compiled = npus.compile(stock, accelerator, **chosen)
    except (ValueError, npus.NpuError) as error:
        raise type(error)(f"{model}: {error}") from error
    ear = _spotter(model, stock, about, settings) if c_array and compiled.hop else None
    report = _report(model, compiled, about)
    written = [atomic.write_bytes(compiled_path, compiled.flatbuffer), atomic.write_json(report_path, report)]
    if of_keras:
        written.append(atomic.write_bytes(stock_path, stock))
        sidecar.write(stock_path, about)
    if c_array:
        ops = [reader.ETHOS_U, *(op.op for op in compiled.cpu_ops)]
        written += external.write_external(stock, compiled.flatbuffer, ops, out)
    if ear is not None:
        written.append(firmware.write_header(ear, out))
    console = consoles.stdout()
    console.print(consoles.table(f"{compiled_path.name}: {accelerator}", _ROWS, _rows(report)))
    if compiled.cpu_ops:
        rows = [{"op": op.op, "output": op.output, "reason": op.reason} for op in compiled.cpu_ops]
        console.print(consoles.table(f"{len(rows)} ops stay on the CPU", _CPU, rows))
    console.print(
        f"cycles are Vela {compiled.vela}'s estimate for {compiled.system_config}, {compiled.memory_mode}; "
        "no Ethos-U was run"
    )
    console.print(f"wrote {', '.join(path.name for path in written)} in {out}", markup=False)


def _stock(model: pathlib.Path, stream: bool) -> tuple[Sidecar | None, bytes]:
    """The file of stock ops that is compiled; with what it was made of and for where that is a .keras file."""
    from tfmot_kws.commands.parts import sidecar

    if model.suffix == ".tflite":
        if stream:
            raise ValueError(
                f"{model}: is exported already, as a stream or for clips; --stream goes with a .keras file"
            )
        return None, model.read_bytes()
    before = sidecar.read(model)
    if before.kind != "quantized":
        raise ValueError(f"{model}: is {before.kind}; an NPU needs a quantized model, made by 'tfmot-kws quantize'")
    if before.options.get("dynamic"):
        raise ValueError(
            f"{model}: is quantized while it runs (--dynamic), with float tensors; an NPU takes int8 only: quantize it "
            "with --bits"
        )
    import tflite_export
    from tfmot_kws.quantize import saving

    streaming = "external" if stream else None
    data = tflite_export.convert(saving.load_model(model), "builtin", streaming=streaming)
    options = {**before.options, "keras_model": model.name, "ops": "builtin", "target": "any", "streaming": streaming}
    return sidecar.Sidecar("tflite", before.frontend, before.task, options, before.metrics), data


def _spotter(
    model: pathlib.Path,
    stock: bytes,
    about: Sidecar | None,
    settings: tuple[str | float | None, float | None, float | None],
) -> spotter.Spotter:
    """The front end and the detector around a stream, whose settings the firmware gets."""
    from tflite_export.runtimes import interpreter
    from tfmot_kws.commands.parts import sidecar, spotter, thresholds

    if about is None:
        raise FileNotFoundError(
            f"{sidecar.path_of(model)}: not found; --c-array of a stream needs it for the front end and the detector"
        )
    chosen = thresholds.choose(*settings, about.task.keywords)
    runtime = interpreter.default_runtime()
    ear = spotter.Spotter(stock, about, chosen.values, chosen.smooth, chosen.refractory, runtime)
    chosen.check_mode(ear.config.mode)
    return ear


def _report(model: pathlib.Path, compiled: npus.Compiled, about: Sidecar | None) -> dict[str, Any]:
    """What is written as JSON."""
    frame = about.frontend.hop_ms / 1000 if about else None
    second = compiled.cycles_a_second(frame) if compiled.hop and frame else None
    return {
        "model": model.name,
        **compiled.to_dict(),
        "seconds": compiled.seconds,
        "frame_seconds": frame,
        "cycles_a_second": second,
    }


def _rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """The table, from the report."""
    rows = [
        ("flash: weights, biases, scales", f"{report['flash']:,} bytes"),
        ("flash: the whole file", f"{report['file_bytes']:,} bytes"),
        ("SRAM, at its peak", f"{report['sram']:,} bytes"),
    ]
    if report["state"]:
        rows.append(("RAM of the caller: state", f"{report['state']:,} bytes"))
    if report["dram"]:
        rows.append(("DRAM, at its peak", f"{report['dram']:,} bytes"))
    rows += [
        ("cycles an inference", f"{report['cycles']:,}"),
        (f"at {report['clock_hz'] / 1e6:,.0f} MHz", f"{1000 * report['seconds']:.3f} ms"),
    ]
    if report["cycles_a_second"] is not None:
        share = report["cycles_a_second"] / report["clock_hz"]
        rows.append(("cycles a second of sound", f"{report['cycles_a_second']:,.0f} ({share:.2%} of the time)"))
    elif report["hop"] is not None:
        rows.append(("frames an inference", f"{report['hop']} (no front end is known, so no time)"))
    on_npu, on_cpu = report["npu_ops"], len(report["cpu_ops"])
    rows.append(("ops on the NPU", f"{on_npu} of {on_npu + on_cpu} ({report['npu_share']:.0%})"))
    return [{"what": what, "value": value} for what, value in rows]
