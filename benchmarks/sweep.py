# SPDX-License-Identifier: Apache-2.0
"""The sweep of docs/how-to/experiments.md, on words that espeak-ng speaks: its table and its picture.

    python -m benchmarks.sweep FOLDER

Speaks the words into FOLDER, runs ``tfmot-kws train --sweep`` there, which goes on where it was stopped, and writes
``results/sweep.json`` and ``docs/images/sweep.svg``.
"""

from __future__ import annotations

import argparse
import json
import pathlib

from benchmarks import common
from tfmot_kws.commands import train
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.data import synthetic
from tfmot_kws.evaluation import sweep_plot

SPACE = "bits=8,4,2,1 width=18,32,64 learning_rate=5e-4:4e-3:log"
TRIALS, EPOCHS, STAGES, CLIPS, BATCH, COPIES = 8, 15, "5,3", 1000, 32, 2
PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "images" / "sweep.svg"
COLUMNS = (
    ("trial", "trial", "d"), ("bits", "bits", "d"), ("width", "width", "d"), ("learning_rate", "rate", ".2g"),
    ("det_area", "DET area", ".5f"), ("accuracy", "accuracy", ".1%"), ("parameters", "parameters", ",d"),
    ("bytes", "bytes", ",d"), ("best", "", ""),
)  # fmt: skip


def table(value: dict, metrics: dict) -> tuple[list[dict], list[str]]:
    """Rows and notes of a study.

    Args:
        value: its ``sweep.json``.
        metrics: of the sidecar of its best model.
    """
    rows = [{**trial, "best": "best" if trial["trial"] == value["best"] else ""} for trial in value["trials"]]
    notes = [
        f"{CLIPS:,} clips spoken by espeak-ng, {EPOCHS} epochs and {STAGES.replace(',', ' and ')} while quantized, "
        f"judged by {value['judged_by']}.",
        f"The best has a DET area of {metrics['det_area']:.5f} on the {metrics['clips']:,} clips of "
        f"{' and '.join(metrics['splits'])}.",
    ]
    return rows, notes


def draw(value: dict, path: pathlib.Path) -> None:
    """The picture of a study, as the command draws it, but to be scaled."""
    points = {
        trial["trial"]: sweep_plot.Point(
            trial["bytes"], trial["det_area"], f"bits {trial['bits']}", str(trial["trial"])
        )
        for trial in value["trials"]
        if "bytes" in trial
    }
    sweep_plot.plot_sweep(
        sorted(points.values(), key=lambda p: -int(p.kind.split()[1])), path, best=points[value["best"]],
        size_label="bytes of the .tflite file", value_label=f"DET area on {value['judged_by']}",
        title=f"{len(points)} trials by {value['method']}",
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="for recordings, features and the study")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--picture", type=pathlib.Path, default=PICTURE)
    options = parser.parse_args(arguments)
    synthetic.synthesize(options.folder / "words", clips=CLIPS)
    out = options.folder / "study"
    train.train(
        data=options.folder / "words", out=out, epochs=EPOCHS, cache=options.folder / "cache", sweep=SPACE,
        trials=options.trials, sweep_stages=STAGES, copies=COPIES, batch_size=BATCH,
    )  # fmt: skip
    value = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    rows, notes = table(value, sidecar.read(out / "best.keras").metrics)
    draw(value, options.picture)
    print(common.write("sweep", "A sweep", COLUMNS, rows, notes))


if __name__ == "__main__":
    main()
