"""The process that decodes uploads, one after another: what a broken decoder does, it does here.

It reads requests on standard input and writes answers on standard output, until its input ends. Bytes and pixels lie
in a file without a name, whose descriptor is its only argument, from the start of that file on:

    request   HEADER: most pixels, number of bytes; the file holds an image file
    answer    HEADER: width, height; the file holds the image as PPM: ``ppm_head`` and RGB pixels row by row.
              Or width 0, number of bytes; the file holds the JSON of a refusal

Once it can decode it writes ``READY``. ``app.decoding`` is the other end.
"""

import ctypes
import json
import os
import signal
import struct
import sys
from typing import BinaryIO

from model.errors import ImageError

HEADER = struct.Struct(">QQ")
READY = b"ready"
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def main() -> None:
    """Serve until nobody asks any more."""
    import model.images  # noqa: F401 - before it says that it is ready

    die_with_parent()
    requests, answers = sys.stdin.buffer, os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints shall not answer
    with os.fdopen(int(sys.argv[1]), "r+b", buffering=0) as shared:
        os.write(answers, READY)
        while header := requests.read(HEADER.size):
            max_pixels, size = HEADER.unpack(header)
            os.write(answers, HEADER.pack(*answer(shared, size, max_pixels)))


def die_with_parent() -> None:
    """Let the kernel kill this process when the service is gone, also while a decoder hangs and Python runs no more.

    Linux takes the thread that started a process for its parent; those of the service's stages live as long as it does.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ppm_head(width: int, height: int) -> bytes:
    """What stands before the pixels."""
    return b"P6\n%d %d\n255\n" % (width, height)


def answer(shared: BinaryIO, size: int, max_pixels: int) -> tuple[int, int]:
    """Put the pixels of an image, or why there are none, in the place of its bytes; what the answer's header says."""
    from model.images import decode_image  # brings in pillow, which the other end does without

    data = os.pread(shared.fileno(), size, 0)
    shared.seek(0)
    try:
        image = decode_image(data, max_pixels=max_pixels)
    except ImageError as error:
        refusal = json.dumps([type(error).__name__, str(error)]).encode()
        shared.write(refusal)
        return 0, len(refusal)
    image.save(shared, "PPM")  # straight into the file: ``tobytes`` takes ten times as long
    return image.size


if __name__ == "__main__":
    main()
