"""Runs Vela, Arm's compiler for the Ethos-U, and reads what it says.

Vela is run as its own process, by its command line: that is the interface that its releases keep, what it prints stays
there, and a crash of its C++ core ends the process and not this one. Memory and cycles come from the table (CSV) that
it writes, the reasons for ops that stay on the CPU from its warnings, which are nowhere else.
"""

from __future__ import annotations

import configparser
import csv
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

PACKAGE = "ethos-u-vela"
VERSIONS = ">=5.1,<6"
"""Of the package; `pyproject.toml` has the same. 5.0 keeps far more of a stream in SRAM than later ones."""
INSTALL = "pip install 'tfmot-kws[npu]'"
SIZES = {"ethos-u55": (32, 64, 128, 256), "ethos-u65": (256, 512), "ethos-u85": (128, 256, 512, 1024, 2048)}
"""Family -> multiply-accumulates a cycle of its sizes."""
ACCELERATORS = tuple(f"{family}-{size}" for family, sizes in SIZES.items() for size in sizes)
SYSTEMS = {
    "ethos-u55": "Ethos_U55_High_End_Embedded",
    "ethos-u65": "Ethos_U65_Embedded",
    "ethos-u85": "Ethos_U85_SYS_Flash_High",
}
"""Family -> the system of Arm's own vela.ini that is assumed: SRAM and off-chip flash, as on a microcontroller."""
MEMORY_MODE = "Shared_Sram"
"""Weights in flash, everything else in an SRAM that the Cortex-M uses, too."""
OPTIMISE = ("performance", "size")
_ARM = pathlib.PurePath("config_files", "Arm", "vela.ini")
_WARNING = re.compile(r"operator:\s*(\S+?),?\s+ofm:\s*'?(.*?)'?\s*$")
_ASIDE = ("Tensor '", "TfLiteReader:", "Warning:")
"""What Vela says of other things, through another buffer: it may come to stand between a warning and its reason."""
_KINDS = {"System_Config": "system_config", "Memory_Mode": "memory_mode"}


class NpuError(RuntimeError):
    """Vela could not compile a model, or nothing of it can run on the NPU; the message says why."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What is compiled for: an accelerator, and the clocks and memories around it.

    Attributes:
        accelerator: one of ``ACCELERATORS``.
        system_config: name of a section [System_Config.NAME] of ``config``: clock, and bandwidth of memories.
        memory_mode: name of a section [Memory_Mode.NAME]: what lies in which memory.
        config: the vela.ini that has them.
        optimise: "performance" or "size": for fewer cycles, or for less SRAM.
    """

    accelerator: str
    system_config: str
    memory_mode: str
    config: pathlib.Path
    optimise: str = "performance"


@dataclasses.dataclass(frozen=True)
class Report:
    """What Vela made and estimated.

    Attributes:
        flatbuffer: the compiled .tflite file.
        clock_hz: of the accelerator.
        flash: bytes of weights, biases and scales, compressed, where the memory mode has them in flash.
        sram: bytes of SRAM at the peak.
        dram: bytes of DRAM at the peak; 0 where the memory mode has none.
        cycles: of an inference, those that wait for memory included.
        reasons: output of an op that stays on the CPU -> why.
    """

    flatbuffer: bytes
    clock_hz: float
    flash: int
    sram: int
    dram: int
    cycles: int
    reasons: dict[str, str]


def version() -> str:
    """The installed Vela's; raises ImportError, which says what to install, where there is none."""
    try:
        found = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        found = ""
    if not found or importlib.util.find_spec("ethosu") is None:
        raise ImportError(f"compiling for an Ethos-U needs {PACKAGE}: {INSTALL}", name="ethosu")
    return found


def family_of(accelerator: str) -> str:
    """For example "ethos-u55"; ValueError with all names where there is no such accelerator."""
    if accelerator not in ACCELERATORS:
        raise ValueError(f"accelerator {accelerator!r}: must be one of {', '.join(ACCELERATORS)}")
    return accelerator.rpartition("-")[0]


def target(
    accelerator: str,
    system_config: str | None = None,
    memory_mode: str | None = None,
    config: str | os.PathLike | None = None,
    optimise: str = "performance",
) -> Target:
    """A target, checked: Vela itself would compile for a U85 by the clock and memories of a U55.

    Args:
        accelerator: one of ``ACCELERATORS``.
        system_config: None for that of ``SYSTEMS``.
        memory_mode: None for ``MEMORY_MODE``.
        config: a vela.ini of one's own, which names its system and memory mode; None for Arm's, part of Vela.
        optimise: one of ``OPTIMISE``.

    Raises:
        ValueError: a name that is none, or a file that is no vela.ini; the message has the names that there are.
        OSError: ``config`` cannot be read.
        ImportError: there is no Vela.
    """
    family = family_of(accelerator)
    if optimise not in OPTIMISE:
        raise ValueError(f"optimise {optimise!r}: must be {' or '.join(OPTIMISE)}")
    version()
    own = config is not None
    path = pathlib.Path(config).absolute() if own else _arm_config()
    if own and path.suffix != ".ini":
        raise ValueError(f"{path}: must end in .ini, Vela reads nothing else")
    names = _sections(path)
    systems = names["system_config"]
    if not own:
        systems = [name for name in systems if name.startswith(family.replace("ethos-u", "Ethos_U") + "_")]
        system_config, memory_mode = system_config or SYSTEMS[family], memory_mode or MEMORY_MODE
    for option, chosen, there in (
        ("system_config", system_config, systems),
        ("memory_mode", memory_mode, names["memory_mode"]),
    ):
        if chosen is None:
            raise ValueError(f"{path}: needs {option} as well, one of {', '.join(there)}")
        if chosen not in there:
            where = f"for {accelerator} {path.name} has" if not own else f"{path} has"
            raise ValueError(f"{option} {chosen!r}: {where} {', '.join(there) or 'none'}")
    return Target(accelerator, str(system_config), str(memory_mode), path, optimise)


def _arm_config() -> pathlib.Path:
    """The vela.ini that comes with Vela."""
    spec = importlib.util.find_spec("ethosu")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := pathlib.Path(folder) / _ARM).is_file():
            return path
    raise NpuError(f"{PACKAGE} {version()} has no {_ARM}; needed is {PACKAGE}{VERSIONS}, or a config of your own")


def _sections(path: pathlib.Path) -> dict[str, list[str]]:
    """The names of systems and memory modes of a vela.ini."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no vela.ini: {' '.join(str(error).split())}") from error
    split = [name.partition(".") for name in parser.sections()]
    return {option: [name for kind, _, name in split if kind == section] for section, option in _KINDS.items()}


def run(flatbuffer: bytes, chosen: Target) -> Report:
    """Compiles a .tflite file.

    Raises:
        NpuError: Vela failed, or wrote something else than what this module reads.
        ImportError: there is no Vela.
    """
    found = version()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "model.tflite"
        source.write_bytes(flatbuffer)
        options = {
            "--accelerator-config": chosen.accelerator,
            "--config": str(chosen.config),
            "--system-config": chosen.system_config,
            "--memory-mode": chosen.memory_mode,
            "--optimise": chosen.optimise.capitalize(),
            "--output-dir": str(folder / "out"),
        }
        flat = [word for option in options.items() for word in option]
        done = subprocess.run(
            [sys.executable, "-u", "-m", "ethosu.vela", str(source), *flat],  # -u: else Python's lines fall among C++'s
            cwd=folder, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            raise NpuError(f"{PACKAGE} {found} does not compile this model for {chosen.accelerator}: {_last(done)}")
        try:
            compiled = (folder / "out" / "model_vela.tflite").read_bytes()
            (table,) = (folder / "out").glob("model_summary_*.csv")
            with table.open(newline="", encoding="utf-8") as file:
                row = next(csv.DictReader(file))
            flash = sum(_bytes(row, place) for place in ("on_chip_flash", "off_chip_flash"))
            sram, dram, cycles = _bytes(row, "sram"), _bytes(row, "dram"), round(float(row["cycles_total"]))
            clock = float(row["core_clock"])
        except (OSError, KeyError, TypeError, ValueError, StopIteration) as error:
            raise NpuError(f"{PACKAGE} {found} writes other files than {PACKAGE}{VERSIONS}: {error!r}") from error
    return Report(compiled, clock, flash, sram, dram, cycles, _reasons(done.stdout + "\n" + done.stderr))


def _bytes(row: dict[str, str], place: str) -> int:
    return round(float(row[f"{place}_memory_used"]) * 1024)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of what Vela said that says what is wrong."""
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    if not lines:
        return f"it ended with status {done.returncode}"
    said = lines[-1].rpartition("Error: ")[2]
    return said.removesuffix("'") if said.count("'") % 2 else said  # the text of a KeyError and its kin is quoted


def _reasons(text: str) -> dict[str, str]:
    """Output of an op -> the reason, from "Warning ... operator: NAME, ofm: 'OUTPUT'" and the lines that follow."""
    found: dict[str, str] = {}
    output = None
    for line in text.splitlines():
        match = _WARNING.search(line) if "Warning" in line else None
        if match:
            output = match[2]
        elif line.startswith(_ASIDE):  # says nothing of the op, wherever it falls
            continue
        elif not line.strip():
            output = None
        elif output is not None:
            reason = line.strip().removeprefix("Reason:").strip()
            before = found.get(output)
            found[output] = reason if before in (None, reason) else f"{before}; {reason}"
    return found
