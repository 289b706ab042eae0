# SPDX-License-Identifier: Apache-2.0
"""Workers on this machine: starts a command several times, with TF_CONFIG, and starts all again where one dies.

    python -m tfmot_kws.training.local_workers 2 -- python my_training.py

One that dies takes the others with it: they wait for what it was to add. So all are ended and started again, and go on
from the last epoch that the program keeps (``recipes``: ``checkpoints``). Imports no TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

RESTARTS = 3
LOST = 138
"""Exit status of a worker that lost another one. From 128 on Kubeflow starts a worker again, below it does not."""
_POLL, _GRACE, _END = 0.05, 1.0, 5.0
_SHOWN = 2000


def configurations(workers: int) -> list[str]:
    """TF_CONFIG of each worker, on ports that are free now.

    Raises:
        ValueError: there is to be less than one.
    """
    if workers < 1:
        raise ValueError(f"workers={workers!r}: must be 1 or more")
    sockets = [socket.socket() for _ in range(workers)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(workers)
    ]


def launch(command: Sequence[str], workers: int, restarts: int = RESTARTS, say: Callable[[str], None] = print) -> int:
    """Runs a command as several workers, to its end.

    The first worker's output is this process's; of the others the last lines of stderr are shown where they fail.

    Args:
        command: program and arguments.
        workers: how many.
        restarts: how often all are started again after one was killed, or ended with a status of 128 or more. A lower
            status is an error of the program, which another start would not mend.
        say: is told of restarts.

    Returns:
        0, or the exit status of the worker that failed; 128 + n where signal n ended it.

    Raises:
        ValueError: there is to be less than one worker, or fewer than no restarts.
    """
    if restarts < 0:
        raise ValueError(f"restarts={restarts!r}: must be 0 or more")
    for attempt in range(restarts + 1):
        failed = _run(command, configurations(workers))
        if failed is None:
            return 0
        index, status, text = failed
        if index and text:
            sys.stderr.write(f"worker {index}:\n{text}\n")
        if status < 128 or attempt == restarts:
            return status
        what = f"was ended by signal {status - 128}" if status != LOST else "lost another worker"
        say(f"worker {index} {what}; all {workers} start again ({attempt + 1} of {restarts} times)")
    raise AssertionError("not reached")


def _run(command: Sequence[str], configs: Sequence[str]) -> tuple[int, int, str] | None:
    """One start of all; (worker, status, end of its stderr) of one that failed."""
    logs = [tempfile.TemporaryFile() for _ in configs]
    processes: list[subprocess.Popen] = []
    ended_by = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for index, (config, log) in enumerate(zip(configs, logs)):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": log} if index else {}
            processes.append(subprocess.Popen(command, env={**os.environ, "TF_CONFIG": config}, **quiet))
        while any(one.poll() is None for one in processes) and not any(one.poll() for one in processes):
            time.sleep(_POLL)
        if not any(one.poll() for one in processes):
            return None
        _wait(processes, _GRACE)  # what failed first may not be what is seen first
        codes = {index: code for index, one in enumerate(processes) if (code := one.poll())}
        status = {index: code if code > 0 else 128 - code for index, code in codes.items()}
        index = min(status, key=lambda one: (_consequence(status[one]), one))
        logs[index].seek(0)
        return index, status[index], logs[index].read().decode(errors="replace")[-_SHOWN:].strip()
    finally:
        for one in processes:
            if one.poll() is None:
                one.terminate()
        _wait(processes, _END)
        for one in processes:
            if one.poll() is None:
                one.kill()
            one.wait()
        for log in logs:
            log.close()
        signal.signal(signal.SIGTERM, ended_by)


def _consequence(status: int) -> int:
    """How little a status says of the cause: a signal, an error of the program, and what TensorFlow makes of a loss."""
    if status in (LOST, 128 + signal.SIGABRT):
        return 2
    return int(status < 128)


def _wait(processes: Sequence[subprocess.Popen], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(one.poll() is None for one in processes):
        time.sleep(_POLL)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m tfmot_kws.training.local_workers``."""
    parser = argparse.ArgumentParser(prog="python -m tfmot_kws.training.local_workers", description=__doc__)
    parser.add_argument("workers", type=int)
    parser.add_argument("--restarts", type=int, default=RESTARTS)
    parser.add_argument("command", nargs="+", help="behind --")
    given = parser.parse_args(arguments)
    return launch(given.command, given.workers, given.restarts)


if __name__ == "__main__":
    sys.exit(main())
