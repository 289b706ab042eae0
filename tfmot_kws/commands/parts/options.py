# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, as ``cli`` shows them."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

DEFAULT_RUNTIME = "tflite, or litert where TensorFlow is not installed"


def _place(text: str) -> pathlib.Path | str:
    """A path; an address stays text, as a path would lose a slash of it."""
    return text if "://" in text else pathlib.Path(text)


Data = Annotated[
    pathlib.Path,
    typer.Option(
        help="Recordings: a folder word/*.wav (or flac, mp3 ...), a folder with manifest.csv, or a .csv file.",
    ),
]
_DATA_OR_SHARDS = typer.Option(
    help="Recordings: a folder word/*.wav (or flac, mp3 ...), a folder with manifest.csv, or a .csv file; or what "
    "'prepare' has written: a folder, or an address (gs://, s3://, hdfs://).",
    parser=_place,
    metavar="<path>",
)
DataOrShards = Annotated[pathlib.Path, _DATA_OR_SHARDS]
DataOrShardsIfAny = Annotated[pathlib.Path | None, _DATA_OR_SHARDS]
Backend = Annotated[
    str, typer.Option(help="Front end: micro (fixed point, as on the device), lfbe, or raw: the network hears samples.")
]
HopMs = Annotated[
    int, typer.Option(help="Milliseconds from frame to frame: 20, or 10 as ESPHome's own models have it.")
]
Pcan = Annotated[
    bool,
    typer.Option(
        "--pcan/--no-pcan",
        help="Automatic gain of the micro front end; ESPHome has it always. Without it, levels stay in the features.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes of this machine that share the work, by Apache Beam.")]
BeamOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--beam",
        help="An option of a Beam runner, --beam=--runner=FlinkRunner; may be given again and again.",
        show_default="this machine",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random; the same seed gives the same result.")]
Cache = Annotated[
    pathlib.Path | None,
    typer.Option(help="Folder that keeps features.", show_default="$XDG_CACHE_HOME/tfmot-kws or ~/.cache/tfmot-kws"),
]
Dynamic = Annotated[
    str | None,
    typer.Option(
        help="Quantize inputs row by row while the model runs, float in and out, instead of --bits: 16, 8, 4, any "
        "other width of 1..8, 4-8 (low-rank models), or learned (within a budget). Both stages' epochs are trained "
        "in one.",
        show_default="fixed ranges, int8 in and out",
    ),
]
Teacher = Annotated[
    pathlib.Path | None,
    typer.Option(help="A .keras file whose answers are learnt too: the float model itself, or a larger one like it."),
]
TensorBoard = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Folder for TensorBoard: loss, rate, ranges, scales, widths and costs of every epoch.", show_default="none"
    ),
]
Mlflow = Annotated[
    str | None,
    typer.Option(
        help="Records the run in MLflow (extra mlflow): a folder, http://server:5000, or a database such as "
        "sqlite:///runs.db, which needs all of MLflow. To see a folder: MLFLOW_ALLOW_FILE_STORE=true mlflow ui "
        "--backend-store-uri FOLDER.",
        show_default="none",
    ),
]
SweepText = Annotated[
    str | None,
    typer.Option(
        "--sweep",
        help="What trials choose (extra sweep), parts with blanks between: NAME=VALUE,VALUE for values, NAME=LOW:HIGH "
        "or NAME=LOW:HIGH:log for a range, NAME=LOW:HIGH:log:COUNT for so many values of it. Names: bits (quantizes "
        "each trial), width, learning_rate, quantize_rate (of the training while quantized, else --learning-rate), "
        "batch_size.",
        show_default="none",
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(min=1, help="Of --sweep: at most so many.", show_default="12; all that a grid or hyperband has"),
]
SweepMethod = Annotated[
    str | None,
    typer.Option(
        help="random, bayesian (goes by the results so far), hyperband (many trials of few epochs, the best again with "
        "more, up to --epochs) or grid (all combinations).",
        show_default="random",
    ),
]
SweepObjective = Annotated[
    str | None,
    typer.Option(
        help="What trials are judged by on split dev: det-area, the area under the DET curve, or accuracy.",
        show_default="det-area",
    ),
]
SweepStages = Annotated[
    str | None, typer.Option(help="Epochs of both stages of quantization of a trial.", show_default="12,6")
]
Network = Annotated[
    pathlib.Path | None,
    typer.Option(help="Description of a network, network.json of 'search'.", show_default="the spotter of --width"),
]
Keywords = Annotated[
    str | None,
    typer.Option(help="Words to spot, with commas.", show_default="wake words of the manifest, else most frequent"),
]
Speakers = Annotated[
    str | None,
    typer.Option(
        help="Who speaks: folder (word/speaker/file), prefix (of the file's name, up to _), clip (nobody knows; clips "
        "are split one by one) or a regular expression with a group.",
        show_default="as the model was trained, else speaker_nohash_1.wav or folders, else clip",
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        help="Score from which on a keyword counts: a number, WORD=NUMBER,... or the file of evaluate --json.",
        show_default="likelier",
    ),
]
FoundThreshold = Annotated[
    str | None,
    typer.Option(
        help="Streams: the threshold found on other recordings: a number, WORD=NUMBER,... or the file of --json."
    ),
]
Tolerance = Annotated[float, typer.Option(help="Streams: seconds after the end of a word in which it may be detected.")]
Split = Annotated[
    str | None,
    typer.Option(help="Of the clips: train, dev or test.", show_default="test, or dev where there is no test"),
]
Smooth = Annotated[
    float | None,
    typer.Option(help="Seconds over which scores are averaged.", show_default="that of the file, or 0.2"),
]
Refractory = Annotated[
    float | None,
    typer.Option(help="Seconds after a detection without another one.", show_default="that of the file, or 1.0"),
]
Runtime = Annotated[str | None, typer.Option(help="reference, tflite, litert or tflm.", show_default=DEFAULT_RUNTIME)]
Report = Annotated[
    pathlib.Path | None,
    typer.Option(help="Streams: a page (.html) with the curve, and picture and sound of what was missed or false."),
]
Compare = Annotated[
    list[pathlib.Path] | None,
    typer.Option(help="Streams: another model of the same words, on the same sound; may be given several times."),
]
Plot = Annotated[pathlib.Path | None, typer.Option(help="DET curves as .png, .svg or .pdf.")]
Distribute = Annotated[
    str | None,
    typer.Option(
        help="Several workers train the model: local:N starts N on this machine; tf-config (Kubernetes) or slurm, and "
        "auto for either, where each worker is started by this same command. What was stopped goes on.",
        show_default="this process alone",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on after the last whole epoch of a run that was stopped, with the same options."),
]
Runtime = Annotated[str | None, typer.Option(help="reference, tflite, litert or tflm.", show_default=DEFAULT_RUNTIME)]
Package = Annotated[
    str | None,
    typer.Option(help="Whole component, kernels and metadata: esp-idf, arduino, zephyr, cmake or platformio."),
]
SpotterFiles = Annotated[
    list[pathlib.Path],
    typer.Option(
        "--model", help="Streaming .tflite made by export --streaming internal; may be given again, with a --name."
    ),
]
ExampleSound = Annotated[
    pathlib.Path | None,
    typer.Option(help="Arduino: a recording for its example to run on.", show_default="computed noise"),
]
SpotterNames = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        help="What C files, functions and macros of a model begin with, and what a component is called; one a model.",
        show_default="kws; kws_spotter",
    ),
]
Thresholds = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        help="Score from which on a keyword counts: a number, WORD=NUMBER,... or the file of evaluate --json. Once, or "
        "once a model.",
        show_default="likelier",
    ),
]
Streams = Annotated[
    pathlib.Path | None,
    typer.Option(help="Long recordings; streams_labels.csv in this folder or above says where the keywords are."),
]
LayerBits = Annotated[
    list[str] | None,
    typer.Option(help="NAME=BITS for one layer (patterns like dense_* too); may be given again.", show_default=False),
]
BudgetFlash = Annotated[
    str | None,
    typer.Option(
        help="Bytes that all packed weights may take, such as 12KB: each layer learns its width; without --bits.",
        show_default=False,
    ),
]
BudgetBits = Annotated[
    float | None,
    typer.Option(help="Mean width of all weights, 1..8: the same, by another measure.", show_default=False),
]
BudgetInstructions = Annotated[
    float | None,
    typer.Option(help="Instructions of a run of all layers with weights on --core: likewise.", show_default=False),
]
Core = Annotated[
    str | None,
    typer.Option(help="Of --budget-instructions: cortex-m4, cortex-m55, cortex-a53, ...", show_default=False),
]
BudgetRam = Annotated[
    str | None,
    typer.Option(
        help="Bytes that activations may take, such as 8KB; a model that needs more is refused before it is trained.",
        show_default=False,
    ),
]
BudgetStreaming = Annotated[
    bool, typer.Option("--budget-streaming", help="Count instructions and RAM of a step of a stream, not of a clip.")
]
ExportTarget = Annotated[
    str,
    typer.Option(
        help="Chip that packed weights are laid out for: any, cortex-m4 (M4, M7, M33), cortex-a53 (one-bit weights "
        "on 64-bit chips without dot products) or aarch64-i8mm."
    ),
]
Prefer = Annotated[
    str,
    typer.Option(
        help="size, or speed: weights of 3 bits stored in 4, and of 5 to 7 in 8. More flash, fewer instructions, the "
        "same outputs."
    ),
]
BudgetTarget = Annotated[str, typer.Option(help="What export --target will be: it decides about bytes and kernels.")]
ActivationBits = Annotated[
    str, typer.Option(help="Width of activations, 2..8, or learned: with --budget-activation-bits.")
]
BudgetActivationBits = Annotated[
    float | None, typer.Option(help="Mean width of learned activations, 2..8.", show_default=False)
]
Negatives = Annotated[
    pathlib.Path | None, typer.Option(help="Recordings without keywords; every detection in them is false.")
]
