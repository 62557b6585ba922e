"""Decoding that hangs in C code and lets no Python run: ``hung_decoder.py``; its process writes its id on stderr."""

import ctypes
import os
import sys

from app import decode_process
from app.decoding import Decoder


def hang(*_: object) -> tuple[int, int]:
    """Wait for a signal, holding Python's lock."""
    print(os.getpid(), file=sys.stderr, flush=True)  # noqa: T201 - for the test
    ctypes.PyDLL(None).pause()
    raise AssertionError("unreachable")


if __name__ == "__main__":
    if len(sys.argv) > 1:  # as the process that decodes
        decode_process.answer = hang
        decode_process.main()
    else:
        decoder = Decoder((sys.executable, __file__))
        decoder.wait()
        decoder.decode(b"any", max_pixels=1, deadline_s=600)
