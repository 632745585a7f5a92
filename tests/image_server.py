"""A server of files on this machine, as another server that has images of tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def image_server(files: Mapping[str, bytes]) -> Iterator[str]:
    """`with image_server({"/a.png": data}) as host:` serves files on `127.0.0.1:PORT`.

    `/redirect?to=PATH` redirects, and `/never` answers only when the server ends.
    """
    ends = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/never":
                ends.wait(30)
            path, _, target = self.path.partition("?to=")
            self.send_response(302 if target else 200 if self.path in files else 404)
            self.send_header("Location", target or path)
            self.end_headers()
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *_: object) -> None:
            """Write nothing to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        ends.set()
        server.shutdown()
        thread.join()
        server.server_close()
