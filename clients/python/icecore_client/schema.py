"""Schemas: what the events of one kind consist of, and the canonical form that names them."""

from __future__ import annotations

import re
import struct
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from .hashes import blake3

_TYPES = {"f64": 1, "f32": 2, "i64": 3, "u64": 4, "bool": 5, "text": 6, "bytes": 7, "timestamp": 8}
_LIST_TYPES = {"f32": 9, "i16": 10}
_KINDS = {"gauge": 1, "counter": 2, "state": 3, "angle": 4}
_RESERVED = {"device", "epoch", "seq", "timestamp", "event_time", "received_time", "position"}
_MAX_FIELDS = 1024
_MAX_LIST = 16_384
_MAX_FORM = 65_536


@dataclass(frozen=True)
class Field:
    """One field of a schema.

    `type` is f64, f32, i64, u64, bool, text, bytes, timestamp, or a list of fixed length such as `f32[3]` or `i16[256]`;
    `kind` is gauge, counter, state or angle; `unit` is UCUM.
    """

    name: str
    type: str
    kind: str = "gauge"
    unit: str = ""
    nullable: bool = False

    @cached_property
    def column(self) -> tuple[int, int]:
        """The type's number on the wire, and the numbers per value of a list (otherwise 0)."""
        if self.type in _TYPES:
            return _TYPES[self.type], 0
        listed = re.fullmatch(r"(f32|i16)\[(\d+)\]", self.type, re.ASCII)
        if listed is None or not 1 <= int(listed[2]) <= _MAX_LIST:
            raise ValueError(f"field {self.name}: there is no type {self.type}")
        return _LIST_TYPES[listed[1]], int(listed[2])

    def canonical(self) -> bytes:
        """The field's part of the canonical form."""
        if self.kind not in _KINDS:
            raise ValueError(f"field {self.name}: there is no kind {self.kind}")
        number, length = self.column
        head = _text(self.name, 128, f"field name {self.name!r}")
        types = struct.pack("<BHB", number, length, _KINDS[self.kind])
        return head + types + _text(self.unit, 64, f"unit of {self.name}") + bytes([self.nullable])


@dataclass(frozen=True)
class Schema:
    """A named, versioned type of events."""

    name: str
    version: int
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [field.name.lower() for field in self.fields]
        if not 1 <= len(names) <= _MAX_FIELDS:
            raise ValueError(f"schema {self.name}: {len(names)} fields, expected 1 to {_MAX_FIELDS}")
        for name in names:
            if name in _RESERVED or names.count(name) > 1:
                raise ValueError(f"schema {self.name}: the field name {name} is reserved or taken")
        if len(self.canonical) > _MAX_FORM:
            raise ValueError(f"schema {self.name}: its canonical form is longer than {_MAX_FORM} bytes")

    @cached_property
    def canonical(self) -> bytes:
        """The form that is announced, and of which the id is taken."""
        head = b"\x01" + _text(self.name, 128, f"schema name {self.name!r}")
        fields = b"".join(field.canonical() for field in self.fields)
        return head + struct.pack("<IH", self.version, len(self.fields)) + fields

    @cached_property
    def id(self) -> bytes:
        """16 bytes that name this definition."""
        return blake3(self.canonical)[:16]


def _text(value: str, most: int, what: str) -> bytes:
    encoded = value.encode()
    is_name = most == 128
    if len(encoded) > most or is_name and not encoded:
        raise ValueError(f"{what}: expected {int(is_name)} to {most} bytes of UTF-8")
    if is_name and any(unicodedata.category(c) == "Cc" for c in value):
        raise ValueError(f"{what}: control characters are not allowed")
    return struct.pack("<H", len(encoded)) + encoded
