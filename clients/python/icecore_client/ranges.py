"""Sets of sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Ranges:
    """Half-open ranges of sequences that ascend and do not touch."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, end in ranges:
            self.insert(start, end)

    def insert(self, start: int, end: int) -> None:
        """Adds `start..end`, joined with what it touches."""
        apart = []
        for known in self._ranges:
            if known[1] < start or end < known[0]:
                apart.append(known)
            else:
                start, end = min(start, known[0]), max(end, known[1])
        self._ranges = sorted([*apart, (start, end)])

    def cover(self, start: int, end: int) -> bool:
        """Whether all of `start..end` is in the set."""
        return any(known[0] <= start and end <= known[1] for known in self._ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __or__(self, other: Ranges) -> Ranges:
        return Ranges([*self, *other])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._ranges == other._ranges

    def __repr__(self) -> str:
        return "Ranges([" + ", ".join(f"{start}..{end}" for start, end in self._ranges) + "])"
