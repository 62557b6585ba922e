"""Encoding in processes that may end, hang or fail: the codes of a hasher here, and always another process."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import COMMAND, load_harmful
from PIL import Image

from app import encoding
from app.encode_process import EncodeFailed
from app.encoding import Encoders, ProcessEnded, RemoteHasher
from app.problems import as_problem
from encoders.errors import TextError
from index.errors import ModelMismatch
from model.errors import ArtifactError
from model.hasher import EncodedBatch, Hasher

LONG_S = 30.0
TEXTS = ["a red apple", "two pears", "a red apple"]
IMAGES = [Image.linear_gradient("L").resize((size, 9)).convert("RGB") for size in (7, 40)]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "seed").write_text("one")
    return tmp_path


@pytest.fixture
def encoders() -> Iterator[Encoders]:
    encoders = Encoders(1, COMMAND)
    yield encoders
    encoders.close()


@pytest.fixture
def hasher(encoders: Encoders, artifact: Path) -> RemoteHasher:
    return encoders.load(artifact, 16, "cpu")


def same(found: EncodedBatch, expected: EncodedBatch) -> bool:
    pairs = zip(
        (found.codes, found.margins, found.truncated_tokens),
        (expected.codes, expected.margins, expected.truncated_tokens),
        strict=True,
    )
    return all(np.array_equal(one, other) and one.dtype == other.dtype for one, other in pairs)


def process_of(encoders: Encoders) -> "subprocess.Popen[bytes]":
    (place,) = encoders._places
    assert place._process is not None
    return place._process._process


def test_codes_are_those_of_a_hasher_here(hasher: RemoteHasher, artifact: Path) -> None:
    here = load_harmful(artifact, 16, "cpu")
    assert same(hasher.encode_texts(TEXTS), here.encode_texts(TEXTS))
    assert same(hasher.encode_images(IMAGES), here.encode_images(IMAGES))
    assert same(hasher.encode_images([]), here.encode_images([]))


def test_it_says_of_itself_what_a_hasher_here_does(hasher: RemoteHasher, artifact: Path) -> None:
    here = load_harmful(artifact, 16, "cpu")
    assert isinstance(hasher, Hasher)
    for name in ("bits", "fingerprint", "modalities", "device"):
        assert getattr(hasher, name) == getattr(here, name)


def test_an_artifact_that_is_no_good_is_refused_as_here(encoders: Encoders, artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="no seed"):
        encoders.load(artifact / "elsewhere", 16, "cpu")
    assert len(encoders.load(artifact, 16, "cpu").encode_texts(TEXTS)) == 3


def test_a_text_is_refused_as_here(hasher: RemoteHasher) -> None:
    with pytest.raises(TextError, match="nothing to see"):
        hasher.encode_texts(["refuse"])


def test_memory_of_the_device_has_its_own_problem(hasher: RemoteHasher) -> None:
    with pytest.raises(EncodeFailed) as found:
        hasher.encode_texts(["exhaust"])
    problem = as_problem(found.value)
    assert problem is not None
    assert problem.code == "device_out_of_memory"


def test_a_defect_is_told_with_its_place(hasher: RemoteHasher) -> None:
    with pytest.raises(EncodeFailed, match=r"(?s)fake_encoder\.py.*ZeroDivisionError: a defect"):
        hasher.encode_texts(["fail"])
    assert len(hasher.encode_texts(TEXTS)) == 3


def test_a_process_that_ends_is_replaced(encoders: Encoders, hasher: RemoteHasher, artifact: Path) -> None:
    first = process_of(encoders)
    with pytest.raises(EncodeFailed, match=r"ended with status -6"):
        hasher.encode_texts(["abort"])
    assert same(hasher.encode_texts(TEXTS), load_harmful(artifact, 16, "cpu").encode_texts(TEXTS))
    assert process_of(encoders) is not first


def test_a_process_that_ended_while_idle_costs_no_call(encoders: Encoders, hasher: RemoteHasher) -> None:
    process = process_of(encoders)
    process.kill()
    process.wait()
    assert len(hasher.encode_texts(TEXTS)) == 3


def test_another_process_does_not_take_a_replaced_artifact_for_the_old_one(
    hasher: RemoteHasher, artifact: Path
) -> None:
    (artifact / "seed").write_text("two")
    with pytest.raises(EncodeFailed):
        hasher.encode_texts(["abort"])
    with pytest.raises(ModelMismatch):
        hasher.encode_texts(TEXTS)


def test_a_model_that_nobody_holds_is_let_go(encoders: Encoders, hasher: RemoteHasher, artifact: Path) -> None:
    other = encoders.load(artifact, 32, "cpu")
    other.encode_texts(TEXTS)
    (place,) = encoders._places
    assert place._process is not None
    assert len(place._process.keys) == 2
    del other
    gc.collect()
    hasher.encode_texts(TEXTS)
    assert len(place._process.keys) == 1


def test_a_model_loads_while_texts_are_encoded(encoders: Encoders, hasher: RemoteHasher, artifact: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        encoding = pool.submit(hasher.encode_texts, [f"meet {artifact / 'begun'} {artifact / 'loaded'}"])
        assert encoders.load(artifact, 32, "cpu").bits == 32
        assert not encoding.done()
        (artifact / "loaded").touch()
        assert len(encoding.result(LONG_S)) == 1


def test_texts_do_not_wait_for_a_load_to_let_a_model_go(
    encoders: Encoders, hasher: RemoteHasher, artifact: Path
) -> None:
    encoders.load(artifact, 32, "cpu")  # nobody holds it
    gc.collect()
    (place,) = encoders._places
    assert place._process is not None
    with place._process.loading._lock:  # as while a model loads
        assert len(hasher.encode_texts(TEXTS)) == 3
    assert len(place._process.keys) == 1


def test_each_process_encodes_a_batch(artifact: Path) -> None:
    encoders = Encoders(2, COMMAND)
    hasher = encoders.load(artifact, 16, "cpu")
    one, other = artifact / "one", artifact / "other"
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(hasher.encode_texts, [f"meet {own} {theirs}"]) for own, theirs in ((one, other), (other, one))
        ]
        assert [len(batch.result(LONG_S)) for batch in both] == [1, 1]
    encoders.close()


def test_a_gpu_has_one_process(artifact: Path) -> None:
    encoders = Encoders(2, COMMAND)
    hasher = encoders.load(artifact, 16, "cuda")
    with ThreadPoolExecutor(2) as pool:
        assert [len(batch) for batch in pool.map(hasher.encode_texts, [TEXTS, TEXTS])] == [3, 3]
    assert [len(place._process.keys) for place in encoders._places if place._process is not None] == [1, 0]
    encoders.close()


def test_a_batch_whose_process_ended_is_encoded_again_where_that_is_wanted(artifact: Path) -> None:
    encoders = Encoders(1, COMMAND, retries=1)
    hasher = encoders.load(artifact, 16, "cpu")
    (artifact / "mine").touch()
    assert len(hasher.encode_texts([f"once {artifact / 'mine'}"])) == 1
    assert not (artifact / "mine").exists()
    with pytest.raises(ProcessEnded):
        hasher.encode_texts(["abort"])
    encoders.close()


def test_a_process_outlives_the_thread_that_wanted_it(encoders: Encoders, hasher: RemoteHasher) -> None:
    """Linux ends it with the thread that started it."""
    process = process_of(encoders)
    process.kill()
    process.wait()
    thread = threading.Thread(target=hasher.encode_texts, args=(TEXTS,))
    thread.start()
    thread.join()
    time.sleep(0.05)
    assert process_of(encoders).poll() is None


def test_processes_without_calls_end_until_the_next_one(artifact: Path) -> None:
    encoders = Encoders(1, COMMAND, rest_s=0.05)
    hasher = encoders.load(artifact, 16, "cpu")
    codes = hasher.encode_texts(TEXTS)
    end = time.monotonic() + 10
    while encoders._places[0]._process is not None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert same(hasher.encode_texts(TEXTS), codes)
    encoders.close()


def test_large_pictures_go_to_the_process_a_few_at_a_time(
    hasher: RemoteHasher, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    encode = hasher._encoders.encode
    monkeypatch.setattr(hasher._encoders, "encode", lambda *of: sent.append(len(of[2])) or encode(*of))
    monkeypatch.setattr(encoding, "PART_BYTES", 3 * 9 * 40)
    pictures = [
        *IMAGES,
        IMAGES[0],
        IMAGES[0],
        IMAGES[0].resize((400, 300)),
    ]  # of 7, 40, 7, 7 by 9 and one that is larger
    assert same(hasher.encode_images(pictures), load_harmful(artifact, 16, "cpu").encode_images(pictures))
    assert sent == [1, 1, 2, 1]


def test_the_end_does_not_wait_for_a_call_that_hangs(encoders: Encoders, hasher: RemoteHasher) -> None:
    failures: list[Exception] = []

    def encode() -> None:
        try:
            hasher.encode_texts(["hang"])
        except EncodeFailed as error:
            failures.append(error)

    hanging = threading.Thread(target=encode)
    hanging.start()
    process = process_of(encoders)
    time.sleep(0.05)
    encoders.close()
    hanging.join(LONG_S)
    assert (process.returncode, len(failures)) == (-9, 1)
    with pytest.raises(EncodeFailed, match="about to end"):
        hasher.encode_texts(TEXTS)


def test_a_signal_to_the_whole_group_leaves_it_to_the_service(encoders: Encoders, hasher: RemoteHasher) -> None:
    os.kill(process_of(encoders).pid, signal.SIGTERM)
    assert len(hasher.encode_texts(TEXTS)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends it")
def test_a_process_that_hangs_does_not_outlive_a_killed_service(artifact: Path) -> None:
    service = subprocess.Popen([*COMMAND, str(artifact)], stderr=subprocess.PIPE, text=True)
    assert service.stderr is not None
    encoder = Path("/proc", service.stderr.readline().strip(), "stat")
    assert encoder.exists()
    service.kill()
    service.wait()
    end = time.monotonic() + LONG_S
    while encoder.exists() and encoder.read_text().rpartition(")")[2].split()[0] != "Z":  # until somebody reaps it
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.005)
    service.stderr.close()


def test_it_ends_with_a_service_that_closes_its_pipes(encoders: Encoders, hasher: RemoteHasher) -> None:
    process = process_of(encoders)
    (place,) = encoders._places
    assert place._process is not None
    place._process.encoding.close()
    assert process.wait(LONG_S) == 0
