"""What ``crossbit data check`` found: values that the text, JSON and page show alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

EXAMPLES = 10  # sentences kept of each kind of finding
TWINS = 24  # pairs of pictures kept for the page
LENGTH_EDGES = (1, 9, 17, 33, 65, 129, 255, 509, 2033)  # word pieces; the last bin is open


class Level(StrEnum):
    """How bad a finding is."""

    ERROR = "error"  # the data set breaks a promise, or figures from it would be wrong
    WARNING = "warning"  # worth a look


@dataclass(slots=True)
class Finding:
    """One kind of thing that is wrong, and how often."""

    level: Level
    kind: str
    count: int = 0
    examples: list[str] = field(default_factory=list)  # sentences, the first of them


@dataclass(frozen=True, slots=True)
class Twin:
    """Two items on two sides of the split whose pictures are equal, or look alike."""

    first: str
    first_split: str
    second: str
    second_split: str
    equal: bool


@dataclass(slots=True)
class Lengths:
    """Word pieces of the texts of one caption variant, special ones not counted."""

    context: int  # word pieces that a chunk of the tower holds
    read: int  # word pieces of a text that are read at most, in chunks
    texts: int = 0
    longest: int = 0
    pieces: int = 0
    beyond_head: int = 0  # texts longer than one chunk
    cut_by_head: int = 0  # word pieces that a tower which reads the first chunk alone never sees
    cut: int = 0  # word pieces beyond the last chunk
    histogram: list[int] = field(default_factory=lambda: [0] * len(LENGTH_EDGES))

    def bins(self) -> list[tuple[str, int]]:
        """Range of word pieces and number of texts, up to the longest text."""
        ends = [f" to {end - 1:,}" for end in LENGTH_EDGES[1:]] + [" and more"]
        names = [f"{start:,}{end}" for start, end in zip(LENGTH_EDGES, ends, strict=True)]
        used = max((place for place, count in enumerate(self.histogram) if count), default=0)
        return list(zip(names, self.histogram, strict=True))[: used + 1]


@dataclass(slots=True)
class Report:
    """A data set, checked."""

    name: str
    items: int = 0
    images: int = 0
    with_text: int = 0
    splits: dict[str, int] = field(default_factory=dict)  # empty where there is no split
    expected: Mapping[str, int] = field(default_factory=dict)  # counts of items, splits and labels, where known
    classes: dict[str, int] = field(default_factory=dict)  # items of each class, in column order
    lengths: dict[str, Lengths] = field(default_factory=dict)  # by caption variant
    findings: list[Finding] = field(default_factory=list)
    twins: list[Twin] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is an error."""
        return not any(finding.level is Level.ERROR for finding in self.findings)

    @property
    def sentences(self) -> list[str]:
        """The examples of every finding."""
        return [example for finding in self.findings for example in finding.examples]

    def add(self, level: Level, kind: str, sentence: str, count: int = 1) -> None:
        """Count a finding and keep its sentence, if it is among the first of its kind."""
        finding = next((one for one in self.findings if one.kind == kind), None)
        if finding is None:
            self.findings.append(finding := Finding(level, kind))
        finding.count += count
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(sentence)
