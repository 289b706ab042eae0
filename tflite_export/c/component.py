"""A spotter as a component of a build system: kernels, model, settings and what the system wants to know of them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence

from tflite_export import version
from tflite_export.c import arduino, component_readme, inference, uses
from tflite_export.kernels import build_list

SYSTEMS = ("esp-idf", "arduino", "zephyr", "cmake", "platformio")
KERNELS = "src/kernels"
_LICENSE = "Apache-2.0"
_CONFIG = f"kernels/core/{uses.CONFIG}"
_OWN_NAMES = re.compile(r"\b(kws|KWS)((?i:_(?:listener|inference|spotter|microfrontend|front_end_settings)))(?![a-z])")
"""What a firmware has once for each model, and the kernels have not."""
_FORWARDED = ("detector.h", "layers.h", "packed_kernels.h")
"""Headers that generated files include by name alone, for systems that know one folder of headers."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A model of a firmware.

    Attributes:
        prefix: ahead of the names of its files, functions and macros: "kws" for kws_listener.h and so on.
        flatbuffer: a packed model.
        spotter: the text of its kws_spotter.h, named so whatever the prefix is.
        keywords: what it listens for.
    """

    prefix: str
    flatbuffer: bytes
    spotter: str
    keywords: Sequence[str]

    def texts(self, listener: bool = True) -> tuple[dict[str, str], uses.Uses]:
        """File name -> text of the model, its settings and, where wanted, its listener; and what it uses of the
        kernels. Raises ValueError of a model that is not packed."""
        made, used = inference.inference_texts(self.flatbuffer, f"{self.prefix}_inference")
        made["kws_spotter.h"] = self.spotter
        if listener:
            made |= {pathlib.Path(file).name: (build_list.PACKAGE / file).read_text() for file in build_list.LISTENER}
        return {prefixed(file, self.prefix): prefixed(text, self.prefix) for file, text in made.items()}, used


def prefixed(text: str, prefix: str) -> str:
    """Text with the names of one firmware's files, functions and macros begun by another prefix than kws."""
    return _OWN_NAMES.sub(lambda found: (prefix.upper() if found[1] == "KWS" else prefix) + found[2], text)


def write_component(
    system: str,
    out: pathlib.Path,
    parts: Sequence[Part],
    name: str,
    recorded: arduino.Recorded | None = None,
) -> list[pathlib.Path]:
    """Writes a folder that a build system takes as it is: complete, or not there.

    Args:
        system: one of ``SYSTEMS``.
        out: folder that is made; it must not be there, or be empty.
        parts: the models, of different prefixes; the kernels are there once, with what any of them uses.
        name: of the component: a letter, then letters, digits and underscores.
        recorded: the sound of Arduino's example, which has to have one and runs the first model; others have none.

    Returns:
        The files, kernels aside.

    Raises:
        ValueError: another system, a name that is none, a model that is not packed, an Arduino library without a sound.
        FileExistsError: there is something in ``out``.
    """
    check(system, out, name)
    if system == "arduino" and recorded is None:
        raise ValueError("recorded: the example of an Arduino library runs on a sound; give one")
    texts: dict[str, str] = {}
    used = uses.Uses()
    for part in parts:
        own, of_part = part.texts()
        texts |= {f"src/{file}": text for file, text in own.items()}
        used |= of_part
    if system in ("arduino", "platformio"):
        texts |= {f"src/{file}": f'#include "kernels/include/{file}"\n' for file in _FORWARDED}
    sources = [file for file in texts if file.endswith(".c")]
    sources += [f"src/{file}" for file in kernel_files() if file.endswith(".c")]
    sentence = f"Listens for {', '.join(word for part in parts for word in part.keywords)}"
    description = _Description(name, _plain(sentence), parts[0].prefix, sources, recorded)
    texts |= _WRITERS[system](description)
    texts["README.md"] = component_readme.text(
        system, name, description.sentence, [(part.prefix, part.spotter) for part in parts]
    )
    texts[f"src/{_CONFIG}"] = uses.header(used, [part.prefix for part in parts])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        made = pathlib.Path(scratch) / "component"
        for file in kernel_files():
            (made / "src" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(build_list.PACKAGE / file, made / "src" / file)
        for file, text in texts.items():  # the list of what the models use among them
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            (made / file).write_text(text, encoding="utf-8")
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
    check_name(name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: there is something already; name a new folder")


def kernel_files() -> list[str]:
    """Paths, from the package's folder, of the kernels' sources and headers."""
    headers = [file for file in build_list.HEADERS if file.startswith("kernels/")]
    return [*build_list.KERNEL_SOURCES, *build_list.STREAM_SOURCES, *headers]


def check_name(name: str) -> None:
    """ValueError for a name that files, functions and build systems would not all take."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a letter and then letters, digits and underscores, found {name!r}")


@dataclasses.dataclass(frozen=True)
class _Description:
    """What build systems are told."""

    name: str
    sentence: str
    prefix: str
    sources: list[str]
    recorded: arduino.Recorded | None = None

    def listed(self, indent: str) -> str:
        """The sources, a line each."""
        return "\n".join(f'{indent}"{source}"' for source in self.sources)


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
        "includes": f"{d.prefix}_listener.h",
    }
    properties = "".join(f"{key}={value}\n" for key, value in lines.items())
    example = {"Listen.ino": prefixed(arduino.SKETCH, d.prefix), "recorded.h": d.recorded.header()}
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
        "headers": f"{d.prefix}_listener.h",
        "build": {"srcDir": "src"},
    }
    return {"library.json": json.dumps(manifest, indent=2) + "\n"}


_WRITERS: dict[str, Callable[[_Description], dict[str, str]]] = {
    "esp-idf": _esp_idf,
    "arduino": _arduino,
    "zephyr": _zephyr,
    "cmake": _cmake,
    "platformio": _platformio,
}
