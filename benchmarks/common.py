# SPDX-License-Identifier: Apache-2.0
"""Results of benchmarks: one JSON file each, with the machine they were measured on."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmot_kws.evaluation import report

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def over_seeds(seeds: Sequence[Mapping[str, dict]], keys: Sequence[str], spread: Sequence[str]) -> list[dict]:
    """Rows of the means over seeds, in the order of the first, with ``KEY_spread``, some standard deviations.

    Args:
        seeds: rows by name, of each seed.
        keys: what is averaged; a value that no seed has is None.
        spread: of these, whose standard deviation is wanted; 0 of one seed.
    """
    rows = []
    for name in seeds[0]:
        found = [rows_of[name] for rows_of in seeds]
        row: dict[str, Any] = {"model": name, "seeds": found}
        for key in keys:
            known = [one[key] for one in found if one.get(key) is not None]
            row[key] = float(np.mean(known)) if known else None
        for key in spread:
            row[f"{key}_spread"] = float(np.std([one[key] for one in found], ddof=1)) if len(found) > 1 else 0.0
        rows.append(row)
    return rows


def write(name: str, title: str, columns: Sequence[tuple[str, str, str]], rows: Sequence[dict], notes: Sequence[str]):
    """Writes ``results/NAME.json`` atomically, in the form that ``readme_tables`` reads; returns its path.

    Args:
        name: file name without the ending.
        title: above the table.
        columns: (key, label, format spec) each.
        rows: by column key.
        notes: sentences below the table.
    """
    result: dict[str, Any] = {
        "title": title,
        "machine": report.machine(),
        "columns": [{"key": key, "label": label, "format": spec} for key, label, spec in columns],
        "rows": list(rows),
        "notes": list(notes),
    }
    RESULTS.mkdir(exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=RESULTS, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    os.chmod(temporary, 0o644)
    os.replace(temporary, RESULTS / f"{name}.json")
    return RESULTS / f"{name}.json"
