"""Every command from end to end on tiny data, and what users see when something is wrong."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import speech_files
import typer.testing
from command_line import error, run

import tfmot_kws
from tfmot_kws import atomic, cli
from tfmot_kws.commands.parts import quantizing, sidecar
from tfmot_kws.data import prepare
from tfmot_kws.data.corpus import Clip, Corpus
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features

pytestmark = pytest.mark.versions
COMMANDS = ("demo", "train", "quantize", "export", "evaluate", "inspect")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
    """A folder with words, a float model, a quantized one and both kinds of .tflite."""
    folder = tmp_path_factory.mktemp("cli")
    words = speech_files.make_words(folder / "words")
    common = ("--data", words, "--cache", folder / "cache", "--copies", 1, "--batch-size", 16)
    small = ("--keywords", "low,high", "--epochs", 2, "--width", 8)
    shown = run("train", *common, "--out", folder / "float.keras", *small).stdout
    (folder / "train.txt").write_text(shown)
    stages = ("--stage1-epochs", 1, "--stage2-epochs", 1)
    float_model = ("--model", folder / "float.keras")
    taught = ("--teacher", folder / "float.keras")
    run("quantize", *float_model, *common, *stages, *taught, "--layer-bits", "logits=8", "--out", folder / "q.keras")
    run("export", "--model", folder / "q.keras", "--out", folder / "my-kws.tflite", "--c-array")
    run("export", "--model", folder / "q.keras", "--out", folder / "stock.tflite", "--ops", "builtin")
    return folder


def test_training_leaves_a_model_and_its_sidecar(made) -> None:
    about = sidecar.read(made / "float.keras")
    assert about.kind == "float" and about.task.keywords == ("low", "high")
    assert about.task.classes == ("_silence_", "_unknown_", "low", "high")
    assert about.frontend.backend == "micro" and about.options["epochs"] == 2
    assert 0.0 <= about.metrics["accuracy"] <= 1.0


def test_training_says_what_it_trains_on(made) -> None:
    shown = (made / "train.txt").read_text()
    assert "keywords: low, high" in shown
    assert f"left out: {made / 'words' / 'low' / 'broken.wav'}: unreadable: " in shown
    assert shown.count("left out: ") == 1 and "note: who speaks in 1 clip (low) is not known" in shown


def test_quantized_model_and_layer_bits(made) -> None:
    about = sidecar.read(made / "q.keras")
    assert about.kind == "quantized" and about.options["layer_bits"] == {"logits": 8}
    shown = run("inspect", made / "q.keras").stdout
    assert "4 mid-rise" in shown and "8 mid-tread" in shown and "stage 2" in shown


def test_teachers_that_do_not_fit(made, tmp_path) -> None:
    """Named before any features are made; the one that fits is named beside the model."""
    assert sidecar.read(made / "q.keras").options["teacher"] == "float.keras"
    fixed = ("quantize", "--model", made / "float.keras", "--data", made / "words", "--out", tmp_path / "no.keras")
    about = sidecar.read(made / "float.keras")
    for name, changed in (
        ("more", dataclasses.replace(about, task=dataclasses.replace(about.task, keywords=("low", "up")))),
        ("deaf", dataclasses.replace(about, frontend=dataclasses.replace(about.frontend, hop_ms=10))),
    ):
        shutil.copy(made / "float.keras", tmp_path / f"{name}.keras")
        sidecar.write(tmp_path / f"{name}.keras", changed)
    for teacher, options, message in (
        ("more.keras", (), "both must know the same classes in the same order"),
        ("deaf.keras", (), "hears otherwise than the model: hop_ms 10 and not 20"),
        ("deaf.tflite", (), "must be a .keras file"),
        ("none.keras", (), "none.keras"),
        ("deaf.keras", ("--dynamic", "8"), "goes without --dynamic"),
    ):
        done = run(*fixed, "--teacher", tmp_path / teacher, *options, status=1)
        assert message in " ".join(done.stderr.split()), done.stderr
    assert not (tmp_path / "no.keras").exists()


def test_widths_are_learned_within_a_budget(made) -> None:
    common = ("--data", made / "words", "--cache", made / "cache", "--copies", 1, "--batch-size", 16)
    stages = ("--stage1-epochs", 2, "--stage2-epochs", 2, "--budget-flash", "3KB", "--budget-bits", 3.5)
    limits = ("--budget-instructions", 200000, "--core", "cortex-m4", "--budget-ram", "8KB")
    activations = ("--activation-bits", "learned", "--budget-activation-bits", 5)
    out = ("--out", made / "learned.keras")
    every = (*common, *stages, *limits, *activations)
    shown = run("quantize", "--model", made / "float.keras", *every, *out).stdout
    about = sidecar.read(made / "learned.keras").options
    assert about["bits"] == "learned" and about["budget"] == {
        "flash": "3KB", "average_bits": 3.5, "instructions": 200000, "core": "cortex-m4", "ram": "8KB",
        "average_activation_bits": 5,
    }  # fmt: skip
    widths = about["widths"]
    assert set(widths.values()) != {8} and all(f"{name} {bits}" in shown for name, bits in widths.items())
    assert {point["kind"] for point in about["pareto_front"]} == {"weights", "activations"}
    said = " ".join(shown.split())
    assert "bytes of weights (" in said and "instructions on cortex-m4 (" in said and "bits an activation (" in said
    assert "learned.widths.png, learned.activation_widths.png" in said
    for name in ("widths", "activation_widths"):
        assert (made / f"learned.{name}.png").read_bytes().startswith(b"\x89PNG")
    inspected = run("inspect", made / "learned.keras").stdout
    assert "learned" in inspected and "of the budget" in inspected
    run("export", "--model", made / "learned.keras", "--out", made / "learned.tflite")
    assert "widths learned for each layer" in (made / "learned.md").read_text()
    assert "; of activations too (" in (made / "learned.md").read_text()


def test_widths_of_dynamic_quantization_are_learned(made) -> None:
    common = ("--data", made / "words", "--cache", made / "cache", "--copies", 1, "--batch-size", 16)
    options = ("--dynamic", "learned", "--budget-bits", 4, "--stage1-epochs", 1, "--stage2-epochs", 0)
    shown = run("quantize", "--model", made / "float.keras", *common, *options, "--out", made / "d.keras").stdout
    about = sidecar.read(made / "d.keras").options
    assert set(about["widths"].values()) != {8} and "learned widths, dynamic" in shown
    assert "inputs 8, learned" in run("inspect", made / "d.keras").stdout


def test_export_writes_c_arrays_named_after_the_file(made) -> None:
    assert "my_kws[]" in (made / "my_kws.h").read_text()
    assert (made / "my_kws.cc").stat().st_size > (made / "my-kws.tflite").stat().st_size
    assert sidecar.read(made / "my-kws.tflite").options["ops"] == "packed"
    assert (made / "my-kws.tflite").stat().st_size < (made / "stock.tflite").stat().st_size


def test_export_for_a_target(made) -> None:
    run("export", "--model", made / "q.keras", "--target", "cortex-m4", "--out", made / "m4.tflite")
    assert sidecar.read(made / "m4.tflite").options["target"] == "cortex-m4"
    assert (made / "m4.tflite").read_bytes() != (made / "my-kws.tflite").read_bytes()
    done = run("export", "--model", made / "q.keras", "--target", "z80", "--out", made / "no.tflite", status=1)
    assert "--target z80: must be any, aarch64-i8mm, cortex-m4, cortex-a53" in " ".join(done.output.split())
    assert not (made / "no.tflite").exists()


def test_export_for_speed(made) -> None:
    run("export", "--model", made / "q.keras", "--prefer", "speed", "--out", made / "fast.tflite")
    assert sidecar.read(made / "fast.tflite").options["prefer"] == "speed"
    assert (made / "fast.tflite").read_bytes() == (
        made / "my-kws.tflite"
    ).read_bytes()  # 4 bits are as fast as they are
    for options in (("--prefer", "flash"), ("--prefer", "speed", "--ops", "builtin")):
        done = run("export", "--model", made / "q.keras", *options, "--out", made / "no.tflite", status=1)
        assert f"--prefer {options[1]}: must be size or speed" in " ".join(done.output.split())
    assert not (made / "no.tflite").exists()


def test_inspect(made) -> None:
    assert "dense_1" in run("inspect", made / "my-kws.tflite").stdout
    shown = run("inspect", made / "float.keras").stdout
    assert "MAC/clip" in shown and "float model of _silence_, _unknown_, low, high" in shown


def test_evaluate_says_the_same_for_keras_and_tflite(made) -> None:
    common = ("--data", made / "words", "--cache", made / "cache")
    values = {}
    for model, runtime in (("q.keras", "tflite"), ("my-kws.tflite", "reference"), ("my-kws.tflite", "tflite")):
        path = made / f"{model}.{runtime}.metrics.json"
        plot = ("--plot", made / "plots" / "det.png")
        done = run("evaluate", "--model", made / model, "--runtime", runtime, *common, "--json", path, *plot)
        assert "low" in done.stdout and "accuracy" in done.stdout
        values[model, runtime] = json.loads(path.read_text())
    packed = values["my-kws.tflite", "reference"]
    assert {**values["my-kws.tflite", "tflite"], "runtime": "reference"} == packed
    assert values["q.keras", "tflite"]["det_area"] == pytest.approx(packed["det_area"], abs=0.02)
    assert packed["splits"] == ["test"] and set(packed["keywords"]) == {"low", "high"}
    assert (made / "plots" / "det.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def long_recordings(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("long")
    speech_files.make_stream(folder / "streams", "first", ["low", "rising", "high", "low"])
    speech_files.make_stream(folder / "streams", "second", ["high", "rising"], seed=1)
    speech_files.make_words(folder / "negatives", 4, seed=2)
    return folder


def test_evaluate_on_streams_says_the_same_for_every_kind_of_model(made, long_recordings) -> None:
    common = ("--streams", long_recordings / "streams", "--negatives", long_recordings / "negatives" / "rising")
    values = {}
    for model, runtime in (("q.keras", "tflite"), ("my-kws.tflite", "reference"), ("my-kws.tflite", "tflite")):
        path, plot = made / "streams.json", made / "plots" / "fa.png"
        plot.unlink(missing_ok=True)
        options = ("--runtime", runtime, "--fa-per-hour", 1000, "--json", path, "--plot", plot)
        shown = run("evaluate", "--model", made / model, *common, *options).stdout
        for text in ("low", "times faster than real time", "MLPerf Tiny", "FA/h"):
            assert text in shown
        assert plot.stat().st_size > 10_000
        values[model, runtime] = json.loads(path.read_text())["streams"]
        assert values[model, runtime].pop("times_real_time") > 0
        assert f"one false accept is {1 / values[model, runtime]['all']['hours']:.0f} an hour" in shown
    packed = values["my-kws.tflite", "reference"]
    assert values["my-kws.tflite", "tflite"] == packed
    assert packed["detector"]["mode"] == "margin" and packed["detector"]["refractory_steps"] == 25
    assert {word: k["targets"] for word, k in packed["keywords"].items()} == {"low": 2, "high": 2}
    assert packed["all"]["targets"] == packed["mlperf_tiny"]["targets"] == 4
    assert packed["seconds"] == 20 + 12 + 4
    assert values["q.keras", "tflite"] == packed
    assert any(event["outcome"] == "hit" for event in packed["events"])


def test_evaluate_at_a_threshold_found_before(made, long_recordings) -> None:
    model, path = ("--model", made / "my-kws.tflite"), made / "fixed.json"
    streams = ("--streams", long_recordings / "streams")
    run("evaluate", *model, *streams, "--threshold", 0.75, "--smooth", 0.1, "--hop", 3, "--json", path)
    value = json.loads(path.read_text())["streams"]
    assert value["detector"]["thresholds"] == {"low": 0.75, "high": 0.75} and value["fa_per_hour_wanted"] is None
    assert value["detector"]["smooth_steps"] == 2  # of 60 ms
    run("evaluate", *model, *streams, "--threshold", "high=-1, low=0.5", "--json", path)
    value = json.loads(path.read_text())["streams"]
    assert value["detector"]["thresholds"] == {"low": 0.5, "high": -1.0}
    clips = ("--data", made / "words", "--cache", made / "cache", "--plot", made / "both.png")
    done = run("evaluate", *model, *clips, "--negatives", long_recordings / "negatives" / "low", "--json", path)
    value = json.loads(path.read_text())
    assert "accuracy" in value and value["streams"]["all"]["frr"] is None
    assert (made / "both.png").exists() and "both_streams.png not drawn" in done.stdout
    run("evaluate", *model, *clips, *streams)
    assert (made / "both_streams.png").exists()


def test_errors_of_evaluate_on_streams(made, long_recordings, tmp_path) -> None:
    model, streams = ("--model", made / "my-kws.tflite"), ("--streams", long_recordings / "streams")
    assert "give --data, --streams or --negatives" in error("evaluate", *model)
    assert "streams_labels.csv: not found in" in error("evaluate", *model, "--streams", made / "words")
    assert "nowhere: no such folder" in error("evaluate", *model, "--negatives", tmp_path / "nowhere")
    assert "no recordings" in error("evaluate", *model, "--negatives", tmp_path)
    assert "--smooth -1" in error("evaluate", *model, *streams, "--smooth", -1)
    assert "--fa-per-hour -1" in error("evaluate", *model, *streams, "--fa-per-hour", -1)
    for wrong in ("nan", "loud", "low=1", "low=1,high=x", "low=1,high=2,up=3", "low=1=2,high=3"):
        assert f"--threshold {wrong}: must be" in error("evaluate", *model, *streams, "--threshold", wrong)
    assert "--scores loud" in error("evaluate", *model, *streams, "--scores", "loud")
    assert "in which the detector could fire" in error("evaluate", *model, *streams, "--smooth", 100)
    speech_files.make_stream(tmp_path, "short", ["low"])
    with (tmp_path / "streams_labels.csv").open("a") as file:
        file.write("short,keyword,low,90,91,,,\n")
    assert "a word of short ends at 91.0 s" in error("evaluate", *model, "--streams", tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command) -> None:
    shown = run(command, "--help").stdout
    assert f"tfmot-kws {command}" in shown and "Example" in shown


def test_version() -> None:
    assert tfmot_kws.__version__ in run("--version").stdout


def test_help_does_not_import_tensorflow() -> None:
    code = (
        "import sys, typer.testing\nfrom tfmot_kws import cli\n"
        "for name in ('train', 'phrase', 'say'):\n"
        "    assert typer.testing.CliRunner().invoke(cli.app, [name, '--help']).exit_code == 0\n"
        "heavy = {'tensorflow', 'tf_keras', 'numpy', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    root = pathlib.Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_errors_name_the_thing(made, tmp_path) -> None:
    words = ("--data", made / "words", "--cache", made / "cache")
    missing = tmp_path / "nowhere"
    assert "nowhere" in error("train", "--data", missing, "--out", tmp_path / "x.keras")
    assert "purple: no such word" in error("train", *words, "--keywords", "purple", "--out", tmp_path / "x.keras")
    assert "must end in .keras" in error("train", *words, "--out", tmp_path / "x.h5")
    lfbe = ("--no-pcan", "--backend", "lfbe", "--out", tmp_path / "x.keras")
    assert "pcan=False: only the micro front end" in error("train", *words, *lfbe)
    assert "backend='mfcc'" in error("train", *words, "--backend", "mfcc", "--out", tmp_path / "x.keras")
    assert "no such model" in error("evaluate", "--model", tmp_path / "x.tflite", *words)
    assert "must be one of" in error("evaluate", "--model", made / "my-kws.tflite", *words, "--runtime", "onnx")
    assert "between 0 and 1" in error("evaluate", "--model", made / "my-kws.tflite", *words, "--frr", 5)
    assert "must end in one of" in error("evaluate", "--model", made / "q.keras", *words, "--plot", "det.jpg")
    assert "'loud'" in error("evaluate", "--model", made / "q.keras", *words, "--split", "loud")
    float_model = ("--model", made / "float.keras")
    assert "is float" in error("export", *float_model, "--out", tmp_path / "x.tflite")
    assert "packed or builtin" in error("export", "--model", made / "q.keras", "--out", "x.tflite", "--ops", "all")
    out = ("--out", tmp_path / "q.keras")
    assert "is quantized" in error("quantize", "--model", made / "q.keras", *words, *out)
    assert "found 9" in error("quantize", *float_model, *words, *out, "--bits", 9)
    assert "leave --bits out" in error("quantize", *float_model, *words, *out, "--bits", 2, "--budget-bits", 3)
    both = ("--dynamic", 8, "--budget-flash", "1KB")
    assert "--dynamic learned and a budget" in error("quantize", *float_model, *words, *out, *both)
    assert "--dynamic learned and" in error("quantize", *float_model, *words, *out, "--dynamic", "learned")
    assert "go with each other" in error("quantize", *float_model, *words, *out, "--activation-bits", "learned")
    assert "must be 2..8 or learned" in error("quantize", *float_model, *words, *out, "--activation-bits", "few")
    assert "found 9" in error("quantize", *float_model, *words, *out, "--activation-bits", 9)
    assert "there are cortex-a53" in error(
        "quantize", *float_model, *words, *out, "--budget-instructions", 9, "--core", "m4"
    )
    assert "--core: limits nothing" in error("quantize", *float_model, *words, *out, "--core", "cortex-m4")
    assert "bytes of RAM" in error("quantize", *float_model, *words, *out, "--budget-ram", 100)
    assert "12 apples" in error("quantize", *float_model, *words, *out, "--budget-flash", "12 apples")
    assert "the least that" in error("quantize", *float_model, *words, *out, "--budget-flash", "10")
    assert "NAME=BITS" in error("quantize", *float_model, *words, *out, "--layer-bits", "logits")
    assert "matches no layer" in error("quantize", *float_model, *words, *out, "--layer-bits", "nothing=8")
    (tmp_path / "damaged.tflite").write_bytes(b"\0" * 100)
    assert "error: " in error("inspect", tmp_path / "damaged.tflite")
    assert not list(tmp_path.glob("*.keras"))


def test_usage_errors_have_status_2(made) -> None:
    run("train", "--out", "x.keras", status=2)
    run("train", "--data", made, "--out", "x.keras", "--epochs", 0, status=2)
    run("bake", status=2)


def test_debug_lets_errors_through(tmp_path) -> None:
    done = typer.testing.CliRunner().invoke(cli.app, ["--debug", "inspect", str(tmp_path / "x.tflite")])
    assert isinstance(done.exception, FileNotFoundError)


def test_layer_bits() -> None:
    assert quantizing.parse_layer_bits(["dense_*=2", "a=b=8"]) == {"dense_*": 2, "a=b": 8}
    for wrong in ("=4", "dense", "dense=", "dense=x"):
        with pytest.raises(ValueError, match="NAME=BITS"):
            quantizing.parse_layer_bits([wrong])
    with pytest.raises(ValueError, match="--layer-bits a=3: a has a width already"):
        quantizing.parse_layer_bits(["a=2", "a=3"])


def test_sidecars_that_are_damaged(tmp_path) -> None:
    model = tmp_path / "x.keras"
    model.write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="keep the two together"):
        sidecar.read(model)
    for text in ("{", "{}", '{"version": 99}'):
        sidecar.path_of(model).write_text(text)
        with pytest.raises(ValueError, match="not a sidecar of this release"):
            sidecar.read(model)
    sidecar.write(model, sidecar.Sidecar("float", features.FrontendConfig(), TaskConfig(("yes",))))
    whole = json.loads(sidecar.path_of(model).read_text())
    for name in ("options", "metrics"):
        sidecar.path_of(model).write_text(json.dumps(whole | {name: []}))
        with pytest.raises(ValueError, match=f"not a sidecar of this release .{name}: found list, expected a table"):
            sidecar.read(model)


def corpus_of(*entries: tuple[str, str, str]) -> Corpus:
    return Corpus(
        tuple(Clip(f"{i}.wav", word, kind=kind, split=split) for i, (word, kind, split) in enumerate(entries))
    )


def test_wake_words_are_the_keywords_where_there_are_some() -> None:
    both = [(word, kind, split) for word, kind in (("alexa", "wake"), ("bed", "word")) for split in ("train", "dev")]
    clips = corpus_of(*both, ("amelia", "wake", "train"), ("bed", "word", "train"), ("noise", "noise", "dev"))
    assert prepare.eval_splits(clips) == ("dev",)
    assert prepare.pick_keywords(clips, ("train", "dev")) == ("alexa",)
    assert prepare.pick_keywords(clips.filter(words=("bed",)), ("train", "dev")) == ("bed",)


def test_at_most_ten_most_frequent_words() -> None:
    entries = [(f"w{i:02d}", "word", s) for i in range(12) for s in ["dev"] + ["train"] * (1 + i)]
    chosen = prepare.pick_keywords(corpus_of(*entries), ("train", "dev"))
    assert chosen == tuple(f"w{i:02d}" for i in range(2, 12))


def test_nothing_held_out_or_no_word_in_all_splits() -> None:
    with pytest.raises(ValueError, match="no clips are held out"):
        prepare.eval_splits(corpus_of(("a", "word", "train")))
    with pytest.raises(ValueError, match="--speakers clip"):
        prepare.pick_keywords(corpus_of(("a", "word", "train"), ("b", "word", "dev")), ("train", "dev"))


def test_words_that_end_with_a_keyword_are_left_out() -> None:
    clips = corpus_of(*((w, "word", "train") for w in ("computer", "heycomputer", "computers", "no", "piano")))
    kept = prepare.without_compounds(clips, ("computer", "no"))
    assert sorted(kept.words()) == ["computer", "computers", "no", "piano"]


def test_classes_follow_what_is_there() -> None:
    words = [(w, "word", "train") for w in ("yes", "no", "up")]
    assert prepare.make_task(corpus_of(*words), ("yes", "no", "up")).classes == ("yes", "no", "up")
    task = prepare.make_task(corpus_of(*words, ("n", "noise", "train")), ("yes",))
    assert task.classes == ("_silence_", "_unknown_", "yes")


def test_files_are_replaced_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "new" / "a.txt"
    atomic.write_text(path, "first")
    with pytest.raises(RuntimeError), atomic.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]
    with pytest.raises(ValueError):
        atomic.write_json(path, {"x": np.nan})
    with pytest.raises(IsADirectoryError, match="name a file"):
        atomic.write_text(tmp_path, "x")
