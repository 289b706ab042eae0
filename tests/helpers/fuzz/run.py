"""Builds and runs the fuzz target: ``python tests/helpers/fuzz/run.py --seconds 60``. Needs clang with libFuzzer."""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = HERE.parents[2] / "tflite_export"
sys.path.insert(0, str(PACKAGE.parent))

from benchmarks import emulation  # noqa: E402
from tflite_export.kernels import build_list  # noqa: E402
from tflite_export.packed import op_options  # noqa: E402

SANITIZERS = "fuzzer,address,undefined"


def build(folder: pathlib.Path, compiler: str = emulation.CLANG) -> pathlib.Path:
    """Compiles the target into ``folder``; raises CalledProcessError with the compiler's words on standard error."""
    target = folder / "fuzz_ops"
    sources = [str(HERE / "fuzz_ops.c"), *(str(PACKAGE / s) for s in build_list.KERNEL_SOURCES)]
    flags = ["-std=c99", "-g", "-O1", f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *flags, "-o", str(target), *sources], check=True)
    return target


def write_seeds(corpus: pathlib.Path) -> None:
    """Writes one input for each kind and mode that reaches the kernels, in the order in which fuzz_ops.c takes bytes.

    What libFuzzer finds by itself differs from one version of clang to another; these it always starts from.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    repaired, rank_3, dims = 1, 2, (0, 5, 3)
    for kind in op_options.Kind:
        for mode in (0, 1):
            options = bytearray(op_options.LENGTH)
            options[2] = mode
            seed = bytes([repaired, kind.value - 1]) + bytes(options) + bytes([rank_3, *dims] * 3) + bytes(range(64))
            (corpus / f"seed-{kind.name.lower()}-{mode}").write_bytes(seed)


def run(target: pathlib.Path, corpus: pathlib.Path, limit: str, seed: int = 1) -> tuple[int, int, str]:
    """(exit status, executions, what libFuzzer said). A finding is kept next to the corpus as crash-*.

    limit: libFuzzer's own words for when to end, "-runs=1000" or "-max_total_time=60".
    """
    write_seeds(corpus)
    command = [
        str(target),
        limit,
        f"-seed={seed}",
        "-max_len=512",
        "-timeout=10",
        # Linux counts the parent's peak memory as the child's, so a limit on it would fail under a large test process.
        "-rss_limit_mb=0",
        "-malloc_limit_mb=64",
        "-print_final_stats=1",
        f"-artifact_prefix={corpus.parent}/",
        str(corpus),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    count = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    return done.returncode, int(count.group(1)) if count else 0, done.stderr


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=pathlib.Path, help="folder to keep what was found (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    emulation.require_tools([emulation.CLANG])
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        status, count, said = run(
            build(folder), options.corpus or folder / "corpus", f"-max_total_time={options.seconds}", options.seed
        )
    print(said[-3000:])
    print(f"{count:,} executions, {'nothing found' if status == 0 else 'FOUND SOMETHING'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
