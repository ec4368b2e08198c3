"""What a device has recorded and the server has not settled yet. It lives in memory, and is bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from .batch import MAX_PAYLOAD, MAX_ROWS, Row, check_row, encode_batch
from .ranges import Ranges
from .schema import Schema


class SpoolFull(Exception):
    """The spool holds as much as it may; `flush()` makes room."""


@dataclass(frozen=True)
class BatchPolicy:
    """When rows become a batch: by number, by size in bytes, or by the age in seconds of the first."""

    max_rows: int = 1000
    max_bytes: int = 256 * 1024
    max_age: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_rows <= MAX_ROWS or not 1 <= self.max_bytes <= MAX_PAYLOAD:
            raise ValueError(f"a batch has 1 to {MAX_ROWS} rows and 1 to {MAX_PAYLOAD} bytes")


@dataclass
class Batch:
    """A batch on its way. It is sent again as it is, to the byte, until the server has settled it."""

    schema: Schema
    first: int
    end: int
    payload: bytes
    in_flight: bool = False
    backlog: bool = False
    not_before: float = 0.0


@dataclass
class _Open:
    """Rows of one schema that are not a batch yet."""

    since: float
    rows: list[Row] = field(default_factory=list)
    size: int = 0


class Spool:
    """The batches of one device and epoch, in order of sequence, and the rows that are to become batches."""

    def __init__(self, policy: BatchPolicy, max_bytes: int) -> None:
        self._policy = policy
        self._max_bytes = max_bytes
        self._bytes = 0
        self._next_sequence = 0
        self.bytes_in_flight = 0
        """Bytes that were sent and not answered."""
        self._open: dict[Schema, _Open] = {}
        self._batches: dict[int, Batch] = {}

    def record(self, schema: Schema, row: Row) -> bool:
        """Takes a row; returns whether there is something to do now or to wait for that there was not before."""
        size = check_row(schema, row)
        # Root, entries and what alignment may take: more than a batch needs beside its rows.
        overhead = 64 * (len(schema.fields) + 2)
        if size + overhead > MAX_PAYLOAD and len(encode_batch(schema, 0, [row])) > MAX_PAYLOAD:
            raise ValueError(f"{schema.name}: a row of {size} bytes fits no batch")
        if self._bytes + size > self._max_bytes:
            raise SpoolFull(f"{self._bytes} of {self._max_bytes} bytes are taken")
        rows = self._open.get(schema)
        if rows and rows.size + size + overhead > self._policy.max_bytes:
            self._cut(schema)
            rows = None
        started = rows is None
        if rows is None:
            rows = self._open[schema] = _Open(time.monotonic())
        rows.rows.append(row)
        rows.size += size
        self._bytes += size
        if len(rows.rows) < self._policy.max_rows:
            return started
        self._cut(schema)
        return True

    def cut(self, older_than: float = 0.0) -> None:
        """Makes batches of all rows, or of those whose first has waited for longer than the policy allows."""
        for schema, rows in list(self._open.items()):
            if not older_than or rows.since + self._policy.max_age <= older_than:
                self._cut(schema)

    def _cut(self, schema: Schema) -> None:
        rows = self._open.pop(schema)
        first, end = self._next_sequence, self._next_sequence + len(rows.rows)
        payload = encode_batch(schema, first, rows.rows)
        self._batches[first] = Batch(schema, first, end, payload)
        self._bytes += len(payload) - rows.size
        self._next_sequence = end

    def rewind(self) -> None:
        """A new connection: what is still here is to be sent again, as old data."""
        for batch in self._batches.values():
            self.defer(batch, until=0.0)
            batch.backlog = True

    def settle(self, ranges: Ranges) -> list[Batch]:
        """Lets go of what the server has. A batch is acked as a whole."""
        settled = [batch for batch in self._batches.values() if ranges.cover(batch.first, batch.end)]
        for batch in settled:
            self.remove(batch)
        return settled

    def find(self, first: int, end: int) -> Batch | None:
        """The batch with exactly these sequences."""
        batch = self._batches.get(first)
        return batch if batch and batch.end == end else None

    def remove(self, batch: Batch) -> None:
        """Lets go of a batch."""
        self.defer(batch, until=0.0)
        del self._batches[batch.first]
        self._bytes -= len(batch.payload)

    def sent(self, batch: Batch) -> None:
        """The batch is on its way."""
        batch.in_flight = True
        self.bytes_in_flight += len(batch.payload)

    def defer(self, batch: Batch, until: float) -> None:
        """The batch is not on its way, and is to be sent (again) from `until` on."""
        if batch.in_flight:
            self.bytes_in_flight -= len(batch.payload)
        batch.in_flight, batch.not_before = False, until

    def waiting(self, backlog: bool) -> Iterator[Batch]:
        """What is to be sent, live or as backlog, in order of sequence."""
        return (batch for batch in self._batches.values() if not batch.in_flight and batch.backlog == backlog)

    @property
    def next_cut(self) -> float | None:
        """When the next rows become a batch by age."""
        return min((rows.since + self._policy.max_age for rows in self._open.values()), default=None)

    @property
    def is_empty(self) -> bool:
        """Whether all that was recorded is settled."""
        return not self._batches and not self._open
