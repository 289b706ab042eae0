"""Components of build systems compile as they are written, and hear what the host hears."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess

import kept
import pytest
from command_line import error
from spotter_files import FRONTEND, TASK, speech, write_spotter

from benchmarks import emulation
from tflite_export.c import component
from tfmot_kws.commands import firmware, listen
from tfmot_kws.commands.parts import sidecar, spotter
from tfmot_kws.frontend import features

THRESHOLD = 0.1
TARGETS = {
    "host": (),
    "cortex-m4": ("arm-none-eabi-gcc", "-mcpu=cortex-m4 -mthumb"),
    "riscv": ("riscv64-unknown-elf-gcc", "-march=rv32imc -mabi=ilp32 --specs=picolibc.specs"),
}
"""Compiler and flags; rv32imc is an ESP32-C3."""
STUBS = {
    "esp-idf": """
set(COMPONENT_LIB kws)
function(idf_component_register)
  cmake_parse_arguments(C "" "" "SRCS;INCLUDE_DIRS;PRIV_INCLUDE_DIRS;REQUIRES" ${ARGN})
  if(C_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "idf_component_register has no ${C_UNPARSED_ARGUMENTS}")
  endif()
  add_library(kws STATIC ${C_SRCS})
  target_include_directories(kws PUBLIC ${C_INCLUDE_DIRS} PRIVATE ${C_PRIV_INCLUDE_DIRS})
endfunction()
""",
    "zephyr": """
set(CONFIG_KWS_SPOTTER y)
macro(zephyr_library_named name)
  add_library(${name} STATIC)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
endmacro()
macro(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_include_directories)
  target_include_directories(${ZEPHYR_CURRENT_LIBRARY} PUBLIC ${ARGN})
endmacro()
macro(zephyr_library_include_directories)
  target_include_directories(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_compile_definitions)
  target_compile_definitions(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
""",
}
"""What the build systems' own CMake code does with a component; neither is on a package index."""
MAIN = """
#include <stdio.h>
#include "kws_listener.h"
static void heard(void* context, int32_t keyword, uint32_t ms) {
  ++*(int*)context;
  printf("%u %s %.2f\\n", (unsigned)ms, kws_listener_word(keyword), kws_listener_score(keyword));
}
int main(void) {
  uint16_t values[64];
  int count = 0;
  if (!kws_listener_begin() || kws_listener_frame_bytes() > 64 || kws_listener_word(kws_listener_words())) return 1;
  FILE* file = fopen("values.bin", "rb");
  while (fread(values, 2, kws_listener_frame_bytes(), file) == (size_t)kws_listener_frame_bytes())
    if (!kws_listener_values(values, heard, &count)) return 2;
  const kws_front_end_settings s = kws_listener_front_end();
  printf("%d %d %d %d %d %g %g %d\\n", s.micro, (int)s.sample_rate, (int)s.window_ms, (int)s.hop_ms, (int)s.mel_bins,
         s.lower_hz, s.upper_hz, s.pcan);
  printf("%d detections, %d ms\\n", count, (int)kws_listener_hop_ms());
  return 0;
}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    made = kept.once(tmp_path_factory, "spotter", write_spotter)
    return shutil.copytree(made, tmp_path_factory.mktemp("spotter"), dirs_exist_ok=True) / "stream.tflite"


def write(system: str, model: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    firmware.run(model, out, THRESHOLD, None, None, system)
    return out


def cmake(source: pathlib.Path, build: pathlib.Path, *options: str) -> None:
    for command in (["cmake", "-S", source, "-B", build, *options], ["cmake", "--build", build, "-j2"]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout + done.stderr, done.stdout + done.stderr


def toolchain(target: str, require_tool) -> list[str]:
    require_tool("cmake")
    if not TARGETS[target]:
        return []
    compiler, flags = TARGETS[target]
    return [
        "-DCMAKE_SYSTEM_NAME=Generic", "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
        "-DCMAKE_BUILD_TYPE=MinSizeRel",
        f"-DCMAKE_C_COMPILER={require_tool(compiler)}", f"-DCMAKE_C_FLAGS={flags} -Wall -Wextra",
    ]  # fmt: skip


@pytest.mark.slow
def test_component_hears_what_the_host_hears(model, tmp_path, require_tool) -> None:
    require_tool("cmake")
    sound, frontend = speech(), dataclasses.replace(FRONTEND, lower_hz=200.0, pcan=False)
    model = pathlib.Path(shutil.copy(model, tmp_path / "other.tflite"))
    sidecar.write(model, sidecar.Sidecar("tflite", frontend, TASK))
    features.raw_micro(frontend, sound).tofile(tmp_path / "values.bin")
    write("cmake", model, tmp_path / "spotter")
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C)\nadd_subdirectory(spotter)\nadd_executable(app main.c)\n"
        "target_link_libraries(app PRIVATE kws_spotter)\n"
        "target_compile_definitions(kws_spotter PRIVATE KWS_SELF_TEST)\n"
    )
    cmake(tmp_path, tmp_path / "build", "-DCMAKE_C_FLAGS=-Wall -Wextra")
    done = subprocess.run([tmp_path / "build" / "app"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    ear = spotter.open_spotter(model, threshold=THRESHOLD)
    lines = [listen.line(found).split() for found in ear.step(sound)]
    *printed, settings, last = done.stdout.splitlines()
    assert [line.split()[1:] for line in printed] == [line[1:] for line in lines]
    assert settings == "1 16000 30 20 40 200 7500 0"
    assert last == f"{len(lines)} detections, {FRONTEND.hop_ms} ms" and len(lines) > 3


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cortex-m4", "riscv"])
def test_cmake_compiles_for_boards(target, model, tmp_path, require_tool) -> None:
    cmake(write("cmake", model, tmp_path / "c"), tmp_path / "build", *toolchain(target, require_tool))
    assert (tmp_path / "build" / "libkws_spotter.a").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("system, target", [("esp-idf", "riscv"), ("zephyr", "cortex-m4")])
def test_cmake_of_other_systems_compiles(system, target, model, tmp_path, require_tool) -> None:
    write(system, model, tmp_path / "spotter")
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.16)\nproject(app C)\n{STUBS[system]}\nadd_subdirectory(spotter)\n"
    )
    cmake(tmp_path, tmp_path / "build", *toolchain(target, require_tool))
    assert list((tmp_path / "build").rglob("libkws*.a"))


@pytest.mark.slow
@pytest.mark.parametrize("system", ["arduino", "platformio"])
def test_every_source_compiles_with_one_folder_of_headers(system, model, tmp_path, require_tool) -> None:
    """As these systems compile libraries: all of src, which is on the path of headers."""
    out = write(system, model, tmp_path / "kws")
    compiler = require_tool("arm-none-eabi-gcc")
    flags = ["-mcpu=cortex-m0plus", "-mthumb", "-Os", "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{out / 'src'}"]
    if system == "platformio":
        flags += json.loads((out / "library.json").read_text())["build"]["flags"]
    sources = sorted((out / "src").rglob("*.c"))
    subprocess.run([compiler, *flags, "-c", *sources], cwd=tmp_path, check=True)
    if system == "arduino":
        assert "#define KWS_WIDTHS 0x10\n" in (out / "src" / "kernels" / "include" / "packed_kernels.h").read_text()
        (tmp_path / "Arduino.h").write_text(
            "#pragma once\n#include <stdint.h>\nstruct S { void begin(long); void println(const char*); };\n"
            "extern S Serial;\n"
        )
        sketch = out / "examples" / "Listen" / "Listen.ino"
        flags = ["-mcpu=cortex-m0plus", "-mthumb", "-x", "c++", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}"]
        command = [require_tool("arm-none-eabi-g++"), *flags, "-include", "Arduino.h", f"-I{out / 'src'}", "-c", sketch]
        subprocess.run([*command, "-o", tmp_path / "sketch.o"], check=True)


@pytest.mark.parametrize("system, file", [("platformio", "library.json"), ("arduino", "library.properties")])
def test_platformio_takes_the_metadata(system, file, model, tmp_path, require_module, monkeypatch) -> None:
    """Its own parser and schema; the list of licences, which it downloads, is one of one."""
    parser = require_module("platformio.package.manifest.parser")
    schema = require_module("platformio.package.manifest.schema")
    licences = {"licenses": [{"licenseId": "Apache-2.0"}]}
    monkeypatch.setattr(schema.ManifestSchema, "load_spdx_licenses", staticmethod(lambda: licences))
    out = write(system, model, tmp_path / "kws")
    read = parser.ManifestParserFactory.new_from_file(str(out / file)).as_dict()
    loaded = schema.ManifestSchema().load_manifest(read)
    assert loaded["name"] == "kws_spotter" and loaded["version"] == component.version.VERSION
    assert "low, high" in loaded["description"]


def test_metadata_of_other_systems(model, tmp_path) -> None:
    idf = write("esp-idf", model, tmp_path / "idf")
    assert re.search(r'^version: "\d+\.\d+\.\d+"$', (idf / "idf_component.yml").read_text(), re.MULTILINE)
    zephyr = write("zephyr", model, tmp_path / "zephyr")
    assert (zephyr / "zephyr" / "module.yml").read_text().startswith("name: kws_spotter\nbuild:\n  cmake: .\n")
    assert "config KWS_SPOTTER\n\tbool" in (zephyr / "Kconfig").read_text()
    assert all("KWS_WIDTHS=0x10" in (folder / "CMakeLists.txt").read_text() for folder in (idf, zephyr))


def test_every_kernel_is_there(model, tmp_path) -> None:
    out = write("cmake", model, tmp_path / "c")
    there = {str(path.relative_to(out / "src")) for path in (out / "src" / "kernels").rglob("*") if path.is_file()}
    here = {str(p.relative_to(emulation.KERNELS.parent)) for p in emulation.KERNELS.rglob("*.[ch]")}
    here |= {str(p.relative_to(emulation.KERNELS.parent)) for p in emulation.KERNELS.rglob("*.inc")}
    assert there == here
    listed = re.findall(r'^  "(.*\.c)"$', (out / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(out)) for path in (out / "src").rglob("*.c"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--package", "make"), "package must be one of esp-idf, arduino, zephyr, cmake, platformio, found 'make'"),
        (
            ("--package", "cmake", "--name", "hey nova"),
            "name must be a letter and then letters, digits and underscores",
        ),
        (("--package", "cmake", "--name", "9"), "name must be a letter"),
        (("--package", "cmake", "--name", ""), "name must be a letter"),
        (("--name", "hey_nova"), "--name hey_nova: is what a component is called, and goes with --package"),
    ],
)
def test_what_is_wrong_is_said_first(options, says, model, tmp_path) -> None:
    assert says in error("firmware", "--model", model, "--out", tmp_path / "c", *options)
    assert not (tmp_path / "c").exists()


def test_nothing_is_written_over(model, tmp_path) -> None:
    (tmp_path / "mine.c").write_text("mine")
    said = error("firmware", "--model", model, "--out", tmp_path, "--package", "cmake", "--threshold", THRESHOLD)
    assert "there is something already" in said
    assert [p.name for p in tmp_path.iterdir()] == ["mine.c"]
