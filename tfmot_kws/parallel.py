# SPDX-License-Identifier: Apache-2.0
"""One function over many things, on the cores of this machine or on a cluster, by Apache Beam.

The function leaves what it finds in files: runners on other machines give nothing back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tfmot_kws import extras

LOCAL = "local"
_POLL_SECONDS = 1.0
_OUR_ERRORS = re.compile(
    r"^(?:\w+\.)*(ValueError|OSError|FileNotFoundError|PermissionError): (.*?)(?: \[while running|$)", re.M
)


def check(workers: int, options: Sequence[str] = ()) -> None:
    """Whether work can be shared out so, before there is any.

    Args:
        workers: processes of this machine.
        options: of a Beam runner, as its command line has them ("--runner=FlinkRunner"); none runs on this machine.

    Raises:
        ValueError: fewer than one worker, or an option that is none.
        ImportError: Beam is not installed.
    """
    if workers < 1:
        raise ValueError(f"workers={workers!r}: must be 1 or more")
    for option in options:
        if not option.startswith("--"):
            raise ValueError(f"option of Beam {option!r}: must begin with --, such as --runner=FlinkRunner")
    if workers > 1 or options:
        extras.require("apache_beam", "work on several cores or machines")


def run(
    function: Callable[[Any], None],
    items: Sequence[Any],
    workers: int = 1,
    options: Sequence[str] = (),
    done: Callable[[], int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Calls a function once for every item, in any order, in any process.

    One worker without options is this process itself, without Beam.

    Args:
        function: of a module, or an object of one; processes elsewhere import it. Calling it twice for one item must
            do no harm: runners may.
        items: what it is called with; they are pickled.
        workers: processes of this machine.
        options: of a Beam runner; none runs on this machine.
        done: how many items are done; asked from time to time for ``progress``, whoever does the work.
        progress: called with (items done, items in all).

    Raises:
        ValueError, OSError: as the function raised it, or for options that make no sense.
        ImportError: Beam is not installed.
        RuntimeError: what else a runner reports.
    """
    check(workers, options)
    if not items:
        return
    workers = min(workers, len(items))
    if workers == 1 and not options:
        for number, item in enumerate(items, 1):
            function(item)
            if progress is not None:
                progress(number, len(items))
        return
    with _watched(done, progress, len(items)), _quiet() as said:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        runner = None
        if not options:
            # By name: the runner that Beam takes by itself downloads a program first.
            from apache_beam.runners.portability import fn_api_runner

            runner = fn_api_runner.FnApiRunner()
            options = [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
        try:
            with beam.Pipeline(runner=runner, options=PipelineOptions(list(options), save_main_session=False)) as line:
                _ = line | beam.Create(list(items)) | beam.Reshuffle() | beam.Map(function)
        except Exception as error:  # a runner wraps what the function raised into a text of all processes' stacks
            found = _OUR_ERRORS.findall(str(error))
            if found:
                kind = {"ValueError": ValueError}.get(found[-1][0], OSError)
                raise kind(found[-1][1].strip()) from error
            lines = [*str(error).strip().splitlines()[-1:], *said()[-3:]]
            raise RuntimeError(f"Beam could not finish: {'; '.join(lines)}") from error
    if progress is not None:
        progress(len(items), len(items))


@contextlib.contextmanager
def _watched(done, progress, count: int) -> Iterator[None]:
    """Asks for what is done while the block runs."""
    if done is None or progress is None:
        yield
        return
    end = threading.Event()

    def watch() -> None:
        while not end.wait(_POLL_SECONDS):
            progress(min(done(), count), count)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@contextlib.contextmanager
def _quiet() -> Iterator[Callable[[], list[str]]]:
    """Keeps what Beam's processes say of their starts and ends from the screen; gives a function for its lines.

    They write to the file of standard error itself, so it is that file that is turned away.
    """
    if os.environ.get("TFMOT_KWS_BEAM_LOG"):
        yield list
        return
    sys.stderr.flush()
    before, kept = logging.root.manager.disable, os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        logging.disable(logging.WARNING)
        os.dup2(file.fileno(), 2)

        def said() -> list[str]:
            file.seek(0)
            return file.read().splitlines()

        try:
            yield said
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            logging.disable(before)
