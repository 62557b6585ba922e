"""The steps of a rebuild, without the workflow engine: each may be run again after a crash and then ends the same.

A rebuild makes the items of the source, with those appended to the index in place of those of the same ids, without
those deleted from it. Its plan writes down the edits until then; the new generation holds them, and says so by its
``log_position``. The edits made since come on top of it, and what another model encoded of them is encoded by
``catch_up`` and ``swap`` (``index/replay.py``) before the new generation serves.

A rebuild keeps its state in its work folder and in the generation number that its plan reserved. Nothing that readers
see changes before ``swap``; until then ``discard`` takes everything back.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from app import engines
from app.appended import AppendedItems, with_codes
from app.building import SHARD_ITEMS, Builder, Shard, Texts, check_sample
from app.job_spans import JobSpans, spanned
from app.jobs import RebuildFailed
from app.logs import Log
from app.shard_file import read_shard, write_shard
from app.sources import Source, open_source
from index.durable import write_atomically
from index.edit_log import EditLog
from index.errors import IndexLocked
from index.generations import IndexDirectory
from index.live_items import Codes
from index.lock import writing
from index.records import Append, Record, effective, read_records, write_records
from index.replay import activate, catch_up
from index.snapshot import Snapshot, verify_index
from index.writer import GenerationSpec, IndexedItem, write_generation
from model.hasher import Hasher
from model.items import Item, without

RESERVED = "generation"  # file of the work folder that holds the reserved number
EDITS = "edits.log"  # file of the work folder that holds the edits that the plan found

log = Log(__name__)

LoadHasher = Callable[[Path, int, str], Hasher]  # artifact directory, bits, device


class Places(engines.Settings, Protocol):
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
    position: int = 0  # in the index's log, of the last edit that the new generation holds


class RebuildSteps:
    """One rebuild in this process; holds the opened source, model and old generation until ``close``."""

    def __init__(
        self,
        request: Request,
        work_dir: Path,
        places: Places,
        load_hasher: LoadHasher,
        spans: JobSpans | None = None,
    ) -> None:
        self.request = request
        self.spans = spans or JobSpans()
        self.work_dir = work_dir
        self._places = places
        self._load_hasher = load_hasher
        self._directory = IndexDirectory(places.indexes_dir / request.index)
        self._old: Snapshot | None = None

    @spanned("plan")
    def plan(self) -> Plan:
        """Look at everything once and reserve a generation number."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        position = self._write_edits()
        total = len(self._items) + len(self._appended)
        if not total:
            raise RebuildFailed(f"source {self.request.source!r}: expected items, found none; fill it first")
        plan = Plan(
            total=total,
            shards=-(-total // SHARD_ITEMS),
            source_digest=self._source.digest,
            fingerprint=self._hasher.fingerprint,
            device=self._hasher.device,
            generation=self._reserved() or self._reserve(),
            reuse=self._reusable() if self.request.reuse else None,
            position=position,
        )
        self.spans.tell(generation=plan.generation, items=total, shards=plan.shards)
        return plan

    @property
    def left_out(self) -> int:
        """Items of the data set that the source does not take, such as the queries of its split."""
        return len(self._source.archive.items) - len(self._source.items)

    @spanned("shard")
    def encode_shard(
        self,
        plan: Plan,
        number: int,
        *,
        progress: Callable[[int], None],
        turn: AbstractContextManager[None] = nullcontext(),
    ) -> Shard:
        """Encode the items of one shard into a file of the work folder: those of the source, then those appended.

        ``turn`` is held while it encodes, and not while it writes: then another thread may encode the next one.

        Raises:
            RebuildFailed: this worker finds something else than the one that made the plan.
        """
        if not self.work_dir.is_dir():
            raise RebuildFailed(
                f"expected the folder of the job at {self.work_dir}, found none: every worker must share one home"
            )
        first, last = number * SHARD_ITEMS, (number + 1) * SHARD_ITEMS
        with turn:
            self._check_unchanged(plan)
            appended = self._appended[max(0, first - len(self._items)) : max(0, last - len(self._items))]
            builder = self._builder(self._known_codes(plan))
            shard = builder.encode(self._items[first:last], progress=progress)
            shard += self._encoder(reuse=plan.reuse is not None).encode(appended, progress=progress)
        write_shard(self._shard_path(number), shard.items)
        self.spans.tell(generation=plan.generation, shard=number, items=len(shard.items))
        self.spans.tell(reused=shard.reused, skipped=len(shard.skipped))
        return shard

    @spanned("write")
    def write(self, plan: Plan) -> None:
        """Put the shards together into the reserved generation."""
        self.spans.tell(generation=plan.generation)
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
            log_position=plan.position,
        )
        write_generation(self._directory.path, spec, self._shard_items(plan), verify=False)  # the next step does

    @spanned("verify")
    def verify(self, plan: Plan, *, items: int) -> None:
        """Check counts, checksums and self-queries of the new generation, and encode a sample of it again.

        An engine that is a server takes it over here, so that no swap waits for that.

        Raises:
            RebuildFailed, IndexCorrupt, EngineUnavailable: do not swap.
        """
        self.spans.tell(generation=plan.generation, items=items)
        self._check_unchanged(plan)
        verify_index(self._directory.path, plan.generation)
        opened = Snapshot.open(self._directory.path, plan.generation, engine="numpy", verify=False, edits=False)
        with opened as snapshot:
            if snapshot.manifest.items != items:
                raise RebuildFailed(
                    f"generation {plan.generation}: expected {items:,} items, found {snapshot.manifest.items:,}; "
                    "start again"
                )
            check_sample(snapshot, self._builder(), self._items)
            check_sample(snapshot, self._encoder(reuse=False), self._appended)
        engines.Engines(self._places).prepare(self._directory.path, plan.generation)

    @spanned("replay")
    def catch_up(self, plan: Plan, *, progress: Callable[[int], None]) -> None:
        """Encode most of what was appended since the plan by another model, while writers go on."""
        self.spans.tell(generation=plan.generation)
        catch_up(self._directory.path, plan.generation, lambda some: self._encoded(plan, some, progress))

    @spanned("swap")
    def swap(self, plan: Plan) -> None:
        """Encode the rest, while writers wait, and make the new generation the one that serves."""
        self.spans.tell(generation=plan.generation)
        activate(self._directory.path, plan.generation, lambda some: self._encoded(plan, some, lambda _: None))

    @spanned("prune")
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
    def _edits(self) -> Mapping[str, Record]:
        """What the plan found of each item that was ever appended or deleted."""
        path = self.work_dir / EDITS
        return {record.id: record for record in read_records(path)} if path.is_file() else {}

    @cached_property
    def _items(self) -> Sequence[Item]:
        """Those of the source that were neither replaced nor deleted."""
        return without(self._source.items, self._edits.keys())

    @cached_property
    def _appended(self) -> Sequence[Append]:
        return [record for record in self._edits.values() if isinstance(record, Append)]

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

    def _encoder(self, *, reuse: bool) -> AppendedItems:
        return AppendedItems(self._directory.path, self._hasher, reuse=reuse, workers=self._places.threads)

    def _encoded(self, plan: Plan, records: Sequence[Append], progress: Callable[[int], None]) -> list[Append]:
        """Appended items with codes of the plan's model."""
        self._check_unchanged(plan)
        made = self._encoder(reuse=False).encode(records, progress=progress).items
        self.spans.tell(items=len(made))
        log.info("edits_replayed", index=self.request.index, generation=plan.generation, items=len(made))
        return with_codes(records, made, plan.fingerprint)

    def _write_edits(self) -> int:
        """Put the edits of the index until now into the work folder; returns the position of the last one."""
        path = self._directory.path
        if not path.is_dir():
            return 0
        with writing(path):  # what is being written may still fail
            found = EditLog(path).read()
        edits = effective(found.records, self._hasher.fingerprint, {})
        write_records(self.work_dir / EDITS, [edits[item_id] for item_id in sorted(edits)])
        return found.end.position

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
                "rebuild, or is another one on this worker; start again"
            )
        if self._hasher.device != plan.device:
            raise RebuildFailed(
                f"expected a worker whose models run on {plan.device}, found one on {self._hasher.device}: their bits "
                "may differ; set the same CROSSBIT_DEVICE for every worker"
            )

    def _shard_path(self, number: int) -> Path:
        return self.work_dir / f"shard-{number:06d}.jsonl"

    def _shard_items(self, plan: Plan) -> Iterator[IndexedItem]:
        for number in range(plan.shards):
            yield from read_shard(self._shard_path(number), self.request.bits)
