# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws export``."""

from __future__ import annotations

import pathlib

from tfmot_kws import atomic
from tfmot_kws.commands.parts import card, esphome, esphome_manifest, results, sidecar
from tfmot_kws.commands.parts import console as consoles

OPS = ("packed", "builtin")


STREAMING = ("internal", "external")
DEVICES = ("esphome",)


def run(
    model: pathlib.Path,
    out: pathlib.Path,
    ops: str,
    target: str,
    streaming: str | None,
    c_array: bool,
    rows: bool,
    prefer: str = "size",
) -> None:
    """Writes the .tflite file, its sidecar and, where wanted, the C arrays."""
    results.check_output(out, ".tflite", "--out")
    card.check(out)
    if ops not in OPS:
        raise ValueError(f"--ops {ops}: must be {' or '.join(OPS)}")
    if streaming not in (None, *STREAMING):
        raise ValueError(f"--streaming {streaming}: must be {' or '.join(STREAMING)}")
    if rows and streaming is None:
        raise ValueError("--rows: goes with --streaming; a clip's rows are for its mean")
    from tflite_export.packed import packing, stored_widths

    if target not in packing.TARGETS or (target != "any" and ops == "builtin"):
        raise ValueError(f"--target {target}: must be {', '.join(packing.TARGETS)}, and 'any' with --ops builtin")
    if prefer not in stored_widths.PREFERENCES or (prefer != "size" and ops == "builtin"):
        choices = " or ".join(stored_widths.PREFERENCES)
        raise ValueError(f"--prefer {prefer}: must be {choices}, and 'size' with --ops builtin, whose weights are int8")
    before = sidecar.read(model)
    if before.kind != "quantized":
        raise ValueError(f"{model}: is {before.kind}; export needs a quantized model, made by 'tfmot-kws quantize'")
    import tflite_export
    from tflite_export import inspect as inspect_model
    from tflite_export.c import arrays as c_writer
    from tfmot_kws.quantize import saving

    console = consoles.stdout()
    flatbuffer = tflite_export.convert(saving.load_model(model), ops, target, streaming, rows, prefer)
    atomic.write_bytes(out, flatbuffer)
    options = {**before.options, "keras_model": model.name, "ops": ops, "target": target, "streaming": streaming}
    options |= {"rows": rows, "prefer": prefer}
    about = sidecar.Sidecar("tflite", before.frontend, before.task, options, before.metrics)
    sidecar.write(out, about)
    card.write(out, about)
    inspect_model.print_summary(inspect_model.inspect(flatbuffer))
    console.print(f"wrote {out} ({len(flatbuffer):,} bytes), {sidecar.path_of(out).name} and {card.path_of(out).name}")
    if c_array:
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in out.stem)
        name = name if name[:1].isalpha() else f"model_{name}"
        for path in c_writer.write_c(flatbuffer, out.parent, name):
            console.print(f"wrote {path}")
        console.print("\nTFLM needs these ops:\n")
        for line in c_writer.op_resolver_lines(flatbuffer):
            console.print(line, markup=False)


def run_for(
    device: str,
    model: pathlib.Path,
    out: pathlib.Path,
    options: esphome.Options,
    target: str,
    streaming: str | None,
    c_array: bool,
    rows: bool,
    prefer: str = "size",
) -> None:
    """Writes the file that ESPHome runs, its sidecar and, with thresholds, its manifest."""
    results.check_output(out, ".tflite", "--out")
    card.check(out)
    if device not in DEVICES:
        raise ValueError(f"--for {device}: must be {' or '.join(DEVICES)}")
    if streaming not in (None, "internal") or (target, prefer) != ("any", "size") or c_array:
        raise ValueError(
            "--for esphome: has one form: stock ops, its state inside; leave --streaming, --target, --prefer and "
            "--c-array out"
        )
    before = sidecar.read(model)
    if before.kind != "quantized":
        raise ValueError(f"{model}: is {before.kind}; export needs a quantized model, made by 'tfmot-kws quantize'")
    esphome.check_frontend(before.frontend)
    keyword = esphome.keyword_of(before, options.keyword)
    esphome.choose(options, keyword, 1.0)  # a wrong threshold says so before the model is loaded
    from tflite_export import from_keras
    from tflite_export import inspect as inspect_model
    from tflite_export.streaming import graph as streams
    from tflite_export.streaming import micro_wake_word
    from tfmot_kws.quantize import saving

    console = consoles.stdout()
    graph = from_keras.to_graph(saving.load_model(model))
    made = micro_wake_word.from_graph(
        streams.without_mean(graph) if rows else graph, before.task.classes.index(keyword)
    )
    step_seconds = made.stride * before.frontend.hop_ms / 1000
    chosen = esphome.choose(options, keyword, step_seconds)
    atomic.write_bytes(out, made.flatbuffer)
    kept = {**before.options, "keras_model": model.name, "ops": "builtin", "streaming": "internal", "for": device}
    kept |= {"keyword": keyword, "rows": rows}
    about = esphome.sidecar_of(before, keyword, kept)
    sidecar.write(out, about)
    notes = esphome.notes(*chosen, step_seconds, before.frontend.hop_ms) if chosen else []
    card.write(out, about, esphome.on_card(chosen[0], keyword, notes) if chosen else None)
    inspect_model.print_summary(inspect_model.inspect(made.flatbuffer))
    console.print(
        f"wrote {out} ({len(made.flatbuffer):,} bytes), {sidecar.path_of(out).name} and {card.path_of(out).name}"
    )
    path = esphome_manifest.path_of(out)
    if chosen is None:
        stale = f"; {path.name} is of another export" if path.is_file() else ""
        console.print(
            f"no manifest: it needs a threshold. Find one with 'tfmot-kws evaluate --model {out} --streams FOLDER "
            f"--json numbers.json', then export again with --threshold numbers.json{stale}",
            markup=False,
        )
        return
    source = chosen[1].source
    reason = None if source is None else card.fill_from(out, source)
    if reason is not None:
        notes.append(f"{source}: {reason}")
    esphome_manifest.write(path, esphome.manifest(out, before, keyword, chosen[0], made.arena, options))
    console.print(f"wrote {path}", markup=False)
    for line in notes:
        console.print(line, markup=False)
