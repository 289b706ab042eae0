# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws serve``."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import signal
from collections.abc import Sequence
from typing import Annotated

import typer

from tfmot_kws import extras
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts.options import Refractory, Runtime, Smooth


def serve(
    models: Annotated[list[pathlib.Path], typer.Argument(help="Streaming .tflite files, each with its .json.")],
    uri: Annotated[str, typer.Option(help="tcp://HOST:PORT or unix:///PATH.")] = "tcp://0.0.0.0:10400",
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="As for listen: one for all models, or one for each in their order.", show_default="likelier"
        ),
    ] = None,
    smooth: Smooth = None,
    refractory: Refractory = None,
    runtime: Runtime = None,
    zeroconf: Annotated[
        str | None, typer.Option(help="Name under which Home Assistant finds it.", show_default="not announced")
    ] = None,
) -> None:
    """Serves wake words to Home Assistant, in the Wyoming protocol.

    Prints what it hears, and at its end or on SIGUSR1 its share of the processor. Needs: pip install
    "tfmot-kws\\[runtime,wyoming]"

    Example:
      tfmot-kws serve stream.tflite --threshold numbers.json --uri tcp://0.0.0.0:10400
    """
    run(models, uri, threshold or [], smooth, refractory, runtime, zeroconf)


def run(
    models: Sequence[pathlib.Path],
    uri: str,
    thresholds: Sequence[str],
    smooth: float | None,
    refractory: float | None,
    runtime: str | None,
    name: str | None,
) -> None:
    """Serves until it is ended, then says what it has cost; SIGUSR1 asks for that at any time."""
    extras.require("wyoming", "serve")
    from tfmot_kws.commands.parts import wyoming_server

    wyoming_server.check_uri(uri)
    if name is not None:
        if not uri.startswith("tcp:"):
            raise ValueError(f"--zeroconf {name}: announces a port; --uri {uri} has none")
        extras.require("zeroconf", "--zeroconf")
    if len(thresholds) not in (0, 1, len(models)):
        raise ValueError(f"{len(thresholds)} times --threshold for {len(models)} models: give one, or one for each")
    each = [None] * len(models) if not thresholds else list(thresholds) * (len(models) // len(thresholds))
    console = consoles.stdout()

    def said(text: str) -> None:
        console.print(text, markup=False)

    ears = wyoming_server.Ears(models, each, smooth, refractory, runtime)
    if not thresholds:
        said("no --threshold: a keyword counts where it is likelier than all else; choose one by 'evaluate --streams'")
    for line in ears.usage():
        said(line.partition(": CPU")[0] + ": " + line.partition("; ")[2])
    said(f"listening on {uri} for {', '.join(ears.words)}")

    async def serve() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: [said(line) for line in ears.usage()])
        await wyoming_server.serve(ears, uri, said, name)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
    finally:
        for line in ears.usage():
            said(line)
