"""microWakeWord's spectrograms: opened where they lie, and refused where they are not the model's front end's."""

from __future__ import annotations

import importlib.util
import pathlib
import zipfile

import numpy as np
import pytest
import ragged_files

from tfmot_kws.data import spectrograms
from tfmot_kws.frontend import features

HERE = pathlib.Path(__file__).parent / "library"
FRONTEND = features.FrontendConfig(hop_ms=10)


def contents() -> list[np.ndarray]:
    spec = importlib.util.spec_from_file_location("make_ragged", HERE / "make_ragged.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.spectrograms()


@pytest.fixture
def by_package(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder that mmap-ninja wrote, in two steps."""
    with zipfile.ZipFile(HERE / "ragged.zip") as archive:
        archive.extractall(tmp_path / "by_package")
    return tmp_path / "by_package" / "speech_mmap"


def test_a_folder_that_the_package_wrote(by_package: pathlib.Path) -> None:
    before = sorted(by_package.rglob("*"))
    found = spectrograms.open_folder(by_package, FRONTEND)
    assert isinstance(found.x, np.memmap) and not found.x.flags.writeable and not found.x.flags.owndata
    assert found.x.dtype == np.uint16 and found.first.tolist() == [0, 7, 9, 9, 13]
    whole = [part for part in contents() if part.ndim == 2]
    assert np.array_equal(found.x, np.concatenate(whole)) and found.targets == ((),) * 4
    assert found.scale == features.MICRO_SCALE and found.hours == pytest.approx(0.13 / 3600)
    assert sorted(by_package.rglob("*")) == before  # nothing is made in it


def test_the_helper_writes_what_the_package_writes(by_package: pathlib.Path, tmp_path: pathlib.Path) -> None:
    mine = ragged_files.write(tmp_path / "mine_mmap", contents())
    read = [{p.relative_to(root): p.read_bytes() for p in root.rglob("*.ninja")} for root in (mine, by_package)]
    assert read[0] == read[1]


def micro(frames: int = 5, kind: type = np.uint16, bands: int = 40) -> np.ndarray:
    raw = np.arange(frames * bands).reshape(frames, bands) % 600
    return (raw * np.float32(0.0390625)).astype(kind) if kind == np.float32 else raw.astype(kind)


def test_floats_that_microwakeword_writes(tmp_path: pathlib.Path) -> None:
    found = spectrograms.open_folder(ragged_files.write(tmp_path / "a_mmap", [micro(5, np.float32)]), FRONTEND)
    assert found.x.dtype == np.float32 and found.scale == 1.0
    assert np.array_equal(found.x, micro(5) * np.float32(features.MICRO_SCALE))


@pytest.mark.parametrize(
    "arrays, message",
    [
        ([micro(5, bands=20)], r"bands, expected \[frames, 40\]"),
        ([micro(5), micro(5, bands=80)], r"\[40, 80\] bands"),
        ([micro(5, np.int16)], "found int16"),
        ([micro(5).astype(np.float64)], "found float64"),
        ([micro(5, np.float32) + np.float32(0.02)], "no features of the micro front end"),
        ([micro(5, np.float32) * np.float32("nan")], "no features of the micro front end"),
        ([micro(5).ravel()], "holds rows of numbers"),
        ([micro(6).reshape(2, 3, 40)], "bands, expected"),
    ],
)
def test_other_numbers_are_refused(arrays: list[np.ndarray], message: str, tmp_path: pathlib.Path) -> None:
    folder = ragged_files.write(tmp_path / "a_mmap", arrays)
    with pytest.raises(ValueError, match=rf"a_mmap.*{message}"):
        spectrograms.open_folder(folder, FRONTEND)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hop_ms": 20}, "hop_ms=10 .the model's front end: 20.*noise estimate moves with every frame"),
        ({"mel_bins": 20}, "mel_bins=40 .the model's front end: 20"),
        ({"window_ms": 25}, "window_ms=30"),
        ({"pcan": False}, "pcan=True"),
        ({"backend": "lfbe"}, "backend='micro'"),
        ({"upper_hz": 7000.0}, "upper_hz=7500.0"),
        ({"sample_rate": 8000, "upper_hz": 3800.0}, "sample_rate=16000"),
    ],
)
def test_other_front_ends_are_refused(options: dict, message: str, by_package: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=message):
        spectrograms.open_folder(by_package, features.FrontendConfig(**({"hop_ms": 10} | options)))


def test_a_hop_that_is_said(by_package: pathlib.Path) -> None:
    slow = features.FrontendConfig(hop_ms=20)
    assert len(spectrograms.open_folder(by_package, slow, hop_ms=20).x) == 13
    with pytest.raises(ValueError, match="hop_ms=20 .the model's front end: 10"):
        spectrograms.open_folder(by_package, FRONTEND, hop_ms=20)


def _cut(path: pathlib.Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "no type": lambda f: (f / "type.ninja").unlink(),
    "another type": lambda f: (f / "type.ninja").write_text("string"),
    "no data": lambda f: (f / "data.ninja").unlink(),
    "half of the data": lambda f: _cut(f / "data.ninja", 500),
    "an object": lambda f: (f / "dtype.ninja").write_text("object"),
    "no type of numbers": lambda f: (f / "dtype.ninja").write_text("tiger"),
    "another order": lambda f: (f / "order.ninja").write_text("F"),
    "no starts": lambda f: (f / "starts" / "data.ninja").unlink(),
    "half a shape": lambda f: _cut(f / "shape.ninja", 5),
    "starts that jump": lambda f: (f / "starts" / "data.ninja").write_bytes(np.arange(4).tobytes()),
    "shapes of other frames": lambda f: (f / "shapes" / "data.ninja").write_bytes(
        np.array([6, 40, 3, 40, 0, 4, 40]).tobytes()
    ),
    "fewer shapes": lambda f: ragged_files.write(f / "shapes", [np.array([7, 40])]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused(damage: str, by_package: pathlib.Path) -> None:
    DAMAGES[damage](by_package)
    with pytest.raises(ValueError, match="speech_mmap"):
        spectrograms.open_folder(by_package, FRONTEND)


def test_folders_of_splits(tmp_path: pathlib.Path) -> None:
    for name in ("speech/training/one_mmap", "speech/training/deep/two_mmap", "speech/testing/one_mmap"):
        ragged_files.write(tmp_path / name, [micro()])
    names = lambda split: [path.name for path in spectrograms.of_split(tmp_path, split)]  # noqa: E731
    assert names("training") == ["two_mmap", "one_mmap"] and names("testing") == ["one_mmap"]
    with pytest.raises(ValueError, match="no folder .*_mmap in validation/; there are some in testing, training"):
        spectrograms.of_split(tmp_path, "validation")
    with pytest.raises(ValueError, match="split='train': must be one of"):
        spectrograms.of_split(tmp_path, "train")
    plain = tmp_path / "speech" / "testing"
    assert spectrograms.of_split(plain, "training") == (plain / "one_mmap",)  # no split is named
    assert spectrograms.of_split(plain / "one_mmap", "training") == (plain / "one_mmap",)
    assert spectrograms.of_split(tmp_path / "nowhere", "training") == ()
