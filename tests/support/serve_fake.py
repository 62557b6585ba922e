"""A service with its job engine on a home of fake models, until it is killed: ``serve_fake.py HOME PORT-FILE``."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from PIL.Image import Image
from tiny_home import load_fake

import app.rebuild
from app.main import create_app
from app.serving import bind
from app.settings import Settings
from index.durable import write_atomically
from model.fake import FakeHasher
from model.hasher import EncodedBatch

SECONDS_AN_IMAGE = 0.002  # so that rebuilds take long enough to be met


class SlowHasher(FakeHasher):
    """Takes its time over images."""

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        time.sleep(SECONDS_AN_IMAGE * min(len(images), 25))
        return super().encode_images(images)


def load_slowly(artifact_dir: Path, bits: int, device: str) -> FakeHasher:
    """The same codes as ``load_fake``."""
    return SlowHasher(bits, seed=artifact_dir.name)


def main(home: Path, port_file: Path) -> None:
    app.rebuild.POLL_S = 0.05
    assert load_slowly(home / "first", 64, "cpu").fingerprint == load_fake(home / "first", 64, "cpu").fingerprint
    application = create_app(Settings(home=home, log_level="error"), load_hasher=load_slowly)
    listener = bind("127.0.0.1", 0)
    write_atomically(port_file, str(listener.getsockname()[1]).encode())
    uvicorn.Server(uvicorn.Config(application, log_config=None, access_log=False)).run([listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
