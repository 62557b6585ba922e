"""Fetching by tag, against a hub of our own on this machine and against none."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CONTENT = b"weights"
FETCH = "import sys; from encoders.hub import fetch; sys.stdout.write(str(fetch(sys.argv[1])))"
ROOT = Path(__file__).parents[3]


class Hub(BaseHTTPRequestHandler):
    """Has ``open_clip_pytorch_model.bin`` of every repository, and nothing else."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        known = self.path.endswith("/open_clip_pytorch_model.bin")
        self.send_response(200 if known else 404)
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("X-Error-Code", "" if known else "EntryNotFound")
        self.send_header("Content-Length", str(len(CONTENT) if known else 0))
        self.end_headers()
        if known and self.command == "GET":
            self.wfile.write(CONTENT)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(home: Path, location: str, endpoint: str, *, offline: bool = False) -> subprocess.CompletedProcess[str]:
    env = {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "PATH": "",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_DISABLE_XET": "1",
    }
    if offline:
        env["HF_HUB_OFFLINE"] = "1"
    command = [sys.executable, "-W", "ignore", "-c", FETCH, location]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)


def test_a_tag_is_fetched_once_and_then_found_without_a_network(tmp_path: Path, hub: str) -> None:
    fetched = fetch(tmp_path, "nobody/tiny/", hub)
    assert fetched.returncode == 0, fetched.stderr
    assert Path(fetched.stdout).read_bytes() == CONTENT
    assert fetch(tmp_path, "nobody/tiny/", hub, offline=True).stdout == fetched.stdout


def test_a_hub_without_the_file_is_told_apart(tmp_path: Path, hub: str) -> None:
    ended = fetch(tmp_path, "nobody/tiny/other.bin", hub)
    assert "nobody/tiny has no other.safetensors and no other.bin" in ended.stderr


def test_no_network_is_told_at_once(tmp_path: Path) -> None:
    started = time.perf_counter()
    ended = fetch(tmp_path, "nobody/tiny/", "http://127.0.0.1:9")  # nobody listens there
    assert "BackboneNotFound: the hub did not give it" in ended.stderr
    assert time.perf_counter() - started < 15  # the client's own retries take longer
