"""The steps of a rebuild, without the workflow engine: each may be run again after a crash and then ends the same.

A rebuild keeps its state in its work folder and in the generation number that its plan reserved. Nothing that readers
see changes before ``swap``; until then ``discard`` takes everything back.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from app.building import SHARD_ITEMS, Builder, Shard, Texts, check_sample
from app.jobs import RebuildFailed
from app.shard_file import read_shard, write_shard
from app.sources import Source, open_source
from index.durable import write_atomically
from index.errors import IndexLocked
from index.generations import IndexDirectory
from index.live_items import Codes
from index.lock import writing
from index.snapshot import Snapshot, verify_index
from index.writer import GenerationSpec, IndexedItem, write_generation
from model.hasher import Hasher

RESERVED = "generation"  # file of the work folder that holds the reserved number

LoadHasher = Callable[[Path, int, str], Hasher]  # artifact directory, bits, device


class Places(Protocol):
    """What a rebuild needs of the settings."""

    @property
    def artifacts_dir(self) -> Path:
        """Artifacts by name."""

    @property
    def indexes_dir(self) -> Path:
        """Indexes by name."""

    @property
    def data_dir(self) -> Path:
        """Data sets by name."""

    @property
    def device(self) -> str:
        """Where models run."""

    @property
    def threads(self) -> int:
        """Threads that encode."""

    @property
    def keep_generations(self) -> int:
        """Newest generations that pruning leaves."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a rebuild makes, with every default filled in; stored with the job."""

    index: str
    source: str
    artifact: str
    bits: int
    texts: str
    reuse: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rebuild found when it started; later steps refuse to go on when any of it has changed."""

    total: int
    shards: int
    source_digest: str
    fingerprint: str
    device: str
    generation: int  # the reserved number
    reuse: int | None  # generation whose codes are reused


class RebuildSteps:
    """One rebuild in this process; holds the opened source, model and old generation until ``close``."""

    def __init__(self, request: Request, work_dir: Path, places: Places, load_hasher: LoadHasher) -> None:
        self.request = request
        self.work_dir = work_dir
        self._places = places
        self._load_hasher = load_hasher
        self._directory = IndexDirectory(places.indexes_dir / request.index)
        self._old: Snapshot | None = None

    def plan(self) -> Plan:
        """Look at everything once and reserve a generation number."""
        total = len(self._source.items)
        if not total:
            raise RebuildFailed(f"source {self.request.source!r}: expected items, found none; fill it first")
        self.work_dir.mkdir(parents=True, exist_ok=True)
        return Plan(
            total=total,
            shards=-(-total // SHARD_ITEMS),
            source_digest=self._source.digest,
            fingerprint=self._hasher.fingerprint,
            device=self._hasher.device,
            generation=self._reserved() or self._reserve(),
            reuse=self._reusable() if self.request.reuse else None,
        )

    @property
    def left_out(self) -> int:
        """Items of the data set that the source does not take, such as the queries of its split."""
        return len(self._source.archive.items) - len(self._source.items)

    def encode_shard(self, plan: Plan, number: int, *, progress: Callable[[int], None]) -> Shard:
        """Encode the items of one shard into a file of the work folder."""
        self._check_unchanged(plan)
        start = number * SHARD_ITEMS
        builder = self._builder(self._known_codes(plan))
        shard = builder.encode(self._source.items[start : start + SHARD_ITEMS], progress=progress)
        write_shard(self._shard_path(number), shard.items)
        return shard

    def write(self, plan: Plan) -> None:
        """Put the shards together into the reserved generation."""
        if plan.generation in self._directory.generations():
            return  # written before a crash; the number is ours alone
        request = self.request
        spec = GenerationSpec(
            index=request.index,
            bits=request.bits,
            artifact=request.artifact,
            fingerprint=plan.fingerprint,
            device_kind=plan.device,
            source=request.source,
            texts=request.texts,
            number=plan.generation,
            columns=tuple(sorted(self._hasher.modalities)),
        )
        write_generation(self._directory.path, spec, self._shard_items(plan), verify=False)  # the next step does

    def verify(self, plan: Plan, *, items: int) -> None:
        """Check counts, checksums and self-queries of the new generation, and encode a sample of it again.

        Raises:
            RebuildFailed, IndexCorrupt: do not swap.
        """
        self._check_unchanged(plan)
        verify_index(self._directory.path, plan.generation)
        opened = Snapshot.open(self._directory.path, plan.generation, engine="numpy", verify=False, edits=False)
        with opened as snapshot:
            if snapshot.manifest.items != items:
                raise RebuildFailed(
                    f"generation {plan.generation}: expected {items:,} items, found {snapshot.manifest.items:,}; "
                    "start again"
                )
            check_sample(snapshot, self._builder(), self._source.items)

    def swap(self, plan: Plan) -> None:
        """Make the new generation the one that serves."""
        self._directory.activate(plan.generation)

    def prune(self) -> None:
        """Delete the work folder and the generations that nobody needs to roll back to."""
        # under the lock, so that whoever copies the index sees no generation go; where it is held, the next one prunes
        with suppress(IndexLocked), writing(self._directory.path):
            self._directory.prune(keep=self._places.keep_generations)
        self.clear()

    def discard(self) -> None:
        """Take back what was made; a generation that already serves stays."""
        self.close()
        generation, current = self._reserved(), self._directory.current()
        if generation is not None and (current is None or current.generation != generation):
            self._directory.discard(generation)
        self.clear()

    def clear(self) -> None:
        """Delete the work folder and nothing else."""
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def close(self) -> None:
        """Let go of the old generation."""
        if self._old is not None:
            self._old.close()
            self._old = None

    @cached_property
    def _source(self) -> Source:
        return open_source(self.request.source, self._places.data_dir)

    @cached_property
    def _hasher(self) -> Hasher:
        directory = self._places.artifacts_dir / self.request.artifact
        return self._load_hasher(directory, self.request.bits, self._places.device)

    def _builder(self, known_codes: Callable[[str], Codes | None] | None = None) -> Builder:
        return Builder(
            self._source.archive,
            self._hasher,
            texts=Texts(self.request.texts),
            known_codes=known_codes,
            workers=self._places.threads,
        )

    def _reserve(self) -> int:
        generation = self._directory.reserve()
        write_atomically(self.work_dir / RESERVED, str(generation).encode())
        return generation

    def _reserved(self) -> int | None:
        path = self.work_dir / RESERVED
        return int(path.read_text(encoding="ascii")) if path.is_file() else None

    def _reusable(self) -> int | None:
        current = self._directory.current()
        if current is None or current.fingerprint != self._hasher.fingerprint:
            return None
        manifest = self._directory.manifest(current.generation)
        same = manifest.texts == self.request.texts and manifest.device_kind == self._hasher.device
        return current.generation if same else None

    def _known_codes(self, plan: Plan) -> Callable[[str], Codes | None] | None:
        if self._old is None and plan.reuse in self._directory.generations():
            self._old = Snapshot.open(self._directory.path, plan.reuse, engine="numpy")
        return None if self._old is None else self._old.reusable_codes()

    def _check_unchanged(self, plan: Plan) -> None:
        if (self._source.digest, self._hasher.fingerprint) != (plan.source_digest, plan.fingerprint):
            raise RebuildFailed(
                f"source {self.request.source!r} or artifact {self.request.artifact!r} was replaced during the "
                "rebuild; start again"
            )

    def _shard_path(self, number: int) -> Path:
        return self.work_dir / f"shard-{number:06d}.jsonl"

    def _shard_items(self, plan: Plan) -> Iterator[IndexedItem]:
        for number in range(plan.shards):
            yield from read_shard(self._shard_path(number), self.request.bits)
