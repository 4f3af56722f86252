"""Serve the built page on this machine.

    python demos/web/serve.py                # http://127.0.0.1:8080/, Ctrl-C ends it
    python demos/web/serve.py --port 0       # any free port

Browsers count 127.0.0.1 as secure: the page installs and works offline. A phone needs https, see README.md.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DIST = Path(__file__).parent / "dist"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)
"""Nothing is loaded from or sent to any other host. The page carries it too, for hosts that send no headers."""
TYPES = {
    ".bin": "application/octet-stream",
    ".csv": "text/csv; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".tflite": "application/octet-stream",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}


class PageHandler(SimpleHTTPRequestHandler):
    """Files of one folder, with the types and headers that the page wants."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}  # noqa: RUF012 - as the base class has it

    def end_headers(self) -> None:
        """Add the headers of every answer."""
        self.send_header("Content-Security-Policy", f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal is for people."""


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1, not yet running.

    Args:
        folder: What ``build.py`` wrote.
        port: 0 takes any free one.

    Raises:
        OSError: If the port is taken.
    """
    return ThreadingHTTPServer(("127.0.0.1", port), partial(PageHandler, directory=str(folder)))


def serve(folder: Path, port: int) -> int:
    """Serve until Ctrl-C; returns the exit code."""
    if not (folder / "index.html").is_file():
        print(f"expected a built page in {folder}, got none; run: python demos/web/build.py", file=sys.stderr)
        return 1
    try:
        server = make_server(folder, port)
    except OSError as error:
        print(f"can't serve on port {port}: {error.strerror or error}; give another with --port", file=sys.stderr)
        return 1
    with server:
        print(f"http://127.0.0.1:{server.server_port}/   (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=DIST, help="what build.py wrote")
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free one (default: %(default)s)")
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65535:
        parser.error(f"expected a port in [0, 65535], got {arguments.port}")
    return serve(arguments.folder, arguments.port)


if __name__ == "__main__":
    sys.exit(main())
