"""Plants one mistake at a time in the dense kernels and shows that the tests of the kernels catch it.

    python tests/mutate_kernels.py [--only dense_mve.c]

For each mistake: copies the kernels, changes one line, builds for a core that has the kernel and runs the cases of
test_arm_kernels.py. A mistake that no case catches ("MISSED") makes the command fail.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from test_arm_kernels import RUNNER, cases, write_cases  # noqa: E402

from benchmarks import emulation  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Mistake:
    """``pattern`` (a regular expression) becomes ``replacement`` where it is first found in ``file``."""

    file: str
    core: str
    kind: str
    pattern: str
    replacement: str


MISTAKES = (
    # what all kernels share
    Mistake("requantize.h", "host", "rounding", r"shift - 1\)\)", "shift - 2))"),
    Mistake("requantize.h", "host", "saturation", r"if \(value > high", "if (value > high + 1"),
    Mistake("requantize.h", "host", "zero point", r"\(uint32_t\)o->input_zero_point\[0\] \*", "2u *"),
    Mistake("requantize.h", "cortex-a53", "rounding", r"1 << \(s->shift - 1\)\) \+", "1 << (s->shift - 2)) +"),
    Mistake("requantize.h", "cortex-a53", "multiplier", r"multiplier\[0\] << up\);", "multiplier[0]);"),
    Mistake("dense_body.inc", "cortex-m55", "flipped codes", r"sum << \(o->bits - 1\)", "sum << o->bits"),
    Mistake("dense_body.inc", "host", "rows of the last block", r"left < KWS_DENSE_ROWS \?", "left <= 1 ?"),
    Mistake("dense_row.h", "host", "padding of a window", r"memset\(row, op->options[^,]*,", "memset(row, 0,"),
    Mistake("dense_row.h", "host", "tail", r"memset\(row \+ inputs, 0,", "memset(row + inputs, 1,"),
    Mistake("weight_layout.h", "host", "slot", r"\{0, 2, 3, 0, 0\}", "{0, 3, 3, 0, 0}"),
    # portable
    Mistake("dense_c.c", "cortex-m3", "shift", r">> SLOT\(i\)\.shift\)", ">> (SLOT(i).shift + 1))"),
    Mistake("dense_c.c", "cortex-m3", "separation of slots", r"<< s\.width;", "<< (s.width - 1);"),
    Mistake("dense_c.c", "cortex-m3", "accumulator width", r"bits == 2 \? 80", "bits == 2 ? 96"),
    Mistake("dense_c.c", "cortex-m0plus", "accumulator width", r"bits == 2 \? 80 : 16", "bits == 2 ? 80 : 32"),
    Mistake("dense_c.c", "cortex-m3", "flipped codes", r"0x00080000 : 0x00800080", "0x00080000 : 0x00800000"),
    Mistake("dense_c.c", "cortex-m3", "rounding", r"s->add >> 32", "s->add >> 33"),
    # Cortex-A
    Mistake("dense_neon.c", "cortex-a53", "accumulator width", r"\{0, 120, 40, 16, 8,", "{0, 128, 40, 16, 8,"),
    Mistake("dense_neon.c", "cortex-a53", "tail", r"for \(; blocks; --blocks\) \{", "for (; blocks > 1; --blocks) {"),
    Mistake("dense_neon.c", "cortex-a53", "lowest code", r"bits == 8 && b->grid == KWS_MID_RISE", "false"),
    Mistake("dense_neon.c", "cortex-a7", "accumulator width", r"\{0, 120, 40, 16, 8,", "{0, 128, 40, 16, 8,"),
    Mistake("dense_tables.c", "cortex-a53", "accumulator width", r"CHUNK = 256", "CHUNK = 272"),
    Mistake("dense_tables.c", "cortex-a53", "tail", r"if \(blocks % 2\) add_block", "if (blocks > 1) add_block"),
    Mistake("dense_tables.c", "cortex-a53", "table", r"0, 0, 0, 0, 1, 1, 1, 1", "0, 0, 0, 0, 1, 1, 1, 0"),
    Mistake("dense_tables.c", "cortex-a53", "second table", r"vdupq_n_u16\(0x1000\)", "vdupq_n_u16(0)"),
    Mistake("dense_tables.c", "cortex-a53", "rows of the last group", r"first >= KWS_TILE;", "first >= 1;"),
    Mistake("dense_arm.h", "cortex-a53", "mask", r"\(1 << bits\) - 1\)\)\)", "(1 << bits) - 2)))"),
    Mistake("dense_arm.h", "cortex-a53", "shift", r"vdupq_n_s32\(32 - s->shift\)", "vdupq_n_s32(31 - s->shift)"),
    Mistake("dense_arm.h", "cortex-a53", "clipping", r"vdup_n_s8\(\(int8_t\)s->low\)", "vdup_n_s8(-128)"),
    Mistake("dense_dotprod.c", "cortex-a76", "shift", r">> kws_slots\[bits\]\[i\]\.shift, inputs", ">> 0, inputs"),
    Mistake("dense_dotprod.c", "cortex-a76", "tail", r"for \(; i; --i\)", "for (; i > 1; --i)"),
    Mistake("dense_dotprod.c", "cortex-a76", "separation of slots", r"kws_power_32\(bits", "kws_power_32(bits + 1"),
    Mistake("dense_dotprod.c", "cortex-a76", "last tile alone", r"left <= KWS_TILE\)", "left < KWS_TILE)"),
    Mistake("dense_groups.h", "cortex-a76", "zero point", r"bias_shift\) != zero_point", "bias_shift) == 1 + offset"),
    Mistake("dense_groups.h", "cortex-a76", "accumulator width", r"bound << up >> 31", "bound << up >> 36"),
    Mistake("dense_groups.h", "cortex-a76", "rounding", r"v\[1\], KWS_FRACTION", "v[1], KWS_FRACTION - 1"),
    Mistake("dense_groups.h", "cortex-a76", "flipped codes", r"plain << up", "plain << (up + 1)"),
    Mistake("dense_groups.h", "cortex-a76", "rest of a group", r"from\.sums, 2 \* rows", "from.sums, rows"),
    Mistake("dense_groups.h", "armv8-i8mm", "order of places", r"both\.val\[0\]", "both.val[1]"),
    Mistake("dense_i8mm.c", "armv8-i8mm", "tail", r"for \(; left; --left, w", "for (; left > 1; --left, w"),
    Mistake("dense_i8mm.c", "armv8-i8mm", "order of places", r"high_halves\(v0, v1\)", "high_halves(v1, v0)"),
    # x86
    Mistake("dense_avx2.c", "host", "accumulator width", r"\{0, 128, 42, 18, 8, 4,", "{0, 255, 84, 36, 20, 10,"),
    Mistake("dense_avx2.c", "host", "mask", r"\(1 << s\.width\) - 1\)\)", "(1 << s.width) - 2))"),
    Mistake("dense_avx2.c", "host", "tail", r"if \(left && blocks\) \{", "if (left && blocks > 1) {"),
    # Cortex-M
    Mistake("dense_mve.c", "cortex-m55", "shift", r'"q1", "4"\) MULTIPLY\(S0', '"q1", "3") MULTIPLY(S0'),
    Mistake("dense_mve.c", "cortex-m55", "tail", r"bic %\[fours\], %\[end\], #63", "bic %[fours], %[end], #31"),
    Mistake("dense_mve.c", "cortex-m55", "separation of slots", r'SEPARATE\(S0, S4, "4"\)', 'SEPARATE(S0, S4, "3")'),
    Mistake("dense_mve.c", "cortex-m55", "carry", r"vcmphiq_u32\(low, sum\)", "vcmphiq_u32(sum, low)"),
    Mistake("dense_mve.c", "cortex-m55", "clipping", r"vmin\.s32 q2, q2, %q\[high\]", "vmin.s32 q2, q2, q2"),
    Mistake("dense_dsp.c", "cortex-m4", "accumulator width", r"1 << 17 : 480", "1 << 17 : 1 << 17"),
    Mistake("dense_dsp.c", "cortex-m4", "constant of a chunk", r"16384u - ", "4096u - "),
    Mistake("dense_dsp.c", "cortex-m4", "shift", r"uxtb16 lr, \" first", "sxtb16 lr, \" first"),
    Mistake("dense_dsp.c", "cortex-m4", "flipped codes", r"0x888888, 0x924924", "0x888880, 0x924920"),
    Mistake("dense_dsp.c", "cortex-m4", "mask", r"slot\.width\) - 1\) \* 0x00010001", "slot.width) - 1) * 0x00000001"),
)  # fmt: skip


def plant(mistake: Mistake, folder: pathlib.Path) -> pathlib.Path:
    """A copy of the kernels with the mistake; LookupError where its pattern is found nowhere."""
    kernels = folder / "kernels"
    shutil.copytree(emulation.KERNELS, kernels)
    path = kernels / mistake.file
    text, found = re.subn(mistake.pattern, mistake.replacement.replace("\\", "\\\\"), path.read_text(), count=1)
    if not found:
        raise LookupError(f"{mistake.file}: {mistake.pattern!r} is found nowhere; write the mistake anew")
    path.write_text(text)
    return kernels


def caught(mistake: Mistake) -> str:
    """What the cases say of a mistake: the first line of the failure, or "" where they do not see it."""
    core = emulation.CORES[mistake.core]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        kernels = plant(mistake, folder)
        write_cases(folder / "cases.bin", np.random.default_rng(1), cases(np.random.default_rng(1), 8))
        try:
            program = emulation.build(core, [RUNNER], folder, ("-O2", "-w"), kernels)
        except emulation.EmulationError as error:
            return f"does not compile: {str(error).splitlines()[-1]}"
        try:
            emulation.run(core, program, timeout=45)  # a mistake may never end
        except emulation.EmulationError as error:
            lines = [line for line in str(error).splitlines() if line.startswith("#")]
            return lines[0][2:] if lines else str(error).splitlines()[0]
    return ""


def main() -> int:
    """The command; returns the number of mistakes that were missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mistakes in one file")
    args = parser.parse_args()
    missed = 0
    for mistake in MISTAKES:
        if args.only and mistake.file != args.only:
            continue
        said = caught(mistake)
        missed += not said
        print(
            f"{'caught' if said else 'MISSED'}  {mistake.file:16} {mistake.core:11} {mistake.kind:22} {said[:90]}",
            flush=True,
        )
    print(f"{missed} missed")
    return missed


if __name__ == "__main__":
    sys.exit(min(1, main()))
