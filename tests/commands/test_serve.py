"""The Wyoming server over a socket: what a client is told, and that it hears what ``listen`` hears."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import importlib.util
import pathlib
import re
import shlex
import shutil
import types
from concurrent import futures

import kept
import numpy as np
import pytest
import typer.main
import typer.testing
from spotter_files import TASK, speech, write_spotter

from tfmot_kws import cli
from tfmot_kws.commands.parts import spotter

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    made = kept.once(tmp_path_factory, "spotter", write_spotter)
    return shutil.copytree(made, tmp_path_factory.mktemp("serve"), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def wyoming(require_module) -> types.ModuleType:
    require_module("wyoming")
    from tfmot_kws.commands.parts import wyoming_server

    return wyoming_server


@pytest.fixture(scope="module")
def ears(folder, wyoming):
    return wyoming.Ears([folder / "stream.tflite"], ["0.1"], None, 0.3)


def talk(ears, *events, path: pathlib.Path) -> list:
    """What a client gets for its events, until the server ends the connection or answers a last question."""
    from wyoming.client import AsyncClient
    from wyoming.info import Describe

    from tfmot_kws.commands.parts import wyoming_server

    async def main() -> list:
        uri, found = f"unix://{path}", []
        serving = asyncio.create_task(wyoming_server.serve(ears, uri, lambda text: None))
        while not path.exists():
            assert not serving.done(), serving
            await asyncio.sleep(0.01)
        async with AsyncClient.from_uri(uri) as client:
            for one in (*events, Describe()):
                await client.write_event(one.event())
            while (one := await client.read_event()) is not None and one.type != "info":
                found.append(one)
            found += [] if events else [one]
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        return found

    return asyncio.run(main())


def sound_events(sound: np.ndarray, rate: int = 16000, channels: int = 1) -> list:
    from wyoming.audio import AudioChunk, AudioStart, AudioStop

    width = sound.dtype.itemsize
    parts = [sound[i : i + 1024] for i in range(0, len(sound), 1024)]
    chunks = [AudioChunk(rate, width, channels, p.tobytes(), timestamp=i * 64) for i, p in enumerate(parts)]
    return [AudioStart(rate, width, channels), *chunks, AudioStop()]


def test_a_client_is_told_of_every_keyword(ears, wyoming, tmp_path) -> None:
    from wyoming.info import Info

    (found,) = talk(ears, path=tmp_path / "socket")
    (program,) = Info.from_event(found).wake
    assert [(m.name, m.phrase, m.installed) for m in program.models] == [(w, w, True) for w in TASK.keywords]


@pytest.mark.parametrize("names", [None, ["low"]])
def test_it_hears_what_listen_hears(ears, folder, wyoming, tmp_path, names) -> None:
    from wyoming.wake import Detect

    expected = spotter.open_spotter(folder / "stream.tflite", 0.1, refractory=0.3).step(speech())
    found = talk(ears, Detect(names), *sound_events(speech()), path=tmp_path / "socket")
    wanted = [h.keyword for h in expected if names is None or h.keyword in names]
    assert [one.data["name"] for one in found] == wanted and len(wanted) > 2
    # the chunk in which the last sample of the detection was
    times = [int(h.seconds * 16000 - 1) // 1024 * 64 for h in expected if names is None or h.keyword in names]
    assert [one.data["timestamp"] for one in found] == times


def test_other_formats_are_heard_and_silence_is_not(ears, folder, wyoming, tmp_path) -> None:
    mono = speech(4.0)
    expected = [one.data["name"] for one in talk(ears, *sound_events(mono), path=tmp_path / "a")]
    stereo = np.repeat(mono[:, None], 2, axis=1)
    wide = mono.astype(np.int32) << 16
    for name, events in (("b", sound_events(stereo, channels=2)), ("c", sound_events(wide))):
        assert [one.data["name"] for one in talk(ears, *events, path=tmp_path / name)] == expected
    assert expected
    quiet = ears.words and wyoming.Ears([folder / "stream.tflite"], ["99"])
    assert [one.type for one in talk(quiet, *sound_events(mono), path=tmp_path / "d")] == ["not-detected"]


def test_what_does_not_suit_is_refused(ears, wyoming, tmp_path) -> None:
    from wyoming.audio import AudioChunk
    from wyoming.wake import Detect

    (found,) = talk(ears, Detect(["computer"]), path=tmp_path / "a")
    assert found.type == "error" and "no model spots computer; there are low, high" in found.data["text"]
    for number, chunk in enumerate((AudioChunk(16000, 2, 5, b""), AudioChunk(16000, 2, 1, b"abc"))):
        (found,) = talk(ears, chunk, path=tmp_path / f"b{number}")
        assert found.type == "error" and "audio" in found.data["text"]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_every_width(wyoming, width: int) -> None:
    from wyoming.audio import AudioChunk

    real = np.array([-1.0, -0.5, 0.0, 0.25])
    whole = np.rint(real * 2.0 ** (8 * width - 1)).astype(np.int64) + (128 if width == 1 else 0)
    raw = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in whole)
    found = wyoming.samples_of(AudioChunk(16000, width, 2, raw))
    found = found / 32768 if found.dtype == np.int16 else found
    assert found.shape == (2, 2) and np.allclose(found.ravel(), real)


def test_a_client_that_goes_before_it_is_answered_ends_quietly(ears, wyoming) -> None:
    from wyoming.info import Describe

    class Gone(asyncio.StreamWriter):
        def __init__(self) -> None:
            pass

        def writelines(self, data) -> None:
            raise ConnectionResetError("Connection lost")

        write = writelines

    handler = wyoming.Handler(ears, print, None, Gone())
    assert asyncio.run(handler.handle_event(Describe().event())) is False


def test_clients_of_a_model_have_an_ear_each(ears) -> None:
    """Taken in threads at once, given back, and no more than listened at once are ever made."""
    (model,) = set(ears.words.values())
    made = len(ears._all)
    with futures.ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            taken = list(pool.map(lambda _: ears.take(model), range(6)))
            assert len({id(ear) for ear in taken}) == 6
            for ear in taken:
                ears.give_back(model, ear)
    assert len(ears._all) <= max(made, 6)


def test_usage_counts_all_clients(ears, wyoming, tmp_path) -> None:
    before = sum(ear.usage.sound for ear in ears._all)
    talk(ears, *sound_events(speech(2.0)), path=tmp_path / "a")
    assert sum(ear.usage.sound for ear in ears._all) == pytest.approx(before + 2.0)
    (line,) = ears.usage()
    assert line.startswith("stream.tflite: CPU: ") and "kws_packed_dense" in line


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--uri", "http://a:1"), "--uri http://a:1: must be tcp://HOST:PORT"),
        (("--uri", "tcp://a"), "must be tcp://HOST:PORT"),
        (("--uri", "unix:///kws", "--zeroconf", "pi"), "announces a port"),
        (("--threshold", "1", "--threshold", "2", "--threshold", "3"), "3 times --threshold for 1 models"),
        (("--threshold", "loud"), "must be one number"),
    ],
)
def test_options_that_do_not_suit(folder, wyoming, arguments, message: str) -> None:
    done = typer.testing.CliRunner().invoke(cli.app, ["serve", str(folder / "stream.tflite"), *arguments])
    assert done.exit_code == 1 and message in " ".join(done.output.split())


def test_two_files_of_one_keyword_are_refused(folder, wyoming) -> None:
    for suffix in (".tflite", ".tflite.json"):
        shutil.copy(folder / f"stream{suffix}", folder / f"again{suffix}")
    with pytest.raises(ValueError, match="both spot 'low'"):
        wyoming.Ears([folder / "stream.tflite", folder / "again.tflite"], [None, None])


def test_the_unit_starts_a_command_that_there_is() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string((ROOT / "examples" / "raspberry_pi" / "tfmot-kws.service").read_text())
    program, name, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/tfmot-kws") and name == "serve"
    command = typer.main.get_command(cli.app).commands["serve"]
    parsed = command.make_context("serve", arguments)
    assert parsed.params["uri"] == "tcp://0.0.0.0:10400" and parsed.params["runtime"] == "litert"
    assert parsed.params["zeroconf"] == "%H"  # systemd's word for the host's name: Home Assistant finds it by itself


def test_what_the_unit_needs_is_what_the_guide_installs(folder, wyoming, monkeypatch) -> None:
    """The guide's one extra for the server brings what announces it, and a missing package names that extra."""
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "zeroconf" else there(name))
    done = typer.testing.CliRunner().invoke(cli.app, ["serve", str(folder / "stream.tflite"), "--zeroconf", "pi"])
    said = " ".join(done.output.split())
    assert done.exit_code == 1 and "--zeroconf needs zeroconf: pip install 'tfmot-kws[wyoming]'" in said
    text = (ROOT / "pyproject.toml").read_text()
    assert '"zeroconf>=' in re.search(r"^wyoming = \[(.*)\]$", text, re.MULTILINE)[1]
    guide = (ROOT / "docs" / "how-to" / "raspberry_pi.md").read_text()
    assert guide.count('pip install "tfmot-kws[runtime,wyoming]"') == 2 and "serve stream.tflite" in guide
    assert all("--zeroconf" in line for line in guide.splitlines() if "tfmot-kws serve " in line)
