# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws serve``."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import signal
from collections.abc import Sequence

from tfmot_kws import extras
from tfmot_kws.commands.parts import console as consoles


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
