"""What a run over many inputs left out; light, so that whatever shows it can import it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skipped:
    """An input that was left out, and why."""

    id: str
    reason: str
