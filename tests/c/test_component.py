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
import soundfile
from command_line import error
from spotter_files import FRONTEND, TASK, speech, write_spotter

from benchmarks import emulation
from tflite_export.c import component
from tfmot_kws.commands import firmware, listen
from tfmot_kws.commands.parts import sidecar, spotter
from tfmot_kws.frontend import features
from tfmot_kws.sound import files

THRESHOLD = 0.1
TFLM = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "tflm"
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
ARDUINO = """
#pragma once
#include <stddef.h>
#include <stdint.h>
struct Stream {
  void begin(long);
  void print(unsigned long);
  void print(const char*);
  void println(const char*);
};
extern Stream Serial;
void delay(unsigned long);
"""
"""What Arduino's core declares."""
CORE = """
#include <stdio.h>
#include "Arduino.h"
void setup();
void loop();
Stream Serial;
void Stream::begin(long) {}
void Stream::print(unsigned long number) { printf("%lu", number); }
void Stream::print(const char* text) { printf("%s", text); }
void Stream::println(const char* text) { printf("%s\\n", text); }
void delay(unsigned long) {}
int main() { setup(); loop(); }
"""
PDM = """
#pragma once
struct Microphone {
  int begin(int channels, int rate);
  int available();
  int read(void* bytes, size_t count);
};
extern Microphone PDM;
"""
MICROPHONE = """
#include <stdio.h>
#include "kws_microfrontend.h"
static void heard(void* context, int32_t keyword, uint32_t ms) {
  (void)context;
  printf("%u %s\\n", (unsigned)ms, kws_listener_word(keyword));
}
int main(void) {
  static struct FrontendState front_end;
  int16_t samples[700];
  size_t count;
  if (!kws_listener_begin() || !kws_microfrontend_begin(&front_end)) return 1;
  FILE* file = fopen("sound.bin", "rb");
  while ((count = fread(samples, 2, 700, file)) > 0)
    if (!kws_microfrontend_samples(&front_end, samples, count, heard, NULL)) return 2;
  return 0;
}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    made = kept.once(tmp_path_factory, "spotter", write_spotter)
    return shutil.copytree(made, tmp_path_factory.mktemp("spotter"), dirs_exist_ok=True) / "stream.tflite"


def firmware_of(model: pathlib.Path, out: pathlib.Path, sound: pathlib.Path | None) -> pathlib.Path:
    firmware.run(model, out, THRESHOLD, None, None, "arduino", sound=sound)
    return out


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
        assert json.loads((out / "library.json").read_text())["build"] == {"srcDir": "src"}
    sources = sorted((out / "src").rglob("*.c"))
    subprocess.run([compiler, *flags, "-c", *sources], cwd=tmp_path, check=True)
    if system == "arduino":
        sketch = out / "examples" / "Listen" / "Listen.ino"
        (tmp_path / "Arduino.h").write_text(ARDUINO)
        (tmp_path / "PDM.h").write_text(PDM)
        (tmp_path / "microphone.ino").write_text(
            sketch.read_text().replace("#define LISTEN_TO_MICROPHONE 0", "#define LISTEN_TO_MICROPHONE 1")
        )
        flags = ["-mcpu=cortex-m0plus", "-mthumb", "-x", "c++", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}"]
        flags += ["-include", "Arduino.h", f"-I{out / 'src'}", f"-I{TFLM / 'include'}"]
        for one in (sketch, tmp_path / "microphone.ino"):
            subprocess.run([require_tool("arm-none-eabi-g++"), *flags, "-c", one, "-o", tmp_path / "o"], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("spoken", [False, True])
def test_the_arduino_example_links_as_it_is_and_hears_what_the_host_hears(
    spoken, model, tmp_path, require_tool
) -> None:
    sound = model.with_name("speech.wav") if spoken else None
    out = firmware_of(model, tmp_path / "kws", sound)
    done = _run_sketch(out, tmp_path, require_tool)
    *lines, last = done.stdout.splitlines()[1:]
    count = len(lines)
    assert last == f"{count} keywords, as on the computer" and (count > 3 or not spoken)
    if spoken:
        ear = spotter.open_spotter(model, threshold=THRESHOLD)
        heard = ear.step(files.read(sound, 16000))
        assert lines == [f"{round(1000 * one.seconds)} ms: {one.keyword}" for one in heard]
    header = out / "examples" / "Listen" / "recorded.h"  # a board that computes otherwise says so
    text = header.read_text()
    before, found, after = text.partition("recorded_scores[] = {")
    header.write_text(f"{before}{found}9.0 + {after}")
    assert "OTHER than on the computer" in _run_sketch(out, tmp_path, require_tool).stdout


def _run_sketch(out: pathlib.Path, folder: pathlib.Path, require_tool) -> subprocess.CompletedProcess:
    """Links the library and its example, and nothing else but a stand-in for Arduino's core."""
    (folder / "Arduino.h").write_text(ARDUINO)
    (folder / "core.cc").write_text(CORE)
    if not list(folder.glob("*.o")):  # the sketch alone changes between two runs
        sources = sorted((out / "src").rglob("*.c"))
        command = [require_tool("gcc"), "-O0", "-std=gnu11", f"-I{out / 'src'}", "-c", *sources]
        subprocess.run(command, cwd=folder, check=True)
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-I{out / 'src'}", "-include", "Arduino.h"]
    sketch = ["-x", "c++", out / "examples" / "Listen" / "Listen.ino", "core.cc", "-x", "none"]
    objects = sorted(folder.glob("*.o"))
    command = [require_tool("g++"), *flags, *sketch, *objects, "-lm", "-o", folder / "sketch"]
    subprocess.run(command, cwd=folder, check=True)
    return subprocess.run([folder / "sketch"], capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_samples_go_through_microfrontend_set_up_as_the_model_was_trained(model, tmp_path, require_tool) -> None:
    """A stand-in for TFLM's front end takes samples as that does, and refuses other limits than the model's."""
    require_tool("cmake")
    sound = speech()
    features.raw_micro(FRONTEND, sound).tofile(tmp_path / "values.bin")
    sound.tofile(tmp_path / "sound.bin")
    write("cmake", model, tmp_path / "spotter")
    (tmp_path / "main.c").write_text(MICROPHONE)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C)\nadd_subdirectory(spotter)\n"
        f"add_executable(app main.c {TFLM / 'front_end.c'})\n"
        f"target_include_directories(app PRIVATE {TFLM / 'include'})\n"
        "target_link_libraries(app PRIVATE kws_spotter)\n"
    )
    cmake(tmp_path, tmp_path / "build", "-DCMAKE_C_FLAGS=-Wall -Wextra")
    done = subprocess.run([tmp_path / "build" / "app"], cwd=tmp_path, capture_output=True, text=True, check=True)
    heard = spotter.open_spotter(model, threshold=THRESHOLD).step(sound)
    assert done.stdout.splitlines() == [f"{round(1000 * one.seconds)} {one.keyword}" for one in heard] and heard


@pytest.mark.parametrize("system", component.SYSTEMS)
def test_every_readme_says_where_features_come_from(system, model, tmp_path) -> None:
    text = (write(system, model, tmp_path / "c") / "README.md").read_text()
    for part in (
        "| window, ms | 30 | `window.size_ms` |", "| hop, ms | 20 | `window.step_size_ms` |",
        "| bands | 40 | `filterbank.num_channels` |", "| lowest, Hz | 125.0 |", "| highest, Hz | 7500.0 |",
        "| automatic gain | 1 | `pcan_gain_control.enable_pcan` |", "kws_microfrontend_begin(&front_end)",
    ):  # fmt: skip
        assert part in text, part
    assert (tmp_path / "c" / "src" / "kws_microfrontend.h").is_file()


def test_a_readme_does_not_offer_microfrontend_to_other_front_ends(model, tmp_path) -> None:
    model = pathlib.Path(shutil.copy(model, tmp_path / "other.tflite"))
    sidecar.write(model, sidecar.Sidecar("tflite", dataclasses.replace(FRONTEND, backend="lfbe"), TASK))
    text = (write("cmake", model, tmp_path / "c") / "README.md").read_text()
    assert "trained on the front end `lfbe`, which is not TensorFlow Lite Micro's" in text
    assert "kws_microfrontend" not in text


def test_a_sound_is_for_the_example_and_long_enough(model, tmp_path) -> None:
    sound = tmp_path / "short.wav"
    soundfile.write(sound, speech(0.2), 16000)
    command = ("firmware", "--model", model, "--out", tmp_path / "c", "--threshold", THRESHOLD, "--sound", sound)
    assert "is for the example of --package arduino" in error(*command, "--package", "cmake")
    said = error(*command, "--package", "arduino")
    assert "short.wav: 0.20 s, and the detector says nothing before" in said and "give a longer one" in said
    assert "none.wav: no such file" in error(*command[:-1], tmp_path / "none.wav", "--package", "arduino")
    soundfile.write(sound, speech(31.0), 16000)
    assert "31 s, and the example carries at most 30" in error(*command, "--package", "arduino")
    assert not (tmp_path / "c").exists()


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
        (("--name", "hey nova"), "name must be a letter and then letters, digits and underscores"),
        (("--name", "a", "--name", "b"), "--name: 1 models and 2 names; give each model one"),
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
