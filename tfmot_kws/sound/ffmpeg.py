# SPDX-License-Identifier: Apache-2.0
"""Formats that soundfile does not know (AAC in .m4a, say), by the program ffmpeg where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from tfmot_kws.sound import wav
from tfmot_kws.sound.problems import AudioError

EXTENSIONS = (".m4a", ".mp4", ".aac", ".webm", ".wma", ".amr", ".3gp")
"""What only it reads."""


@contextlib.contextmanager
def wav_of(path: str | os.PathLike, reason: str) -> Iterator[BinaryIO]:
    """The sound of a file as a WAV stream of 32-bit floats.

    Args:
        path: the file.
        reason: why soundfile does not read it.

    Raises:
        AudioError: ffmpeg is not there, or finds no sound in the file.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(path, "unreadable", f"{reason} Install ffmpeg, or convert the file to WAV or FLAC.")
    # "file:" keeps names that begin with a dash or look like an address from being anything else.
    source = f"file:{os.fspath(path)}"
    command = [program, "-nostdin", "-v", "error", "-i", source, "-vn", "-acodec", "pcm_f32le", "-f", "wav", "-"]
    broken = None
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        try:
            try:
                yield process.stdout
            except (wav.WavError, AudioError) as error:
                broken = error  # because ffmpeg gave up: what it says tells more
            process.stdout.read()  # so that it can end by itself
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    if status or broken is not None:
        detail = said[-1] if said else str(broken or f"status {status}")
        raise AudioError(path, "unreadable", f"{reason} ffmpeg: {detail}") from broken
