"""The encoding process with fake models: ``fake_encoder.py LOADING ENCODING``. Some texts make it do harm.

The seed of a model is what its folder's file ``seed`` holds. ``main`` with a folder alone is a service that waits for
a hung process, whose id it writes on stderr.
"""

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

from app import encode_process
from app.encoding import Encoders
from encoders.errors import TextError
from model.errors import ArtifactError
from model.fake import FakeHasher
from model.hasher import EncodedBatch

COMMAND = (sys.executable, __file__)


class OutOfMemoryError(Exception):
    """Has the name of torch's."""


class Harmful(FakeHasher):
    """Does what a text says."""

    def __init__(self, bits: int, *, seed: str, device: str) -> None:
        super().__init__(bits, seed=seed)
        self.device = "cuda" if device == "cuda" else "cpu"

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        """``abort``, ``hang``, ``refuse``, ``exhaust``, ``fail``, ``meet FILE OTHER``: make one, wait for the other.

        ``once FILE`` aborts where there is such a file, and takes it along.
        """
        for text in texts:
            match text.split():
                case ["abort"]:
                    os.abort()
                case ["once", mine]:
                    if Path(mine).exists():
                        Path(mine).unlink()
                        os.abort()
                case ["hang"]:
                    print(os.getpid(), file=sys.stderr, flush=True)  # noqa: T201 - for the test
                    ctypes.PyDLL(None).pause()
                case ["refuse"]:
                    raise TextError("nothing to see")
                case ["exhaust"]:
                    raise OutOfMemoryError
                case ["fail"]:
                    raise ZeroDivisionError("a defect")
                case ["meet", own, other]:
                    Path(own).touch()
                    while not Path(other).exists():
                        time.sleep(0.002)
        return super().encode_texts(texts)


def load_harmful(folder: Path, bits: int, device: str) -> Harmful:
    """Of the folder's seed; where the folder has a file ``mine``, the process ends, and takes the file along."""
    if (folder / "mine").exists():
        (folder / "mine").unlink()
        os.abort()
    try:
        return Harmful(bits, seed=(folder / "seed").read_text(), device=device)
    except OSError as error:
        raise ArtifactError("no seed") from error


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.modules["model.artifact"] = cast("ModuleType", SimpleNamespace(load_hasher=load_harmful))  # without torch
        encode_process.main()
    else:
        Encoders(1, COMMAND).load(Path(sys.argv[1]), 16, "cpu").encode_texts(["hang"])
