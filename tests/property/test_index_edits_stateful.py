"""An index under any sequence of edits answers as a plain dict does."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from index.codes import distances
from index.compaction import compact
from index.editing import NewItem, editing
from index.generations import IndexDirectory
from index.presence import Presence, PresenceCounts, count_presence
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation

IDS = st.sampled_from(["a", "b", "ba", "c", "é", "z"])
CODES = st.lists(st.integers(0, 7), max_size=3)
ITEMS = st.tuples(CODES, CODES, st.integers(0, 2))
SPEC = GenerationSpec("demo", 8, "artifact", "fingerprint", "cpu", "source", "all", columns=("image", "pair", "text"))


def indexed(item_id: str, value: tuple[list[int], list[int], int]) -> IndexedItem:
    image, text, year = value
    codes = {"image": as_codes(image), "text": as_codes(text), "pair": as_codes(pairs(value))}
    thumbnail = f"{year}".encode()
    return IndexedItem(item_id, f"{value}", None, {"year": [year, -year]}, thumbnail, codes, presence(value))


def pairs(value: tuple[list[int], list[int], int]) -> list[int]:
    """As a method that fuses: a code for each text with the image, or those of what there is."""
    image, text, _ = value
    return [(image[0] ^ number) & 7 for number in text] if image and text else image or text


def presence(value: tuple[list[int], list[int], int]) -> Presence:
    return Presence.of(image=bool(value[0]), text=bool(value[1]))


def as_codes(numbers: list[int]) -> NDArray[np.uint8]:
    return np.array(numbers, dtype=np.uint8).reshape(-1, 1)


class EditedIndex(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "demo"
        self.model = {item_id: ([number], [], number % 3) for number, item_id in enumerate("bdz")}
        write_generation(self.path, SPEC, [indexed(*pair) for pair in self.model.items()])
        IndexDirectory(self.path).activate(1)
        self.snapshot = Snapshot.open(self.path)

    @rule(items=st.dictionaries(IDS, ITEMS, min_size=1, max_size=3))
    def append(self, items: dict[str, tuple[list[int], list[int], int]]) -> None:
        with editing(self.path) as editor:
            new = [NewItem(indexed(*pair), None, {"value": pair[1]}) for pair in items.items()]
            editor.append(new, fingerprint="fingerprint")
        self.model |= items

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        some = data.draw(st.sets(st.sampled_from(sorted(self.model)), max_size=2)) if self.model else set()
        with editing(self.path) as editor:
            editor.delete(sorted(some))
        for item_id in some:
            del self.model[item_id]

    @rule()
    def merge(self) -> None:
        compact(self.path)

    @rule()
    def roll_back(self) -> None:
        directory = IndexDirectory(self.path)
        others = set(directory.generations()) - {directory.current().generation}  # type: ignore[union-attr]
        if others:
            directory.rollback(min(others))

    @rule()
    def reopen(self) -> None:
        self.snapshot.close()
        self.snapshot = Snapshot.open(self.path)

    @invariant()
    def answers_are_those_of_a_dict(self) -> None:
        current = IndexDirectory(self.path).current()
        assert current is not None
        if current.generation != self.snapshot.generation:
            self.reopen()
        elif (newer := self.snapshot.newer()) is not None:
            self.snapshot.close()
            self.snapshot = newer
        assert self.snapshot.item_count == len(self.model)
        years = (None, 1) if "year" in self.snapshot.fields else (None,)
        for column, radius, year in itertools.product(("image", "pair", "text"), (None, 1), years):
            self.check(column, radius, year)
        presences = {item_id: presence(value) for item_id, value in self.model.items()}
        assert {item_id: self.snapshot.item(item_id).presence for item_id in self.model} == presences
        counts = count_presence(np.array(list(presences.values()), dtype=np.uint8))
        assert self.snapshot.presence_counts() == PresenceCounts.of(counts)

    def check(self, column: str, radius: int | None, year: int | None) -> None:
        query = as_codes([5])
        expected = []
        for item_id, value in self.model.items():
            codes = as_codes({"image": value[0], "text": value[1], "pair": pairs(value)}[column])
            if len(codes) and year in (None, value[2]):
                near = int(distances(query[0], codes).min())
                if radius is None or near <= radius:
                    expected.append((near, item_id))
        expected.sort()
        where = None if year is None else self.snapshot.filter({"year": year})
        found = []
        for offset in range(0, len(expected) + 1, 2):
            page = self.snapshot.search(
                column, query, k=None, radius=radius, limit=2, offset=offset, filter=where, fingerprint="fingerprint"
            )[0]
            items = self.snapshot.items([hit.row for hit in page.hits])
            found += [(hit.distance, item.id) for hit, item in zip(page.hits, items, strict=True)]
            assert page.total == len(expected)
            for hit in page.hits:
                assert hit.tie.size == sum(near == hit.distance for near, _ in expected)
        assert found == expected

    def teardown(self) -> None:
        self.snapshot.close()
        self.folder.cleanup()


TestEditedIndex = EditedIndex.TestCase
TestEditedIndex.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
