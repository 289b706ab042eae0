# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws fetch-data``."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from tfmot_kws import extras
from tfmot_kws.commands.parts import console as consoles


def fetch_data(
    names: Annotated[list[str] | None, typer.Argument(help="Sets, as --list names them.", show_default=False)] = None,
    out: Annotated[pathlib.Path, typer.Option(help="Folder; each set gets one of its name in it.")] = pathlib.Path(
        "data"
    ),
    listed: Annotated[bool, typer.Option("--list", help="Only list the sets, or the named ones in full.")] = False,
    accept: Annotated[
        bool, typer.Option("--accept-licences", help="You have read what is downloaded and under which licence.")
    ] = False,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep what was unpacked, too.")] = False,
) -> None:
    """Downloads public sets of sound, checks and unpacks them. Says what, from where and under which licence first.

    A download that was cut goes on by the same command. Nothing is downloaded without --accept-licences.

    Examples:
      tfmot-kws fetch-data --list
      tfmot-kws fetch-data musan mit-rooms
      tfmot-kws fetch-data musan mit-rooms --accept-licences --out data
    """
    from tfmot_kws.data import public

    console = consoles.stdout()
    sets = public.find(names or [])
    if listed and not sets:
        width = max(len(name) for name in public.SETS)
        for item in public.SETS.values():
            size = public.megabytes(item.size)
            console.print(f"{item.name:<{width}}  {size:>7}  {item.licence}\n{'':<{width}}  {item.about}", markup=False)
        return
    if not sets:
        raise ValueError(f"name sets to download ({', '.join(public.SETS)}), or see --list")
    for item in sets:
        console.print(item.statement(), markup=False)
    if listed:
        return
    if not accept:
        raise ValueError("nothing was downloaded; if you accept the licences above, add --accept-licences")
    for package in ("pooch", "requests"):
        extras.require(package, "downloading")
    public.check_space(sets, out)
    phases = consoles.Phases(console, len(sets))
    for item in sets:
        with phases.phase(f"fetching {item.name}") as advance:
            target = public.fetch(item, out, keep_archives, advance)
        console.print(f"{target}", markup=False)
