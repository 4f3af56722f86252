"""Building and serving the page: whole or not at all, and in clear words."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from chromium_answers import ENVIRONMENT, WEB

pytestmark = pytest.mark.slow


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(WEB / script), *map(str, arguments)]
    return subprocess.run(
        command, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=False, timeout=300
    )


def test_models_are_kept_and_the_same_build_gives_the_same_version(dist):
    before = (dist / "sw.js").read_text()
    result = run("build.py", "-o", dist, "--smoke")
    assert result.returncode == 0, result.stderr
    assert "Training" not in result.stdout
    assert (dist / "sw.js").read_text() == before
    assert sorted(path.name for path in dist.parent.iterdir()) == ["dist"]


def test_what_is_no_page_is_not_replaced(browser, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("hello")
    result = run("build.py", "-o", tmp_path / "letters", "--smoke")
    assert result.returncode == 1 and "choose another with -o" in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_build_without_node_says_what_to_install(browser, tmp_path):
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    result = subprocess.run(
        [sys.executable, str(copy / "build.py"), "-o", str(tmp_path / "dist")],
        env={**ENVIRONMENT, "PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1 and "apt-get install nodejs npm" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "dist").exists()


def test_the_server(dist, tmp_path):
    with subprocess.Popen(
        [sys.executable, str(WEB / "serve.py"), "--folder", str(dist), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
            with urllib.request.urlopen(address) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert (
                    "'unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "") and "default-src 'none'" in policy
                )
            for name, kind in (("moe.js", "text/javascript"), ("models/digits.tflite", "application/octet-stream")):
                with urllib.request.urlopen(address + name) as answer:
                    assert answer.headers["Content-Type"].startswith(kind)
                    assert "Content-Encoding" not in answer.headers
            taken = run("serve.py", "--folder", dist, "--port", address.split(":")[-1].strip("/"))
            assert taken.returncode == 1 and "give another with --port" in taken.stderr
        finally:
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=10)
        assert process.returncode == 0 and complaint == ""
    empty = run("serve.py", "--folder", tmp_path)
    assert empty.returncode == 1 and "build.py" in empty.stderr


@pytest.mark.parametrize("name", ["index.html", "moe.js", "page/app.js", "page/style.css", "sw.js"])
def test_nothing_of_the_page_names_another_host(dist, name):
    text = (dist / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:https?:)?//([a-z0-9-]+(?:\.[a-z0-9-]+)+)", text))
    # The namespace of SVG, licences and documentation of libraries in comments and messages; nothing is fetched.
    assert named <= {"www.w3.org", "www.apache.org", "github.com", "papaparse.com", "www.papaparse.com", "mths.be"}, (
        named
    )


def test_nothing_built_is_in_git():
    listed = subprocess.run(
        ["git", "ls-files", "demos/web"], cwd=WEB.parents[1], capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    names = listed.stdout.split()
    assert not [name for name in names if re.search(r"node_modules|/dist/|lock|\.wasm|\.tflite", name)]


def test_the_readmes_own_page(browser, dist, mixture_file, tmp_path):
    """The example runs as pasted, from a host that sends no headers of ours."""
    text = (WEB / "README.md").read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(re.search(r"```html\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    shutil.copy(dist / "moe.js", tmp_path)
    shutil.copytree(dist / "wasm", tmp_path / "wasm")
    shutil.copy(mixture_file("table", scheme="w8a8"), tmp_path / "my.tflite")
    said: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context()
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        with page.expect_console_message(lambda message: message.text == "true", timeout=20_000):
            page.goto(f"http://127.0.0.1:{server.server_port}/")
        context.close()
        server.shutdown()
    assert any(line.startswith("[bad, good]") for line in said), said
