# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of what ran in a counted region: llvm-mca's steady state of each block, times how often it ran.

llvm-mca knows issue widths and latencies of a core's pipeline, but no caches and no branch predictor: a bound for code
and data that lie in the nearest memory. Blocks are runs of neighbouring instructions that ran equally often; each is
taken as a loop of its own.
"""

from __future__ import annotations

import pathlib
import re
import subprocess

from benchmarks import emulation

MCA, OBJDUMP = f"llvm-mca-{emulation.LLVM}", f"llvm-objdump-{emulation.LLVM}"
TOOLS = (MCA, OBJDUMP)
_MODELS = {
    "cortex-a53": ("aarch64", "cortex-a53", ""),
    "cortex-a76": ("aarch64", "neoverse-n1", "+dotprod"),
    "armv8-i8mm": ("aarch64", "neoverse-v2", "+i8mm,+dotprod"),
    "cortex-m4": ("thumbv7em", "cortex-m4", ""),
    "cortex-m7": ("thumbv7em", "cortex-m7", ""),
    "cortex-m55": ("thumbv8.1m.main", "cortex-m55", ""),
}
"""Core -> triple, llvm-mca's model, attributes. Neoverse N1 is the server twin of the A76; the i8mm core is a V2."""

_BRANCH = re.compile(r"^(b|bl|blx|bx|ret|cbn?z|tbn?z|le|letp|wls|dls"
                     r"|b\.?(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le))"
                     r"(\.[wn])?\b")  # fmt: skip
_SMALL = 0.002
"""Blocks with a smaller share of all instructions count one cycle an instruction."""


def known(core: str) -> bool:
    """Whether there is a model of the core."""
    return core in _MODELS


def estimate(core: str, program: pathlib.Path, counts: pathlib.Path) -> float:
    """Cycles of a region, from the file of "ADDRESS COUNT" lines that the counter writes.

    Raises:
        RuntimeError: the program has no instruction at an address.
    """
    triple, model, attributes = _MODELS[core]
    text = _disassemble(program, attributes)
    ran = {int(a, 16): int(n) for a, n in (line.split() for line in counts.read_text().splitlines())}
    missing = [a for a in ran if a not in text]
    if missing:
        raise RuntimeError(f"{program.name}: no instruction at {missing[0]:#x}")
    following = dict(zip(text, list(text)[1:]))
    blocks: list[list[int]] = []
    for address in sorted(ran):
        last = blocks[-1][-1] if blocks else None
        joins = last is not None and following.get(last) == address and ran[last] == ran[address]
        if joins and not _BRANCH.match(text[last]):
            blocks[-1].append(address)
        else:
            blocks.append([address])
    total, cycles = sum(ran.values()), 0.0
    for block in blocks:
        times = ran[block[0]]
        share = len(block) * times / total
        cycles += times * (
            len(block) if share < _SMALL else _steady([text[a] for a in block], triple, model, attributes)
        )
    return cycles


def _disassemble(program: pathlib.Path, attributes: str) -> dict[int, str]:
    command = [OBJDUMP, "-d", "--no-show-raw-insn", "--no-print-imm-hex", str(program)]
    if attributes:
        command.append(f"--mattr={attributes}")
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\s*([0-9a-f]+):\s+(.*)$", out, re.MULTILINE)
    return {int(a, 16): re.split(r"//|@|<", line)[0].strip() for a, line in found}


def _steady(block: list[str], triple: str, model: str, attributes: str) -> float:
    """Cycles of one turn of a loop of these instructions."""
    lines = []
    for line in block:
        match = _BRANCH.match(line)
        if match and "ret" not in match.group(0) and not re.match(r"^(bx|blx)\b", line):
            line = re.sub(r"(0x[0-9a-f]+|#?-?\d+)\s*$", "here", line)
        lines.append(line)
    head = ".syntax unified\n.thumb\n" if triple.startswith("thumb") else ""
    command = [MCA, f"-mtriple={triple}", f"-mcpu={model}", "-iterations=100",
               "-skip-unsupported-instructions=any"]  # fmt: skip
    if attributes:
        command.append(f"-mattr={attributes}")
    source = head + "here:\n" + "\n".join(lines) + "\n"
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    cycles = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    return int(cycles.group(1)) / 100 if cycles else float(len(block))
