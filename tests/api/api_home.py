"""A home directory with a small index of twelve items on the fake hasher, and what tests do with a service on it."""

import gc
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fake_artifact import write_fake_artifact
from fastapi.testclient import TestClient
from PIL import Image

from app.item_codes import Parts, encode_parts, presence_of
from app.jobs import Job, JobNotFound, JobState, ModelNotFound, RebuildRunning, SourceNotFound
from app.models import WARM_UP_TEXT
from app.runtime import Runtime
from app.settings import Settings
from index.errors import SearchError
from index.generations import IndexDirectory
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation
from model.errors import ArtifactError
from model.fake import FakeHasher
from model.hasher import EncodedBatch, Hasher

COLORS = ("red", "green", "blue", "gold", "gray", "navy", "pink", "teal", "plum", "tan", "snow", "lime")
BITS = 64
Serve = Callable[..., TestClient]  # keyword arguments are settings


def png(color: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    """A one-coloured picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def webp(color: str) -> bytes:
    """A one-coloured thumbnail."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def items_of(hasher: Hasher) -> Iterator[IndexedItem]:
    """One item a colour; the last one is a text without picture, codes of the first two pictures are equal."""
    for number, color in enumerate(COLORS):
        text = f"a {color} square"
        drawn = Image.new("RGB", (8, 6), COLORS[max(1, number)]) if color != "lime" else None
        (codes,) = encode_parts(hasher, [Parts(drawn, (text,))])
        yield IndexedItem(
            id=f"{color}/{number:02d}",
            content_hash=f"{number:064x}",
            text=text,
            metadata={"number": number, "labels": [color, "square"], "warm": color in ("red", "gold", "pink")},
            thumbnail=webp(color) if color != "lime" else None,
            codes=codes,
            presence=presence_of(codes, image=drawn is not None, text=True),
        )


@dataclass
class Home:
    """A home directory under test: artifacts are empty folders that ``load`` maps to fake hashers."""

    path: Path
    hashers: dict[str, Callable[[int], Hasher]] = field(default_factory=dict)
    loads: list[tuple[str, int]] = field(default_factory=list)

    def add_artifact(self, name: str, make: Callable[[int], Hasher] | None = None) -> None:
        write_fake_artifact(self.path / "artifacts" / name)
        self.hashers[name] = make or (lambda bits: FakeHasher(bits, seed=name))

    def add_generation(self, index: str, artifact: str, *, bits: int = BITS, activate: bool = True) -> int:
        hasher = self.hashers[artifact](bits)
        spec = GenerationSpec(
            index=index,
            bits=bits,
            artifact=artifact,
            fingerprint=hasher.fingerprint,
            device_kind="cpu",
            source="colors",
            texts="first",
        )
        path = self.path / "indexes" / index
        manifest = write_generation(path, spec, items_of(hasher))
        if activate:
            IndexDirectory(path).activate(manifest.generation)
        return manifest.generation

    def load(self, artifact_dir: Path, bits: int, device: str) -> Hasher:
        self.loads.append((artifact_dir.name, bits))
        if bits > 256:
            raise ArtifactError(f"{artifact_dir} has no {bits} bits")
        return self.hashers[artifact_dir.name](bits)


class RecordedJobs:
    """Job engine of these tests: it remembers what it was asked and never works."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.asked: list[dict[str, object]] = []
        self.jobs: dict[str, Job] = {}

    def start(self, index: str, **wanted: object) -> Job:
        known = self.runtime.settings.rebuild_sources() | {"colors": "colors"}
        if wanted["source"] not in (None, *known):
            raise SourceNotFound(f"expected a source, found {wanted['source']!r}; known: colors")
        if wanted["model"] not in (None, *self.runtime.models.names()):
            raise ModelNotFound(f"expected a model, found {wanted['model']!r}")
        if any(job.index == index and not job.state.final for job in self.jobs.values()):
            raise RebuildRunning(f"index {index!r} already has a rebuild")
        self.asked.append({"index": index, **wanted})
        job = Job(f"job-{len(self.asked)}", index, "rebuild", JobState.RUNNING, 3, 12, 1.5, 6.0, (), None)
        self.jobs[job.id] = job
        return job

    def get(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise JobNotFound(f"expected the id of a job, found {job_id!r}")
        return self.jobs[job_id]

    def list(self) -> list[Job]:
        return list(self.jobs.values())[::-1]

    def cancel(self, job_id: str) -> Job:
        self.jobs[job_id] = replace(self.get(job_id), state=JobState.CANCELLED, rate=None, eta_s=None)
        return self.jobs[job_id]


def runtime_of(client: TestClient) -> Runtime:
    runtime: Runtime = client.app.state.runtime  # type: ignore[attr-defined]  # TestClient.app is any ASGI callable
    return runtime


def wait_until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def is_closed(snapshot: Snapshot) -> bool:
    """Whether whoever held the pair of the snapshot has let go of it, apart from what lies in cycles."""
    gc.collect()
    try:
        snapshot.row_of("red/00")
    except SearchError:
        return True
    return False


@asynccontextmanager
async def open_recorded_jobs(settings: Settings, runtime: Runtime) -> AsyncIterator[RecordedJobs]:
    yield RecordedJobs(runtime)


class GatedHasher(FakeHasher):
    """Encodes the text of the warm-up, and others only while its gate is open."""

    def __init__(self, bits: int, *, seed: str = "demo") -> None:
        super().__init__(bits, seed=seed)
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        if list(texts) != [WARM_UP_TEXT]:
            self.entered.release()
            assert self.gate.wait(10)
        return super().encode_texts(texts)
