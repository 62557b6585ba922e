"""Models in processes of their own: hashers whose every call is answered by one of a few encoding processes.

Each process holds every model, and encodes one batch at a time on one core (or the GPU). One that ends takes only the
batch along that it was encoding; the next batch starts another, which loads the same artifacts or, where one was
replaced on disk meanwhile, refuses.
"""

import itertools
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import LifoQueue
from typing import TYPE_CHECKING, cast

from app.encode_process import Encode, EncodeFailed, Forget, Load, Loaded
from app.logs import Log
from index.errors import ModelMismatch
from model.hasher import EncodedBatch, Modality

if TYPE_CHECKING:
    from PIL.Image import Image

    from model.bulk import Encodable

log = Log(__name__)

# imported, not run with -m: requests are of the classes of that module, not of a second copy named __main__
COMMAND = (sys.executable, "-c", "from app.encode_process import main; main()")


class RemoteHasher:
    """A ``Hasher`` whose model is elsewhere."""

    def __init__(self, encoders: "Encoders", request: Load, loaded: Loaded) -> None:
        self._encoders = encoders
        self._request = request
        self._loaded = loaded

    @property
    def bits(self) -> int:
        """As ``Hasher``."""
        return self._loaded.bits

    @property
    def fingerprint(self) -> str:
        """As ``Hasher``."""
        return self._loaded.fingerprint

    @property
    def modalities(self) -> frozenset[Modality]:
        """As ``Hasher``."""
        return self._loaded.modalities

    @property
    def device(self) -> str:
        """As ``Hasher``."""
        return self._loaded.device

    def encode_images(self, images: "Sequence[Image]") -> EncodedBatch:
        """As ``Hasher``.

        Raises:
            EncodeFailed: the process failed.
        """
        return self._encode(list(images))

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        """As ``encode_images``."""
        return self._encode(list(texts))

    def encode_pairs(self, images: "Sequence[Image]", texts: Sequence[str]) -> EncodedBatch:
        """As ``encode_images``."""
        return self._encode(list(zip(images, texts, strict=True)))

    def _encode(self, values: "list[Encodable]") -> EncodedBatch:
        return self._encoders.encode(self._request, self._loaded, values)


class Encoders:
    """Encoding processes, started when a first model loads. Safe for many threads."""

    def __init__(self, processes: int, command: tuple[str, ...] = COMMAND) -> None:
        self._places = [_Place(command) for _ in range(processes)]
        self._idle: LifoQueue[_Place] = LifoQueue()  # the last one used is the warmest
        for place in self._places:
            self._idle.put(place)
        self._keys = itertools.count()
        self._dropped: set[int] = set()  # keys of hashers that nobody holds any more

    def load(self, artifact_dir: Path, bits: int, device: str) -> RemoteHasher:
        """Load an artifact in every process (a ``LoadHasher``), while they go on encoding.

        Raises:
            ModelError: the artifact is no good.
            ModelMismatch: it was replaced on disk meanwhile.
            EncodeFailed: a process failed.
        """
        request = Load(next(self._keys), artifact_dir, bits, device)
        try:
            loaded = [place.load(request) for place in self._places]
            for one in loaded[1:]:
                _require_same(loaded[0], one)
        except Exception:
            self._dropped.add(request.key)
            raise
        hasher = RemoteHasher(self, request, loaded[0])
        weakref.finalize(hasher, self._dropped.add, request.key).atexit = False
        return hasher

    def encode(self, request: Load, expected: Loaded, values: "list[Encodable]") -> EncodedBatch:
        """What ``encode_values`` gives with a hasher that was loaded, in a process that is idle; waits for one.

        Raises:
            EncodeFailed: the process failed.
            ModelMismatch: it had to be started anew, and the artifact was replaced since the hasher was loaded.
        """
        place = self._idle.get()
        try:
            place.forget(self._dropped)
            return place.encode(request, expected, values)
        finally:
            self._idle.put(place)

    def close(self) -> None:
        """End the processes, whatever they do."""
        for place in self._places:
            place.close()


class _Place:
    """Of one process, and of the next one where it ends. One thread may load while another encodes."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._is_closed = False

    def load(self, request: Load) -> Loaded:
        process = self._living()
        loaded = self._ask(process, process.loading, request)
        process.keys.add(request.key)
        return cast("Loaded", loaded)

    def encode(self, request: Load, expected: Loaded, values: "list[Encodable]") -> EncodedBatch:
        process = self._living()
        if request.key not in process.keys:
            _require_same(expected, self.load(request))
        return cast("EncodedBatch", self._ask(process, process.encoding, Encode(request.key, values)))

    def forget(self, keys: AbstractSet[int]) -> None:
        process = self._process
        if process is not None and (gone := process.keys & keys):
            self._ask(process, process.encoding, Forget(gone))  # by the other pipe it would wait for a model that loads
            process.keys -= gone

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _living(self) -> "_Process":
        with self._lock:
            if self._is_closed:
                raise EncodeFailed("the service is about to end")
            if self._process is not None and self._process.has_ended:  # while nobody asked it anything
                self._note_end(self._process)
            if self._process is None:
                self._process = _Process(self._command)
            return self._process

    def _ask(self, process: "_Process", end: "_End", request: Load | Forget | Encode) -> object:
        try:
            answer = end.ask(request)
        except (EOFError, OSError) as error:
            with self._lock:
                status = self._note_end(process)
            raise EncodeFailed(f"the encoding process ended with status {status}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _note_end(self, process: "_Process") -> int:
        if self._process is process:
            self._process = None
        status = process.kill()
        log.error("encoder_ended", status=status, remedy="the next batch starts another; see why this one ended")
        return status


class _Process:
    """One encoding process and the keys of what it has loaded."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.keys: set[int] = set()
        own, others = zip(Pipe(), Pipe(), strict=True)
        self.loading, self.encoding = map(_End, own)
        descriptors = [other.fileno() for other in others]
        # a session of its own: Ctrl-C is for the service, which then ends this process
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            (*command, *map(str, descriptors)), pass_fds=descriptors, start_new_session=True
        )
        for other in others:
            other.close()

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def kill(self) -> int:
        """End it and tell its status: that of the kill where it was still there."""
        self._process.kill()
        status = self._process.wait()
        for end in (self.loading, self.encoding):
            end.close()
        return status


class _End:
    """Of a pipe: one question at a time."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def ask(self, request: Load | Forget | Encode) -> object:
        with self._lock:
            self._pipe.send(request)
            return self._pipe.recv()

    def close(self) -> None:
        with self._lock:
            self._pipe.close()


def _require_same(expected: Loaded, found: Loaded) -> None:
    if found.fingerprint != expected.fingerprint:
        raise ModelMismatch(expected.fingerprint, found.fingerprint)
