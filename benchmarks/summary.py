"""The README's table: six models of one size, the usual way and ours, from what the other benchmarks measured.

Nothing is measured here: every number is looked up in ``benchmarks/results``, and one that is not there is a dash.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

COLUMNS = (
    ("model", "weights", ""),
    ("bytes", "file, bytes", ",d"),
    ("less", "times smaller", ".1f"),
    ("x86", "x86-64: us a clip", ".0f"),
    ("a53", "Cortex-A53: instructions a MAC", ".2f"),
    ("m4", "Cortex-M4: instructions a MAC", ".2f"),
    ("large", "accuracy %, 250K parameters", ".1f"),
    ("small", "accuracy %, 15K parameters", ".1f"),
)

# Row of the table -> row of accuracy_*.json, row of host_time.json, (kernel, column) on Cortex-A53 and Cortex-M4.
_CORTEX_A53 = "ours, neon"
_CORTEX_M4 = "ours, dsp, for cortex-m4"
ROWS = (
    ("TFLite, float32", "float+", "TFLite float32", ("XNNPACK float32", "b32"), ("float32 loop", "b32")),
    (
        "TFLite, int8",
        "TFMOT default, 8 bits",
        "TFLite int8",
        ("XNNPACK int8", "b8"),
        ("CMSIS-NN s8, per channel", "b8"),
    ),
    *(
        (f"ours, {name}", f"ours, {name}", f"ours, {name}", (_CORTEX_A53, f"b{bits}"), (_CORTEX_M4, f"b{bits}"))
        for bits, name in ((8, "8 bits"), (4, "4 bits"), (2, "2 bits"), (1, "1 bit"))
    ),
)


def _read(results: pathlib.Path, name: str) -> dict[str, Any]:
    path = results / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": []}


def _find(result: Mapping[str, Any], key: str, **wanted: Any) -> Any:
    """A value of the first row whose entries are those wanted; None where there is none."""
    return next(
        (row.get(key) for row in result["rows"] if all(row.get(name) == value for name, value in wanted.items())), None
    )


def summary(results: pathlib.Path) -> dict[str, Any]:
    """The table in the form of a results file, from the files of a folder."""
    host, kernels = _read(results, "host_time"), _read(results, "arm_kernels_256")
    large, small = _read(results, "accuracy_250k"), _read(results, "accuracy_15k")
    rows = []
    for title, method, model, a53, m4 in ROWS:
        bytes_ = _find(host, "bytes", model=model)
        most = _find(host, "bytes", model="TFLite float32")
        rows.append(
            {
                "model": title,
                "bytes": bytes_,
                "less": most / bytes_ if most and bytes_ else None,
                "x86": _find(host, "micros", model=model),
                "a53": _kernel(kernels, "cortex-a53", *a53),
                "m4": _kernel(kernels, "cortex-m4", *m4),
                "large": _find(large, "accuracy", method=method),
                "small": _find(small, "accuracy", method=method),
            }
        )
    return {
        "machine": host.get("machine", {}),
        "columns": [{"key": key, "label": label, "format": spec} for key, label, spec in COLUMNS],
        "rows": rows,
        "notes": _notes(large, small),
    }


def _kernel(kernels: Mapping[str, Any], core: str, kernel: str, key: str) -> float | None:
    return _find(kernels, key, core=core, kernel=kernel, batch=1)


def _notes(large: Mapping[str, Any], small: Mapping[str, Any]) -> list[str]:
    spreads = [
        max((row["spread"] for row in result["rows"] if row["method"] in {r[1] for r in ROWS}), default=None)
        for result in (large, small)
    ]
    notes = [
        "File and x86-64: the 250K spotter, one thread, TFLite with XNNPACK.",
        "MAC: a multiply-accumulate, in a dense layer of 256 x 256; instructions are counted under QEMU; TFLite's "
        "rows are XNNPACK (A53), a plain float loop and CMSIS-NN (M4), counted once, outside this repository.",
        "Accuracy: real speech, eight classes, mean of seeds; float32 is trained as long as the others, int8 by "
        "TFMOT's default scheme.",
    ]
    if None not in spreads:
        notes.append(f"Standard deviation over seeds: up to {spreads[0]:.1f} points (250K) and {spreads[1]:.1f} (15K).")
    return notes
