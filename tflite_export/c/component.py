"""A spotter as a component of a build system: kernels, model, settings and what the system wants to know of them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping

from tflite_export import version
from tflite_export.c import arduino
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.kernels import build_list
from tflite_export.packed import op_options
from tflite_export.packed import reader as tflite_reader

SYSTEMS = ("esp-idf", "arduino", "zephyr", "cmake", "platformio")
KERNELS = "src/kernels"
_LICENSE = "Apache-2.0"
_FORWARDED = ("detector.h", "layers.h", "packed_kernels.h")
"""Headers that generated files include by name alone, for systems that know one folder of headers."""


def write_component(
    system: str,
    out: pathlib.Path,
    flatbuffer: bytes,
    generated: Mapping[str, str],
    name: str,
    sentence: str,
    recorded: arduino.Recorded | None = None,
) -> list[pathlib.Path]:
    """Writes a folder that a build system takes as it is: complete, or not there.

    Args:
        system: one of ``SYSTEMS``.
        out: folder that is made; it must not be there, or be empty.
        flatbuffer: the model, of which the widths are taken that its kernels need.
        generated: file name -> text of kws_inference.c, kws_inference.h and kws_spotter.h.
        name: of the component: a letter, then letters, digits and underscores.
        sentence: what it listens for, in one line.
        recorded: the sound of Arduino's example, which has to have one; others have no example.

    Returns:
        The files, kernels aside.

    Raises:
        ValueError: another system, a name that is none, a model that is not packed, an Arduino library without a sound.
        FileExistsError: there is something in ``out``.
    """
    check(system, out, name)
    if system == "arduino" and recorded is None:
        raise ValueError("recorded: the example of an Arduino library runs on a sound; give one")
    texts = {f"src/{file}": text for file, text in generated.items()}
    texts |= {f"src/{pathlib.Path(file).name}": (build_list.PACKAGE / file).read_text() for file in build_list.LISTENER}
    if system in ("arduino", "platformio"):
        texts |= {f"src/{file}": f'#include "kernels/include/{file}"\n' for file in _FORWARDED}
    description = _Description(name, _plain(sentence), widths(flatbuffer), _sources(), recorded)
    texts |= _WRITERS[system](description)
    texts["README.md"] = _readme(system, description, generated["kws_spotter.h"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        made = pathlib.Path(scratch) / "component"
        for file, text in texts.items():
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            (made / file).write_text(text, encoding="utf-8")
        for file in kernel_files():
            (made / "src" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(build_list.PACKAGE / file, made / "src" / file)
        if system == "arduino":  # which passes a library no flags
            header = made / KERNELS / "include" / "packed_kernels.h"
            header.write_text(re.sub(r"(?<=#define KWS_WIDTHS ).*", f"{description.widths:#x}", header.read_text()))
        license_file = pathlib.Path(__file__).resolve().parents[2] / "LICENSE"
        if license_file.is_file():  # an installed wheel keeps it elsewhere
            shutil.copyfile(license_file, made / "LICENSE")
        if out.exists():
            out.rmdir()
        made.rename(out)
    return [out / file for file in sorted(texts)]


def check(system: str, out: pathlib.Path, name: str) -> None:
    """Raises what ``write_component`` raises of its arguments, before there is work."""
    if system not in SYSTEMS:
        raise ValueError(f"package must be one of {', '.join(SYSTEMS)}, found {system!r}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a letter and then letters, digits and underscores, found {name!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: there is something already; name a new folder")


def kernel_files() -> list[str]:
    """Paths, from the package's folder, of the kernels' sources and headers."""
    headers = [file for file in build_list.HEADERS if file.startswith("kernels/")]
    return [*build_list.KERNEL_SOURCES, *build_list.STREAM_SOURCES, *headers]


def widths(flatbuffer: bytes) -> int:
    """KWS_WIDTHS of a packed model: bit b is set where a layer has weights of b bits.

    Raises:
        ValueError: a file that is no packed model of ours.
    """
    model = flatbuffer_reader.parse(bytes(flatbuffer))
    tflite_reader.graph_of(model)
    found = {op_options.decode(op.custom_options).bits for op in model.operators if op.custom_options}
    return sum(1 << bits for bits in found if 1 <= bits <= 8) or 1 << 8  # without weights, one width has to be built


@dataclasses.dataclass(frozen=True)
class _Description:
    """What build systems are told."""

    name: str
    sentence: str
    widths: int
    sources: list[str]
    recorded: arduino.Recorded | None = None

    @property
    def define(self) -> str:
        """Leaves out the kernels of other widths."""
        return f"KWS_WIDTHS={self.widths:#x}"

    def listed(self, indent: str) -> str:
        """The sources, a line each."""
        return "\n".join(f'{indent}"{source}"' for source in self.sources)


def _sources() -> list[str]:
    own = ["src/kws_inference.c", "src/kws_listener.c"]
    return [*own, *(f"src/{file}" for file in kernel_files() if file.endswith(".c"))]


def _plain(sentence: str) -> str:
    """Metadata are lines of text with quotes around them."""
    return " ".join(sentence.replace('"', "'").replace("\\", "/").split())


def _cmake(d: _Description) -> dict[str, str]:
    text = f"""\
# {d.sentence}
cmake_minimum_required(VERSION 3.16)
project({d.name} VERSION {version.VERSION} LANGUAGES C)

add_library({d.name} STATIC
{d.listed("  ")}
)
target_include_directories({d.name} PUBLIC src PRIVATE src/kernels/include)
target_compile_definitions({d.name} PRIVATE {d.define})
set_target_properties({d.name} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON)
"""
    return {"CMakeLists.txt": text}


def _esp_idf(d: _Description) -> dict[str, str]:
    cmake = f"""\
# {d.sentence}
idf_component_register(
  SRCS
{d.listed("    ")}
  INCLUDE_DIRS "src"
  PRIV_INCLUDE_DIRS "src/kernels/include"
)
target_compile_definitions(${{COMPONENT_LIB}} PRIVATE {d.define})
"""
    metadata = f"""\
version: "{version.VERSION}"
description: "{d.sentence}"
license: "{_LICENSE}"
dependencies:
  idf: ">=5.0"
"""
    return {"CMakeLists.txt": cmake, "idf_component.yml": metadata}


def _zephyr(d: _Description) -> dict[str, str]:
    symbol = d.name.upper()
    cmake = f"""\
# {d.sentence}
if(CONFIG_{symbol})
  zephyr_library_named({d.name})
  zephyr_library_sources(
{d.listed("    ")}
  )
  zephyr_include_directories(src)
  zephyr_library_include_directories(src/kernels/include)
  zephyr_library_compile_definitions({d.define})
endif()
"""
    kconfig = f"""\
config {symbol}
\tbool "{d.sentence}"
\thelp
\t  A keyword spotter: frames of features in, keywords out. src/kws_listener.h has its functions.
"""
    module = f"name: {d.name}\nbuild:\n  cmake: .\n  kconfig: Kconfig\n"
    return {"CMakeLists.txt": cmake, "Kconfig": kconfig, "zephyr/module.yml": module}


def _arduino(d: _Description) -> dict[str, str]:
    lines = {
        "name": d.name,
        "version": version.VERSION,
        "author": "tfmot-kws",
        "maintainer": "tfmot-kws",
        "sentence": d.sentence,
        "paragraph": "Made by 'tfmot-kws firmware'. Frames of features in, keywords out; no interpreter, no heap.",
        "category": "Signal Input/Output",
        "url": "https://pypi.org/project/tfmot-kws",
        "architectures": "*",
        "includes": "kws_listener.h",
    }
    properties = "".join(f"{key}={value}\n" for key, value in lines.items())
    example = {"Listen.ino": arduino.SKETCH, "recorded.h": d.recorded.header()}
    return {"library.properties": properties, **{f"examples/Listen/{file}": text for file, text in example.items()}}


def _platformio(d: _Description) -> dict[str, str]:
    manifest = {
        "name": d.name,
        "version": version.VERSION,
        "description": d.sentence,
        "keywords": ["keyword spotting", "wake word"],
        "license": _LICENSE,
        "frameworks": "*",
        "platforms": "*",
        "headers": "kws_listener.h",
        "build": {"srcDir": "src", "flags": [f"-D{d.define}"]},
    }
    return {"library.json": json.dumps(manifest, indent=2) + "\n"}


_WRITERS: dict[str, Callable[[_Description], dict[str, str]]] = {
    "esp-idf": _esp_idf,
    "arduino": _arduino,
    "zephyr": _zephyr,
    "cmake": _cmake,
    "platformio": _platformio,
}

_USE = {
    "esp-idf": "Put this folder into your project's `components/`, and `REQUIRES {name}` into your component.",
    "arduino": "Put this folder into your sketchbook's `libraries/`, or its .zip through *Sketch, Include Library*. "
    "The example\n*Listen* runs on a short sound that it carries, prints what it hears and whether the computer heard "
    "the same.",
    "zephyr": "Add this folder to `ZEPHYR_EXTRA_MODULES`, and `CONFIG_{upper}=y` to prj.conf.",
    "cmake": "`add_subdirectory` of this folder, then `target_link_libraries(app PRIVATE {name})`.",
    "platformio": "Put this folder into your project's `lib/`.",
}


_SETTINGS = {
    "SAMPLE_RATE": ("samples a second", "`FrontendPopulateState`'s"),
    "WINDOW_MS": ("window, ms", "`window.size_ms`"),
    "HOP_MS": ("hop, ms", "`window.step_size_ms`"),
    "MEL_BINS": ("bands", "`filterbank.num_channels`"),
    "LOWER_HZ": ("lowest, Hz", "`filterbank.lower_band_limit`"),
    "UPPER_HZ": ("highest, Hz", "`filterbank.upper_band_limit`"),
    "PCAN": ("automatic gain", "`pcan_gain_control.enable_pcan`"),
}
"""What kws_spotter.h calls a setting of the front end, what it is, and where TFLM has it."""


def _front_end(spotter: str) -> str:
    """Where features come from, from the text of kws_spotter.h."""
    found = {key: re.search(rf"#define KWS_SPOTTER_{key} ([\w.]+)", spotter) for key in _SETTINGS}
    if found["PCAN"] is None:
        kind = re.search(r"Front end \((.*)\)", spotter)[1]
        return f"""\
This model was trained on the front end `{kind}`, which is not TensorFlow Lite Micro's and is not in this component:
compute its frames as the training did, quantize them as the model's input says, and give them to
`kws_listener_frame()`.
"""
    rows = [f"| {what} | {found[key][1].removesuffix('f')} | {place} |" for key, (what, place) in _SETTINGS.items()]
    table = "\n".join(rows)
    return f"""\
This component starts at features. TensorFlow Lite Micro's audio front end makes them of sound; it is not in here. Take
it from your own TFLM (`tensorflow/lite/experimental/microfrontend/lib` and kissfft), or a library that has it.
`src/kws_microfrontend.h` sets it up as this model was trained and puts it in front:

    #include "kws_microfrontend.h"

    static struct FrontendState front_end;

    if (!kws_listener_begin() || !kws_microfrontend_begin(&front_end)) stop();
    for (;;) {{
      int16_t samples[256]; /* what your microphone's driver gives: 16 bits, mono */
      const size_t count = read_microphone(samples, 256);
      if (!kws_microfrontend_samples(&front_end, samples, count, heard, NULL)) stop();
    }}

| setting | this model | in TFLM |
|---|---|---|
{table}

All others stay as `FrontendFillConfigWithDefaults` sets them. `kws_listener_values()` turns the front end's values into
the model's int8 by a table in `src/kws_spotter.h`, so that there is no scale to choose. Other settings are other
features: the model then hears nothing, or anything.
"""


def _readme(system: str, d: _Description, spotter: str) -> str:
    use = _USE[system].format(name=d.name, upper=d.name.upper())
    return f"""\
# {d.name}

{d.sentence}. Made by `tfmot-kws firmware --package {system}`: the model as C, its kernels and its detector; no
interpreter, no heap.

{use}

    #include "kws_listener.h"

    static void heard(void* context, int32_t keyword, uint32_t ms) {{ /* kws_listener_word(keyword) */ }}

    if (!kws_listener_begin()) stop();
    for (;;) if (!kws_listener_values(next_values(), heard, NULL)) stop();

`next_values()` stands for the front end's values of the next frame of sound.

The compiler's `-mcpu` or `-march` picks the kernels. Kernels of widths that this model has not are left
out ({d.define}). `-DKWS_SELF_TEST` makes `kws_listener_begin()` run every kernel once and compare.

## Where the features come from

{_front_end(spotter)}"""
