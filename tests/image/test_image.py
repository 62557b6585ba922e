"""The CPU image, built from this checkout and run as docker-compose.yml runs it: `make image`."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from buildah import IMAGE, ROOT, TORCH_SPEC, Buildah, NoImage, check_room, run
from compose_file import COMPOSE_FILE, service
from PIL import Image

from app.client import Client
from model.items import ItemArchive, find_archive

pytestmark = pytest.mark.image

MAX_BYTES = 2_500_000_000
USER = 10001
WAIT_S = 600.0
PROFILES = ("gpu", "postgres", "milvus", "observability")


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, Any]]:
    """What the tests found; written to the file that CROSSBIT_IMAGE_REPORT names, if they all passed."""
    found: dict[str, Any] = {}
    yield found
    path = os.environ.get("CROSSBIT_IMAGE_REPORT")
    if path and {"layers_bytes", "parts_bytes", "answered"} <= found.keys():
        Path(path).write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def store() -> Iterator[Buildah]:
    """A store with the image in it; a folder that CROSSBIT_IMAGE_DIR names is kept, for a quicker next time."""
    kept = os.environ.get("CROSSBIT_IMAGE_DIR")
    store = Buildah(Path(kept or ROOT / "build" / "image"))
    try:
        check_room(store.folder)
    except NoImage as error:
        pytest.fail(str(error), pytrace=False)
    try:
        store.make_base()
        store.build(revision())
        yield store
    finally:
        if not kept:
            shutil.rmtree(store.folder)


def revision() -> str:
    return run("git", "-C", str(ROOT), "describe", "--always", "--dirty", quiet=True).strip()


class Container:
    """One container of the image, with the volumes of docker-compose.yml; what runs in it shares our loopback."""

    def __init__(self, store: Buildah, home: Path) -> None:
        self.store = store
        self.name = store("from", IMAGE)
        self.root = Path(store("mount", self.name))
        config = json.loads(store("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        self.entrypoint, self.healthcheck = config["Entrypoint"], config["Healthcheck"]["Test"]
        self.user = config["User"]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.volumes = self._make_volumes(home)

    def _make_volumes(self, home: Path) -> list[str]:
        (home / "keys").touch()
        volumes = [f"{home / 'keys'}:/run/secrets/keys:ro"]
        for volume in service("api")["volumes"]:
            _, inside, *mode = volume.split(":")
            outside = home / Path(inside).name
            outside.mkdir()
            os.chown(outside, USER, USER)
            volumes.append(":".join([str(outside), inside, *mode]))
        return volumes

    def command(self, name: str, *words: str) -> list[str]:
        """A command line that runs these words as a service of docker-compose.yml."""
        settings = service(name)["environment"] | {"CROSSBIT_HOST": "127.0.0.1", "CROSSBIT_PORT": str(self.port)}
        options = [f"--env={variable}={value}" for variable, value in settings.items()]
        options += [f"--volume={volume}" for volume in self.volumes]
        return self.store.command("run", "--isolation", "chroot", *options, self.name, *words)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """A service, until it is asked to end."""
        command = self.command(name, *self.entrypoint, *service(name)["command"])
        process = subprocess.Popen(command)
        try:
            yield
        finally:
            os.kill(inner(process.pid), signal.SIGTERM)
            assert process.wait(WAIT_S) == 0

    def is_healthy(self, name: str) -> bool:
        """What the health check of the compose file says."""
        words = [word.replace(":8000", f":{self.port}") for word in service(name)["healthcheck"]["test"][1:]]
        return subprocess.run(self.command(name, *words), capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def container(store: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    home = tmp_path_factory.mktemp("home")
    for folder in (home, *home.parents):  # so that the user of the image can pass
        folder.chmod(folder.stat().st_mode | 0o011)
    container = Container(store, home)
    yield container
    store("rm", container.name)


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_takes_the_file_in_every_profile(profile: str) -> None:
    run("docker-compose", "-f", str(COMPOSE_FILE), "--profile", profile, "config", "--quiet")


def test_the_image_is_small(store: Buildah, report: dict[str, Any]) -> None:
    base, layers = store.layers()
    inspected = json.loads(store("inspect", "--type", "image", IMAGE))
    size = base + sum(layers)
    report |= {
        "base_bytes": base,
        "date": datetime.now(UTC).date().isoformat(),
        "digest": inspected["FromImageDigest"],
        "layers_bytes": layers,
        "revision": inspected["Docker"]["config"]["Labels"]["org.opencontainers.image.revision"],
        "size_bytes": size,
        "torch": TORCH_SPEC,
    }
    assert len(layers) <= 3
    assert size < MAX_BYTES


def test_what_pip_installed_and_what_is_ours_are_told_apart(container: Container, report: dict[str, Any]) -> None:
    installed = container.root / "opt" / "crossbit"
    (packages,) = installed.glob("lib/python3.*/site-packages")
    own = [packages / name for name in ("app", "model", "encoders", "index")]
    product = sum(map(bytes_of, own))
    largest = sorted((bytes_of(path), path.name) for path in packages.iterdir() if path not in own)[-8:]
    report["parts_bytes"] = {"dependencies": bytes_of(installed) - product, "product": product}
    report["largest_bytes"] = {name: size for size, name in reversed(largest)}
    assert product < 100_000_000


def test_the_image_holds_no_setting_of_the_machine_that_made_it(store: Buildah) -> None:
    environment = json.loads(store("inspect", "--type", "image", IMAGE))["Docker"]["config"]["Env"]
    assert {variable.partition("=")[0] for variable in environment} <= {
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "CROSSBIT_HOME",
        "CROSSBIT_HOST",
        "CROSSBIT_LOG_FORMAT",
    }


def test_a_first_start_answers_by_itself(container: Container, report: dict[str, Any]) -> None:
    started = time.monotonic()
    stamp = container.store.folder / "started"
    stamp.touch()
    with ExitStack() as services, Client(f"http://127.0.0.1:{container.port}") as client:
        services.enter_context(container.running("worker"))
        wait_until(lambda: container.is_healthy("worker"))
        services.enter_context(container.running("api"))
        said = wait_for_demo(container.port)
        ready_s = time.monotonic() - started
        assert any(one.startswith("building ") for one in said), said
        assert container.is_healthy("api")
        by_text = client.search_text("a flag with a star", limit=5)["hits"]
        by_image = client.search_image(a_drawing(), target="image", limit=5)["hits"]
        assert len(by_text) == len(by_image) == 5
        rebuilt = client.wait(client.rebuild("demo")["id"])
        assert rebuilt["state"] == "done"
        wait_until(lambda: client.index("demo")["generation"] == 2)  # the service looks once a second
    assert written(container.root, stamp) == []
    assert container.user == f"{USER}:{USER}"
    report["answered"] = {
        "first_start": {"said": said, "seconds": round(ready_s, 1)},
        "rebuild": {"generation": 2, "items": rebuilt["done"]},
        "search_image": [hit["id"] for hit in by_image],
        "search_text": [hit["id"] for hit in by_text],
    }


def inner(pid: int) -> int:
    """The process that buildah started: buildah itself and its helpers do not pass signals on."""
    while "buildah" in Path(f"/proc/{pid}/exe").readlink().name:
        children = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
        pid = next(int(child) for one in children for child in one)
    return pid


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def wait_for_demo(port: int) -> list[str]:
    """What the service said while it was not ready, each thing once."""
    said: list[str] = []

    def is_ready() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30).close()
        except urllib.error.HTTPError as error:
            said.append(json.load(error)["detail"])
            return False
        except (urllib.error.URLError, ConnectionError):  # it does not listen yet
            return False
        return True

    wait_until(is_ready)
    return list(dict.fromkeys(said))


def a_drawing() -> bytes:
    """A PNG of a drawing of the demo."""
    archive = ItemArchive.open(find_archive("openclipart", Path("nowhere")))
    buffer = io.BytesIO()
    Image.open(io.BytesIO(archive.read_image(archive.database()[0]))).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def bytes_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def written(root: Path, stamp: Path) -> list[str]:
    """Files of the container that are newer than the stamp: none, as its root is read only where it is deployed."""
    pruned = ("-path", str(root / "tmp"), "-prune", "-o")
    found = run("find", str(root), *pruned, "-newer", str(stamp), "-type", "f", "-print", quiet=True).splitlines()
    engine = {"etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv", "run/secrets/keys"}
    return [path for path in found if str(Path(path).relative_to(root)) not in engine]
