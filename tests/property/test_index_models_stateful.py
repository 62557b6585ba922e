"""An index under any sequence of edits, changes of model, rollbacks and merges, with edits in the midst of a change.

Codes say which model made them of which value, so one of the wrong model or of an old value shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import index.replay
from index.compaction import compact
from index.edit_log import EditLog
from index.editing import NewItem, editing
from index.errors import ItemsNotEncoded
from index.generations import IndexDirectory
from index.records import Append, effective
from index.replay import activate, catch_up
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation

SOURCE = {"a": 1, "b": 2, "c": 3}
IDS = st.sampled_from(["a", "b", "m", "n"])
MODELS = {"f": 8, "g": 16}  # fingerprint and bits
Edit: TypeAlias = "tuple[str, int | None]"  # None deletes
EDITS = st.lists(st.tuples(IDS, st.none() | st.integers(0, 3)), max_size=3)


@dataclass
class Item:
    """What the index should say of an item."""

    value: int
    models: set[str]  # that have surely codes of it in the log


def code(model: str, value: int) -> bytes:
    return bytes([value if model == "f" else 255 - value]) * (MODELS[model] // 8)


def indexed(item_id: str, value: int, model: str) -> IndexedItem:
    codes = {"image": np.frombuffer(code(model, value), dtype=np.uint8)[None]}
    return IndexedItem(item_id, f"{value}", None, {"value": value}, None, codes)


class IndexOfTwoModels(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(index.replay, "FEW", 0)
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "demo"
        self.directory = IndexDirectory(self.path)
        self.items = {item_id: Item(value, set(MODELS)) for item_id, value in SOURCE.items()}
        self.held: dict[int, dict[str, int]] = {}  # generation -> values that it was written with
        self.write("f", SOURCE, 0)
        self.directory.activate(1)

    def write(self, model: str, values: dict[str, int], position: int) -> int:
        spec = GenerationSpec("demo", MODELS[model], f"model {model}", model, "cpu", "source", "first")
        spec = replace(spec, columns=("image",), log_position=position)
        items = [indexed(item_id, value, model) for item_id, value in values.items()]
        generation = write_generation(self.path, spec, items).generation
        self.held[generation] = dict(values)
        return generation

    def model(self) -> str:
        current = self.directory.current()
        assert current is not None
        return current.fingerprint

    @rule(edits=EDITS)
    def edit(self, edits: Sequence[Edit]) -> None:
        model = self.model()
        for item_id, value in edits:
            with editing(self.path) as editor:
                if value is not None:
                    new = NewItem(indexed(item_id, value, model), None, {"value": value})
                    editor.append([new], fingerprint=model)
                    known = self.items.get(item_id)
                    same = (
                        known.models if known is not None and known.value == value and item_id not in SOURCE else set()
                    )
                    self.items[item_id] = Item(value, same | {model})
                elif item_id in self.items:
                    editor.delete([item_id])
                    del self.items[item_id]

    @rule(model=st.sampled_from(sorted(MODELS)), planned=EDITS, written=EDITS, encoded=EDITS)
    def rebuild(self, model: str, planned: Sequence[Edit], written: Sequence[Edit], encoded: Sequence[Edit]) -> None:
        log = EditLog(self.path).read()
        edits = effective(log.records, model, {})
        values = {item_id: value for item_id, value in SOURCE.items() if item_id not in edits}
        values |= {one.id: int(str(one.metadata["value"])) for one in edits.values() if isinstance(one, Append)}
        assert values == {item_id: item.value for item_id, item in self.items.items()}
        self.edit(planned)
        generation = self.write(model, values, log.end.position)
        self.edit(written)
        left = [encoded]

        def encode(records: Sequence[Append]) -> list[Append]:
            if left:
                self.edit(left.pop())
            return [
                replace(one, fingerprint=model, codes={"image": code(model, int(str(one.metadata["value"])))})
                for one in records
            ]

        catch_up(self.path, generation, encode)
        left.clear()
        activate(self.path, generation, encode)
        with Snapshot.open(self.path) as snapshot:
            assert snapshot.pending == ()
        self.directory.prune(keep=2)

    @rule()
    def roll_back(self) -> None:
        others = set(self.directory.generations()) - {self.directory.current().generation}  # type: ignore[union-attr]
        if others:
            self.directory.activate(min(others))

    @rule()
    def merge(self) -> None:
        with Snapshot.open(self.path) as snapshot:
            is_whole = not snapshot.pending
        if is_whole:
            manifest = compact(self.path)
            if manifest is not None:
                self.held[manifest.generation] = {item_id: item.value for item_id, item in self.items.items()}
        else:
            with pytest.raises(ItemsNotEncoded):
                compact(self.path)

    @invariant()
    def every_generation_says_what_it_should(self) -> None:
        for generation in self.directory.generations():
            with Snapshot.open(self.path, generation) as snapshot:
                self.check(snapshot)

    def check(self, snapshot: Snapshot) -> None:
        model = snapshot.manifest.fingerprint
        found = {item.id: item for item in snapshot.all_items()}
        waiting = {record.id: record for record in snapshot.pending}
        assert found.keys().isdisjoint(waiting)
        assert found.keys() | waiting.keys() == self.items.keys()
        for item_id, item in found.items():
            assert item.metadata == {"value": self.items[item_id].value}
            assert item.codes["image"].tobytes() == code(model, self.items[item_id].value)
        for item_id in waiting:
            assert model not in self.items[item_id].models
            assert self.held[snapshot.generation].get(item_id) != self.items[item_id].value

    def teardown(self) -> None:
        self.patch.undo()
        self.folder.cleanup()


TestIndexOfTwoModels = IndexOfTwoModels.TestCase
TestIndexOfTwoModels.settings = settings(
    max_examples=15, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
