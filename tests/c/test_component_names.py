"""Several models in one program: names of their own, kernels once, and one list of what all of them use."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import kept
import pytest
from command_line import error
from spotter_files import FRONTEND, TASK, speech, write_spotter

from tflite_export.c import component
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.kernels import build_list
from tflite_export.packed import reader as tflite_reader
from tflite_export.packed import writer as tflite_writer
from tfmot_kws.commands import firmware
from tfmot_kws.commands.parts import sidecar, spotter
from tfmot_kws.frontend import features

THRESHOLD = 0.1
NAMES = ("nova", "stop")
MAIN = """
#include <stdio.h>
#include "nova_listener.h"
#include "stop_listener.h"
static void heard_nova(void* context, int32_t keyword, uint32_t ms) {
  printf("%s %u %s\\n", (const char*)context, (unsigned)ms, nova_listener_word(keyword));
}
static void heard_stop(void* context, int32_t keyword, uint32_t ms) {
  printf("%s %u %s\\n", (const char*)context, (unsigned)ms, stop_listener_word(keyword));
}
int main(void) {
  uint16_t values[64];
  const size_t bytes = (size_t)nova_listener_frame_bytes();
  if (!nova_listener_begin() || !stop_listener_begin() || bytes > 64) return 1;
  FILE* file = fopen("values.bin", "rb");
  while (fread(values, 2, bytes, file) == bytes)
    if (!nova_listener_values(values, heard_nova, "nova") ||
        !stop_listener_values(values, heard_stop, "stop"))
      return 2;
  return 0;
}
"""


def _write(folder: pathlib.Path) -> None:
    """A spotter, and the same packed for a Cortex-M4: another layout of weights."""
    made = write_spotter(folder) / "stream.tflite"
    model = flatbuffer_reader.parse(made.read_bytes())
    data = tflite_writer.write(tflite_reader.graph_of(model), target="cortex-m4", metadata=model.metadata)
    (folder / "other.tflite").write_bytes(data)
    sidecar.write(folder / "other.tflite", sidecar.Sidecar("tflite", FRONTEND, TASK))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[pathlib.Path]:
    made = kept.once(tmp_path_factory, "two-spotters", _write)
    return [made / "stream.tflite", made / "other.tflite"]


def write(models, out: pathlib.Path, package: str | None, names=NAMES) -> pathlib.Path:
    firmware.run(models, out, THRESHOLD, None, None, package, names)
    return out


def lines_of(model: pathlib.Path) -> list[str]:
    ear = spotter.open_spotter(model, threshold=THRESHOLD)
    return [f"{round(1000 * found.seconds)} {found.keyword}" for found in ear.step(speech())]


def check(program: pathlib.Path, models: list[pathlib.Path], folder: pathlib.Path) -> None:
    features.raw_micro(FRONTEND, speech()).tofile(folder / "values.bin")
    done = subprocess.run([program], cwd=folder, capture_output=True, text=True, check=True)
    for name, model in zip(NAMES, models):
        said = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith(name)]
        assert said == lines_of(model) and len(said) > 3


def cmake(folder: pathlib.Path, *libraries: str) -> subprocess.CompletedProcess:
    """An app of ``main.c`` and components, as far as it builds."""
    added = "".join(f"add_subdirectory({library})\n" for library in libraries)
    (folder / "main.c").write_text(MAIN)
    (folder / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.16)\nproject(app C)\n{added}add_executable(app main.c)\n"
        f"target_link_libraries(app PRIVATE {' '.join(libraries)})\n"
    )
    flags = "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"
    subprocess.run(["cmake", "-S", folder, "-B", folder / "build", flags], check=True, capture_output=True)
    return subprocess.run(["cmake", "--build", folder / "build", "-j2"], capture_output=True, text=True)


@pytest.mark.slow
def test_two_models_in_one_component_hear_what_the_host_hears(models, tmp_path, require_tool) -> None:
    require_tool("cmake")
    out = write(models, tmp_path / "nova_stop", "cmake")
    done = cmake(tmp_path, "nova_stop")
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path / "build" / "app", models, tmp_path)
    config = (out / "src" / "kernels" / "core" / "kws_config.h").read_text()
    assert "used by: nova, stop." in config
    assert "#define KWS_LAYOUTS 0x5\n" in config and "#define KWS_WIDTHS 0x10\n" in config
    text = (out / "README.md").read_text()
    assert "There are 2 models, `nova`, `stop`" in text and "### stop" in text


@pytest.mark.slow
def test_components_made_apart_do_not_link(models, tmp_path, require_tool) -> None:
    """Their lists differ, and so would the numbers of kernels that one has and the other asks for."""
    require_tool("cmake")
    for model, name in zip(models, NAMES):
        write([model], tmp_path / name, "cmake", [name])
    done = cmake(tmp_path, *NAMES)
    assert done.returncode and "multiple definition of `kws_kernel" in done.stdout + done.stderr


@pytest.mark.slow
def test_plain_files_of_two_models(models, tmp_path, require_tool) -> None:
    """As the manual says: the list in front of every file."""
    gcc = require_tool("gcc")
    out = write(models, tmp_path / "src", None)
    kernels = [build_list.PACKAGE / name for name in (*build_list.KERNEL_SOURCES, *build_list.STREAM_SOURCES)]
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-include", out / "kws_config.h", f"-I{out}"]
    flags.append(f"-I{build_list.PACKAGE / 'kernels' / 'include'}")
    command = [gcc, *flags, tmp_path / "main.c", *sorted(out.glob("*.c")), *kernels, "-o", tmp_path / "app"]
    subprocess.run(command, check=True)
    check(tmp_path / "app", models, tmp_path)
    alone = write([models[0]], tmp_path / "one", None, ["nova"])
    flags[flags.index(out / "kws_config.h")] = alone / "kws_config.h"
    done = subprocess.run([gcc, *flags, "-fsyntax-only", out / "stop_inference.c"], capture_output=True, text=True)
    assert "leaves out what this model needs (layouts of weights)" in done.stderr and done.returncode


def test_nothing_of_a_named_model_is_called_kws(models, tmp_path) -> None:
    out = write([models[0]], tmp_path / "c", "cmake", ["nova"])
    own = sorted(path.name for path in (out / "src").iterdir() if path.is_file())
    assert own == [
        "nova_inference.c", "nova_inference.h", "nova_listener.c", "nova_listener.h", "nova_microfrontend.h",
        "nova_spotter.h",
    ]  # fmt: skip
    whole = "".join((out / "src" / name).read_text() for name in own)
    left = set(re.findall(r"\b(?:kws|KWS)_\w+", whole))
    assert not {name for name in left if re.match("(?i)kws_(listener|inference|spotter|microfrontend|front_end)", name)}
    assert "NOVA_INFERENCE_ARENA_BYTES" in whole and "nova_front_end_settings" in whole
    sketch = tmp_path / "arduino"
    firmware.run(models[0], sketch, THRESHOLD, None, None, "arduino", "nova")
    assert "#include <nova_listener.h>" in (sketch / "examples" / "Listen" / "Listen.ino").read_text()
    assert "includes=nova_listener.h" in (sketch / "library.properties").read_text()
    assert component.prefixed("kws_kernels KWS_SELF_TEST kws_listener_begin", "a") == (
        "kws_kernels KWS_SELF_TEST a_listener_begin"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--name: 2 models and 0 names; give each model one"),
        (("--name", "nova"), "--name: 2 models and 1 names"),
        (("--name", "nova", "--name", "NOVA"), "--name nova, NOVA: functions and macros begin with them"),
        (("--name", "nova", "--name", "8"), "name must be a letter"),
        (
            ("--name", "nova", "--name", "stop", *("--threshold", 1) * 3),
            "--threshold: 2 models and 3 thresholds; give one, or one a model",
        ),
    ],
)
def test_what_is_wrong_with_several_models(options, says, models, tmp_path) -> None:
    both = [part for model in models for part in ("--model", model)]
    assert says in error("firmware", *both, "--out", tmp_path / "c", *options)
    assert not (tmp_path / "c").exists()


def test_each_model_has_its_threshold(models, tmp_path) -> None:
    firmware.run(models, tmp_path, ["0.1", "0.9"], None, None, None, NAMES)
    low, high = ((tmp_path / f"{name}_spotter.h").read_text() for name in NAMES)
    assert "Thresholds: 0.1, 0.1," in low and "Thresholds: 0.9, 0.9," in high
    shutil.rmtree(tmp_path)
