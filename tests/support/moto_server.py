"""moto's S3 server on a free port of the loopback, from an environment of its own: it needs older packages."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

PROGRAM = "CROSSBIT_TEST_MOTO"  # path of moto_server, where it is not on the PATH


class Bucket:
    """One bucket, and how to reach it."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
        self.url = f"s3://{name}"
        self._address = f"{endpoint}/{name}"
        self._put("", b"")

    def put(self, name: str, data: bytes) -> None:
        self._put(f"/{name}", data)

    def _put(self, path: str, data: bytes) -> None:
        httpx2.put(self._address + path, content=data, trust_env=False, timeout=30).raise_for_status()


@contextmanager
def s3_bucket(name: str = "photos") -> Iterator[Bucket]:
    """An empty bucket of a server that ends with it."""
    program = os.environ.get(PROGRAM) or shutil.which("moto_server")
    if program is None:
        raise FileNotFoundError(f"expected moto_server on the PATH or in {PROGRAM}, found none: see docs/run.md")
    command = [program, "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert server.stderr is not None
        lines: list[str] = []
        for line in server.stderr:
            lines.append(line)
            if "Running on " in line:
                yield Bucket(line.split("Running on ")[1].split()[0], name)
                return
        raise RuntimeError(f"moto_server did not start: {''.join(lines)}")
    finally:
        server.kill()
        server.communicate()
