"""The web page: one HTML file and one JSON document, on this computer only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from moe_edge.errors import DataError

PAGE = Path(__file__).parent / "page.html"
HOST = "127.0.0.1"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class PageServer:
    """Serves until closed, from threads of its own.

    Attributes:
        address: For a browser.
    """

    def __init__(self, port: int, snapshot: Callable[[], dict[str, Any]]) -> None:
        """Begin to serve.

        Args:
            port: On 127.0.0.1; 0 for a free one.
            snapshot: Gives what the page shows; called from other threads.

        Raises:
            DataError: If the port is taken.
        """
        page = PAGE.read_bytes()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Host", "").rsplit(":", 1)[0] not in (HOST, "localhost"):
                    # Another name for this address: a foreign page that would read ours.
                    self.send_error(403)
                elif self.path == "/":
                    self._send("text/html; charset=utf-8", page)
                elif self.path == "/state.json":
                    self._send("application/json", json.dumps(snapshot()).encode())
                else:
                    self.send_error(404)

            def _send(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Security-Policy", _POLICY)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: the terminal shows something else."""

        try:
            self._server = ThreadingHTTPServer((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            raise DataError(f"can't serve on {HOST}:{port}: {error}; choose another --page") from error
        self._server.daemon_threads = True
        self.address = f"http://{HOST}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
