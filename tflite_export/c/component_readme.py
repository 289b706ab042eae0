"""README.md of a component: where it goes, what calls it, where features come from, what compilers are told."""

from __future__ import annotations

import re
from collections.abc import Sequence

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

_COMPILER = """\
## What the compiler is told

`-mcpu` or `-march` picks the kernels: nothing else chooses them. Kernels for Cortex-M55 (Helium), Cortex-M4, M7 and M33
(DSP) and Cortex-A (NEON) are there, and plain C for all others, such as Cortex-M0+, RISC-V and Xtensa.

- **Flash.** `src/kernels/core/kws_config.h` lists what {models} of the kernels; nothing else is compiled.
  `-Os` makes the least code, `-O2` the fastest; `-ffunction-sections -fdata-sections` and `-Wl,--gc-sections` leave out
  what your program does not call. What is not in the list is refused with a message, never computed otherwise.
- **Messages.** `-DKWS_MESSAGES=1` brings back the texts that say why a layer was refused.
- **Floats.** Where the core has a floating-point unit, all of a program has one ABI: give the component the flags of
  your program, `-mfloat-abi=hard -mfpu=fpv4-sp-d16` for a Cortex-M4F, say. Objects of two ABIs do not link. Int8
  kernels use no floats; scores and the front end's limits do.
- **`-flto`** may be given for all files or for none.
- **`-DKWS_SELF_TEST`** makes `{prefix}_listener_begin()` run every kernel of the build once and compare.
- **TensorFlow Lite Micro's library**, where you link it for the front end or for other models, calls `DebugLog()`,
  which your port of it has: its own for your target, or a function of yours that prints nothing.
"""


def text(system: str, name: str, sentence: str, parts: Sequence[tuple[str, str]]) -> str:
    """The file.

    Args:
        system: a build system, a key of ``component.SYSTEMS``.
        name: of the component.
        sentence: what it listens for.
        parts: prefix, and text of kws_spotter.h, of each model.
    """
    use = _USE[system].format(name=name, upper=name.upper())
    prefix = parts[0][0]
    models = "this model uses" if len(parts) == 1 else "these models use, together,"
    own = "" if prefix == "kws" else f"Files, functions and macros of the model begin with `{prefix}`, not `kws`.\n\n"
    if len(parts) > 1:
        names = ", ".join(f"`{one}`" for one, _ in parts)
        own = (
            f"There are {len(parts)} models, {names}: each has files, functions and macros that begin with its name,\n"
            "and its own state and detector; feed each of them. The kernels are there once.\n\n"
        )
    ends = "\n".join(_front_end(one, spotter, len(parts) > 1) for one, spotter in parts)
    return f"""\
# {name}

{sentence}. Made by `tfmot-kws firmware --package {system}`: the model as C, its kernels and its detector; no
interpreter, no heap.

{use}

{own}    #include "{prefix}_listener.h"

    static void heard(void* context, int32_t keyword, uint32_t ms) {{ /* {prefix}_listener_word(keyword) */ }}

    if (!{prefix}_listener_begin()) stop();
    for (;;) if (!{prefix}_listener_values(next_values(), heard, NULL)) stop();

`next_values()` stands for the front end's values of the next frame of sound.

Two components made apart do not link in one program where their lists of kernels differ. Give one command all models,
`tfmot-kws firmware --model a.tflite --name a --model b.tflite --name b`, for one component that has both.

{_COMPILER.format(models=models, prefix=prefix)}
## Where the features come from

{ends}"""


def _front_end(prefix: str, spotter: str, named: bool) -> str:
    """Where features come from, from the text of kws_spotter.h."""
    head = f"### {prefix}\n\n" if named else ""
    found = {key: re.search(rf"#define KWS_SPOTTER_{key} ([\w.]+)", spotter) for key in _SETTINGS}
    if "#define KWS_SPOTTER_RAW" in spotter:
        rate = found["SAMPLE_RATE"][1]
        return f"""\
{head}This model makes features itself: give `{prefix}_listener_samples()` sound, 16 bits, mono, {rate} samples a
second.
"""
    if found["PCAN"] is None:
        kind = re.search(r"Front end \((.*)\)", spotter)[1]
        return f"""\
{head}This model was trained on the front end `{kind}`, which is not TensorFlow Lite Micro's and is not in this
component: compute its frames as the training did, quantize them as the model's input says, and give them to
`{prefix}_listener_frame()`.
"""
    rows = [f"| {what} | {found[key][1].removesuffix('f')} | {place} |" for key, (what, place) in _SETTINGS.items()]
    table = "\n".join(rows)
    return f"""\
{head}This component starts at features. TensorFlow Lite Micro's audio front end makes them of sound; it is not in here.
Take it from your own TFLM (`tensorflow/lite/experimental/microfrontend/lib` and kissfft), or a library that has it.
`src/{prefix}_microfrontend.h` sets it up as this model was trained and puts it in front:

    #include "{prefix}_microfrontend.h"

    static struct FrontendState front_end;

    if (!{prefix}_listener_begin() || !{prefix}_microfrontend_begin(&front_end)) stop();
    for (;;) {{
      int16_t samples[256]; /* what your microphone's driver gives: 16 bits, mono */
      const size_t count = read_microphone(samples, 256);
      if (!{prefix}_microfrontend_samples(&front_end, samples, count, heard, NULL)) stop();
    }}

| setting | this model | in TFLM |
|---|---|---|
{table}

All others stay as `FrontendFillConfigWithDefaults` sets them. `{prefix}_listener_values()` turns the front end's values
into the model's int8 by a table in `src/{prefix}_spotter.h`, so that there is no scale to choose. Other settings are
other features: the model then hears nothing, or anything.
"""
