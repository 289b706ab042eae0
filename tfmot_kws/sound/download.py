# SPDX-License-Identifier: Apache-2.0
"""Downloads that survive interruption, and safe unpacking of .tar and .zip. pooch checks the hash."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

SPEECH_COMMANDS_URL = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SPEECH_COMMANDS_HASH = "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"


class ResumingDownloader:
    """A pooch downloader that keeps what has arrived and asks for the rest next time.

    pooch itself starts over after an interruption. This one collects into ``part``, asks the
    server for the missing bytes (HTTP ``Range``) and hands a complete file to pooch, which then
    checks its hash. A server that ignores ``Range`` is read from the start.

    Args:
        part: the file that grows; kept after a failure, gone after success.
        timeout: seconds without an answer after which the download fails.
        progress: called with (bytes that are there, bytes in all), where the server says how many.

    Attributes:
        expected: bytes in all, None where the server did not say.
    """

    def __init__(
        self, part: str | os.PathLike, timeout: float = 30.0, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.part, self.timeout, self.progress = Path(part), timeout, progress
        self.expected: int | None = None

    def __call__(self, url: str, output_file, pooch, check_only: bool = False) -> bool | None:
        """Called by pooch; see ``pooch.HTTPDownloader``."""
        import requests

        if check_only:
            answer = requests.head(url, timeout=self.timeout, allow_redirects=True)
            return answer.status_code == 200
        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as answer:
            complete = answer.headers.get("Content-Range") == f"bytes */{have}"
            if not (answer.status_code == 416 and complete):
                if answer.status_code == 416:  # what we have is not a beginning of what is there
                    self.part.unlink()
                answer.raise_for_status()
                self._receive(answer, have if answer.status_code == 206 else 0)
        if hasattr(output_file, "write"):
            with self.part.open("rb") as stream:
                shutil.copyfileobj(stream, output_file)
            self.part.unlink()
        else:
            os.replace(self.part, output_file)
        return None

    def _receive(self, answer, offset: int) -> None:
        import requests

        length = answer.headers.get("Content-Length")
        self.expected = None if length is None else offset + int(length)
        with self.part.open("r+b" if offset else "wb") as stream:
            stream.seek(offset)
            for block in answer.iter_content(1 << 14):
                stream.write(block)
                if self.progress is not None and self.expected is not None:
                    self.progress(stream.tell(), self.expected)
            got = stream.tell()
        if self.expected is not None and got != self.expected:  # urllib3 1 says nothing of it
            raise requests.ConnectionError("the connection was cut")


def fetch(
    url: str,
    known_hash: str | None,
    folder: str | os.PathLike,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Downloads a file into ``folder`` unless it is there with the right hash.

    Args:
        url: where from.
        known_hash: ``"sha256:..."``, ``"sha1:..."`` or ``"md5:..."``; None checks nothing.
        folder: made where missing.
        progress: called with (bytes that are there, bytes in all).

    Returns:
        The path of the file.

    Raises:
        ValueError: the hash differs; nothing is kept then.
        requests.RequestException: the transfer failed; what has come is kept, and the same call goes on from there.
        OSError: nothing can be written there.
    """
    import pooch
    import requests

    folder = Path(folder)
    name = url.rsplit("/", 1)[-1] or "download"
    downloader = ResumingDownloader(folder / f"{name}.part", progress=progress)
    with no_empty_folder(folder), _quiet(pooch.get_logger()):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            path = pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=downloader, progressbar=False)
        except requests.RequestException as error:
            if downloader.part.is_file() and not downloader.part.stat().st_size:
                downloader.part.unlink()
            raise requests.RequestException(_failed(url, downloader, error), response=error.response) from error
    return Path(path)


@contextlib.contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Where the block raises, the folder and those above it go, if they were not there before and hold nothing."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # something is in it
            for path in new:
                path.rmdir()
        raise


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Without notes; pooch's are to the programmer who calls it ("use this value as the 'known_hash' argument")."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _failed(url: str, downloader: ResumingDownloader, error: Exception) -> str:
    """What happened to a transfer, and what to do."""
    import requests

    have = downloader.part.stat().st_size if downloader.part.is_file() else 0
    if isinstance(error, requests.HTTPError) and error.response is not None:
        code, reason = error.response.status_code, error.response.reason
        moved = 400 <= code < 500 and code not in (408, 429)
        todo = "it may have moved: look at its page" if moved else "give the same command again later"
        return f"{url}: the server answered {code} {reason}; {todo}"
    what = f"the transfer failed ({_reason(error, downloader.timeout)})"
    if not have:
        return f"{url}: {what} and nothing came; look at the network, and give the same command again"
    count = f"{have}" if downloader.expected is None else f"{have} of {downloader.expected}"
    return f"{url}: {what}; {count} bytes are kept in {downloader.part}, and the same command goes on from there"


def _reason(error: BaseException, timeout: float) -> str:
    """In the words of the system, where it has some: those of requests and urllib3 are of their own objects."""
    import requests

    if isinstance(error, requests.Timeout):
        return f"no answer in {timeout:g} s"
    left, seen = [error], set()
    while left:
        one = left.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
        if isinstance(one, TimeoutError):
            return f"no answer in {timeout:g} s"
        parts = (*getattr(one, "args", ()), getattr(one, "reason", None), one.__cause__, one.__context__)
        left += [part for part in parts if isinstance(part, BaseException)]
    cut = isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError))
    return "the connection was cut" if cut else str(error)


def _safe_members(stream: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Files, folders and links of an archive, as ours and without special modes.

    Neither a name nor what a link points to begins with "/" or has "..": then nothing can be written outside, whatever
    links the archive makes first. Pythons before 3.10.12 and 3.11.4 have no filter of their own that would see to it.

    Raises:
        tarfile.ReadError: another member comes; those before it have been given.
    """
    for member in stream:
        link = member.issym() or member.islnk()
        for path in (member.name, member.linkname) if link else (member.name,):
            if path.startswith("/") or ".." in path.split("/"):
                whose = f"{member.name} is a link to {path}" if path is not member.name else path
                raise tarfile.ReadError(f"{whose}, which may lead out of the folder")
        if not (link or member.isfile() or member.isdir()):
            raise tarfile.ReadError(f"{member.name} is a device or a pipe")
        member.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o600)
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        yield member


def _leads_out(path: str) -> bool:
    return path.startswith(("/", "\\")) or ".." in path.replace("\\", "/").split("/") or path[1:2] == ":"


def _unpack_zip(archive: Path, folder: Path) -> None:
    """Unpacks files and folders of a .zip; links are refused, no set that we know has any.

    Raises:
        zipfile.BadZipFile: a member may lead out of the folder, is a link, is encrypted or damaged.
    """
    with zipfile.ZipFile(archive) as stream:
        members = stream.infolist()
        for member in members:
            if _leads_out(member.filename):
                raise zipfile.BadZipFile(f"{member.filename}, which may lead out of the folder")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise zipfile.BadZipFile(f"{member.filename} is a link, a device or a pipe")
        for member in members:
            stream.extract(member, folder)


def unpacked_bytes(archive: str | os.PathLike) -> int | None:
    """What a .zip takes when it is unpacked; None for a .tar, which would have to be read for that."""
    if not zipfile.is_zipfile(archive):
        return None
    with zipfile.ZipFile(archive) as stream:
        return sum(member.file_size for member in stream.infolist())


def unpack(archive: str | os.PathLike, folder: str | os.PathLike) -> Path:
    """Unpacks an archive into a new folder; the folder appears complete or not at all.

    Args:
        archive: ``.tar``, ``.tar.gz``, ... or ``.zip``.
        folder: must not exist; names and links that may lead out of it are refused, and devices.

    Returns:
        ``folder``.

    Raises:
        ValueError: not a readable archive, or one with such members; the message names the first.
    """
    folder = Path(folder)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        try:
            if zipfile.is_zipfile(archive):
                _unpack_zip(Path(archive), temporary)
            else:
                options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                with tarfile.open(archive) as stream:
                    stream.extractall(temporary, _safe_members(stream), **options)
        # NotImplementedError and RuntimeError: a .zip that is compressed as Python cannot, or encrypted.
        except (
            tarfile.TarError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise ValueError(f"{archive}: cannot be unpacked: {error}") from error
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
