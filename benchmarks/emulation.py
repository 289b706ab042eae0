# SPDX-License-Identifier: Apache-2.0
"""Builds the kernels for Arm cores and runs programs on them, emulated by QEMU, or on this machine with sanitizers.

Tests and benchmarks share this. ``scripts/debian_tools.txt`` lists the Debian packages with the compilers and QEMU.
"""

from __future__ import annotations

import dataclasses
import pathlib
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from tflite_export.kernels import build_list

ROOT = pathlib.Path(__file__).resolve().parents[1]
BOARDS = ROOT / "examples" / "firmware" / "boards"
KERNELS = build_list.PACKAGE / "kernels"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
LLVM = 19
"""Version of clang, llvm-mca and llvm-objdump in tests, fuzzing and benchmarks: the newest of Debian 12's main archive.
One version for all, because code and estimates differ from version to version."""
CLANG = f"clang-{LLVM}"
_SECTION = r"^ \.(?:text|rodata|data|vectors)\S*\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+(\S+)$"
"""A section in a linker's map: size and object."""
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


class EmulationError(RuntimeError):
    """A build or a program failed; the message has what it printed."""


@dataclasses.dataclass(frozen=True)
class Core:
    """One processor.

    Attributes:
        name: for people and test names.
        compiler: program and flags that make code for it.
        emulator: program and flags that run such code; empty where this machine does.
        board: linker script of a bare-metal image; empty for a program under Linux.
    """

    name: str
    compiler: tuple[str, ...]
    emulator: tuple[str, ...] = ()
    board: str = ""

    @property
    def tools(self) -> tuple[str, ...]:
        """Programs that builds and runs need."""
        return (self.compiler[0], *self.emulator[:1])


_M = ("arm-none-eabi-gcc", "-mthumb")
_M4 = (*_M, "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_M7 = (*_M, "-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16")
_M33 = (*_M, "-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16")
_M55 = (*_M, "-mcpu=cortex-m55", "-mfloat-abi=hard")
_A64 = ("aarch64-linux-gnu-gcc", "-march=armv8-a")
_A32 = ("arm-linux-gnueabihf-gcc", "-march=armv7-a", "-mfpu=neon-vfpv4", "-mfloat-abi=hard")


def _board(machine: str) -> tuple[str, ...]:
    quiet = ("-nographic", "-monitor", "none", "-serial", "none")
    return ("qemu-system-arm", "-M", machine, *quiet, "-semihosting-config", "enable=on,target=native", "-kernel")


CORES: dict[str, Core] = {
    core.name: core
    for core in (
        Core("host", ("gcc",)),
        Core("x86-64", ("gcc", "-march=x86-64"), ("qemu-x86_64", "-cpu", "max")),
        Core("cortex-a53", _A64, ("qemu-aarch64", "-cpu", "cortex-a53")),
        Core("cortex-a76", _A64, ("qemu-aarch64", "-cpu", "cortex-a76")),
        Core("armv8-i8mm", _A64, ("qemu-aarch64", "-cpu", "max,sve=off,sme=off")),
        Core("cortex-a7", _A32, ("qemu-arm", "-cpu", "cortex-a7")),
        Core("cortex-m0plus", (*_M, "-mcpu=cortex-m0plus"), _board("mps2-an385"), "mps2.ld"),
        Core("cortex-m3", (*_M, "-mcpu=cortex-m3"), _board("mps2-an385"), "mps2.ld"),
        Core("cortex-m4", _M4, _board("mps2-an386"), "mps2.ld"),
        Core("cortex-m7", _M7, _board("mps2-an500"), "mps2.ld"),
        Core("cortex-m33", _M33, _board("mps2-an505"), "mps2_an505.ld"),
        Core("cortex-m55", _M55, _board("mps3-an547"), "mps3_an547.ld"),
    )
}
"""Cortex-M0+ code runs on an M3 here: QEMU has no M0+, whose instructions are a subset."""


def missing_packages(tool: str) -> list[str]:
    """Debian packages of a program, and of the libraries listed for it, that this machine lacks."""
    command = [str(ROOT / "scripts" / "install_debian_tools.sh"), "--missing", tool]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def require_tools(tools: Iterable[str]) -> None:
    """Ends a benchmark that lacks a program or a library of one: before it measures for an hour, not after.

    Raises:
        SystemExit: names them, and says how to get them.
    """
    tools = sorted(set(tools))
    packages = sorted({package for tool in tools for package in missing_packages(tool)})
    if packages:
        raise SystemExit(f"missing tools: {', '.join(packages)}; run scripts/install_debian_tools.sh")
    absent = [tool for tool in tools if not shutil.which(tool)]
    if absent:
        raise SystemExit(f"missing tools: {', '.join(absent)}")


def version(compiler: str) -> str:
    """What a compiler calls itself, "Debian clang version 19.1.7 (3~deb12u1)", for results."""
    return subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


def emulated() -> list[str]:
    """Names of the cores that benchmarks go through; x86-64 where the host's own compiler makes such code."""
    return [name for name in CORES if name != "host" and (name != "x86-64" or platform.machine() == "x86_64")]


def _run(command: Sequence[str], folder: pathlib.Path, timeout: float) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise EmulationError(f"{command[0]} took more than {timeout:.0f} s: {' '.join(command)}") from None
    if done.returncode:
        said = (done.stdout + done.stderr)[-4000:]
        raise EmulationError(f"{command[0]} ended with {done.returncode}: {' '.join(command)}\n{said}")
    return done.stdout


def include_flags(kernels: pathlib.Path = KERNELS) -> list[str]:
    """For programs that include the kernels' public headers by name, and inner ones as ``kernels/core/options.h``."""
    return [f"-I{kernels / 'include'}", f"-I{kernels.parent}"]


def compile_kernels(
    core: Core,
    folder: pathlib.Path,
    flags: Sequence[str] = ("-O2",),
    kernels: pathlib.Path = KERNELS,
    compiler: Sequence[str] | None = None,
    names: Sequence[str] = build_list.KERNEL_SOURCES,
) -> list[pathlib.Path]:
    """Objects of all kernels, or of those of some names, made in ``folder``; the rest is as in `build`."""
    sources = [kernels.parent / name for name in names]
    return _compile(compiler or core.compiler, sources, folder, flags, kernels)


def _compile(
    compiler: Sequence[str],
    sources: Sequence[pathlib.Path],
    folder: pathlib.Path,
    flags: Sequence[str],
    kernels: pathlib.Path,
) -> list[pathlib.Path]:
    paths = [str(path) for path in sources]
    _run([*compiler, "-std=gnu99", *WARNINGS, *flags, *include_flags(kernels), "-c", *paths], folder, 300)
    return [folder / path.with_suffix(".o").name for path in sources]


def build(
    core: Core,
    sources: Sequence[pathlib.Path],
    folder: pathlib.Path,
    flags: Sequence[str] = ("-O2",),
    kernels: pathlib.Path = KERNELS,
    compiler: Sequence[str] | None = None,
    objects: Sequence[pathlib.Path] = (),
    link_flags: Sequence[str] = (),
    kernel_objects: Sequence[pathlib.Path] | None = None,
) -> pathlib.Path:
    """Compiles ``sources`` with all kernels for a core and returns the program, ``folder``/NAME.elf.

    Args:
        kernels: where the kernels' sources lie, a folder of that name.
        compiler: makes the objects, instead of the core's own, which always links.
        objects: more of them.
        link_flags: for the linker alone.
        kernel_objects: what `compile_kernels` gave; where it is left out, kernels are compiled here.

    Raises:
        EmulationError: with what the compiler said.
    """
    program = folder / f"{core.name}.elf"
    if kernel_objects is None:
        kernel_objects = compile_kernels(core, folder, flags, kernels, compiler)
    made = _compile(compiler or core.compiler, sources, folder, flags, kernels)
    link = [
        *core.compiler,
        *(flag for flag in flags if flag.startswith("-fsanitize")),
        "-o",
        str(program),
        *(str(path) for path in (*made, *kernel_objects, *objects)),
    ]
    if core.board:
        link += [str(BOARDS / "start.c"), f"-L{BOARDS}", "-T", core.board, "-nostartfiles", "--specs=rdimon.specs"]
        link += ["-O2", "-Wl,--no-warn-rwx-segments"]
    elif core.emulator:
        link += ["-static"]
    _run([*link, *link_flags], folder, 300)
    return program


def link_map(
    core: Core,
    sources: Sequence[pathlib.Path],
    folder: pathlib.Path,
    flags: Sequence[str],
    objects: Sequence[pathlib.Path],
) -> str:
    """The linker's map of a program that begins at its own ``_start``; it is not for running.

    Raises:
        EmulationError: with what the compiler said.
    """
    made = _compile(core.compiler, sources, folder, flags, KERNELS)
    target = folder / "link.map"
    bare = ["--specs=nosys.specs", "-Wl,--no-warn-rwx-segments"] if core.board else ["-static"]
    command = [*core.compiler, *map(str, (*made, *objects)), "-nostartfiles", *bare, f"-Wl,--gc-sections,-Map={target}"]
    _run([*command, "-o", str(folder / "link.elf")], folder, 300)
    return target.read_text()


def linked_bytes(link_map: str) -> dict[str, int]:
    """Bytes of code and constants that a linker kept of each object, by its name without the ending."""
    sizes: dict[str, int] = {}
    placed = link_map.partition("Linker script and memory map")[2]
    for size, path in re.findall(_SECTION, placed, re.MULTILINE):
        stem = pathlib.Path(path).stem
        sizes[stem] = sizes.get(stem, 0) + int(size, 16)
    return sizes


def counter(folder: pathlib.Path) -> pathlib.Path:
    """Builds the QEMU plugin that counts instructions between two markers; raises EmulationError."""
    library = folder / "count.so"
    source = ROOT / "benchmarks" / "arm" / "count.c"
    _run(["gcc", "-std=gnu11", "-O2", *WARNINGS, "-shared", "-fPIC", "-o", str(library), str(source)], folder, 60)
    return library


def run(core: Core, program: pathlib.Path, plugin: str = "", timeout: float = 600) -> str:
    """What a program prints; runs in the program's folder.

    Args:
        plugin: a QEMU plugin and its arguments, "PATH,NAME=VALUE".

    Raises:
        EmulationError: it failed or took longer than ``timeout`` seconds.
    """
    emulator = [core.emulator[0], "-plugin", plugin, *core.emulator[1:]] if plugin else core.emulator
    return _run([*emulator, str(program)], program.parent, timeout)


def counted(core: Core, program: pathlib.Path, folder: pathlib.Path) -> list[tuple[str, int]]:
    """Lines that a program prints, one for each region between markers, and the instructions of that region.

    Raises:
        EmulationError: it failed, or printed another number of lines.
    """
    counts = folder / "counts.txt"
    said = run(core, program, f"{counter(folder)},out={counts}").splitlines()
    regions = [int(line.split()[2]) for line in counts.read_text().splitlines()]
    if len(said) != len(regions):
        raise EmulationError(f"{core.name}, {program.name}: {len(regions)} counts for {len(said)} lines")
    return list(zip(said, regions))
