"""A server of one file on this machine; it may ignore ranges, and hang up early."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file; may ignore ranges, and may hang up early."""

    def __init__(self, state, *args):
        self.state = state
        super().__init__(*args)

    def log_message(self, *_):
        pass

    def do_GET(self):
        content, wanted = self.state["content"], self.headers.get("Range")
        self.state["ranges"].append(wanted)
        if self.state["status"] != 200:
            self.send_error(self.state["status"])
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.state["resumes"] else 0
        if first and first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        stop = self.state["hang_up_at"].pop(0) if self.state["hang_up_at"] else len(content)
        self.wfile.write(content[first:stop])


@contextlib.contextmanager
def serve(content: bytes, hang_up_at=(), resumes=True, name="speech_commands_tiny.tar.gz", status=200):
    """Gives the address of ``name``, and what happens: the ranges that were asked for."""
    state = {"content": content, "hang_up_at": list(hang_up_at), "resumes": resumes, "ranges": [], "status": status}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, state)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/{name}", state
        finally:
            server.shutdown()
            thread.join()
