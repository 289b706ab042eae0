# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws firmware``: a spotter as C, from features to detections."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfmot_kws.commands.parts import spotter
from tfmot_kws.frontend import features

if TYPE_CHECKING:
    from tflite_export.c import arduino

_MOST_RAW = 1420
"""64 * ln(2^32), rounded up: no feature of the micro front end is larger."""
_NUMBERS_A_LINE = 24
_NAME, _PREFIX = "kws_spotter", "kws"
_MOST_SECONDS = 30
"""Of a sound that an example carries: 120 kB of frames at a hop of 10 ms."""


def run(
    models: pathlib.Path | Sequence[pathlib.Path],
    out: pathlib.Path,
    threshold: str | float | Sequence[str] | None,
    smooth: float | None,
    refractory: float | None,
    package: str | None = None,
    names: str | Sequence[str] | None = None,
    sound: pathlib.Path | None = None,
) -> list[pathlib.Path]:
    """Writes spotters as C into a folder: of each NAME_inference.c and .h, NAME_spotter.h; and kws_config.h, the list
    of what all of them use of the kernels. Returns the paths.

    One model without a name is called kws, and takes tflite_export's kws_listener.c as it is; for others a listener of
    their own is written too. With ``package``, one of ``component.SYSTEMS``, the folder is a component of that build
    system, called by the names, or kws_spotter. The example of an Arduino library runs the first model on ``sound``, or
    where that is None on one that is computed.

    Raises what ``spotter.open_spotter`` raises, ValueError where a file cannot be written as C, names do not suit the
    models or one is none, and FileExistsError where a component's folder is there already. Nothing is written then.
    """
    from tflite_export.c import arrays as c_writer
    from tflite_export.c import component, uses

    models = [models] if isinstance(models, pathlib.Path) else list(models)
    given = [names] if isinstance(names, str) else list(names or ())
    prefixes = _prefixes(models, given)
    limits = _limits(models, threshold)
    if package is not None:
        component.check(package, out, "_".join(given) or _NAME)
    if sound is not None and package != "arduino":
        raise ValueError(f"--sound {sound}: is for the example of --package arduino; nothing else carries a sound")
    if sound is not None and not sound.is_file():
        raise FileNotFoundError(f"--sound {sound}: no such file; give a recording of a few seconds")
    ears = [_open(model, limit, smooth, refractory, out) for model, limit in zip(models, limits)]
    for model, ear in zip(models, ears):
        if package == "arduino" and ear.frontend.backend == "raw":
            raise ValueError(
                f"{model}: takes samples, and the sketch of an Arduino library is for features; use another --package, "
                "and kws_listener_samples() of kws_listener.h"
            )
    parts = [
        component.Part(prefix, model.read_bytes(), header(ear), ear.keywords)
        for prefix, model, ear in zip(prefixes, models, ears)
    ]
    if package is not None:
        recorded = _recorded(ears[0], sound) if package == "arduino" else None
        paths = component.write_component(package, out, parts, "_".join(given) or _NAME, recorded)
    else:
        texts: dict[str, str] = {}
        used = uses.Uses()
        for part in parts:
            own, of_part = part.texts(listener=bool(given))
            texts |= own
            used |= of_part
        texts[uses.CONFIG] = uses.header(used, prefixes)
        out.mkdir(parents=True, exist_ok=True)
        paths = [c_writer.write_text(out / file, text) for file, text in texts.items()]
    for path in paths:
        print(path)
    return paths


def _prefixes(models: Sequence[pathlib.Path], names: Sequence[str]) -> list[str]:
    """What the names in the C of each model begin with."""
    from tflite_export.c import component

    if len(names) != len(models) and (names or len(models) != 1):
        raise ValueError(
            f"--name: {len(models)} models and {len(names)} names; give each model one, in the same order: --model "
            f"a.tflite --name a --model b.tflite --name b"
        )
    for name in names:
        component.check_name(name)
    if len({name.upper() for name in names}) != len(names):
        raise ValueError(f"--name {', '.join(names)}: functions and macros begin with them; give two that differ")
    return list(names) or [_PREFIX]


def _limits(
    models: Sequence[pathlib.Path], threshold: str | float | Sequence[str] | None
) -> Sequence[str | float | None]:
    """The threshold of each model: one for all, or one for each."""
    if threshold is None or isinstance(threshold, (str, float, int)):
        return [threshold] * len(models)
    if len(threshold) not in (1, len(models)):
        raise ValueError(f"--threshold: {len(models)} models and {len(threshold)} thresholds; give one, or one a model")
    return list(threshold) * (len(models) if len(threshold) == 1 else 1)


def _open(
    model: pathlib.Path,
    threshold: str | float | None,
    smooth: float | None,
    refractory: float | None,
    out: pathlib.Path,
) -> spotter.Spotter:
    """A spotter that can be written as C; else what can be made of its file is said."""
    from tflite_export.flatbuffer import reader as flatbuffer_reader

    try:
        ear = spotter.open_spotter(
            model, threshold=threshold, smooth=smooth, refractory=refractory, runtime="reference"
        )
    except flatbuffer_reader.FormatError as error:
        raise ValueError(
            f"{model}: {error}; firmware is made of what 'tfmot-kws export --streaming internal' writes, without --for "
            "and with packed ops. Stock ops need an interpreter: 'python -m tflite_export c' writes the file as an "
            "array for TensorFlow Lite Micro, 'tfmot-kws npu --stream --c-array' of a .keras file a stream for it, "
            "with or without an Ethos-U"
        ) from error
    if ear.input is None:
        raise ValueError(
            f"{model}: takes float features (dynamic quantization), and the firmware's front end makes int8; the model "
            f"alone is written as C by: python -m tflite_export inference {model} {out}, and what it uses of the "
            f"kernels by: python -m tflite_export config {model} {out}; float features and the detector are then yours "
            "to put around it"
        )
    return ear


def _recorded(ear: spotter.Spotter, path: pathlib.Path | None) -> arduino.Recorded:
    """What the example carries: a recording, or one second more of computed sound than the detector waits for."""
    from tflite_export.c import arduino
    from tfmot_kws.sound import files

    config, rate = ear.config, ear.frontend.sample_rate
    least = ear.seconds(config.smooth - 1)
    sound = _computed(rate, least + 1.0) if path is None else files.read(path, rate)
    if len(sound) > _MOST_SECONDS * rate:
        raise ValueError(
            f"--sound {path}: {len(sound) / rate:.0f} s, and the example carries at most {_MOST_SECONDS}, for the sake "
            "of the flash; give a shorter one"
        )
    frames = ear.frames(sound)
    ear.reset()
    outputs = ear.outputs(sound)
    ear.reset()
    heard = ear.step(sound)
    if ear.scores is None:
        raise ValueError(
            f"--sound {path}: {len(sound) / rate:.2f} s, and the detector says nothing before {least:.2f} s; give a "
            "longer one"
        )
    return arduino.Recorded(
        "computed noise and tones; nobody speaks" if path is None else path.name,
        frames,
        [(ear.keywords.index(one.keyword), round(1000 * one.seconds)) for one in heard],
        ear.scores,
        len(outputs),
        config.scale / config.smooth / 2,
    )


def _computed(rate: int, seconds: float) -> np.ndarray:
    """int16: noise with tones that come and go, so that every band of the front end has something to do."""
    time = np.arange(round(rate * seconds)) / rate
    rng = np.random.default_rng(1)
    tones = sum(
        np.sin(2 * np.pi * hz * time) * np.sin(2 * np.pi * (0.7 + hz / 4000) * time) ** 2 for hz in (300, 1100, 2900)
    )
    return np.clip(2500 * tones + rng.normal(0, 300, len(time)), -32768, 32767).astype(np.int16)


def write_header(ear: spotter.Spotter, out: pathlib.Path) -> pathlib.Path:
    """Writes kws_spotter.h: settings of the front end and of the detector, and names; complete or as it was before."""
    from tflite_export.c import arrays as c_writer

    out.mkdir(parents=True, exist_ok=True)
    return c_writer.write_text(out / "kws_spotter.h", header(ear))


def header(ear: spotter.Spotter) -> str:
    """The text of kws_spotter.h."""
    config, frontend = ear.config, ear.frontend
    words = ", ".join(f'"{_escaped(word)}"' for word in ear.keywords)
    limits = ", ".join(f"{limit:g}" for limit in config.thresholds)
    first, second = (round(1000 * ear.seconds(step)) for step in (0, 1))
    lines = [
        "/* Made by 'tfmot-kws firmware': do not edit. */",
        "#ifndef KWS_SPOTTER_H_",
        "#define KWS_SPOTTER_H_",
        "",
        '#include "detector.h"',
        "",
        f"/* Detector. Thresholds: {limits}, of the mean over {config.smooth} steps. */",
        f"#define KWS_SPOTTER_HISTORY {len(config.keywords) * config.smooth}",
        f"static const char* const kws_spotter_words[] = {{{words}}};",
        f"static const int32_t kws_spotter_classes[] = {{{_joined(config.keywords)}}};",
        f"static const int32_t kws_spotter_thresholds[] = {{{_joined(map(_int32, config.sum_thresholds))}}};",
        "static const kws_detector_config kws_spotter_detector = {",
        f"    {config.classes}, {len(config.keywords)}, kws_spotter_classes, kws_spotter_thresholds, {config.smooth}, "
        f"{config.refractory}, {config.zero_point}, {str(config.mode == 'margin').lower()}}};",
        "",
        "/* The mean score of a window in real units, from kws_detector_sum(). */",
        f"#define KWS_SPOTTER_SCORE(sum) ((sum) * {config.scale!r} / {config.smooth})",
        "",
        "/* Milliseconds of sound until the first row of the model's output, and from row to row. */",
        f"#define KWS_SPOTTER_FIRST_MS {first}",
        f"#define KWS_SPOTTER_STEP_MS {second - first}",
        "",
        f"/* Front end ({frontend.backend}). */",
        f"#define KWS_SPOTTER_SAMPLE_RATE {frontend.sample_rate}",
        f"#define KWS_SPOTTER_MEL_BINS {frontend.mel_bins}",
        f"#define KWS_SPOTTER_WINDOW_MS {frontend.window_ms}",
        f"#define KWS_SPOTTER_HOP_MS {frontend.hop_ms}",
        f"#define KWS_SPOTTER_LOWER_HZ {float(frontend.lower_hz)!r}f",
        f"#define KWS_SPOTTER_UPPER_HZ {float(frontend.upper_hz)!r}f",
        *([_pcan(ear), *_table(ear)] if frontend.backend == "micro" else []),
        *(["#define KWS_SPOTTER_RAW /* the network hears samples */"] if frontend.backend == "raw" else []),
        "",
        "#endif /* KWS_SPOTTER_H_ */",
        "",
    ]
    return "\n".join(lines)


def feature_table(ear: spotter.Spotter) -> np.ndarray:
    """int8 [n]: what the model takes for the values 0, 1, ... of the micro front end; larger ones are as the last."""
    from tflite_export.reference import arithmetic

    raw = np.arange(_MOST_RAW + 1, dtype=np.uint16)
    table = arithmetic.quantize(raw.astype(np.float32) * np.float32(features.MICRO_SCALE), ear.input)
    return table[: np.argmax(table == table[-1]) + 1]


def _pcan(ear: spotter.Spotter) -> str:
    return f"#define KWS_SPOTTER_PCAN {int(ear.frontend.pcan)} /* the library's enable_pcan */"


def _table(ear: spotter.Spotter) -> list[str]:
    table = feature_table(ear)
    rows = [table[i : i + _NUMBERS_A_LINE] for i in range(0, len(table), _NUMBERS_A_LINE)]
    return [
        "",
        "/* The model's int8 for each value of TFLM's front end, larger values as the last: nothing to round here. */",
        f"#define KWS_SPOTTER_FEATURES {len(table)}",
        "static const int8_t kws_spotter_features[KWS_SPOTTER_FEATURES] = {",
        *(f"    {_joined(row)}," for row in rows),
        "};",
    ]


def _joined(numbers) -> str:
    return ", ".join(map(str, numbers))


def _int32(value: int) -> str:
    """The smallest int32 has no literal in C."""
    return str(value) if value > -(2**31) else "-2147483647 - 1"


def _escaped(word: str) -> str:
    """The inside of a C string: UTF-8, bytes that are no plain letters in octal."""
    codes = word.encode()
    return "".join(chr(c) if 32 <= c < 127 and c not in b'"\\?' else f"\\{c:03o}" for c in codes)
