"""Decoding in processes that may hang, crash or lie: the same pixels, a deadline, and always another process."""

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from app import decoding
from app.decode_process import HEADER, READY
from app.decoding import Decoder, DecoderFailed, Decoders
from model.errors import TooManyPixels, UnsupportedImage
from model.images import FORMATS, decode_image

# stand-ins for the process: ``say`` writes on its standard output, ``put`` into the shared file
SPEAK = "import os, struct, sys, time; say = lambda data: os.write(1, data); say(b'ready');"
SPEAK += "put = lambda data: os.pwrite(int(sys.argv[1]), data, 0); pack = lambda *of: struct.pack('>QQ', *of);"
READ = "sys.stdin.buffer.read(16);"
LONG_S = 30.0
HUNG = Path(__file__).parents[2] / "support" / "hung_decoder.py"


def picture(kind: str = "PNG", size: tuple[int, int] = (37, 23), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    gradient = Image.linear_gradient("L").resize(size)
    Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180))).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    decoders = Decoders(2, max_pixels=10**6, deadline_s=LONG_S)
    decoders.start()
    yield decoders
    decoders.close()


@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_are_those_of_this_process(decoders: Decoders, kind: str) -> None:
    data = picture(kind)
    found, expected = decoders.decode(data), decode_image(data)
    assert (found.mode, found.size, found.tobytes()) == (expected.mode, expected.size, expected.tobytes())


def test_large_and_small_pictures_in_turn(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "KEPT_BYTES", 10_000)
    for side in (1000, 3, 999, 998, 1):
        data = picture("BMP", size=(side, side))
        assert decoders.decode(data).tobytes() == decode_image(data).tobytes()


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"no image", UnsupportedImage), (picture()[:-30], UnsupportedImage), (picture(size=(1001, 1000)), TooManyPixels)],
)
def test_a_refusal_is_that_of_this_process(decoders: Decoders, data: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind) as there:
        decoders.decode(data)
    with pytest.raises(kind) as here:
        decode_image(data, max_pixels=10**6)
    assert str(there.value) == str(here.value)


def test_threads_get_the_pictures_that_they_sent(decoders: Decoders) -> None:
    data = [picture(size=(1 + number, 7)) for number in range(40)]
    with ThreadPoolExecutor(2) as pool:
        assert [image.size for image in pool.map(decoders.decode, data)] == [(1 + number, 7) for number in range(40)]


def test_without_processes_the_caller_decodes() -> None:
    assert Decoders(0, max_pixels=10**6, deadline_s=LONG_S).decode(picture()).size == (37, 23)


def replaced(monkeypatch: pytest.MonkeyPatch, script: str, *, deadline_s: float = LONG_S) -> Decoders:
    """Decoders whose first process runs the script, and whose next ones are real."""
    commands = iter([(sys.executable, "-c", SPEAK + script)])
    real = decoding.COMMAND
    monkeypatch.setattr(decoding, "Decoder", lambda: Decoder(next(commands, real)))
    return Decoders(1, max_pixels=10**6, deadline_s=deadline_s)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (READ + "os.abort()", "it ended"),
        ("sys.exit()", "it ended"),
        (READ + "say(pack(1001, 1000))", "1001 x 1000 pixels"),
        (READ + "say(pack(2, 1))", "another format"),
        (READ + "os.ftruncate(int(sys.argv[1]), 9); say(pack(2, 1))", "less than it said"),
        (READ + "say(pack(0, 10**9))", "refusal of 1000000000 bytes"),
        (READ + 'put(b\'["OSError", "what"]\'); say(pack(0, 19))', "another refusal"),
        (READ + "say(pack(0, 3))", "another refusal"),
    ],
)
def test_a_process_that_breaks_is_replaced(monkeypatch: pytest.MonkeyPatch, script: str, reason: str) -> None:
    decoders = replaced(monkeypatch, script)
    with pytest.raises(UnsupportedImage, match=reason):
        decoders.decode(picture())
    assert decoders.decode(picture()).size == (37, 23)
    decoders.close()


@pytest.mark.parametrize("script", [READ + "time.sleep(60)", READ + "say(b'half'); time.sleep(60)", "time.sleep(60)"])
def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    decoders = replaced(monkeypatch, script, deadline_s=0.05)
    hanging = decoders._borrow()
    decoders._give_back(hanging)
    with pytest.raises(UnsupportedImage, match=r"within 0.05 s; its decoder failed: it took too long"):
        decoders.decode(picture(size=(1000, 900)))
    assert hanging._process.returncode == -9
    decoders.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends it")
def test_a_process_that_hangs_in_c_does_not_outlive_a_killed_service() -> None:
    service = subprocess.Popen([sys.executable, str(HUNG)], stderr=subprocess.PIPE, text=True)
    assert service.stderr is not None
    decoder = Path("/proc", service.stderr.readline().strip(), "stat")
    assert decoder.exists()
    service.kill()
    service.wait()
    end = time.monotonic() + LONG_S
    while decoder.exists() and decoder.read_text().rpartition(")")[2].split()[0] != "Z":  # until somebody reaps it
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.005)
    service.stderr.close()


def test_a_process_that_does_not_start_is_no_fault_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "COMMAND", (sys.executable, "-c", "pass"))
    monkeypatch.setattr(decoding, "Decoder", lambda: Decoder(decoding.COMMAND))
    decoders = Decoders(1, max_pixels=10**6, deadline_s=LONG_S)
    with pytest.raises(DecoderFailed):
        decoders.decode(picture())
    decoders.close()


def test_closing_ends_all_processes_and_the_one_at_work_afterwards() -> None:
    decoders = Decoders(2, max_pixels=10**6, deadline_s=LONG_S)
    decoders.start()
    borrowed, idle = decoders._borrow(), decoders._idle[0]
    decoders.close()
    assert idle._process.returncode == -9
    assert borrowed.decode(picture(), max_pixels=10**6, deadline_s=LONG_S).size == (37, 23)
    decoders._give_back(borrowed)
    assert borrowed._process.returncode == -9


def test_a_decoding_process_has_no_settings_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_KEYS__ADMIN", "secret")
    script = READ + "bad = any(name.startswith('CROSSBIT_') for name in os.environ);"
    script += "put(b'P6\\n%d 1\\n255\\n' % (1 + bad) + bytes(6)); say(pack(1 + bad, 1))"
    decoder = Decoder((sys.executable, "-c", SPEAK + script))
    decoder.wait()
    assert decoder.decode(b"", max_pixels=9, deadline_s=LONG_S).size == (1, 1)
    decoder.kill()


def test_what_the_protocol_says_is_what_the_stand_ins_say() -> None:
    assert (READY, HEADER.format) == (b"ready", ">QQ")
