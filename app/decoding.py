"""Decoding of uploads in processes of their own, with a deadline for each image.

A decoder that hangs is killed, and one that crashes takes only its process along: its image is refused, and another
process takes the next one. The pixels are those that ``decode_image`` gives here. A decoding process gets none of the
service's settings and none of its open files.
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from io import FileIO
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, cast

from app.decode_process import HEADER, READY, ppm_head
from app.logs import Log
from model.errors import ImageError, TooManyPixels, UnsupportedImage

if TYPE_CHECKING:
    from PIL.Image import Image

log = Log(__name__)

COMMAND = (sys.executable, "-m", "app.decode_process")
REFUSALS = {kind.__name__: kind for kind in (TooManyPixels, UnsupportedImage)}
START_S = 60.0  # longest wait for a process to be ready
KEEP_BLOCKS = {"PILLOW_BLOCKS_MAX": "4"}  # of 16 MiB; new ones for each image took more time than decoding it
KEPT_BYTES = 2**24  # of the shared file between two images
MAX_REFUSAL_BYTES = 2**16


class DecoderFailed(Exception):
    """A decoding process did not start, ended, took too long or answered nonsense."""


class Decoder:
    """One decoding process, for one thread at a time."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CROSSBIT_")}
        self._shared = _unnamed_file()
        # a session of its own: Ctrl-C is for the service, which then ends this process
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            (*command, str(self._shared.fileno())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment | KEEP_BLOCKS,
            pass_fds=(self._shared.fileno(),),
            start_new_session=True,
        )
        self._requests, self._answers = cast("tuple[FileIO, FileIO]", (self._process.stdin, self._process.stdout))
        self._is_ready = False

    def wait(self) -> None:
        """Return once it can decode.

        Raises:
            DecoderFailed: it does not start.
        """
        if not self._is_ready:
            self._is_ready = self._receive(len(READY), time.monotonic() + START_S) == READY

    def decode(self, data: bytes, *, max_pixels: int, deadline_s: float) -> "Image":
        """The image in mode RGB.

        Raises:
            ImageError: as ``decode_image`` refuses it.
            DecoderFailed: the process is of no use any more.
        """
        from PIL import Image

        until = time.monotonic() + deadline_s
        self._write(data)
        try:
            self._requests.write(HEADER.pack(max_pixels, len(data)))
        except BrokenPipeError:
            raise DecoderFailed("it ended") from None
        width, height = HEADER.unpack(self._receive(HEADER.size, until))
        if width == 0:
            raise self._refusal(height)
        if width * height > max_pixels:
            raise DecoderFailed(f"it answered with {width} x {height} pixels")
        head = ppm_head(width, height)
        answer = self._read(len(head) + 3 * width * height)
        if not answer.startswith(head):
            raise DecoderFailed("it answered with another format than expected")
        return Image.frombytes("RGB", (width, height), memoryview(answer)[len(head) :])

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.__exit__(None, None, None)  # closes the pipes and waits
        self._shared.close()

    def _refusal(self, size: int) -> ImageError:
        if size > MAX_REFUSAL_BYTES:
            raise DecoderFailed(f"it answered with a refusal of {size} bytes")
        try:
            name, message = json.loads(self._read(size))
            return REFUSALS[name](message)
        except (ValueError, KeyError, TypeError):
            raise DecoderFailed("it answered with another refusal than expected") from None

    def _receive(self, size: int, until: float) -> bytes:
        """The next bytes on the process's standard output."""
        received = b""
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        while len(received) < size:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise DecoderFailed("it took too long")
            some = self._answers.read(size - len(received))
            if not some:
                raise DecoderFailed("it ended")
            received += some
        return received

    def _write(self, data: bytes) -> None:
        shared, left = self._shared.fileno(), memoryview(data)
        if os.fstat(shared).st_size > KEPT_BYTES:
            os.ftruncate(shared, 0)
        while left:
            left = left[os.pwrite(shared, left, len(data) - len(left)) :]

    def _read(self, size: int) -> bytearray:
        """The first bytes of the shared file."""
        data = bytearray(size)
        left = memoryview(data)
        while left:
            got = os.preadv(self._shared.fileno(), [left], size - len(left))
            if not got:
                raise DecoderFailed("it answered with less than it said")
            left = left[got:]
        return data


def _unnamed_file() -> FileIO:
    """In memory on Linux, where ``/dev/shm`` may be too small for an image; elsewhere on disk."""
    if hasattr(os, "memfd_create"):
        return FileIO(os.memfd_create("upload"), "r+")
    return TemporaryFile(buffering=0)


class Decoders:
    """Decoding processes that are there when they are needed; without any, the calling thread decodes."""

    def __init__(self, processes: int, *, max_pixels: int, deadline_s: float) -> None:
        self._processes = processes
        self._max_pixels = max_pixels
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._is_closed = False

    def start(self) -> None:
        """Start all processes, so that they are warm when the first upload comes."""
        started = [Decoder() for _ in range(self._processes)]
        with self._lock:
            self._idle += started

    def decode(self, data: bytes) -> "Image":
        """The image in mode RGB. At most as many threads may call at once as there are processes.

        Raises:
            ImageError: it cannot be decoded, or not within the deadline.
            DecoderFailed: no process starts.
        """
        if not self._processes:
            from model.images import decode_image

            return decode_image(data, max_pixels=self._max_pixels)
        decoder = self._borrow()
        try:
            return decoder.decode(data, max_pixels=self._max_pixels, deadline_s=self._deadline_s)
        except DecoderFailed as failure:
            decoder.kill()
            decoder = Decoder()  # warm when the next upload comes
            log.warning("decoder_replaced", reason=str(failure), bytes=len(data))
            detail = f"expected an image that decodes within {self._deadline_s:g} s; its decoder failed: {failure}"
            raise UnsupportedImage(f"{detail}; save it anew, smaller or in another format") from failure
        finally:
            self._give_back(decoder)

    def close(self) -> None:
        """End all processes; the one that decodes ends when it has."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.kill()

    def _borrow(self) -> Decoder:
        with self._lock:
            decoder = self._idle.pop() if self._idle else Decoder()
        try:
            decoder.wait()
        except DecoderFailed:
            decoder.kill()
            raise
        return decoder

    def _give_back(self, decoder: Decoder) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(decoder)
                return
        decoder.kill()
