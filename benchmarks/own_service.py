"""A service for studies: a process over a copy of a home's indexes, on a free loopback port, with an admin key."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from app.client import Client, ServiceError, ServiceUnreachable
from app.keys import digest_of, new_key

START_S, STOP_S, POLL_S = 300.0, 60.0, 0.1
MAIN = "from app.cli import main; main()"
SAID = "serving on "


@dataclass(frozen=True)
class OwnService:
    """Where it answers, to whom, and what it takes."""

    url: str
    key: str
    home: Path
    process: "subprocess.Popen[bytes]"

    def resident_mib(self) -> float:
        """Of the process and the processes that it started."""
        return sum(_resident(pid) for pid in [self.process.pid, *_children(self.process.pid)]) / 2**20


@contextmanager
def own_service(home: Path, **variables: str) -> Iterator[OwnService]:
    """Start it, wait until it is ready, and stop it; ``home`` keeps its indexes as they are."""
    key = new_key()
    with TemporaryDirectory(prefix="crossbit-study-") as folder:
        copy, log = Path(folder) / "home", Path(folder) / "log"
        shutil.copytree(home / "indexes", copy / "indexes")
        for part in ("artifacts", "data"):
            if (home / part).exists():
                (copy / part).symlink_to((home / part).resolve(), target_is_directory=True)
        own = {"CROSSBIT_HOME": str(copy), "CROSSBIT_KEYS__ADMIN": f'["{digest_of(key)}"]'}
        command = [sys.executable, "-c", MAIN, "serve", "--host", "127.0.0.1", "--port", "0"]
        with log.open("wb") as stream:
            process = subprocess.Popen(command, env=os.environ | variables | own, stderr=stream)  # noqa: S603
        try:
            service = OwnService(_address(process, log), key, copy, process)
            _wait(service)
            yield service
        finally:
            process.terminate()
            process.wait(STOP_S)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith(SAID):
                return line.removeprefix(SAID)
        time.sleep(POLL_S)
    raise SystemExit(f"expected a service, found: {log.read_text(encoding='utf-8')[-2000:]}")


def _wait(service: OwnService) -> None:
    until = time.monotonic() + START_S
    with Client(service.url, key=service.key) as client:
        while time.monotonic() < until:
            try:
                if client.indexes():
                    return
            except (ServiceError, ServiceUnreachable):
                pass
            time.sleep(POLL_S)
    raise SystemExit("expected an index that is served, found none")


def _children(pid: int) -> list[int]:
    """Of all threads: the kernel lists a child with the one that started it."""
    listed = [path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [found for child in map(int, " ".join(listed).split()) for found in (child, *_children(child))]


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except FileNotFoundError:  # it ended between two looks
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
