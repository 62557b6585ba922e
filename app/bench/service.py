"""A service of its own for a measurement: a process over what a home serves, on a free loopback port, with a key.

Its home is a folder of links to the artifacts and indexes, so several may run at once, and beside one that is in use.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from app.jobs import JobError
from app.keys import digest_of, new_key
from app.settings import Settings

START_S = 300.0  # longest wait for models and indexes to be open
STOP_S = 30.0
POLL_S = 0.05
LAST_LINES = 5  # of the log, where the service does not start
_MAIN = "from app.cli import main; main()"
_ADDRESS = re.compile(r"^serving on (http://127\.0\.0\.1:\d+)$", re.MULTILINE)


class ServiceFailed(JobError):
    """The measured service did not start, or stopped; the message ends with its last log lines."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where the service answers, and to whom."""

    url: str
    key: str


@contextmanager
def running_service(settings: Settings, **variables: str) -> Iterator[Running]:
    """Start a service over this home's indexes, wait until it is ready, and stop it at the end.

    ``variables`` come on top of this process's environment.

    Raises:
        ServiceFailed: it ended before it was ready, or took too long.
    """
    key = new_key()
    command = [sys.executable, "-c", _MAIN, "serve", "--host", "127.0.0.1", "--port", "0"]
    with TemporaryDirectory(prefix="crossbit-bench-") as folder:
        log, home = Path(folder) / "log", _link_home(settings, Path(folder) / "home")
        own = {"CROSSBIT_HOME": str(home), "CROSSBIT_KEYS__QUERY": f'["{digest_of(key)}"]'}
        with log.open("wb") as stream:
            # a session of its own: Ctrl-C reaches this process alone, which then stops the service
            process = subprocess.Popen(command, env=os.environ | variables | own, stderr=stream, start_new_session=True)  # noqa: S603
        try:
            yield Running(_wait(process, log), key)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _link_home(settings: Settings, home: Path) -> Path:
    home.mkdir()
    for folder in (settings.artifacts_dir, settings.indexes_dir):
        (home / folder.name).symlink_to(folder.resolve(), target_is_directory=True)
    return home


def _wait(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The address, once the service is ready."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        written = log.read_text(encoding="utf-8", errors="replace")
        if process.poll() is not None:
            raise ServiceFailed(f"the service ended before it was ready: {_last(written)}")
        if (found := _ADDRESS.search(written)) and _is_ready(found[1]):
            return found[1]
        time.sleep(POLL_S)
    raise ServiceFailed(f"the service was not ready within {START_S:.0f} s: {_last(written)}")


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz", timeout=START_S) as answer:  # noqa: S310 - our own service
            return bool(answer.status == 200)
    except HTTPError as error:
        error.close()
        return False
    except URLError:
        return False


def _last(log: str) -> str:
    return " / ".join(log.split("\n")[-LAST_LINES:]).strip(" /") or "it wrote no log"
