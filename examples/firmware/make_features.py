# SPDX-License-Identifier: Apache-2.0
"""Writes what the firmware reads, and what it must print.

    python make_features.py model.tflite [features.npy]            features.bin, expected.txt
    python make_features.py stream.tflite --wav sound.wav          frames.bin, sound.wav, expected.txt

features.npy holds float features [examples, frames, mel bins] as the model was trained on; random ones where it is
left out. A sound may have any rate; sound.wav has the front end's. Outputs are the numpy reference's: every kernel
gives the same bytes.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np

from tflite_export import Interpreter, ir
from tflite_export.reference import arithmetic


def write_examples(model: pathlib.Path, features: pathlib.Path | None, examples: int, out: pathlib.Path) -> None:
    """features.bin, and expected.txt with the posteriors."""
    interpreter = Interpreter(model.read_bytes(), runtime="reference")
    (tensor,) = interpreter.inputs
    if features:
        quantization = ir.Quantization(tensor.scale, tensor.zero_point)
        x = arithmetic.quantize(np.load(features), quantization)
    else:
        x = np.random.default_rng(0).integers(-128, 128, (examples, *tensor.shape)).astype(np.int8)
    y = interpreter.run(x)
    (out / "features.bin").write_bytes(np.ascontiguousarray(x).tobytes())
    lines = [f"{i}: {' '.join(map(str, row))}" for i, row in enumerate(y.reshape(len(y), -1))]
    (out / "expected.txt").write_text("\n".join(lines) + "\n")


def write_stream(
    model: pathlib.Path, wav: pathlib.Path, out: pathlib.Path, runtime: str, **options: str | float | None
) -> None:
    """frames.bin with int8 features, the sound as the front end takes it, and the detections."""
    import soundfile

    from tfmot_kws.commands import listen
    from tfmot_kws.commands.parts import spotter
    from tfmot_kws.frontend import features
    from tfmot_kws.sound import stream as audio_stream

    ear = spotter.open_spotter(model, runtime=runtime, **options)
    rate = ear.frontend.sample_rate
    sound = features.to_int16(np.concatenate([np.zeros(0, np.float32), *audio_stream.read_file(wav, rate)]))
    frames = ear.frames(sound)
    ear.reset()
    lines = [listen.line(heard) for heard in ear.step(sound)]
    (out / "frames.bin").write_bytes(np.ascontiguousarray(frames).tobytes())
    soundfile.write(out / "sound.wav", sound, rate, subtype="PCM_16")
    (out / "expected.txt").write_text("".join(f"{line}\n" for line in lines))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("features", type=pathlib.Path, nargs="?")
    parser.add_argument("--examples", type=int, default=5, help="random examples, where no features are given")
    parser.add_argument("--wav", type=pathlib.Path, help="sound for a streaming model")
    parser.add_argument("--threshold", help="as of tfmot-kws firmware; so are the next two")
    parser.add_argument("--smooth", type=float)
    parser.add_argument("--refractory", type=float)
    parser.add_argument("--runtime", default="reference", help="tflite for a file of stock ops")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.wav:
        times = {"smooth": args.smooth, "refractory": args.refractory}
        write_stream(args.model, args.wav, args.out, args.runtime, threshold=args.threshold, **times)
    else:
        write_examples(args.model, args.features, args.examples, args.out)


if __name__ == "__main__":
    main()
