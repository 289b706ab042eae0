# SPDX-License-Identifier: Apache-2.0
"""The model card beside an exported file, ``NAME.md``: what it spots, what it was made of, what is known of it.

``export`` writes it, ``evaluate`` fills in its two measured parts, which stand between marks. Nothing is written that
was not measured, and what was not is said to be so. A card that names a threshold takes numbers of no other one, so
that it does not contradict itself. Imports no TensorFlow.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import pathlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tfmot_kws import atomic
from tfmot_kws.commands.parts import intervals
from tfmot_kws.commands.parts.sidecar import Sidecar
from tfmot_kws.data import shards
from tfmot_kws.frontend import features

_PARTS = {"clips": "not measured on clips", "streams": "not measured on long recordings: no threshold, no curve"}
_RATES = (0.1, 0.2, 0.5, 1, 2, 5, 10)
"""False accepts an hour among which people choose."""
_SAME = 1e-6
"""Thresholds that differ less (relative) are one: a scale of a file is a float32."""
_LICENCE = ("licence", "license")


def path_of(model: pathlib.Path) -> pathlib.Path:
    """Where the card of a model lies."""
    return model.with_suffix(".md")


def check(model: pathlib.Path) -> None:
    """Raises ValueError where a file that is no card of ours would be lost; before any work is done."""
    path = path_of(model)
    if path.is_file() and _mark("clips") not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{path}: is no model card that was written here, and would be replaced by one; move it away")


def data_of(folder: pathlib.Path, use: str) -> dict[str, Any]:
    """What a sidecar keeps of a folder of recordings: its name and its licences.

    Args:
        folder: ``--data``: a folder, with or without ``manifest.csv``, a .csv file, or prepared shards.
        use: what it was used for.

    Returns:
        ``licences`` has the clips of each licence that a column ``licence`` names; None where there is no such column.
    """
    if shards.is_place(folder):
        return {**shards.open_place(folder).about["notes"].get("data", {"folder": str(folder)}), "use": use}
    table = folder / "manifest.csv" if folder.is_dir() else folder
    licences = None
    if table.is_file() and table.suffix == ".csv":
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            column = next((name for name in rows.fieldnames or () if name.strip().lower() in _LICENCE), None)
            if column is not None:
                licences = dict(Counter((row[column] or "none named").strip() for row in rows).most_common())
    return {"folder": folder.absolute().name, "use": use, "licences": licences}


@dataclasses.dataclass(frozen=True)
class Threshold:
    """What was chosen with an export.

    Attributes:
        text: what is written of it.
        values: by keyword, in real units.
        window: outputs of the model that are averaged.
    """

    text: str
    values: Mapping[str, float]
    window: int

    def mark(self) -> str:
        """The numbers, for ``otherwise``; two hyphens would end the comment."""
        value = json.dumps({"thresholds": dict(self.values), "smooth_steps": self.window})
        return f"<!-- chosen {value.replace('--', chr(92) + 'u002d-')} -->"


def write(model: pathlib.Path, about: Sidecar, chosen: Threshold | None = None) -> pathlib.Path:
    """Writes the card of a file that was just exported; its measured parts are empty again.

    Args:
        model: the .tflite.
        about: its sidecar.
        chosen: the threshold; None where none was chosen.
    """
    parts = [
        f"# {model.stem}",
        f"A keyword spotter for {_words(about.task.keywords)}. Everything else is "
        f"{_words(sorted(set(about.task.classes) - set(about.task.keywords)))}.",
        "## The file",
        *_file(model, about),
        "## Data",
        *_data(about.options.get("data") or ()),
        "## Measured",
        f"When it was trained, the Keras model (not this file): {_metrics(about.metrics)}.",
        *(_part(name, text) for name, text in _PARTS.items()),
        "## Threshold",
        f"{chosen.text}\n\n{chosen.mark()}"
        if chosen
        else "None was chosen with the export; where it was evaluated on long recordings, those above are found.",
        "## Limits",
        *_limits(about),
    ]
    return atomic.write_bytes(path_of(model), _joined(parts).encode())


def _joined(parts: Sequence[str]) -> str:
    return re.sub(r"(?m)^(- .*)\n\n(?=- )", r"\1\n", "\n\n".join(parts)) + "\n"


def of_keras(model: pathlib.Path, about: Sidecar, parameters: int) -> str:
    """The text of a card of a Keras model, which is exported later; it has no measured parts to fill in.

    Args:
        model: .keras.
        about: its sidecar.
        parameters: how many it has.
    """
    parts = [
        f"# {model.stem}",
        f"A keyword spotter for {_words(about.task.keywords)}. Everything else is "
        f"{_words(sorted(set(about.task.classes) - set(about.task.keywords)))}.",
        "## The model",
        f"- `{model.name}`: {about.kind}, {parameters:,} parameters",
        *((f"- widths of weights: trained at {_trained(about.options)}",) if about.kind == "quantized" else ()),
        _front_end(about.frontend),
        "## Data",
        *_data(about.options.get("data") or ()),
        "## Measured",
        f"{_metrics(about.metrics)[:1].upper()}{_metrics(about.metrics)[1:]}.",
        "## Limits",
        *_limits(about),
    ]
    return _joined(parts)


def fill(model: pathlib.Path, name: str, text: str) -> pathlib.Path | None:
    """Puts what was measured into a part of the card; None where there is no card of ours."""
    path = path_of(model)
    if not path.is_file():
        return None
    before = path.read_text(encoding="utf-8", errors="replace")
    found = re.compile(f"{re.escape(_mark(name))}.*?{re.escape(_mark('/' + name))}", re.DOTALL)
    if not found.search(before):
        return None
    atomic.write_bytes(path, found.sub(lambda _: _part(name, text), before, count=1).encode())
    return path


def fill_from(model: pathlib.Path, numbers: pathlib.Path) -> str | None:
    """Fills in what ``evaluate --json`` wrote of this very file at its threshold; else says why it does not."""
    value = json.loads(numbers.read_text(encoding="utf-8"))
    if value.get("sha256") != hashlib.sha256(model.read_bytes()).hexdigest() or "streams" not in value:
        return "its numbers are not of this very file; evaluate it and export again to be sure"
    reason = otherwise(model, value)
    if reason is None:
        fill(model, "streams", streams_text(value))
    return reason


def otherwise(model: pathlib.Path, value: Mapping[str, Any]) -> str | None:
    """Why numbers of an evaluation on streams are none of the card's: they are of another threshold than it names.

    Args:
        model: the .tflite.
        value: what ``evaluate --json`` writes.

    Returns:
        None where they are of the card's threshold, or where it names none.
    """
    path = path_of(model)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.search(r"<!-- chosen (\{.*\}) -->", text)
    if found is None:
        return None
    chosen, measured = json.loads(found[1]), value["streams"]["detector"]
    own, others = chosen["thresholds"], measured["thresholds"]
    if own.keys() == others.keys() and chosen["smooth_steps"] == measured["smooth_steps"]:
        if all(math.isclose(own[word], others[word], rel_tol=_SAME) for word in own):
            return None
    # With all digits: rounded ones would be of yet another threshold.
    again = str(next(iter(own.values()))) if len(own) == 1 else ",".join(f"{k}={v}" for k, v in own.items())
    window = measured["smooth_seconds"] * chosen["smooth_steps"] / measured["smooth_steps"]
    smooth = "" if chosen["smooth_steps"] == measured["smooth_steps"] else f" --smooth {window:g}"
    return (
        f"these numbers are of {_detector(others, measured['smooth_steps'])}, {path.name} is of "
        f"{_detector(own, chosen['smooth_steps'])}; to measure that, evaluate with --threshold {again}{smooth}"
    )


def _detector(values: Mapping[str, float], window: int) -> str:
    return f"threshold {', '.join(f'{value:.6g}' for value in values.values())} over {window} outputs"


def clips_text(value: Mapping[str, Any], folder: pathlib.Path) -> str:
    """The part of an evaluation on clips, from what ``evaluate --json`` writes."""
    return f"This file in {value['runtime']}, clips of `{folder.absolute().name}`: {_metrics(value)}."


def streams_text(value: Mapping[str, Any]) -> str:
    """The part of an evaluation on long recordings, from what ``evaluate --json`` writes."""
    found = value["streams"]
    names = ", ".join(f"`{name}`" for name in found["recordings"])
    detector = found["detector"]
    how = "chosen on these recordings" if found["fa_per_hour_wanted"] is not None else "given beforehand"
    lines = [
        f"This file in {value['runtime']}, {found['seconds'] / 3600:.2f} hours of {names}, thresholds {how} "
        f"({detector['mode']}, {detector['smooth_seconds']:g} s averaged, {detector['refractory_seconds']:g} s after a "
        "detection without another):",
        "| keyword | threshold | spoken | missed (95 %) | false accepts | an hour |\n|---|---:|---:|---:|---:|---|\n"
        + "\n".join(
            f"| {word} | {detector['thresholds'][word]:.4g} | {result['targets']} | {_missed(result)} | "
            f"{result['false_accepts']} | {_rate(result)} |"
            for word, result in found["keywords"].items()
        ),
    ]
    for word, curve in found["curves"].items():
        if curve["frr"] is not None and curve["thresholds"]:
            alone = "" if len(found["curves"]) == 1 else ", as if it were the only keyword"
            lines += [f"Curve of {word}{alone}:", _curve(curve, found["keywords"][word], detector["thresholds"][word])]
    return "\n\n".join(lines)


def _curve(curve: Mapping[str, Any], result: Mapping[str, Any], threshold: float) -> str:
    """Where most are found at each rate that people choose among, and where the detector stands."""
    points = list(zip(curve["fa_per_hour"], curve["frr"], curve["thresholds"]))
    hours = result["hours"]
    rows: dict[tuple[float, float, float], list[str]] = {}
    for rate in (0, *(rate for rate in _RATES if rate * hours >= 1.0)):  # less than one in all hours is none
        best = min((p for p in points if p[0] <= rate), key=lambda p: (p[1], p[0], p[2]))
        rows.setdefault(best, []).append(f"{rate:g}")
    chosen = next((p for p in rows if math.isclose(p[2], threshold)), None)
    chosen = chosen or (result["fa_per_hour"], result["frr"], threshold)
    rows.setdefault(chosen, []).append("**this threshold**")
    table = [
        f"| {', '.join(labels)} | {limit:.4g} | {_share(missed)} | {_number(rate)} |"
        for (rate, missed, limit), labels in sorted(rows.items())
    ]
    return "| allowed an hour | threshold | missed | false accepts an hour |\n|---|---:|---:|---:|\n" + "\n".join(table)


def _file(model: pathlib.Path, about: Sidecar) -> list[str]:
    from tflite_export import inspect as inspect_model

    summary = inspect_model.inspect(model.read_bytes())
    options, front = about.options, about.frontend
    widths = Counter(layer.weight_bits for layer in summary.layers if layer.weight_bits)
    stored = ", ".join(f"{count} of {bits} bits" for bits, count in sorted(widths.items())) or "none"
    kind = f"stream, state {options['streaming']}" if options.get("streaming") else "whole clips"
    return [
        f"- `{model.name}`: {summary.file_bytes:,} bytes, {summary.weights:,} weights, {summary.macs:,} "
        f"multiply-accumulates a run; {kind}; {options.get('ops', 'unknown')} ops",
        f"- widths of weights: trained at {_trained(options)}; layers as stored: {stored}",
        _front_end(front),
    ]


def _trained(options: Mapping[str, Any]) -> str:
    trained = f"{options.get('bits', 'unknown')} bits"
    if options.get("dynamic"):
        trained = f"dynamic {options['dynamic']}"
    if options.get("widths"):
        trained = f"widths learned for each layer ({', '.join(f'{k} {v}' for k, v in options['widths'].items())})"
    if options.get("activation_widths"):
        trained += f"; of activations too ({', '.join(f'{k} {v}' for k, v in options['activation_widths'].items())})"
    apart = options.get("layer_bits")
    return trained + (f", apart from {', '.join(f'{k} {v}' for k, v in apart.items())}" if apart else "")


def _front_end(front: features.FrontendConfig) -> str:
    if front.backend == "raw":
        return f"- no front end: the network hears samples of 16 bits, {front.sample_rate} Hz mono"
    return (
        f"- front end `{front.backend}`: {front.mel_bins} bands, {front.window_ms} ms every {front.hop_ms} ms, "
        f"{front.sample_rate} Hz mono{'' if front.pcan else ', without automatic gain (PCAN)'}"
    )


def _data(data: Sequence[Mapping[str, Any]]) -> list[str]:
    if not data:
        return ["Not known: the model's files do not say what it was trained on."]
    lines = []
    for one in data:
        lines.append(f"- `{one['folder']}`, {one['use']}: " + ("" if one["licences"] else "no licences named"))
        lines[-1] += "; ".join(f"{name} ({count} recordings)" for name, count in (one["licences"] or {}).items())
    return lines


def _metrics(metrics: Mapping[str, Any]) -> str:
    if not metrics.get("clips"):
        return "not measured"
    return (
        f"accuracy {metrics['accuracy']:.1%} on {metrics['clips']:,} clips of {' and '.join(metrics['splits'])}; "
        f"{metrics['fdr']:.2%} false detections where {metrics['frr']:.1%} of the keywords are missed"
    )


def _limits(about: Sidecar) -> list[str]:
    unknown = about.task.unknown
    return [
        "- What was measured holds for recordings like those; other rooms, distances, microphones, accents, ages and "
        "languages were not measured unless a folder above has them.",
        "- Words that sound alike are the first to be taken for a keyword; measure on those that are said around it.",
        *(() if unknown else ("- It was trained on no other words: any word may be taken for a keyword.",)),
        "- It spots words; it does not know who speaks and is no lock.",
        *(f"- {line}" for line in about.options.get("limits") or ()),
    ]


def _part(name: str, text: str) -> str:
    return f"{_mark(name)}\n{text[:1].upper() + text[1:]}\n{_mark('/' + name)}"


def _mark(name: str) -> str:
    return f"<!-- {name} -->"


def _words(words: Sequence[str]) -> str:
    return ", ".join(f"**{word}**" for word in words) or "nothing"


def _share(value: float | None) -> str:
    return "none spoken" if value is None else f"{value:.1%}"


def _missed(result: Mapping[str, Any]) -> str:
    """With its interval; numbers of before intervals were written have none."""
    interval = result.get("frr_interval")
    return _share(result["frr"]) if interval is None else intervals.share(result["frr"], interval)


def _rate(result: Mapping[str, Any]) -> str:
    interval = result.get("fa_per_hour_interval")
    return (
        _number(result["fa_per_hour"])
        if interval is None
        else intervals.rate(result["fa_per_hour"], interval, result["hours"])
    )


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"
