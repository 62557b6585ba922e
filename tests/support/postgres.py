"""A PostgreSQL server of the tests' own, on a free port of the loopback, from Debian's package ``postgresql``."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_S = 60.0
USER = "postgres"  # the server refuses to run as root


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of its first database; the server and all it holds go at the end."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="crossbit-postgres-"))
    identity: Mapping[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam(USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    try:
        data, log = folder / "data", (folder / "log").open("w+b")
        initialise = ["-D", data, "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([programs / "initdb", *initialise], check=True, stdout=log, stderr=log, cwd=folder, **identity)
        port = _free_port()
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-F"]
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            **identity,
        )
        try:
            _wait(programs, port, server, folder / "log")
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(2)  # SIGINT: it breaks connections off and ends
            server.wait()
            log.close()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    """The newest version's folder of programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise FileNotFoundError("expected PostgreSQL, found none: apt-get install postgresql")
    return found[-1]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(programs: Path, port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_S
    ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(ready, check=False).returncode:
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")
        time.sleep(0.05)
