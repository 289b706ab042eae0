# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws``: the command line. Each command's work is in ``tfmot_kws.commands``; TensorFlow loads only there."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Annotated

import rich.console
import typer
import typer.core

import tfmot_kws
from tfmot_kws import extras
from tfmot_kws.commands import fetch_data, npu, phrase, prepare, quantize, say, search, serve, train
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts.options import (
    DEFAULT_RUNTIME,
    Backend,
    BeamOptions,
    Cache,
    Compare,
    Data,
    DataOrShardsIfAny,
    ExampleSound,
    ExportTarget,
    FoundThreshold,
    Keywords,
    Negatives,
    Package,
    Plot,
    Prefer,
    Refractory,
    Report,
    Runtime,
    Seed,
    Smooth,
    Speakers,
    Split,
    SpotterFiles,
    SpotterNames,
    Streams,
    TensorBoard,
    Threshold,
    Thresholds,
    Tolerance,
    Workers,
)

# What a user can cause: our errors are ValueErrors and TypeErrors, files give OSErrors, missing packages ImportErrors,
# runtimes that refuse a file RuntimeErrors.
USER_ERRORS = (ValueError, TypeError, OSError, ImportError, RuntimeError)


class _Group(typer.core.TyperGroup):
    """Shows errors as one red line on stderr and exits with status 1; ``--debug`` lets them through."""

    def invoke(self, ctx):
        # typer.Exit is a RuntimeError, so it is let through by name.
        try:
            return super().invoke(ctx)
        except (typer.Exit, BrokenPipeError):
            raise
        except USER_ERRORS as error:
            if ctx.params.get("debug"):
                raise
            error = extras.explained(error) if isinstance(error, ImportError) else error
            consoles.show_error(rich.console.Console(stderr=True, highlight=False), error)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Group,
    name="tfmot-kws",
    help="Trains keyword spotters to 1..8-bit weights and exports them for TFLite, LiteRT and TFLite Micro.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tfmot-kws {tfmot_kws.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from (a traceback).")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    # Before TensorFlow is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


@app.command()
def demo(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for everything it makes.")] = pathlib.Path("runs/demo"),
    data: Annotated[
        pathlib.Path | None,
        typer.Option(help="Recordings of your own, as for train.", show_default="synthetic speech"),
    ] = None,
    keywords: Keywords = None,
    speakers: Speakers = None,
    seed: Seed = 0,
    fast: Annotated[bool, typer.Option("--fast", help="A minute or so, to see that it works; poor models.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The network hears samples, by filters that it learns.")] = False,
) -> None:
    """Trains, quantizes to 8, 4 and 1 bits, exports and checks a keyword spotter; about five minutes on two cores.

    Without --data it speaks its own training words with espeak-ng.

    Every .tflite runs in TFLite, LiteRT and TFLite Micro; the report compares sizes and errors.

    Examples:
      tfmot-kws demo
      tfmot-kws demo --data my_recordings --out runs/mine
    """
    from tfmot_kws.commands import demo as command

    command.run(out, data, keywords, seed, fast, speakers, raw)


app.command(name="prepare")(prepare.prepare)
app.command(name="train")(train.train)


@app.command(name="low-rank")
def low_rank(
    data: Data,
    out: Annotated[pathlib.Path, typer.Option(help="Model file, .keras; x.keras.json goes with it.")],
    keywords: Keywords = None,
    alignment: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Table of phones (path,start,end,label), or its folder.",
            show_default="the words themselves, where they are spoken",
        ),
    ] = None,
    phone_epochs: Annotated[int, typer.Option(min=1, help="First stage: which phone is in a frame.")] = 12,
    multitask_epochs: Annotated[int, typer.Option(min=1, help="Second stage: keywords and phones.")] = 20,
    low_rank_epochs: Annotated[int, typer.Option(min=1, help="Third stage: pairs of thin layers.")] = 20,
    backend: Backend = "micro",
    copies: Annotated[int, typer.Option(min=0, help="Augmented versions of each clip; 0 trains on clips as is.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's, in the first epoch of each stage.")] = 1e-2,
    clip_seconds: Annotated[float, typer.Option(help="Length of an example in seconds.")] = 1.0,
    seed: Seed = 0,
    cache: Cache = None,
    speakers: Speakers = None,
    checkpoints: Annotated[
        pathlib.Path | None, typer.Option(help="Folder to go on from, after any epoch; the result is the same.")
    ] = None,
    tensorboard: TensorBoard = None,
) -> None:
    """Trains the 50,000-parameter low-rank spotter in three stages (Mishchenko et al. 2019).

    20 bands every 10 ms, 31 frames at a time, 10 of them ahead of the one that is judged. Quantize it with
    'tfmot-kws quantize --dynamic'.

    Examples:
      tfmot-kws low-rank --data my_recordings --keywords alexa --out svd.keras
      tfmot-kws low-rank --data my_recordings --alignment phones.csv --checkpoints runs/svd --out svd.keras
    """
    from tfmot_kws.commands import low_rank as command

    command.run(
        data, out, keywords, alignment, (phone_epochs, multitask_epochs, low_rank_epochs), backend, copies, batch_size,
        learning_rate, clip_seconds, seed, cache, checkpoints, speakers, tensorboard,
    )  # fmt: skip


app.command(name="quantize")(quantize.quantize)


@app.command()
def export(
    model: Annotated[pathlib.Path, typer.Option(help="Quantized model made by quantize, .keras.")],
    out: Annotated[pathlib.Path, typer.Option(help="File to write, .tflite.")],
    ops: Annotated[
        str, typer.Option(help="packed (our ops, smallest) or builtin (stock ops, int8 weights).")
    ] = "packed",
    target: ExportTarget = "any",
    prefer: Prefer = "size",
    streaming: Annotated[
        str | None,
        typer.Option(
            help="For streams, new frames only: internal (keeps its state) or external (state goes in and out).",
            show_default="whole clips",
        ),
    ] = None,
    c_array: Annotated[bool, typer.Option("--c-array", help="Also write NAME.h and NAME.cc next to it.")] = False,
    rows: Annotated[
        bool,
        typer.Option("--rows", help="With --streaming: leave out the mean over a clip's time, give every row at once."),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option("--for", help="esphome: a file for its micro_wake_word, with --threshold its manifest too."),
    ] = None,
    keyword: Annotated[
        str | None, typer.Option(help="With --for: which keyword of several; each is a file of its own.")
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(help="With --for: the file of evaluate --json, or a probability.")
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(help="With --for: seconds that are averaged.", show_default="that of the file, or 0.2"),
    ] = None,
    author: Annotated[str, typer.Option(help="With --for: named in the manifest.")] = "unknown",
    languages: Annotated[
        str | None, typer.Option(help="With --for: languages that it was trained on, with commas: en,de.")
    ] = None,
) -> None:
    """Writes a quantized model as a .tflite file, and as C arrays for firmware.

    A file for "any" chip runs everywhere; other targets are faster on theirs and slow elsewhere.

    Examples:
      tfmot-kws export --model q.keras --out kws.tflite --c-array
      tfmot-kws export --model q.keras --target cortex-m4 --out kws_m4.tflite
      tfmot-kws export --model q5.keras --prefer speed --out kws_fast.tflite
      tfmot-kws export --model q.keras --ops builtin --out stock.tflite
      tfmot-kws export --model q.keras --streaming internal --out stream.tflite
      tfmot-kws export --model q.keras --for esphome --threshold numbers.json --out alexa.tflite
    """
    from tfmot_kws.commands import export as command
    from tfmot_kws.commands.parts import data as data_files
    from tfmot_kws.commands.parts import esphome

    chosen = esphome.Options(keyword, threshold, smooth, author, data_files.words_of(languages) or ())
    if device is not None:
        command.run_for(device, model, out, chosen, target, streaming, c_array, rows, prefer)
        return
    if chosen != esphome.Options():
        raise ValueError("--keyword, --threshold, --smooth, --author and --languages: go with --for esphome")
    command.run(model, out, ops, target, streaming, c_array, rows, prefer)


@app.command()
def listen(
    model: Annotated[pathlib.Path, typer.Option(help="Streaming .tflite made by export --streaming internal.")],
    wav: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="A sound file, or - for a pipe (WAV as it comes, other formats once they end, or raw 16-bit mono at "
            "16 kHz).",
            show_default="the microphone",
        ),
    ] = None,
    threshold: Threshold = None,
    smooth: Smooth = None,
    refractory: Refractory = None,
    runtime: Runtime = None,
) -> None:
    """Listens to a file, a pipe or the microphone and prints the keywords as they come.

    Any sample rate, mono or stereo. A microphone needs: pip install "tfmot-kws\\[microphone]"

    Examples:
      tfmot-kws listen --model stream.tflite --wav recording.wav --threshold 2
      tfmot-kws listen --model stream.tflite --threshold numbers.json
      arecord -f S16_LE -r 48000 -c 2 -t wav - | tfmot-kws listen --model stream.tflite --wav -
    """
    from tfmot_kws.commands import listen as command

    command.run(model, wav, threshold, smooth, refractory, runtime)


@app.command()
def firmware(
    model: SpotterFiles,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the C files.")],
    threshold: Thresholds = None,
    smooth: Smooth = None,
    refractory: Refractory = None,
    package: Package = None,
    name: SpotterNames = None,
    sound: ExampleSound = None,
) -> None:
    """Writes streaming spotters as C: models, settings of front end and detector, and the list of what they use.

    They compile with tflite_export/kernels, which by that list (kws_config.h) have no code that the models do not use.
    With --package the folder is a component that a build system takes as it is; its README.md says how.

    Examples:
      tfmot-kws firmware --model stream.tflite --out src --threshold 2
      tfmot-kws firmware --model stream.tflite --package esp-idf --name hey_nova --out components/hey_nova
      tfmot-kws firmware --model a.tflite --name hey_nova --model b.tflite --name stop --package cmake --out both
    """
    from tfmot_kws.commands import firmware as command

    command.run(model, out, threshold, smooth, refractory, package, name, sound)


@app.command()
def evaluate(
    model: Annotated[pathlib.Path, typer.Option(help="Model file, .keras or .tflite, with its .json.")],
    data: DataOrShardsIfAny = None,
    runtime: Annotated[
        str | None, typer.Option(help="For .tflite: reference, tflite, litert or tflm.", show_default=DEFAULT_RUNTIME)
    ] = None,
    split: Split = None,
    frr: Annotated[
        float, typer.Option(help="Clips: share of missed keywords (0..1) to count false detections at.")
    ] = 0.05,
    streams: Streams = None,
    negatives: Negatives = None,
    fa_per_hour: Annotated[
        float, typer.Option(help="Streams: false accepts an hour to choose each keyword's threshold for.")
    ] = 0.5,
    threshold: FoundThreshold = None,
    smooth: Smooth = None,
    refractory: Refractory = None,
    tolerance: Tolerance = 1.0,
    hop: Annotated[
        int, typer.Option(min=1, help="Streams: frames between two runs of a model that is not a streaming one.")
    ] = 2,
    scores: Annotated[
        str, typer.Option(help="Streams: auto, value (outputs are posteriors) or margin (outputs are logits).")
    ] = "auto",
    plot: Plot = None,
    report: Report = None,
    compare: Compare = None,
    json_out: Annotated[pathlib.Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    cache: Cache = None,
    speakers: Speakers = None,
    workers: Workers = 1,
    beam: BeamOptions = None,
    work: Annotated[
        str | None,
        typer.Option(help="Streams: folder or address that keeps what was found; the same command goes on in it."),
    ] = None,
) -> None:
    """Measures a Keras or .tflite model on clips (accuracy, DET curves) and on long recordings.

    On long recordings a detector listens as it would on a device: missed keywords against false accepts per hour,
    latency, the threshold for a wanted rate, MLPerf Tiny's count.

    Examples:
      tfmot-kws evaluate --model kws.tflite --runtime tflm --data my_recordings --plot det.png
      tfmot-kws evaluate --model float.keras --data my_recordings --split dev
      tfmot-kws evaluate --model kws.tflite --streams my_streams --negatives radio --fa-per-hour 0.5 --plot fa.png
      tfmot-kws evaluate --model kws.tflite --streams test_streams --threshold 2.5 --report report.html
      tfmot-kws evaluate --model kws.tflite --streams test_streams --compare peer.tflite --plot fa.svg
      tfmot-kws evaluate --model kws.tflite --negatives thousand_hours --fa-per-hour 0.01 --workers 16 --work found
    """
    from tfmot_kws.commands import evaluate as command
    from tfmot_kws.commands.parts import evaluate_in_parts, evaluate_streams

    options = None
    if streams is not None or negatives is not None:
        options = evaluate_streams.Options(
            *(streams, negatives, smooth, refractory, tolerance, fa_per_hour, threshold, hop, scores),
            *(tuple(compare or ()), report),
        )
    elif report is not None or compare:
        raise ValueError("--report, --compare: go with --streams or --negatives")
    how = evaluate_in_parts.How(workers, tuple(beam or ()), work)
    if options is None and not how.in_memory:
        raise ValueError("--workers, --beam, --work: go with --streams or --negatives")
    command.run(model, data, runtime, split, frr, plot, json_out, cache, options, speakers, how)


@app.command()
def inspect(
    model: Annotated[pathlib.Path, typer.Argument(help="Model file, .tflite or .keras.")],
) -> None:
    """Prints the layers of a model: shapes, widths, bytes, multiply-accumulates.

    Example:
      tfmot-kws inspect kws.tflite
    """
    from tfmot_kws.commands import inspect as command

    command.run(model)


app.command(name="npu")(npu.npu)
app.command(name="phrase")(phrase.phrase)
app.command(name="say")(say.say)
app.command(name="search")(search.search)
app.command(name="serve")(serve.serve)
app.command(name="fetch-data")(fetch_data.fetch_data)


def main() -> None:
    """Entry point of the ``tfmot-kws`` command."""
    sys.exit(app())


if __name__ == "__main__":
    main()
