"""`crossbit worker` with a hasher that writes down which pictures it encoded, and waits where a test holds it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image

from app.settings import Settings
from model.fake import FakeHasher
from model.hasher import EncodedBatch

ALLOWED = "allowed"  # file of the home: how many pictures pass, for all workers together; every one where it is missing
ENCODED = "encoded"  # file of the home: a line for each batch, `PID POSITION…`


def position(image: Image) -> int:
    """Where in the database of ``tiny_home`` the picture comes; every fifth item is outside."""
    red, green, _ = image.getpixel((0, 0))
    number = red + 256 * green
    return int(number - number // 5)


class WatchedHasher(FakeHasher):
    def __init__(self, home: Path, bits: int, seed: str) -> None:
        super().__init__(bits, seed=seed)
        self._home = home

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        positions = [position(image) for image in images]
        while self._encoded() + len(positions) > self._allowed():
            time.sleep(0.01)
        with (self._home / ENCODED).open("a", encoding="ascii") as log:
            log.write(f"{os.getpid()} {' '.join(map(str, positions))}\n")
        return super().encode_images(images)

    def _encoded(self) -> int:
        path = self._home / ENCODED
        return sum(len(line.split()) - 1 for line in path.read_text().splitlines()) if path.exists() else 0

    def _allowed(self) -> float:
        path = self._home / ALLOWED
        return int(path.read_text() or 0) if path.exists() else float("inf")


if __name__ == "__main__":
    import app.rebuild
    from app.working import work

    app.rebuild.POLL_S, app.rebuild.PROGRESS_S = 0.05, 0.0
    settings = Settings()
    work(settings, lambda path, bits, device: WatchedHasher(settings.home, bits, path.name))
