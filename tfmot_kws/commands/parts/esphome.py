# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws export --for esphome``: the file that ``micro_wake_word`` runs, and its manifest."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence

from tfmot_kws.commands.parts import card, esphome_manifest, thresholds
from tfmot_kws.commands.parts.esphome_manifest import Cutoff, Manifest
from tfmot_kws.commands.parts.sidecar import Sidecar
from tfmot_kws.frontend import features


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command is asked for beside the model.

    Attributes:
        keyword: which one; None where the model has only one.
        threshold, smooth: as ``thresholds.choose`` takes them; without a threshold no manifest is written.
        author: as the manifest names them.
        languages: that the model was trained on, such as "en".
    """

    keyword: str | None = None
    threshold: str | None = None
    smooth: float | None = None
    author: str = "unknown"
    languages: tuple[str, ...] = ()


def keyword_of(about: Sidecar, keyword: str | None) -> str:
    """The keyword whose probability is written.

    Raises:
        ValueError: the model has several and none is named, or not this one.
    """
    words = about.task.keywords
    if keyword is None and len(words) > 1:
        raise ValueError(
            f"the model spots {', '.join(words)}; ESPHome runs a file for each keyword: name one by --keyword, and "
            "export once for each"
        )
    if keyword is not None and keyword not in words:
        raise ValueError(f"--keyword {keyword}: the model spots {', '.join(words)}")
    return keyword or words[0]


def check_frontend(frontend: features.FrontendConfig) -> None:
    """Raises ValueError where ESPHome would hear other features than the model was trained on; names all of them."""
    found = frontend.to_dict()
    wanted = features.FrontendConfig(hop_ms=frontend.hop_ms).to_dict() | {"log_floor": frontend.log_floor}
    other = [f"{name} {found[name]!r} instead of {wanted[name]!r}" for name in wanted if found[name] != wanted[name]]
    if other:
        raise ValueError(
            f"the model was trained on other features than ESPHome computes: {', '.join(other)}; train one on those"
        )


def choose(options: Options, keyword: str, step_seconds: float) -> tuple[Cutoff, thresholds.Chosen] | None:
    """The manifest's numbers, and what they were chosen from; None without a threshold.

    Our detector's window of ``smooth`` seconds is ESPHome's sliding window of so many outputs: both compare its sum.

    Raises:
        ValueError, FileNotFoundError: thresholds that are none, of another keyword, or of margins.
    """
    if options.threshold is None:
        return None
    chosen = thresholds.choose(options.threshold, options.smooth, None, (keyword,))
    if chosen.mode == "margin":
        raise ValueError(
            f"--threshold {chosen.source}: thresholds of margins, and ESPHome averages probabilities: the mean of "
            "those says nothing of the mean of these. Export without --threshold, evaluate that .tflite on streams "
            "with --json, and export again with its thresholds"
        )
    window = max(1, math.floor(chosen.smooth / step_seconds + 0.5))
    return esphome_manifest.cutoff(chosen.values[0], window), chosen


def sidecar_of(before: Sidecar, keyword: str, options: dict) -> Sidecar:
    """The sidecar of the file: one keyword, in place of all that the model tells apart."""
    one = dataclasses.replace(before.task, keywords=(keyword,), unknown=True)
    return Sidecar("tflite", before.frontend, one, options, before.metrics)


def manifest(out: pathlib.Path, about: Sidecar, keyword: str, chosen: Cutoff, arena: int, options: Options) -> Manifest:
    """What ESPHome is told of a file."""
    return Manifest(
        out.name,
        keyword,
        options.author,
        chosen.probability,
        chosen.window,
        about.frontend.hop_ms,
        arena,
        options.languages,
    )


def on_card(cutoff: Cutoff, keyword: str, lines: Sequence[str]) -> card.Threshold:
    """What the card says of the manifest's numbers; it takes what was measured at these and at no others."""
    text = "\n".join(f"- {line}" for line in lines)
    return card.Threshold(text, {keyword: cutoff.threshold}, cutoff.window)


def notes(cutoff: Cutoff, origin: thresholds.Chosen, step_seconds: float, hop_ms: int) -> list[str]:
    """What a user is to know of the manifest's numbers."""
    waits = esphome_manifest.IGNORED_STEPS * hop_ms / 1000
    same = math.isclose(origin.values[0], cutoff.threshold, rel_tol=1e-6)
    lines = [
        f"threshold {origin.values[0]:.6g}: fires where the mean of {cutoff.window} outputs "
        f"({cutoff.window * step_seconds:g} s) is {cutoff.threshold:.4f} or more"
        f"{'' if same else ', the next that ESPHome can tell'}: probability_cutoff {cutoff.probability:g}",
        f"after a detection ESPHome waits {waits:g} s or more by itself; our {origin.refractory:g} s is not written",
    ]
    if hop_ms != esphome_manifest.STEPS_MS[0]:
        lines.append(
            f"feature_step_size {hop_ms}: ESPHome's own models take {esphome_manifest.STEPS_MS[0]} and cannot be "
            "loaded beside it (vad among them)"
        )
    return lines
