"""A served home for browsers to visit: 200 drawings on fake hashers, the real job engine, a port of its own."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn
from fake_artifact import write_fake_artifact
from PIL.Image import Image
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from model.data.archive import write_archive
from model.fake import FakeHasher, FusingFakeHasher
from model.hasher import EncodedBatch
from model.items import ItemArchive

FIXTURE = Path(__file__).parents[1] / "fixtures" / "openclipart-200.zip"
INDEX = "drawings"
WAIT_S = 30


class GatedHasher(FakeHasher):
    """Encodes images only while its gate is open: the model ``slow``, for looking at a rebuild on its way."""

    gate = threading.Event()

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        """Codes from the pixels, once the gate is open."""
        assert self.gate.wait(WAIT_S)
        return super().encode_images(images)


KINDS = {"slow": GatedHasher, "fusing": FusingFakeHasher}


def load_fake(artifact_dir: Path, bits: int, device: str) -> FakeHasher:
    """Another model for each artifact name; ``slow`` is gated, ``fusing`` fuses."""
    return KINDS.get(artifact_dir.name, FakeHasher)(bits, seed=artifact_dir.name)


def make_home(home: Path) -> Path:
    """A home with the data set, three artifacts, and an index of its 150 database items."""
    _write_data(home / "data" / INDEX / "archive.zip")
    for artifact in ("first", "second", "slow"):
        write_fake_artifact(home / "artifacts" / artifact)
    rebuild(home, "first")
    return home


def rebuild(home: Path, model: str) -> None:
    """A new generation of the index, made by this model; it serves from then on."""
    write_fake_artifact(home / "artifacts" / model)
    with TestClient(create_app(Settings(home=home, log_level="error"), load_hasher=load_fake)) as client:
        job = client.post(f"/v1/indexes/{INDEX}/rebuild", json={"source": INDEX, "model": model}).json()
        _wait_until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "done")


def _write_data(path: Path) -> None:
    """The drawings, with a number and a boolean in their metadata besides the texts that they have."""
    drawings = ItemArchive.open(FIXTURE)
    items = [
        replace(item, metadata={**item.metadata, "number": item.order, "is_flag": "flag" in item.labels})
        for item in drawings.items
    ]
    write_archive(path, drawings.info, items, drawings.read_image)


@contextmanager
def serve(home: Path, **settings: object) -> Iterator[str]:
    """Serve the home on a free port until the block ends; gives the address."""
    app = create_app(Settings(home=home, log_level="error", **settings), load_hasher=load_fake)
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        _wait_until(lambda: app.state.runtime.ready)
        yield f"http://127.0.0.1:{port}"
    finally:
        GatedHasher.gate.set()
        server.should_exit = True
        thread.join(WAIT_S)


def _wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(WAIT_S * 100):
        if condition():
            return
        pause.wait(0.01)
    raise TimeoutError("waited in vain")
