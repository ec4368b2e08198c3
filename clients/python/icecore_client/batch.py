"""Batches: events of one device and one schema, in columns, byte by byte as the protocol's document describes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from .schema import Field, Schema

MAX_ROWS = 65_536
MAX_PAYLOAD = 1_048_576

_TIMESTAMP = 8
_TIME_UNCERTAIN = 1
# Per type on the wire: what `struct` calls one number, and its bytes.
_NUMBERS = {1: ("d", 8), 2: ("f", 4), 3: ("q", 8), 4: ("Q", 8), 8: ("q", 8), 9: ("f", 4), 10: ("h", 2)}

Row = tuple[int, tuple[Any, ...]]
"""The event time in nanoseconds, and a value or None per field."""


def check_row(schema: Schema, row: Row) -> int:
    """Raises a ValueError unless the row fits the schema; returns roughly how many bytes it takes in a batch."""
    time, values = row
    if len(values) != len(schema.fields):
        raise ValueError(f"{schema.name}: {len(values)} values for {len(schema.fields)} fields")
    struct.pack("<q", time)
    size = 8
    for field, value in zip(schema.fields, values):
        try:
            size += len(b"".join(_data(field, [value]))) + field.nullable
        except (struct.error, TypeError, AttributeError, OverflowError, UnicodeEncodeError) as error:
            raise ValueError(f"{schema.name}.{field.name}: {value!r} is not {field.type}: {error}") from error
        if value is None and not field.nullable:
            raise ValueError(f"{schema.name}.{field.name} is not nullable")
    return size


def encode_batch(schema: Schema, first: int, rows: Sequence[Row], time_uncertain: bool = False) -> bytes:
    """The payload of a batch with the sequences from `first` on; the rows were checked."""
    archive = bytearray()
    columns = [(_TIMESTAMP, (b"", b"", _numbers(_TIMESTAMP, [time for time, _ in rows])))]
    for index, field in enumerate(schema.fields):
        values = [row[index] for _, row in rows]
        some_null = any(value is None for value in values)
        validity = _bitmap([value is not None for value in values]) if some_null else b""
        columns.append((field.column[0], (validity, *_data(field, values))))

    entries = [(number, [(_append(archive, vector), len(vector)) for vector in vectors]) for number, vectors in columns]
    _align(archive, 4)
    entries_at = len(archive)
    for number, vectors in entries:
        archive += struct.pack("<BBH", number, 0, 0)
        for position, length in vectors:
            archive += _pointer(len(archive), position, length)
    _align(archive, 8)
    archive += struct.pack("<16sQII", schema.id, first, len(rows), _TIME_UNCERTAIN if time_uncertain else 0)
    archive += _pointer(len(archive), entries_at, len(entries))
    return bytes(archive)


def _data(field: Field, values: Sequence[Any]) -> tuple[bytes, bytes]:
    """Offsets and data of a plain column. A null takes its place with a zero, or an empty text."""
    number, length = field.column
    if length:
        rows = [(0,) * length if value is None else value for value in values]
        for row in rows:
            if len(row) != length:
                raise ValueError(f"{field.name}: {len(row)} numbers, expected {length}")
        return b"", _numbers(number, [item for row in rows for item in row])
    if field.type == "bool":
        return b"", _bitmap([_truth(value) for value in values])
    if field.type in ("text", "bytes"):
        parts = [b"" if value is None else value.encode() if field.type == "text" else bytes(memoryview(value)) for value in values]
        ends = [0]
        for part in parts:
            ends.append(ends[-1] + len(part))
        return struct.pack(f"<{len(ends)}I", *ends), b"".join(parts)
    return b"", _numbers(number, [0 if value is None else value for value in values])


def _truth(value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise TypeError("expected True or False")
    return bool(value)


def _numbers(number: int, values: Sequence[Any]) -> bytes:
    return struct.pack(f"<{len(values)}{_NUMBERS[number][0]}", *values)


def _bitmap(bits: Sequence[bool]) -> bytes:
    packed = bytearray((len(bits) + 7) // 8)
    for row, bit in enumerate(bits):
        packed[row // 8] |= bit << row % 8
    return bytes(packed)


def _align(archive: bytearray, multiple: int) -> None:
    archive += bytes(-len(archive) % multiple)


def _append(archive: bytearray, vector: bytes) -> int:
    _align(archive, 8)
    archive += vector
    return len(archive) - len(vector)


def _pointer(at: int, target: int, length: int) -> bytes:
    return struct.pack("<iI", target - at, length)
