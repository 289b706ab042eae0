"""Workers of this machine, with programs that need no TensorFlow."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from tfmot_kws.training import local_workers

PROGRAM = """
import json, os, pathlib, signal, sys, time
config = json.loads(os.environ["TF_CONFIG"])
index = config["task"]["index"]
folder = pathlib.Path(sys.argv[1])
starts = len(list(folder.glob(f"{index}.*")))
(folder / f"{index}.{starts}").write_text(os.environ["TF_CONFIG"])
"""


def launch(tmp_path, more: str, workers: int = 2, restarts: int = 2) -> tuple[int, list[str]]:
    said: list[str] = []
    command = [sys.executable, "-c", PROGRAM + more, str(tmp_path)]
    return local_workers.launch(command, workers, restarts, said.append), said


def test_workers_know_each_other(tmp_path) -> None:
    assert launch(tmp_path, "", 3) == (0, [])
    found = [json.loads((tmp_path / f"{index}.0").read_text()) for index in range(3)]
    assert [one["task"] for one in found] == [{"type": "worker", "index": index} for index in range(3)]
    assert len({json.dumps(one["cluster"]) for one in found}) == 1
    assert len(set(found[0]["cluster"]["worker"])) == 3


def test_one_that_is_killed_is_started_again_with_all_others(tmp_path) -> None:
    waits = "\nif starts == 0: os.kill(os.getpid(), signal.SIGKILL) if index else time.sleep(60)"
    status, said = launch(tmp_path, waits)
    assert status == 0 and [path.name for path in sorted(tmp_path.iterdir())] == ["0.0", "0.1", "1.0", "1.1"]
    assert said == ["worker 1 was ended by signal 9; all 2 start again (1 of 2 times)"]


def test_restarts_are_counted(tmp_path) -> None:
    status, said = launch(tmp_path, "\nsys.exit(138 if index == 0 else 0)", restarts=1)
    assert status == local_workers.LOST and len(said) == 1 and "lost another worker" in said[0]
    assert len(list(tmp_path.glob("0.*"))) == 2


def test_an_error_of_the_program_is_shown_and_not_tried_again(tmp_path, capfd) -> None:
    fails = "\nif index: sys.exit('option x is wrong')\ntime.sleep(0.3)\nsys.exit(138)"
    status, said = launch(tmp_path, fails)
    assert (status, said) == (1, []) and len(list(tmp_path.iterdir())) == 2
    assert "worker 1:\noption x is wrong" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("statuses", "cause"),
    [((138, 137), 137), ((1, 137), 137), ((134, 1), 1), ((138, 2), 2), ((138, 134), 138)],
)
def test_what_failed_first(statuses: tuple[int, int], cause: int) -> None:
    assert min(statuses, key=local_workers._consequence) == cause


def test_refusals() -> None:
    with pytest.raises(ValueError, match="workers=0: must be 1 or more"):
        local_workers.launch(["true"], 0)
    with pytest.raises(ValueError, match="restarts=-1: must be 0 or more"):
        local_workers.launch(["true"], 1, -1)


def test_command_line(tmp_path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert local_workers.main(["2", "--", sys.executable, "-c", PROGRAM, str(tmp_path)]) == 0
    assert len(list(tmp_path.iterdir())) == 2 and signal.getsignal(signal.SIGTERM) == before
