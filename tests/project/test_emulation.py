"""What the benchmarks of kernels stand on: exact counts of instructions, and what a failed program says."""

from __future__ import annotations

import pathlib

import pytest

from benchmarks import cycles, emulation

PROGRAM = """
#include <stdio.h>
#include "marks.h"
int main(void) {
  MARK_BEGIN();
  __asm__ volatile("nop\\n nop\\n nop\\n nop\\n nop\\n nop\\n nop");
  MARK_END();
  MARK_BEGIN();
  MARK_END();
  printf("two regions\\n");
  return 0;
}
"""
CORES = [name for name in emulation.emulated() if name not in ("cortex-a76", "armv8-i8mm", "cortex-m7")]


@pytest.fixture
def build(require_tool, tmp_path: pathlib.Path):
    def make(name: str, text: str) -> tuple[emulation.Core, pathlib.Path]:
        core = emulation.CORES[name]
        for tool in core.tools:
            require_tool(tool)
        (tmp_path / "program.c").write_text(text)
        marks = emulation.ROOT / "benchmarks" / "arm"
        flags = ["-O2", f"-I{marks}"]
        return core, emulation.build(core, [tmp_path / "program.c"], tmp_path, flags, kernel_objects=[])

    return make


@pytest.mark.parametrize("name", CORES)
def test_counts_are_exact(name: str, build, tmp_path: pathlib.Path) -> None:
    core, program = build(name, PROGRAM)
    counts = tmp_path / "counts.txt"
    said = emulation.run(core, program, f"{emulation.counter(tmp_path)},out={counts}")
    assert said.strip() == "two regions"
    assert counts.read_text() == "region 0 7\nregion 1 0\n"


def test_places_add_up_to_the_region(build, require_tool, tmp_path: pathlib.Path) -> None:
    for tool in cycles.TOOLS:
        require_tool(tool)
    core, program = build("cortex-m4", PROGRAM)
    counts, places = tmp_path / "counts.txt", tmp_path / "places.txt"
    emulation.run(core, program, f"{emulation.counter(tmp_path)},out={counts},pcs={places},region=0")
    ran = [int(line.split()[1]) for line in places.read_text().splitlines()]
    assert 7 <= sum(ran) <= 8  # the end marker has run when the region is read
    assert 7 <= cycles.estimate("cortex-m4", program, places) <= 9


def test_a_failure_says_what_was_printed(build) -> None:
    core, program = build("cortex-m3", '#include <stdio.h>\nint main(void) { printf("why\\n"); return 5; }')
    with pytest.raises(emulation.EmulationError, match="ended with 5.*\n.*why"):
        emulation.run(core, program)
    with pytest.raises(emulation.EmulationError, match="gcc ended with 1"):
        build("cortex-m3", "int main(void) { return missing; }")
