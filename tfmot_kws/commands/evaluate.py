# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws evaluate``: on clips, and on long recordings by ``evaluate_streams``."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import rich.console

from tflite_export.runtimes import interpreter
from tfmot_kws import atomic, extras
from tfmot_kws.commands.parts import (
    card,
    evaluate_in_parts,
    evaluate_streams,
    results,
    sidecar,
    stream_numbers,
    stream_runners,
)
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.data import prepare
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.evaluation import report

_PLOTS = (".png", ".svg", ".pdf")


def run(
    model: pathlib.Path,
    data: pathlib.Path | None,
    runtime: str | None,
    split: str | None,
    frr: float,
    plot: pathlib.Path | None,
    json_out: pathlib.Path | None,
    cache: pathlib.Path | None,
    streams: evaluate_streams.Options | None = None,
    speakers: str | None = None,
    how: evaluate_in_parts.How | None = None,
) -> None:
    """Measures a model on clips, long recordings or both, and prints, draws and writes what was found."""
    if model.suffix not in (".keras", ".tflite"):
        raise ValueError(f"--model {model}: must end in .keras or .tflite")
    if runtime is None and model.suffix == ".tflite":
        runtime = interpreter.default_runtime()
    if runtime is not None and runtime not in interpreter.RUNTIMES:
        raise ValueError(f"--runtime {runtime}: must be one of {', '.join(interpreter.RUNTIMES)}")
    if not 0.0 <= frr <= 1.0:
        raise ValueError(f"--frr {frr}: must be a share between 0 and 1")
    if plot is not None and plot.suffix.lower() not in _PLOTS:
        raise ValueError(f"--plot {plot}: must end in one of {', '.join(_PLOTS)}")
    if plot is not None:
        extras.require("matplotlib", "--plot")
    report_out = None if streams is None else streams.report
    if report_out is not None:
        results.check_suffix(report_out, ".html", "--report")
        for package in ("matplotlib", "jinja2"):
            extras.require(package, "--report")
    for option, path in (("--plot", plot), ("--json", json_out), ("--report", report_out)):
        if path is not None:
            results.check_writable(path, option)
    if data is None and streams is None:
        raise ValueError("nothing to evaluate on: give --data, --streams or --negatives")
    if data is not None:
        _check_clips(model)
    console = consoles.stdout()
    phases = Phases(console)
    value: dict[str, Any] = {"model": model.name, "runtime": "Keras" if model.suffix == ".keras" else runtime}
    value["sha256"] = hashlib.sha256(model.read_bytes()).hexdigest() if model.is_file() else None
    if data is not None:
        value |= _on_clips(console, phases, model, data, runtime, split, frr, plot, cache, speakers)
    if streams is not None:
        if data is not None and plot is not None:
            plot = plot.with_name(f"{plot.stem}_streams{plot.suffix}")
        value["streams"] = _on_streams(console, phases, model, runtime, streams, plot, how)
    if model.suffix == ".tflite":
        _fill_card(console, model, value, data, streams)
    if json_out is not None:
        atomic.write_json(json_out, value)
        console.print(f"wrote {json_out}")


def _fill_card(
    console: rich.console.Console,
    model: pathlib.Path,
    value: dict[str, Any],
    data: pathlib.Path | None,
    streams: evaluate_streams.Options | None,
) -> None:
    """Puts the numbers into the model's card, where it has one."""
    texts = {}
    if data is not None:
        texts["clips"] = card.clips_text(value, data)
    if streams is not None:
        reason = card.otherwise(model, value)
        if reason is None:
            texts["streams"] = card.streams_text(value)
        else:
            console.print(f"{card.path_of(model)} keeps its numbers of long recordings: {reason}", markup=False)
    try:
        written = [card.fill(model, name, text) for name, text in texts.items()]
    except OSError as error:  # the numbers are worth more than the card: a model on a read-only disk
        console.print(f"{card.path_of(model)} stays as it was: {error.strerror}", markup=False)
        return
    if any(written):
        console.print(f"wrote the numbers into {card.path_of(model)}", markup=False)


def _check_clips(model: pathlib.Path) -> None:
    """Raises ValueError where a file does not take whole clips."""
    about = sidecar.read(model)
    if model.suffix != ".tflite":
        return
    from tflite_export.flatbuffer import reader
    from tflite_export.streaming import schedule

    if about.options.get("streaming") or schedule.METADATA in reader.parse(model.read_bytes()).metadata:
        raise ValueError(
            f"--data: {model} is a streaming file, which takes new frames and no whole clips; measure it on long "
            "recordings (--streams, --negatives), and on clips the .keras model or its export without --streaming"
        )


def _on_streams(
    console: rich.console.Console,
    phases: Phases,
    model: pathlib.Path,
    runtime: str,
    options: evaluate_streams.Options,
    plot: pathlib.Path | None,
    how: evaluate_in_parts.How | None,
) -> dict[str, Any]:
    if how is not None and not how.in_memory:
        measured, others = evaluate_in_parts.measure(model, runtime, options, phases, how), {}
    else:
        runner = stream_runners.open_runner(model, sidecar.read(model), runtime, options.hop)
        opened = evaluate_streams.compared(model, options.compare, runtime, options.hop)
        measured = evaluate_streams.measure(model, runner, options, phases)
        others = evaluate_streams.measure_others(opened, options, phases, measured)
    title = model.name if model.suffix == ".keras" else f"{model.name} in {runtime}"
    stream_numbers.show(console, f"{title}, on streams", model.name, measured, options, others)
    if plot is not None:
        drawn = stream_numbers.plot(measured, plot, model.name if others else title, options, others)
        console.print(f"wrote {plot}" if drawn else f"{plot} not drawn: no stream has a keyword of this model")
    if options.report is not None:
        from tfmot_kws.commands.parts import stream_page

        with phases.phase("report") as advance:
            limits = sidecar.read(model).options.get("limits") or ()
            stream_page.write(options.report, title, model.name, measured, options, others, advance, limits=limits)
        console.print(f"wrote {options.report}")
    return stream_numbers.metrics(measured, options, others)


def _on_clips(
    console: rich.console.Console,
    phases: Phases,
    model: pathlib.Path,
    data: pathlib.Path,
    runtime: str | None,
    split: str | None,
    frr: float,
    plot: pathlib.Path | None,
    cache: pathlib.Path | None,
    speakers: str | None,
) -> dict[str, Any]:
    about = sidecar.read(model)
    prepared = data_files.open_prepared(data, {"speakers": (speakers, None)})
    if prepared is not None:
        data_files.check_same(data, prepared, about)
        splits = (split,) if split else prepared.held_out()
        with phases.phase("features") as advance:
            held_out = prepared.split(splits[0]).load(advance)
    else:
        clips = data_files.open_recordings(console, data, speakers, about)
        clips = prepare.without_compounds(clips, about.task.keywords)
        splits = (split,) if split else prepare.eval_splits(clips, about.task.keywords)
        with phases.phase("features") as advance:
            cache = cache or data_files.default_cache()
            held_out = prepare.held_out_features(clips, about.task, about.frontend, splits, cache, advance)
    if model.suffix == ".keras":
        from tfmot_kws.quantize import saving

        where = "Keras"
        with phases.phase(where) as advance:
            function = results.keras_function(saving.load_model(model))
            evaluation = evaluate.evaluate(function, held_out, progress=advance)
    else:
        from tfmot_kws.commands.parts import measure

        where = runtime
        flatbuffer = model.read_bytes()
        with phases.phase(where) as advance:
            done = measure.run_file(flatbuffer, held_out.x, runtime, advance)
        if done.outputs is None:
            raise RuntimeError(done.problem)
        evaluation = evaluate.from_outputs(done.real(), held_out)
        console.print(f"{1e3 * done.seconds / len(held_out):.2f} ms per clip on this machine")
        if done.arena_bytes is not None:
            console.print(f"TFLM arena: {done.arena_bytes:,} bytes")
    console.print(held_out.report.summary())
    results.show_left_out(console, held_out.report.problems)
    results.show(console, f"{model.name} in {where}", evaluation, splits, frr)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        curves = dict(evaluation.curves) if len(evaluation.curves) > 1 else {}
        name = "all keywords" if curves else evaluation.keywords[0]
        report.plot_curves({name: evaluation.pooled, **curves}, plot, frr, model.name)
        console.print(f"wrote {plot}")
    return results.metrics(evaluation, splits, frr)
