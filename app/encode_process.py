"""The process that holds models and encodes: what Python does for HTTP and for a forward never wait for each other.

Its two arguments are descriptors of pipes, one for loading and one for encoding, so that queries go on while another
model loads. Each carries pickled requests of the service and what answers them, an error included, one after another,
in a thread of its own. ``app.encoding`` is the other end; what either end reads was written by the other alone.
"""

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from app.decode_process import die_with_parent
from model.bulk import BAD_INPUT, encode_values
from model.hasher import EncodedBatch, Hasher, Modality

if TYPE_CHECKING:
    from model.bulk import Encodable


@dataclass(frozen=True, slots=True)
class Load:
    """Load an artifact under a key."""

    key: int
    folder: Path
    bits: int
    device: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a hasher says of itself."""

    bits: int
    fingerprint: str
    modalities: frozenset[Modality]
    device: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Let go of hashers."""

    keys: Collection[int]


@dataclass(frozen=True, slots=True)
class Encode:
    """Encode values of one kind with a hasher that was loaded."""

    key: int
    values: "list[Encodable]"


class EncodeFailed(Exception):
    """The process ended, or its code or the machine failed; the message says how. No input is to blame by itself."""


class OutOfMemoryError(EncodeFailed):
    """The device has no memory left for these inputs; the name is that of torch's own, which the service lacks."""


class Models:
    """The hashers of this process, by key."""

    def __init__(self) -> None:
        self._hashers: dict[int, Hasher] = {}

    def answer(self, request: Load | Forget | Encode) -> Loaded | EncodedBatch | None:
        """What a request asks for.

        Raises:
            ModelError: the artifact is no good, or an input is not.
            EncoderError: the same of its towers.
        """
        match request:
            case Load(key, folder, bits, device):
                return self._load(key, folder, bits, device)
            case Encode(key, values):
                return encode_values(self._hashers[key], values)
            case Forget(keys):
                for key in keys:
                    del self._hashers[key]
                gc.unfreeze()  # a model may be part of cycles, which only a collection frees
                gc.collect()
                gc.freeze()
                return None

    def _load(self, key: int, folder: Path, bits: int, device: str) -> Loaded:
        from model.artifact import load_hasher

        hasher = load_hasher(folder, bits, device)
        gc.freeze()  # a collection that walks through the model and its libraries stops every query
        self._hashers[key] = hasher
        return Loaded(hasher.bits, hasher.fingerprint, hasher.modalities, hasher.device)


def main() -> None:
    """Serve until the service is gone."""
    die_with_parent()
    import model.artifact  # noqa: F401 - while the service waits for another process

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to a whole group; the service ends after its last answer
    models = Models()
    loading, encoding = (Connection(int(descriptor)) for descriptor in sys.argv[1:])
    threading.Thread(target=_serve, args=(models, loading), daemon=True).start()
    _serve(models, encoding)
    os._exit(0)  # whatever still loads is for nobody


def _serve(models: Models, pipe: Connection) -> None:
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            answer: object = models.answer(request)
        except BAD_INPUT as error:
            answer = error
        except Exception as error:  # one that the other end may not even know: it gets the words
            kind = OutOfMemoryError if type(error).__name__ == OutOfMemoryError.__name__ else EncodeFailed
            answer = kind(traceback.format_exc())
        try:
            pipe.send(answer)
        except OSError:
            return
