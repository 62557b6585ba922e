"""The last word on the end of a process that has been asked to end."""

import os
import threading

from app.logs import Log

END_S = 60.0  # beyond what running requests were given: for a rebuild to stop within a batch, and for what is open

log = Log(__name__)


def end_within(seconds: float) -> None:
    """End this process with status 1 unless it has ended by itself by then.

    A call that hangs, such as that of an encoder, keeps its thread, and Python waits for its threads for ever.
    """
    timer = threading.Timer(seconds, _end, [seconds])
    timer.daemon = True
    timer.start()


def _end(seconds: float) -> None:
    stuck = sorted(one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread())
    log.error("process_stuck", waited_s=seconds, threads=stuck, remedy="find out what these threads were at")
    os._exit(1)
