# SPDX-License-Identifier: Apache-2.0
"""What ``tfmot-kws prepare`` does."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence

from tfmot_kws import parallel
from tfmot_kws.commands.parts import card, results
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.data import prepare, shard_writer, shards
from tfmot_kws.frontend import features


def run(
    data: pathlib.Path,
    out: str,
    keywords: str | None,
    backend: str,
    hop_ms: int,
    pcan: bool,
    copies: int,
    clip_seconds: float,
    context: float,
    sound: bool,
    per_shard: int,
    workers: int,
    beam: Sequence[str],
    verify: bool,
    seed: int,
    speakers: str | None,
) -> None:
    """Writes shards, and says what is in them."""
    parallel.check(workers, beam)
    if pathlib.Path(out).is_file():
        raise ValueError(f"--out {out}: is a file; name a folder")
    console = consoles.stdout()
    phases = Phases(console)
    frontend = features.FrontendConfig(backend=backend, hop_ms=hop_ms, pcan=pcan)
    clips, task, _ = data_files.open_task(console, data, speakers, keywords, clip_seconds, context)
    options = shard_writer.Options(
        task,
        frontend,
        prepare.AUGMENT if copies else None,
        max(copies, 1),
        seed,
        shards.SOUND if sound else shards.FEATURES,
        per_shard,
    )
    source = {name: value for name, value in card.data_of(data, "").items() if name != "use"}
    jobs = shard_writer.plan(out, clips, options, {"data": source})
    left = [job for job in jobs if not shard_writer.is_done(job)]
    if len(left) < len(jobs):
        console.print(f"{len(jobs) - len(left):,} of {len(jobs):,} shards are there already")
    begun = time.perf_counter()
    with phases.phase(f"{len(left):,} shards") as advance:
        parallel.run(
            shard_writer.write, left, workers, beam,
            done=lambda: sum(map(shard_writer.is_done, left)), progress=advance,
        )  # fmt: skip
    spent = time.perf_counter() - begun
    found = shard_writer.finish(out)
    if verify:
        for split in found.splits.values():
            with phases.phase(f"checking {split.split}") as advance:
                split.verify(advance)
    seconds = task.clip_seconds * sum(len(found.split(job.split)) / job.count for job in left)
    for name, split in found.splits.items():
        console.print(
            f"{name}: {split.report.summary().partition('; problems')[0]}; {len(split.speakers):,} speakers; "
            f"{len(split.shards):,} shards, {sum(one.bytes for one in split.shards) / 1e6:,.1f} MB",
            markup=False,
        )
    results.show_left_out(console, shards.problems(out))
    if left:
        console.print(f"{seconds / 3600:,.2f} hours of examples in {spent:,.0f} s: {seconds / spent:,.0f} x real time")
    console.print(f"wrote {out}", markup=False)
