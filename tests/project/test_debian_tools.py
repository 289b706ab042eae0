"""What scripts/install_debian_tools.sh finds missing: programs, and libraries of programs that are there."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest
from debian import debian_packages

from benchmarks import emulation

SCRIPT = emulation.ROOT / "scripts" / "install_debian_tools.sh"
LIBRARIES = {tool: packages for tool, packages in debian_packages().items() if ":" in tool}
COMPILER = """#!/bin/bash
file=${1#-print-file-name=}
case " %s " in *" $file "*) echo "/usr/lib/$file" ;; *) echo "$file" ;; esac
"""


class Machine:
    """A PATH with stubs of the listed programs, and with those of the system that the script itself needs."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        for name in ("bash", "dirname", "sort"):
            (folder / name).symlink_to(str(shutil.which(name)))
        for tool in debian_packages():
            program, _, file = tool.partition(":")
            self.stub(program, [t.partition(":")[2] for t in LIBRARIES if t.partition(":")[0] == program])
        (folder / "id").write_text("#!/bin/bash\necho 1000\n")  # not root: nothing may be installed here
        (folder / "id").chmod(0o755)

    def stub(self, program: str, files: list[str]) -> None:
        """A program that, as a compiler, finds these libraries."""
        (self.folder / program).write_text(COMPILER % " ".join(files))
        (self.folder / program).chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        env = {**os.environ, "PATH": str(self.folder)}
        return subprocess.run(["bash", str(SCRIPT), *arguments], env=env, capture_output=True, text=True)

    def missing(self, *tool: str) -> list[str]:
        done = self.run("--missing", *tool)
        assert done.returncode == 0 and not done.stderr
        return done.stdout.split()


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_with_everything_needs_nothing(machine: Machine) -> None:
    assert machine.missing() == []
    done = machine.run()
    assert done.returncode == 0 and not done.stdout + done.stderr


@pytest.mark.parametrize("tool", LIBRARIES)
def test_a_compiler_without_its_library_still_gets_it(tool: str, machine: Machine) -> None:
    program = tool.partition(":")[0]
    found = [t.partition(":")[2] for t in LIBRARIES if t.partition(":")[0] == program and t != tool]
    machine.stub(program, found)
    assert machine.missing() == machine.missing(program) == LIBRARIES[tool].split()
    done = machine.run()
    assert done.returncode == 1 and done.stderr.strip().endswith(f"--no-install-recommends {LIBRARIES[tool]}")


def test_a_missing_compiler_is_missed_with_its_libraries(machine: Machine) -> None:
    (machine.folder / "arm-none-eabi-gcc").unlink()
    assert machine.missing("arm-none-eabi-gcc") == ["gcc-arm-none-eabi", "libnewlib-arm-none-eabi"]
    assert machine.missing("gcc") == machine.missing("qemu-arm") == []


def test_tests_skip_without_a_library_and_say_what_to_install(machine: Machine, monkeypatch) -> None:
    machine.stub("arm-none-eabi-g++", [])
    monkeypatch.setenv("PATH", str(machine.folder))
    assert emulation.missing_packages("arm-none-eabi-g++") == ["libstdc++-arm-none-eabi-newlib"]
    with pytest.raises(SystemExit, match=r"missing tools: libstdc\+\+-arm-none-eabi-newlib; run scripts/install"):
        emulation.require_tools(["gcc", "arm-none-eabi-g++"])
    with pytest.raises(SystemExit, match="missing tools: no-such-program$"):
        emulation.require_tools(["gcc", "no-such-program"])
    emulation.require_tools(["gcc", "make"])
