# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws prepare``: its options; the work is in ``parts.preparing``."""

from __future__ import annotations

from typing import Annotated

import typer

from tfmot_kws.commands.parts.options import Backend, BeamOptions, Data, HopMs, Keywords, Pcan, Seed, Speakers, Workers


def prepare(
    data: Data,
    out: Annotated[
        str, typer.Option(help="Folder or address (gs://, s3://, hdfs://) of the shards; the same command goes on.")
    ],
    keywords: Keywords = None,
    backend: Backend = "micro",
    hop_ms: HopMs = 20,
    pcan: Pcan = True,
    copies: Annotated[int, typer.Option(min=0, help="Augmented versions of each clip; 0 takes clips as they are.")] = 3,
    clip_seconds: Annotated[float, typer.Option(help="Length of an example in seconds.")] = 1.0,
    context: Annotated[
        float, typer.Option(help="Seconds of sound that the front end hears before each example, as in a stream.")
    ] = 0.0,
    sound: Annotated[
        bool, typer.Option("--sound", help="Keep samples of 16 bits; they become features while a model is trained.")
    ] = False,
    per_shard: Annotated[int, typer.Option(min=1, help="Examples of a file, about.")] = 8192,
    workers: Workers = 1,
    beam: BeamOptions = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="At the end, read every file and compare checksums.")
    ] = False,
    seed: Seed = 0,
    speakers: Speakers = None,
) -> None:
    """Cuts, augments and turns recordings into features, in shards that are trained from in little memory.

    For corpora that memory does not hold. 'train', 'quantize' and 'evaluate' take the folder as --data. What was killed
    goes on; the files are the same whatever the number of workers.

    Examples:
      tfmot-kws prepare --data my_recordings --keywords yes,no --out shards --workers 8
      tfmot-kws train --data shards --out float.keras
      tfmot-kws prepare --data corpus/manifest.csv --out gs://bucket/shards --beam=--runner=FlinkRunner
    """
    from tfmot_kws.commands.parts import preparing as command

    command.run(
        data, out, keywords, backend, hop_ms, pcan, copies, clip_seconds, context, sound, per_shard, workers,
        beam or [], verify, seed, speakers,
    )  # fmt: skip
