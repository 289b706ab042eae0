#!/usr/bin/env python3
"""Compiles the kernels by every compiler that is installed, under many flags, and runs them: a table of what came out.

    python scripts/compilers.py [--only clang-14 ...] [--flags O2 ...]

A cell is "ok" where nothing was warned of, and all cases and models gave the reference's bits; "warns" or "wrong" where
not, which is printed below the table and makes the command fail. Programs for other cores run under QEMU. Compilers
that are not installed are left out, and named. It takes an hour or two with everything; a few of it are a test.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys
import tempfile
from concurrent import futures

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import compilers  # noqa: E402

from benchmarks import emulation  # noqa: E402

LTO = ("-O2", "-flto")


def cell(build: compilers.Build, flags: tuple[str, ...], made: pathlib.Path) -> tuple[str, str]:
    """What came out, and what was said where it is not "ok"."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        try:
            objects = compilers.compile_kernels(build, flags, folder)
            (folder / "rest").mkdir()
            compilers.compile_rest(build, flags, made, folder / "rest")
        except emulation.EmulationError as error:
            return "warns", str(error)
        try:
            compilers.run_cases(build, flags, objects, made, folder)
            compilers.run_models(build, flags, objects, made, folder)
        except emulation.EmulationError as error:
            return "wrong", str(error)
    return "ok", ""


def main() -> int:
    """Prints the table; 1 where a cell is not "ok"."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="builds whose name has one of these words")
    parser.add_argument(
        "--flags", nargs="+", choices=[*compilers.FLAGS, "lto"], metavar="NAME", help="some of the columns"
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default: 2)")
    args = parser.parse_args()
    columns = {
        name: flags for name, flags in {**compilers.FLAGS, "lto": LTO}.items() if not args.flags or name in args.flags
    }
    builds = [b for b in compilers.every_build() if not args.only or set(args.only) & set(b.name.split())]
    absent = {tool for build in builds for tool in build.tools if not shutil.which(tool)}
    builds = [build for build in builds if not absent & set(build.tools)]
    width = max([len(build.name) for build in builds], default=0)
    print(f"{'':{width}}  " + "  ".join(columns))
    failures = []
    with tempfile.TemporaryDirectory() as scratch, futures.ThreadPoolExecutor(args.jobs) as pool:
        made = pathlib.Path(scratch)
        compilers.prepare(made)
        for build in builds:
            # clang's linker for this is in packages of its own
            tried = {
                name: flags for name, flags in columns.items() if name != "lto" or "clang" not in build.compiler[0]
            }
            found = dict(zip(tried, pool.map(lambda flags, build=build: cell(build, flags, made), tried.values())))
            failures += [(build.name, name, said) for name, (word, said) in found.items() if word != "ok"]
            words = [f"{found[name][0] if name in found else '-':{len(name)}}" for name in columns]
            print(f"{build.name:{width}}  " + "  ".join(words), flush=True)
    print(f"not installed: {', '.join(sorted(absent)) or 'none'}")
    for build_name, flags_name, said in failures:
        print(f"\n{build_name}, {flags_name}:\n" + "\n".join(said.splitlines()[1:] or [said]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
