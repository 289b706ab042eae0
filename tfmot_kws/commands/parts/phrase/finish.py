# SPDX-License-Identifier: Apache-2.0
"""The file for the device, its threshold from the selection streams, and the report of the test streams."""

from __future__ import annotations

import json
import pathlib
import shlex
from typing import Any

import rich.console

from tfmot_kws import extras
from tfmot_kws.commands import evaluate, export
from tfmot_kws.commands.parts import card, esphome, evaluate_streams, intervals, sidecar
from tfmot_kws.commands.parts.phrase import learn
from tfmot_kws.commands.parts.phrase.plan import OWN_STREAMS, SELECTION, STREAMS, Options

_LANGUAGES = ("en",)


def check_packages() -> None:
    """Raises ImportError where the report could not be written at the end."""
    for package in ("matplotlib", "jinja2"):
        extras.require(package, "the report")


def model_of(options: Options) -> pathlib.Path:
    """The file for the device."""
    return options.file(".tflite")


def write_model(options: Options) -> dict[str, Any]:
    """Exports the quantized model: for ESPHome where that is asked for, else with packed ops, as a stream."""
    if options.device == "esphome":
        plain = esphome.Options(languages=_LANGUAGES)
        export.run_for("esphome", options.file(learn.QUANTIZED), model_of(options), plain, "any", None, False, False)
    else:
        export.run(options.file(learn.QUANTIZED), model_of(options), "packed", "any", "internal", False, False)
    return {"bytes": model_of(options).stat().st_size}


def choose_threshold(options: Options) -> dict[str, Any]:
    """Runs the file on the selection streams; the threshold for the rate goes into ``threshold.json``."""
    asked = evaluate_streams.Options(options.work / SELECTION, None, fa_per_hour=options.fa_per_hour)
    path = options.out / "threshold.json"
    evaluate.run(model_of(options), None, None, None, 0.05, None, path, None, asked)
    if options.device == "esphome":
        chosen = esphome.Options(threshold=str(path), languages=_LANGUAGES)
        export.run_for("esphome", options.file(learn.QUANTIZED), model_of(options), chosen, "any", None, False, False)
    found = _numbers(path, options.word)
    if options.device is None:
        text = (
            f"- {found['threshold']:.4g}, chosen for {options.fa_per_hour:g} false accepts an hour on streams that "
            f"neither training nor the test heard; there: {_rates(found)}"
        )
        detector = json.loads(path.read_text(encoding="utf-8"))["streams"]["detector"]
        chosen = card.Threshold(text, detector["thresholds"], detector["smooth_steps"])
        card.write(model_of(options), sidecar.read(model_of(options)), chosen)
    return found


def test(options: Options) -> dict[str, Any]:
    """Runs the file, at that threshold, on streams of voices and noise that nothing was chosen by; writes the report.

    Returns:
        ``test``, and ``own`` where there are recordings of the user's own voice: misses, false accepts, intervals.
    """
    found = {}
    # The user's own streams first: what is measured last stays in the card.
    for name, folder, report, numbers, curve in (
        ("own", OWN_STREAMS, "report_own.html", "numbers_own.json", None),
        ("test", STREAMS, "report.html", "numbers.json", options.out / "fa.svg"),
    ):
        if name == "own" and options.own is None:
            continue
        asked = evaluate_streams.Options(
            options.out / folder, None, fa_per_hour=options.fa_per_hour,
            threshold=str(options.out / "threshold.json"), report=options.out / report,
        )  # fmt: skip
        evaluate.run(model_of(options), None, None, None, 0.05, curve, options.out / numbers, None, asked)
        found[name] = _numbers(options.out / numbers, options.word)
    return found


def _numbers(path: pathlib.Path, word: str) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))["streams"]
    one = found["keywords"][word]
    kept = ("targets", "frr", "frr_interval", "false_accepts", "hours", "fa_per_hour", "fa_per_hour_interval")
    return {"threshold": found["detector"]["thresholds"][word], **{name: one[name] for name in kept}}


def show(
    console: rich.console.Console, options: Options, chosen: dict[str, Any], found: dict[str, Any],
    limits: list[str],
) -> None:  # fmt: skip
    """The summary: what it is, how well it listens, where things are and what to do next."""
    model, test_of = model_of(options), found["test"]
    lines = [
        "",
        f"{model}: {options.word!r} in {model.stat().st_size:,} bytes, weights of {options.bits} bits",
        f"threshold {chosen['threshold']:.4g}, chosen on {chosen['hours']:.2f} hours for {options.fa_per_hour:g} false "
        f"accepts an hour; there: {_rates(chosen)}",
        f"on sound that nothing was chosen by: {_rates(test_of)}",
    ]
    if "own" in found:
        lines.append(f"your own voice, recordings that were kept for the test: {_missed(found['own'])}")
    lines += limits
    quoted = shlex.quote(str(model))
    numbers = shlex.quote(str(options.out / "numbers.json"))
    lines += [
        f"report: {options.out / 'report.html'}; curve: fa.svg; numbers: numbers.json; card: {options.stem}.md; what "
        "was heard: streams/",
    ]
    lines += [
        f"next: tfmot-kws listen --model {quoted} --threshold {numbers}",
        f"      tfmot-kws serve {quoted} --threshold {numbers}",
    ]
    if options.device == "esphome":
        lines.append(f"      or give {model.name} and {options.stem}.json to ESPHome")
    else:
        lines.append(f"      tfmot-kws firmware --model {quoted} --help")
    for line in lines:
        console.print(line, markup=False)


def _rates(found: dict[str, Any]) -> str:
    rate = intervals.rate(found["fa_per_hour"], found["fa_per_hour_interval"], found["hours"])
    return f"{_missed(found)}, {rate}"


def _missed(found: dict[str, Any]) -> str:
    if found["frr"] is None:
        return "the phrase is not in it"
    return f"missed {intervals.share(found['frr'], found['frr_interval'])} of {found['targets']} (95 % in brackets)"
