"""Plants one mistake at a time in the kernels and shows that the tests of the kernels catch it.

    python tests/kernels/mutate_kernels.py [--only dense_mve.c]

For each mistake: copies the kernels, changes one line, builds for a core that has the kernel and runs the cases of
test_arm_kernels.py or test_dynamic_arm.py in tests/kernels, or builds the host's library and runs tests of its own. A
mistake that no case catches ("MISSED") makes the command fail.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers"), str(ROOT / "tests" / "kernels")]

import numpy as np  # noqa: E402
from dynamic_cases import all_cases  # noqa: E402
from kernel_cases import RUNNER, cases, depthwise_cases, write_cases  # noqa: E402

from benchmarks import emulation  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Mistake:
    """``pattern`` (a regular expression) becomes ``replacement`` where it is first found in ``file``.

    cases: of which test: "static", "depthwise" or "dynamic"; anything else is a test to run on the host's library.
    """

    file: str
    core: str
    kind: str
    pattern: str
    replacement: str
    cases: str = "static"


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
    Mistake("dense_neon.c", "cortex-a53", "lowest code", r"bits == 8 && b->grid != KWS_MID_TREAD", "false"),
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
    Mistake("dense_dotprod.c", "cortex-a76", "second place", r"others\[i\], codes, x1\)", "others[i], codes, x0)"),
    Mistake("dense_dotprod.c", "cortex-a76", "odd tile", r"tile % 2 \? KWS_GROUP \+ KWS_TILE", "tile % 2 ? KWS_TILE"),
    Mistake("dense_avx2.c", "host", "tail", r"if \(left && blocks\) \{", "if (left && blocks > 1) {"),
    # Cortex-M
    Mistake("dense_mve.c", "cortex-m55", "shift", r'"q1", "4"\) MULTIPLY\(S0', '"q1", "3") MULTIPLY(S0'),
    Mistake("dense_mve.c", "cortex-m55", "tail", r"bic %\[fours\], %\[end\], #63", "bic %[fours], %[end], #31"),
    Mistake("dense_mve.c", "cortex-m55", "separation of slots", r'SEPARATE\(S0, S4, "4"\)', 'SEPARATE(S0, S4, "3")'),
    Mistake("dense_mve.c", "cortex-m55", "carry", r"vcmphiq_u32\(low, sum\)", "vcmphiq_u32(sum, low)"),
    Mistake("dense_mve.c", "cortex-m55", "clipping", r"vmin\.s32 q2, q2, %q\[high\]", "vmin.s32 q2, q2, q2"),
    Mistake("dense_dsp.c", "cortex-m4", "accumulator width", r"1 << 17 : 480", "1 << 17 : 1 << 17"),
    Mistake("dense_dsp.c", "cortex-m4", "constant of a chunk", r"16384u - ", "4096u - "),
    Mistake("dense_dsp.h", "cortex-m4", "shift", r"uxtb16 lr, \" first", "sxtb16 lr, \" first"),
    Mistake("dense_dsp.c", "cortex-m4", "flipped codes", r"0x888888, 0x924924", "0x888880, 0x924920"),
    Mistake("dense_dsp.c", "cortex-m4", "mask", r"slot\.width\) - 1\) \* 0x00010001", "slot.width) - 1) * 0x00000001"),
)  # fmt: skip


def _recurrent(
    kind: str, pattern: str, replacement: str, file: str = "recurrent.c", folder: str = "reference"
) -> Mistake:
    return Mistake(file, "host", kind, pattern, replacement, f"tests/{folder}/test_recurrent.py")


MISTAKES += (
    _recurrent("table", r"\+ 64\) >> 7", "+ 63) >> 7"),
    _recurrent("rounding", r"\+ 1\) >> 1", ") >> 1"),
    _recurrent("saturation", r"kws_narrow\(rounded\(\(int64_t\)forget", "(int16_t)(rounded((int64_t)forget"),
    _recurrent("saturation", r"value > INT16_MAX \? INT16_MAX", "value > 2 * INT16_MAX ? INT16_MAX", "requantize.h"),
    _recurrent("state of the next clip", r"memset\(l\.c, 0, sizeof \*l\.c \* l\.units\);", ""),
    _recurrent("gates", r"l->rows\[i \+ units\], l->products\[i \+ units\]", "l->rows[i], l->products[i]"),
    _recurrent("rows skipped", r"skipped < o->skip", "skipped <= o->skip", folder="streaming"),
    _recurrent("state", r"\(uint16_t\)l->c\[i\] >> 8", "(uint16_t)l->c[i] >> 7", folder="streaming"),
)


def _waveform(kind: str, pattern: str, replacement: str) -> Mistake:
    return Mistake("waveform.c", "host", kind, pattern, replacement, "tests/reference/test_waveform.py")


MISTAKES += (
    _waveform("table", r"26455", "26456"),
    _waveform("rounding", r"\+ 0x8000\) >> 16", ") >> 16"),
    _waveform("low bytes", r"\^ 0x80", "^ 0x00"),
    _waveform("bytes below", r"o->sum_bytes\) << 7", "o->sum_bytes) << 6"),
    _waveform("magnitude", r"acc >> 31 \? 0u - acc : acc", "acc"),
    _waveform("sums of a frame", r"sample_stride \* o->average;", "sample_stride * 2;"),
    _waveform("silence", r"log2_of\(total\) - none", "log2_of(total)"),
    _waveform("fraction", r"FRACTION = 22", "FRACTION = 21"),
)


def _dynamic(file: str, core: str, kind: str, pattern: str, replacement: str) -> Mistake:
    return Mistake(file, core, kind, pattern, replacement, "dynamic")


RING = "tests/kernels/test_dynamic_kernels.py::test_ring"
MISTAKES += (
    # dynamic quantization: rows
    _dynamic("quantize_row.h", "host", "rounding", r"place \+ 0\.5f", "place + 0.25f"),
    _dynamic("quantize_row.h", "cortex-a53", "rounding", r"kws_set_f4\(0\.5f\)", "kws_set_f4(0.25f)"),
    _dynamic("quantize_row.h", "cortex-m3", "clipping", r"v > q->high \? q->high", "v > q->high ? q->low"),
    _dynamic("quantize_row.h", "host", "NaN", r"x >= q->low \? x : q->low", "x"),
    _dynamic("quantize_row.h", "host", "NaN in a range", r"<= \(infinity \| sign\)", "<= 0xFFFFFFFF"),
    _dynamic("quantize_row.h", "host", "infinity",
             r"> kws_largest \? kws_largest : high <", "> 3e38f ? 3e38f : high <"),
    _dynamic("quantize_row.h", "host", "a row of infinities", r"low > kws_largest \? kws_largest : low", "low"),
    _dynamic("quantize_row.h", "host", "constant row", r"span < kws_smallest_span", "span < 0"),
    _dynamic("quantize_row.h", "cortex-m3", "one sign",
             r"const bool both_signs = ", "const bool both_signs = true || "),
    _dynamic("quantize_row.h", "cortex-a53", "least of a range", r"least = KWS_MIN_U4\(least, v\)", "(void)least"),
    _dynamic("quantize_row.h", "cortex-a53", "tail", r"for \(; n >= 4; n -= 4, x \+= 4, to \+= 4\)",
             "for (; n > 4; n -= 5, x += 5, to += 5)"),
    _dynamic("quantize_row.h", "cortex-m55", "subnormal numbers", r"span >= 9\.09\w*(?:\.\w+)?e-13f", "span >= 0"),
    _dynamic("dynamic.c", "cortex-m55", "subnormal outputs", r"const bool normal = ", "const bool normal = true || "),
    _dynamic("dynamic.c", "host", "padding of a window", r"if \(covered < inputs\) kws_see_bits\(&seen, 0\);", ""),
    _dynamic("dynamic.c", "host", "sum of padding", r"row\.sum = \(uint32_t\)\(inputs - covered\)",
             "row.sum = (uint32_t)(inputs - covered - 1)"),
    # from sums to outputs
    _dynamic("dynamic.c", "host", "flipped codes", r"sum << \(o->bits - 1\)", "sum << o->bits"),
    _dynamic("dynamic.c", "host", "half of the codes", r"t\.half = 1u << \(o->input_bits - 1\)", "t.half = 128"),
    _dynamic("dynamic.c", "cortex-m3", "zeros", r"c->zeros\[first \+ i\] : 0", "(int8_t)c->zeros[first + i] : 0"),
    _dynamic("dynamic.c", "cortex-a53", "zeros", r"\{z\[0\], z\[1\], z\[2\], z\[3\]\}", "{z[0], z[1], z[2], z[2]}"),
    _dynamic("dynamic.c", "host", "end of the weights", r"rest \* \(bits - 1\) \+ KWS_VECTOR;", "rest * bits;"),
    _dynamic("dynamic.c", "host", "tail",
             r"add_dots\(dots, more, tiles \* KWS_TILE\)", "add_dots(dots, more, KWS_TILE)"),
    _dynamic("dynamic.c", "host", "accumulator width", r"\(int64_t\)\(32768 - zero\) \* sum", "(32768 - zero) * sum"),
    _dynamic("dynamic.c", "cortex-m0plus", "accumulator width", r"product & 0xFFFF", "(int16_t)product"),
    _dynamic("float_vector.h", "cortex-a53", "function", r"kws_set_f4\(0\.693359375f\)", "kws_set_f4(0.69336f)"),
    _dynamic("float_vector.h", "host", "function", r"kws_greater_f4\(six, y, y, six\)", "y"),
    _dynamic("float_math.h", "cortex-m4", "function", r"-2\.12194440e-4f", "-2.1219e-4f"),
    _dynamic("float_math.h", "host", "function of NaN", r"y > 0 \? y : y < 0 \? -y : 0\.0f", "y < 0 ? -y : y"),
    # its sums
    _dynamic("dense_c.c", "cortex-m3", "step to the next tile", r"w \+= step, dots", "w += 0 * step, dots"),
    _dynamic("dense_neon.c", "cortex-a53", "step to the next tile", r"      w \+= b->gap;\n", ""),
    _dynamic("dense_neon.c", "cortex-a53", "lowest code", r"b->grid != KWS_MID_TREAD", "b->grid == KWS_MID_RISE"),
    _dynamic("dense_neon.c", "cortex-a7", "largest sum", r"0x7FFF0000\);", "0);"),
    _dynamic("dense_neon.c", "cortex-a53", "tail", r"added \+ kws_dynamic_dot\(w, x, left\)", "added"),
    _dynamic("dense_dotprod.c", "cortex-a76", "step to the next tile", r"    w \+= stride;\n", ""),
    _dynamic("dense_avx2.c", "host", "step to the next tile", r"\(size_t\)bits \+ b->gap\)", "(size_t)bits)"),
    _dynamic("dense_x86.h", "host", "largest sum", r"const __m256i offset = _mm256_set1_epi32\(0x7FFF0000\)",
             "const __m256i offset = _mm256_set1_epi32(0)"),
    _dynamic("dense_mve.c", "cortex-m55", "tail", r"vctp8q\(\(uint32_t\)\(2 \* left\)\)", "vctp8q((uint32_t)left)"),
    _dynamic("dense_dsp.c", "cortex-m4", "wide row",
             r"\(const int8_t\*\)op->scratch\) / 2", "(const int8_t*)op->scratch) / 4"),
    _dynamic("dense_dsp.c", "cortex-m4", "tail", r"return n % 2 \? sum \+", "return n % 2 ? sum - "),
    # other ops on floats
    _dynamic("float_ops.c", "host", "softmax", r"kws_exp_of_minus\(most - x\[i\]\)", "kws_exp_of_minus(x[i] - most)"),
    _dynamic("float_ops.c", "host", "mean", r"\(float\)down \* \(float\)across", "(float)down + (float)across"),
    _dynamic("float_ops.c", "host", "dilation", r"w->dilation\[0\] \* row;", "row;"),
    _dynamic("float_ops.c", "host", "maximum", r"most = -INFINITY", "most = 0"),
    _dynamic("float_ops.c", "host", "weights of a window", r"\(size_t\)i \* taps \+", "(size_t)i * taps + 0 *"),
    _dynamic("float_ops.c", "host", "multiplication", r"a\[i\] \* b\[j\]", "a[i] * b[i + 1 - 1] * 1.0000001f"),
    # rings, and the depthwise op
    Mistake("ring.c", "host", "oldest frame", r"oldest > kept", "oldest >= kept", RING),
    Mistake("ring.c", "host", "order", r"copy\(y, frames \+ oldest \* frame,", "copy(y, frames,", RING),
    Mistake("ring.c", "host", "the place after a turn",
            r"fresh < room \? oldest \+ fresh", "fresh <= room ? oldest + fresh",
            RING),
    Mistake("ring.c", "host", "many fresh frames", r"\(fresh - kept\) \* frame", "0", RING),
    Mistake("depthwise_c.c", "host", "tail", r"k \+ BLOCK <= count", "k + BLOCK <= count + 1", "depthwise"),
    Mistake("depthwise_c.c", "host", "zero point", r"level\[k\] \* \(x\[k\] - zero\)", "level[k] * x[k]", "depthwise"),
    Mistake("depthwise_c.c", "cortex-m4", "chunks", r"first \+= CHUNK\)", "first += CHUNK + 1)", "depthwise"),
    Mistake("depthwise_c.c", "cortex-m0plus", "rounding",
            r"\(uint64_t\)s->add >> 32", "(uint64_t)s->add >> 33", "depthwise"),
)  # fmt: skip


def _depthwise(file: str, core: str, kind: str, pattern: str, replacement: str) -> Mistake:
    return Mistake(file, core, kind, pattern, replacement, "depthwise")


MISTAKES += (
    _depthwise("depthwise_c.c", "host", "windows inside", r"last < length", "last <= length"),
    _depthwise("depthwise_c.c", "host", "window over time", r"t\.level_column = t\.level_row;", ""),
    _depthwise("depthwise_c.c", "host", "dilation", r"dilation\[0\] \* width", "dilation[1] * width"),
    _depthwise("depthwise_c.c", "cortex-m3", "rows without a window", r"t\.x \+= channels", "t.x += 0"),
    _depthwise("depthwise_neon.c", "cortex-a53", "rounding", r"31 - s->shift", "30 - s->shift"),
    _depthwise("depthwise_neon.c", "cortex-a53", "bias", r"s->bias_shift - 31\)", "s->bias_shift - 30)"),
    _depthwise("depthwise_neon.c", "cortex-a53", "what is exact", r"bias_shift >= 31", "bias_shift >= 29"),
    _depthwise("depthwise_neon.c", "cortex-a53", "what fits", r"bias_shift <= 45", "bias_shift <= 46"),
    _depthwise("depthwise_neon.c", "cortex-a53", "clipping",
               r"vcombine_s8\(v0, v1\), c->low", "vcombine_s8(v0, v1), c->zero"),
    _depthwise("depthwise_neon.c", "cortex-a7", "zero point", r"vqaddq_s16\(vcombine_s16\(y0, y1\), c->output_zero\)",
               "vcombine_s16(y0, y1)"),
    _depthwise("depthwise_neon.c", "cortex-a7", "tail", r"channels - 8, y\)", "channels - 9, y)"),
    _depthwise("depthwise_neon.c", "cortex-a7", "second half", r"x \+ 16, levels \+ 16", "x + 16, levels + 8"),
    _depthwise("depthwise_avx2.c", "host", "last tap", r"if \(j\)", "if (j > 1)"),
    _depthwise("depthwise_avx2.c", "host", "order", r"0xD8", "0xE4"),
    _depthwise("depthwise_avx2.c", "host", "second half", r"0x31\), first", "0x20), first"),
    _depthwise("depthwise_avx2.c", "host", "tail", r"channels - 8, y\)", "channels - 9, y)"),
    _depthwise("depthwise_avx2.c", "host", "end of a tensor",
               r"first \+ 8 < channels \? first : channels - 8", "first"),
    _depthwise("depthwise_mve.c", "cortex-m55", "carry", r"vcmphiq_u32\(low, sum\)", "vcmphiq_u32(sum, low)"),
    _depthwise("depthwise_mve.c", "cortex-m55", "half of an output", r"if \(t->halves\)", "if (false)"),
    _depthwise("depthwise_mve.c", "cortex-m55", "tail",
               r"vctp16q\(\(uint32_t\)left\)", "vctp16q((uint32_t)left - 1)"),
    _depthwise("depthwise_mve.c", "cortex-m55", "odd channels", r"vmulltq_int_s16", "vmullbq_int_s16"),
    _depthwise("depthwise_mve.c", "cortex-m55", "second block", r"gain \+ LANES\)", "gain)"),
    _depthwise("depthwise_dsp.c", "cortex-m4", "odd channels",
               r"sxtab16 r8, lr, r8, ror #8", "sxtab16 r8, lr, r8, ror #16"),
    _depthwise("depthwise_dsp.c", "cortex-m4", "last tap", r"beq 6f", "b 6f"),
    _depthwise("depthwise_dsp.c", "cortex-m4", "two taps", r"bcc 5f", "bcs 5f"),
    _depthwise("depthwise_dsp.c", "cortex-m4", "next row", r"pairs \* t->x_column", "t->columns * t->x_column"),
    _depthwise("depthwise_dsp.c", "cortex-m4", "clipping", r"sel r4, r3, r4", "sel r4, r4, r3"),
    _depthwise("depthwise_dsp.c", "cortex-m4", "rounding", r"scale\.add >> 32", "scale.add >> 33"),
    _depthwise("depthwise_dsp.c", "cortex-m4", "chunks", r"j->x \+ some", "j->x + LANES"),
    _depthwise("depthwise_dsp.c", "cortex-m33", "windows in the padding",
               r"channels < LANES \|\| empty", "channels < LANES"),
)  # fmt: skip


def plant(mistake: Mistake, folder: pathlib.Path) -> pathlib.Path:
    """A copy of the kernels with the mistake; LookupError where its pattern is found nowhere."""
    kernels = folder / "kernels"
    shutil.copytree(emulation.KERNELS, kernels)
    path = next(kernels.rglob(mistake.file), kernels / mistake.file)
    text, found = re.subn(mistake.pattern, mistake.replacement.replace("\\", "\\\\"), path.read_text(), count=1)
    if not found:
        raise LookupError(f"{mistake.file}: {mistake.pattern!r} is found nowhere; write the mistake anew")
    path.write_text(text)
    return kernels


def caught_by_test(mistake: Mistake, kernels: pathlib.Path, folder: pathlib.Path) -> str:
    """The same with a copy of the package, whose library has the mistake, and a test of its own."""
    ignore = shutil.ignore_patterns("kernels", "_native*.so", "__pycache__")
    shutil.copytree(ROOT / "tflite_export", folder / "tflite_export", ignore=ignore)
    kernels.rename(folder / "tflite_export" / "kernels")
    made = subprocess.run(
        [sys.executable, str(folder / "tflite_export" / "kernels" / "build_list.py")], capture_output=True, text=True
    )
    if made.returncode:
        return f"does not compile: {made.stderr.splitlines()[-1]}"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        f"-opythonpath={folder}",
        str(ROOT / mistake.cases),
    ]
    paths = os.pathsep.join(map(str, (folder, ROOT, ROOT / "tests" / "helpers")))
    env = {**os.environ, "PYTHONPATH": paths}
    which = [sys.executable, "-c", "import tflite_export; print(tflite_export.__file__)"]
    found = subprocess.run(which, capture_output=True, text=True, cwd=folder, env=env)
    assert found.stdout.startswith(str(folder)), "the copy must be the one that is imported"
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return failed[0] if failed else ""


def caught(mistake: Mistake) -> str:
    """What the cases say of a mistake: the first line of the failure, or "" where they do not see it."""
    core = emulation.CORES[mistake.core]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        kernels = plant(mistake, folder)
        rng = np.random.default_rng(1)
        makers = {"static": lambda: cases(rng, 8), "depthwise": lambda: depthwise_cases(rng),
                  "dynamic": lambda: all_cases(rng, 6)}  # fmt: skip
        if mistake.cases not in makers:
            return caught_by_test(mistake, kernels, folder)
        write_cases(folder / "cases.bin", np.random.default_rng(1), makers[mistake.cases]())
        flags = ("-O1", "-w", *emulation.SANITIZE) if mistake.core == "host" else ("-O2", "-w")
        try:
            program = emulation.build(core, [RUNNER], folder, flags, kernels)
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
    emulation.require_tools(tool for mistake in MISTAKES for tool in emulation.CORES[mistake.core].tools)
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
