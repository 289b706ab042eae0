"""Writes tfmot_kws/quantize/instructions.json: factors that give the counts of benchmarks/layer_instructions.py.

python scripts/make_instruction_table.py

Least squares of relative errors; run it after ``python -m benchmarks.layer_instructions``.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
COUNTS = ROOT / "benchmarks" / "results" / "layer_instructions.json"
TARGET = ROOT / "tfmot_kws" / "quantize" / "instructions.json"
AT_ONCE = {"kws_packed_dense_i8mm": 4, "kws_packed_dense_dotprod": 2}
"""Places that kernels multiply together, where these are more than one."""
DIGITS = 6


def terms(row: dict, cell: str) -> np.ndarray:
    """What the factors of a row are multiplied with for a cell; those of places that stay alone last."""
    from tfmot_kws.quantize import costs
    from tfmot_kws.quantize import instruction_table as table

    first, second, places = map(int, cell.split("x"))
    if "depthwise" in row["op"]:
        return table.depthwise_terms(second, first, places)
    rows = costs.BLOCKS["any" if row["op"] == "dynamic" else row["target"]][row["bits"]][0]
    at_once = AT_ONCE.get(row["kernel"], 1)
    together, single = table.split_places(places, first, at_once)
    found = table.dense_terms(second, first, together, rows)
    if at_once == 1:
        return found
    return np.concatenate([found, table.dense_terms(second, first, single, rows)[:-1]])


def fit(row: dict) -> dict:
    """The factors of one kernel, from its counts."""
    counts = np.array(list(row["cells"].values()), np.float64)
    weighed = np.stack([terms(row, cell) for cell in row["cells"]]) / counts[:, None]
    factors = np.linalg.lstsq(weighed, np.ones(len(counts)), rcond=None)[0]
    factors = [float(f"{value:.{DIGITS}g}") for value in factors]
    at_once = AT_ONCE.get(row["kernel"], 1)
    alone: list[float] = []
    if at_once > 1:
        own = (len(factors) + 1) // 2
        factors, alone = factors[:own], [*factors[own:], 0.0]
    named = {key: row[key] for key in ("core", "op", "target", "bits", "function")}
    return {**named, "at_once": at_once, "factors": factors, "alone": alone}


def text() -> str:
    """The whole file."""
    rows = [json.dumps(fit(row), separators=(",", ":")) for row in json.loads(COUNTS.read_text())["rows"]]
    return '{"rows": [\n' + ",\n".join(rows) + "\n]}\n"


def errors(row: dict) -> np.ndarray:
    """How far off the factors of a row are, as shares of its counts."""
    made = fit(row)
    factors = np.array([*made["factors"], *made["alone"][:-1]])
    return np.array([factors @ terms(row, cell) / count - 1.0 for cell, count in row["cells"].items()])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    TARGET.write_text(text())
    print(f"wrote {TARGET.relative_to(ROOT)}")
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for one in json.loads(COUNTS.read_text())["rows"]:
        found.setdefault((one["core"], one["op"]), []).append(errors(one))
    for (core, op), parts in found.items():
        off = np.concatenate(parts)
        print(f"{core:13} {op:15} off by {np.sqrt(np.mean(off**2)):5.1%} in the mean, {np.abs(off).max():5.1%} at most")
