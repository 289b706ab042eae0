"""The README: its quickstart runs, its links lead somewhere, its tables can be filled."""

from __future__ import annotations

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import readme_tables
from tfmot_kws.keras import keras
from tfmot_kws.sound import files as audio

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_quickstart(tmp_path, rng, require_module, capsys, monkeypatch) -> None:
    require_module("tflite_micro")
    # AutoGraph would rewrite the source of tf_keras, which takes a minute; the same numbers come out without it.
    plain = tf.autograph.experimental.do_not_convert(keras.Model.train_step)
    monkeypatch.setattr(keras.Model, "train_step", plain)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len(code.splitlines()) <= 25
    time = np.arange(16000) / 16000
    for word, pitch in (("yes", 400.0), ("no", 1600.0), ("other", 800.0), ("_background_noise_", 0.0)):
        (tmp_path / word).mkdir()
        for speaker in range(12):
            sound = 0.2 * np.sin(2 * np.pi * pitch * time) + 0.02 * rng.standard_normal(16000)
            audio.write(tmp_path / word / f"s{speaker}_nohash_0.wav", sound.astype(np.float32), 16000)
    assert "my_recordings" in code
    code = code.replace("my_recordings", str(tmp_path)).replace("epochs=20", "epochs=1")
    code = code.replace("epochs=12", "epochs=2").replace("stage2_epoch=8", "stage2_epoch=1")
    exec(compile(code, "README.md", "exec"), {})
    accuracy, size, arena = capsys.readouterr().out.split()[-3:]
    assert 0.0 <= float(accuracy) <= 1.0 and 100_000 < int(size) < 140_000 and 2_000 < int(arena) < 20_000


def test_commands_and_make_targets_exist() -> None:
    from tfmot_kws import cli

    known = {command.callback.__name__ for command in cli.app.registered_commands}
    assert set(re.findall(r"tfmot-kws ([a-z]+) ", README)) <= known
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"make ([a-z]+)", README))


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_links_lead_somewhere(page) -> None:
    path = ROOT / page
    links = [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")) if "://" not in link]
    assert not [link for link in links if not (path.parent / link).is_file()]


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
    options = ["--readme", str(readme), "--results", str(tmp_path)]
    assert readme_tables.main([*options, "--check"]) == 1
    assert readme_tables.main(options) == 0 and readme_tables.main([*options, "--check"]) == 0
    assert "out of date" in capsys.readouterr().err
