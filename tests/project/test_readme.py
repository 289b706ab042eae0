"""The README and the manual: the quickstarts run, links lead somewhere, tables can be filled."""

from __future__ import annotations

import inspect
import json
import pathlib
import re

import numpy as np
import pytest
import typer
from command_line import run

from benchmarks import readme_tables, summary
from tfmot_kws import cli
from tfmot_kws.data import prepare
from tfmot_kws.frontend import features
from tfmot_kws.models import spotters
from tfmot_kws.sound import files as audio
from tfmot_kws.training import recipes

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]


def write_words(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """Tones for words: yes and no, another word, and noise."""
    time = np.arange(16000) / 16000
    for word, pitch in (("yes", 400.0), ("no", 1600.0), ("other", 800.0), ("_background_noise_", 0.0)):
        (folder / word).mkdir(parents=True)
        for speaker in range(8):
            sound = 0.2 * np.sin(2 * np.pi * pitch * time) + 0.02 * rng.standard_normal(16000)
            audio.write(folder / word / f"s{speaker}_nohash_0.wav", sound.astype(np.float32), 16000)


def quickstart(code: str, *changes: tuple[str, str]) -> str:
    """The code with other epochs; each text that is to be changed must be there."""
    for before, after in changes:
        assert before in code
        code = code.replace(before, after)
    return code


@pytest.mark.slow
def test_quickstart_in_python_and_shell_make_the_same_file(tmp_path, rng, capsys, monkeypatch) -> None:
    write_words(tmp_path / "my_recordings", rng)
    python = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len(python.splitlines()) <= 25
    python = quickstart(
        python,
        ("train_float(train)", "train_float(train, config=recipes.TrainConfig(epochs=2))"),
        ("train_quantized(model, scheme, train)", "train_quantized(model, scheme, train, None, 1, 1)"),
    )
    for folder in ("python", "shell"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "python")
    exec(compile(python.replace("my_recordings", "../my_recordings"), "README.md", "exec"), {})
    from_python = capsys.readouterr().out

    monkeypatch.chdir(tmp_path / "shell")
    shell = README[README.index("From a shell:") : README.index("The same in Python.")]
    epochs = {"train": ["--epochs", 2], "quantize": ["--stage1-epochs", 1, "--stage2-epochs", 1]}
    from_shell = ""
    for line in re.findall(r"^    tfmot-kws (.*)$", shell, re.MULTILINE):
        command, *options = line.replace("my_recordings", "../my_recordings").split()
        cache = ["--cache", tmp_path / "cache"] if command != "export" else []
        from_shell = run(command, *options, *epochs.get(command, []), *cache).stdout
    same = [(tmp_path / folder / "kws.tflite").read_bytes() for folder in ("python", "shell")]
    assert same[0] == same[1] and len(same[0]) > 100_000
    accuracy, clips, size = re.search(r"accuracy ([\d.]+%) on (\d+) clips, ([\d,]+) bytes", from_python).groups()
    assert f"accuracy {accuracy} on {clips} clips" in from_shell and int(size.replace(",", "")) == len(same[0])


def test_python_and_shell_have_the_same_defaults() -> None:
    """What the test above sets to small numbers, and what it leaves."""
    shell = {name: inspect.signature(getattr(getattr(cli, name), name)).parameters for name in ("train", "quantize")}
    config = recipes.TrainConfig()
    stages = inspect.signature(recipes.train_quantized).parameters
    train, quantize = shell["train"], shell["quantize"]
    assert train["epochs"].default == config.epochs
    for name in ("stage1_epochs", "stage2_epochs"):
        assert quantize[name].default == stages[name].default
    for name in ("batch_size", "learning_rate", "seed"):
        assert train[name].default == quantize[name].default == getattr(config, name)
    copies = inspect.signature(prepare.training_features).parameters["copies"].default
    assert train["copies"].default == quantize["copies"].default == copies
    clip = inspect.signature(prepare.prepare).parameters
    assert train["clip_seconds"].default == clip["clip_seconds"].default
    assert train["context"].default == clip["context_seconds"].default
    assert train["width"].default == spotters.ModelConfig(2).width
    frontend = features.FrontendConfig()
    assert (train["backend"].default, train["pcan"].default) == (frontend.backend, frontend.pcan)


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_commands_and_make_targets_exist() -> None:
    known = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        commands = re.findall(r"(?:^ {4}|^\$ |`|\| )tfmot-kws ([a-z][a-z-]*)", text, re.MULTILINE)
        assert set(commands) <= known, page
        targets = re.findall(r"(?:^ {4}|`)make ([a-z][a-z0-9-]*)", text, re.MULTILINE)
        assert all(f"\n{target}:" in makefile for target in targets), page


def test_options_of_commands_exist() -> None:
    """In the README and the manual, where a command stands in a line of its own."""
    known = {
        command.name or command.callback.__name__: {
            option for parameter in click_command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for command in cli.app.registered_commands
        for click_command in [typer.main.get_command(cli.app).commands[command.name or command.callback.__name__]]
    }
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for command, rest in re.findall(r"^ {4}(?:.*\| )?tfmot-kws ([a-z-]+)((?: .*)?)$", text, re.MULTILINE):
            unknown = set(re.findall(r"(?<!\S)--?[a-z][a-z0-9-]*", rest.split(" | ")[0])) - known[command]
            assert not unknown, f"{page}: tfmot-kws {command} has no {unknown}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page) -> None:
    path = ROOT / page
    links = [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")) if "://" not in link]
    files = [link.split("#")[0] for link in links]
    assert not [file for file in files if file and not (path.parent / file).is_file()]


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:[a-z_]+/)*[a-z_0-9]+\.(?:py|h|c|md))`", text))
    places = (ROOT, ROOT / "tfmot_kws", ROOT / "tflite_export", ROOT / "docs")
    assert not [name for name in names if not any((place / name).is_file() for place in places)]
    modules = {p.stem for p in (ROOT / "tfmot_kws").glob("*.py")} | {
        p.stem for p in (ROOT / "tflite_export").glob("*.py")
    }
    missing = [m for m in sorted(modules) if not m.startswith("__") and f"{m}.py" not in text]
    assert not missing, f"docs/architecture.md does not say what these are: {missing}"


def test_tables_are_filled_and_stay_filled(tmp_path) -> None:
    result = {
        "title": "A title",
        "machine": {"processor": "P", "cores": 2, "versions": {"tensorflow": "2"}},
        "columns": [{"key": "a", "label": "A", "format": ""}, {"key": "b", "label": "B", "format": ".1%"}],
        "rows": [{"a": "x|y", "b": 0.5}, {"a": "z", "b": None}],
        "notes": ["A note."],
    }
    (tmp_path / "one.json").write_text(json.dumps(result))
    text = "before\n<!-- table:one -->\nold\n<!-- end -->\n<!-- table:two -->\n<!-- end -->\nafter\n"
    filled = readme_tables.fill(text, tmp_path)
    assert "| A | B |\n|---|---:|\n| x\\|y | 50.0% |\n| z | – |\n" in filled
    assert "A note. Measured on: P, 2 cores, tensorflow 2." in filled
    assert "Not measured yet." in filled and "old" not in filled
    assert filled.startswith("before\n") and filled.endswith("after\n")
    assert readme_tables.fill(filled, tmp_path) == filled


def test_check_fails_where_the_readme_is_out_of_date(tmp_path, capsys) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- table:one -->\n<!-- end -->\n")
    options = ["--pages", str(readme), "--results", str(tmp_path)]
    assert readme_tables.main([*options, "--check"]) == 1
    assert readme_tables.main(options) == 0 and readme_tables.main([*options, "--check"]) == 0
    assert "out of date" in capsys.readouterr().err


def test_what_a_command_printed_is_filled_in(tmp_path) -> None:
    (tmp_path / "demo_console.json").write_text(json.dumps({"tfmot-kws inspect a.tflite": "two\nlines\n"}))
    text = "<!-- console:demo inspect -->\n<!-- end -->\n<!-- console:demo train -->\n<!-- end -->\n"
    filled = readme_tables.fill(text, tmp_path)
    assert "```text\n$ tfmot-kws inspect a.tflite\ntwo\nlines\n```\n<!-- end -->" in filled
    assert "Not run yet." in filled and readme_tables.fill(filled, tmp_path) == filled


def test_summary_looks_everything_up(tmp_path) -> None:
    """Rows that the results do not have, under the very names, would be dashes unseen."""
    rows = summary.summary(ROOT / "benchmarks" / "results")["rows"]
    assert len(rows) == 6
    dashes = {(row["model"], key) for row in rows for key, value in row.items() if value is None}
    assert dashes <= {("TFLite, int8", "large")}, "accuracy at 250K is measured for our widths only"
    empty = summary.summary(tmp_path)
    assert len(empty["rows"]) == 6 and "–" in readme_tables.markdown(empty)


def test_picture_shows_the_results() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text())
    picture = (ROOT / "docs" / "images" / "size.svg").read_text()
    assert len(picture) < 150_000
    for row in result["rows"]:
        assert f"{row['model']} {row['file_bytes']} {row['missed']:.4f}" in picture, (
            "python -m benchmarks.readme_picture"
        )
