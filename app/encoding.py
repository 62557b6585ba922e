"""Models in processes of their own: hashers whose every call is answered by one of a few encoding processes.

Each process holds every model, and encodes one batch at a time on one core; a GPU has one process. One that ends takes
only the batch along that it was encoding; the next batch starts another, which loads the same artifacts or, where one
was replaced on disk meanwhile, refuses.
"""

import itertools
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
PART_BYTES = 2**26  # of pixels that go to a process at once; an image alone may be larger
REST_S = 300.0  # without a batch of a rebuild, after which what encodes for rebuilds gives its memory back


class ProcessEnded(EncodeFailed):
    """It took the batch along."""


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
        return EncodedBatch.joined(
            [self._encoders.encode(self._request, self._loaded, part) for part in _parts(values)]
        )


def _parts(values: "list[Encodable]") -> "Iterator[list[Encodable]]":
    """At least one; what goes over the pipe is copied there and again at its end, so it has a bound."""
    part: list[Encodable] = []
    size = 0
    for value in values:
        image = value[0] if isinstance(value, tuple) else value
        own = 0 if isinstance(image, str) else 3 * image.width * image.height
        if part and size + own > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(value)
        size += own
    yield part


class Encoders:
    """Encoding processes, started when a first model loads. Safe for many threads."""

    def __init__(
        self,
        processes: int,
        command: tuple[str, ...] = COMMAND,
        *,
        retries: int = 0,
        rest_s: float | None = None,
    ) -> None:
        """``retries``: how often a batch whose process ended is encoded anew; a rebuild has to outlive that.

        ``rest_s``: the seconds without a call after which the processes end, until the next call.
        """
        # the kernel ends them with the thread that started them, and others come and go
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="encoders")
        self._places = [_Place(lambda: self._starter.submit(_Process, command).result()) for _ in range(processes)]
        self._retries = retries
        self._idle: LifoQueue[_Place] = LifoQueue()  # the last one used is the warmest
        for place in self._places:
            self._idle.put(place)
        self._keys = itertools.count()
        self._dropped: set[int] = set()  # keys of hashers that nobody holds any more
        self._rest_s = rest_s
        self._resting = threading.Timer(0, self._rest)
        self._calls = 0
        self._lock = threading.Lock()  # of the calls and the rest after them

    @classmethod
    def of_rebuilds(cls, processes: int) -> "Encoders":
        """Those that no query waits for."""
        return cls(processes, retries=1, rest_s=REST_S)

    def load(self, artifact_dir: Path, bits: int, device: str) -> RemoteHasher:
        """Load an artifact in every process (a ``LoadHasher``), while they go on encoding.

        Raises:
            ModelError: the artifact is no good.
            ModelMismatch: it was replaced on disk meanwhile.
            EncodeFailed: a process failed.
        """
        with self._call():
            return self._load(Load(next(self._keys), artifact_dir, bits, device))

    def _load(self, request: Load) -> RemoteHasher:
        first, *others = self._places
        try:
            for place in others:
                place.start()  # what models stand on takes them as long to import
            loaded = first.load(request)
            if loaded.device != "cpu":
                others = []  # a GPU needs no more than one
            with ThreadPoolExecutor(len(self._places), thread_name_prefix="loading") as pool:
                for other in pool.map(lambda place: place.load(request), others):
                    _require_same(loaded, other)
        except Exception:
            self._dropped.add(request.key)
            raise
        hasher = RemoteHasher(self, request, loaded)
        weakref.finalize(hasher, self._dropped.add, request.key).atexit = False
        return hasher

    def encode(self, request: Load, expected: Loaded, values: "list[Encodable]") -> EncodedBatch:
        """What ``encode_values`` gives with a hasher that was loaded, in a process that is idle; waits for one.

        Raises:
            EncodeFailed: the process failed.
            ModelMismatch: it had to be started anew, and the artifact was replaced since the hasher was loaded.
        """
        for left in reversed(range(1 + self._retries)):
            try:
                with self._call(), self._borrowed(expected.device) as place:
                    place.forget(self._dropped)
                    return place.encode(request, expected, values)
            except ProcessEnded:
                if not left:
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def _borrowed(self, device: str) -> "Iterator[_Place]":
        """The place of an idle process; on a GPU always the first, whose pipe takes one batch after another."""
        if device != "cpu":
            yield self._places[0]
            return
        place = self._idle.get()
        try:
            yield place
        finally:
            self._idle.put(place)

    @contextmanager
    def _call(self) -> "Iterator[None]":
        """The processes rest a while after the last one."""
        with self._lock:
            self._calls += 1
            self._resting.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._rest_s is not None and not self._calls:
                    self._resting = threading.Timer(self._rest_s, self._rest)
                    self._resting.daemon = True
                    self._resting.start()

    def _rest(self) -> None:
        with self._lock:
            if not self._calls:
                for place in self._places:
                    place.rest()

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._resting.cancel()
        for place in self._places:
            place.close()
        self._starter.shutdown()


class _Place:
    """Of one process, and of the next one where it ends. One thread may load while another encodes."""

    def __init__(self, new_process: "Callable[[], _Process]") -> None:
        self._new_process = new_process
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._is_closed = False

    def start(self) -> None:
        self._living()

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
        self.rest()

    def rest(self) -> None:
        with self._lock:
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
                self._process = self._new_process()
            return self._process

    def _ask(self, process: "_Process", end: "_End", request: Load | Forget | Encode) -> object:
        try:
            answer = end.ask(request)
        except (EOFError, OSError) as error:
            with self._lock:
                status = self._note_end(process)
            raise ProcessEnded(f"the encoding process ended with status {status}") from error
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
