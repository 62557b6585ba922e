"""Filters over item metadata: equality, membership and range, parsed against the fields that an index has.

``{"artist": "gerald"}``, ``{"labels": {"in": ["animal", "bird"]}}``, ``{"year": {"gte": 2005, "lt": 2010}}``;
several fields must all match. A list in the metadata matches when any one of its elements does.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from index.errors import InvalidFilter

Scalar: TypeAlias = bool | int | float | str
MAX_FIELDS = 32
MAX_VALUES = 1000
RANGE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}  # Any: both of one kind


class FieldType(StrEnum):
    """What the values of a metadata field are, over all items of an index; lists count by their elements."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    MIXED = "mixed"  # values of several types
    OBJECT = "object"  # nested or always null: stored, but not filterable


class Kind(IntEnum):
    """Type of one stored value; kinds never compare equal, so ``true`` is not ``1``."""

    BOOLEAN = 0
    NUMBER = 1
    STRING = 2

    @property
    def field_type(self) -> FieldType:
        """The type of a field that holds values of this kind only."""
        return FieldType[self.name]


@dataclass(frozen=True, slots=True)
class Condition:
    """One field, and either the values it may equal or the (operator, bound) pairs that one value must satisfy."""

    field: str
    values: tuple[Scalar, ...] = ()
    bounds: tuple[tuple[str, Scalar], ...] = ()

    def sql(self) -> tuple[str, list[Scalar]]:
        """A SELECT of the matching rows over the ``facets`` table, and its parameters."""
        tests, parameters = self._range() if self.bounds else self._membership()
        select = "SELECT row FROM facets JOIN fields USING (field) WHERE name = ? AND "
        return select + tests, [self.field, *parameters]

    def holds(self, metadata: Mapping[str, object]) -> bool:
        """Whether one value of the field satisfies it: what ``sql`` selects, for metadata in memory."""
        values = list(plain_values(metadata[self.field])) if self.field in metadata else []
        if not self.bounds:
            wanted = {(kind_of(value), value) for value in self.values}
            return any((kind_of(value), value) in wanted for value in values)
        kind = kind_of(self.bounds[0][1])
        return any(
            all(COMPARE[operator](value, bound) for operator, bound in self.bounds)
            for value in values
            if kind_of(value) is kind
        )

    def _range(self) -> tuple[str, list[Scalar]]:
        tests = "".join(f" AND value {RANGE[operator]} ?" for operator, _ in self.bounds)
        return f"kind = ?{tests}", [kind_of(self.bounds[0][1]), *(bound for _, bound in self.bounds)]

    def _membership(self) -> tuple[str, list[Scalar]]:
        tests: list[str] = []
        parameters: list[Scalar] = []
        for kind in sorted({kind_of(value) for value in self.values}):  # each part is a look-up in the primary key
            values = [value for value in self.values if kind_of(value) is kind]
            tests.append(f"kind = ? AND value IN ({', '.join('?' * len(values))})")
            parameters += [kind, *values]
        return f"({' OR '.join(tests)})", parameters


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions, in field order, that an item must all satisfy; made by ``parse``."""

    conditions: tuple[Condition, ...]

    def sql(self) -> tuple[str, list[Scalar]]:
        """A SELECT of the rows that satisfy every condition, without repeats, ascending, and its parameters."""
        parts = [condition.sql() for condition in self.conditions]
        rows = " INTERSECT ".join(select for select, _ in parts)
        parameters = [value for _, values in parts for value in values]
        return f"SELECT DISTINCT row FROM ({rows}) ORDER BY row", parameters  # noqa: S608 - built of constants only

    def holds(self, metadata: Mapping[str, object]) -> bool:
        """Whether an item with this metadata satisfies every condition."""
        return all(condition.holds(metadata) for condition in self.conditions)

    def canonical(self) -> str:
        """Equal text for equal filters."""
        return json.dumps([[c.field, c.values, c.bounds] for c in self.conditions])


def kind_of(value: Scalar) -> Kind:
    """The kind of one value; ``bool`` is looked at before ``int``, which it derives from."""
    if isinstance(value, bool):
        return Kind.BOOLEAN
    return Kind.STRING if isinstance(value, str) else Kind.NUMBER


def plain_values(value: object) -> Iterator[Scalar]:
    """The plain values in one value of the metadata, itself or the elements of a list, as filters see them."""
    for element in value if isinstance(value, list | tuple) else (value,):
        if isinstance(element, bool | int | float | str):
            yield storable(element)


def field_type(kinds: Iterable[Kind]) -> FieldType:
    """The type of a field with values of these kinds."""
    match sorted(set(kinds)):
        case []:
            return FieldType.OBJECT
        case [kind]:
            return kind.field_type
        case _:
            return FieldType.MIXED


def joined_type(one: FieldType, other: FieldType) -> FieldType:
    """The type of a field that is of one type in some items and of another in the rest."""
    if FieldType.OBJECT in (one, other):
        return other if one is FieldType.OBJECT else one
    return one if one is other else FieldType.MIXED


def parse(raw: Mapping[str, object], fields: Mapping[str, FieldType]) -> Filter:
    """Check a filter as a caller sent it against the fields of an index.

    Raises:
        InvalidFilter: no condition, too many, an unknown field or operator, or a value of another type than the field.
    """
    if not 1 <= len(raw) <= MAX_FIELDS:
        raise InvalidFilter(f"expected a filter on 1 to {MAX_FIELDS} fields, found {len(raw)}")
    for name in raw:
        if name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise InvalidFilter(f"expected a metadata field of the index, found {name!r}; known: {known}")
    return Filter(tuple(_condition(name, raw[name], fields[name]) for name in sorted(raw)))


def _condition(name: str, raw: object, field_type: FieldType) -> Condition:
    if field_type is FieldType.OBJECT:
        raise InvalidFilter(f"field {name!r} holds no plain values, so it cannot be filtered on")
    if not isinstance(raw, Mapping):
        return Condition(name, values=(_scalar(name, raw, field_type),))
    operators = set(raw)
    if operators == {"in"}:
        return Condition(name, values=_members(name, raw["in"], field_type))
    if operators and operators <= set(RANGE):
        return Condition(name, bounds=_bounds(name, raw, field_type))
    raise InvalidFilter(
        f"expected for field {name!r} a value, {{'in': [...]}} or a range of {', '.join(RANGE)}, "
        f"found operators {sorted(map(str, operators))}"
    )


def _members(name: str, raw: object, field_type: FieldType) -> tuple[Scalar, ...]:
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not 1 <= len(raw) <= MAX_VALUES:
        raise InvalidFilter(f"expected for field {name!r} 'in' a list of 1 to {MAX_VALUES} values, found {raw!r:.80}")
    return tuple(_scalar(name, value, field_type) for value in raw)


def _bounds(name: str, raw: Mapping[str, object], field_type: FieldType) -> tuple[tuple[str, Scalar], ...]:
    bounds = tuple((operator, _scalar(name, raw[operator], field_type)) for operator in sorted(raw))
    kinds = {kind_of(bound) for _, bound in bounds}
    if len(kinds) > 1 or Kind.BOOLEAN in kinds:
        raise InvalidFilter(f"expected for field {name!r} a range between numbers or between strings")
    return bounds


def _scalar(name: str, value: object, field_type: FieldType) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidFilter(f"expected for field {name!r} a finite number, found {value}")
    if not isinstance(value, bool | int | float | str):
        raise InvalidFilter(f"expected for field {name!r} a string, number or boolean, found {value!r:.80}")
    if isinstance(value, str) and not is_unicode(value):
        raise InvalidFilter(f"expected for field {name!r} Unicode text, found a lone surrogate in {value!r:.80}")
    found = kind_of(value).field_type
    if field_type not in (found, FieldType.MIXED):
        raise InvalidFilter(f"expected for field {name!r} a {field_type}, found the {found} {value!r:.80}")
    return storable(value)


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8; JSON can smuggle in lone surrogates, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(value: Scalar) -> Scalar:
    """The value as SQLite can hold it: integers beyond 64 bits become floats."""
    if not isinstance(value, int) or -(2**63) <= value < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
