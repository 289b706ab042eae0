"""``python -m tflite_export inspect model.tflite``."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from tflite_export import inspect as inspect_model
from tflite_export.c import arrays as c_writer
from tflite_export.c import inference as inference_writer
from tflite_export.c import uses


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tflite_export", description="Looks at and converts .tflite files.")
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="print a table of the layers")
    inspect.add_argument("model", type=pathlib.Path)
    to_c = commands.add_parser("c", help="write the file as C++ arrays and print the ops that a firmware registers")
    to_c.add_argument("model", type=pathlib.Path)
    to_c.add_argument("out", type=pathlib.Path, help="folder")
    to_c.add_argument("--name", default="model_data", help="name of the array and of the files (default: %(default)s)")
    to_c.add_argument("--resolver", type=pathlib.Path, metavar="FILE", help="write the ops to a file instead")
    infer = commands.add_parser("inference", help="write the model as C that runs without an interpreter")
    infer.add_argument("model", type=pathlib.Path)
    infer.add_argument("out", type=pathlib.Path, help="folder")
    infer.add_argument("--name", default="kws_inference", help="name of files and functions (default: %(default)s)")
    config = commands.add_parser("config", help="list what models use, for a build of the kernels that has no more")
    config.add_argument("models", type=pathlib.Path, nargs="+", help="all models of a program")
    config.add_argument("out", type=pathlib.Path, help="folder of kws_config.h")
    options = parser.parse_args(arguments)
    if options.command == "config":
        return _config(options.models, options.out)
    try:
        data = options.model.read_bytes()
        if options.command == "inspect":
            inspect_model.print_summary(inspect_model.inspect(data))
        elif options.command == "inference":
            for path in inference_writer.write_inference(data, options.out, options.name):
                print(path)
        else:
            lines = "\n".join(c_writer.op_resolver_lines(data))
            for path in c_writer.write_c(data, options.out, options.name):
                print(path)
            print(c_writer.write_text(options.resolver, lines + "\n") if options.resolver else lines)
    except (OSError, ValueError) as error:
        print(f"{options.model}: {error}", file=sys.stderr)
        return 1
    return 0


def _config(models: Sequence[pathlib.Path], out: pathlib.Path) -> int:
    used = uses.Uses()
    for model in models:
        try:
            used |= inference_writer.inference_texts(model.read_bytes())[1]
        except (OSError, ValueError) as error:
            print(f"{model}: {error}", file=sys.stderr)
            return 1
    print(uses.write_config(used, [model.name for model in models], out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
