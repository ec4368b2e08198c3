"""The schema and the rows of the golden files in `crates/wire/tests/golden`."""

from __future__ import annotations

import struct
from pathlib import Path

from icecore_client import Field, Schema
from icecore_client.batch import Row

GOLDEN = Path(__file__).resolve().parents[3] / "crates/wire/tests/golden"
ROWS = 37

SCHEMA = Schema(
    "station/α",
    7,
    (
        Field("temperature", "f64", unit="Cel"),
        Field("humidity", "f32", unit="%", nullable=True),
        Field("energy", "u64", kind="counter", unit="W.s"),
        Field("offset", "i64"),
        Field("open", "bool", kind="state", nullable=True),
        Field("status", "text", kind="state", nullable=True),
        Field("raw", "bytes"),
        Field("measured", "timestamp", nullable=True),
        Field("heading", "f32[2]", kind="angle", unit="deg"),
        Field("wave", "i16[4]"),
    ),
)


def row(i: int) -> Row:
    time = 1_700_000_000_000_000_000 + i * 250_000_000
    (nan,) = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_0123))
    values = (
        {0: -0.0, 1: nan, 2: float("-inf")}.get(i, 20.0 + i / 10),
        None if i % 3 == 1 else 40.5 + i,
        2**64 - 1 if i == 0 else 1000 * i,
        -(2**63) if i == 0 else 5 - i,
        None if i % 4 == 2 else i % 2 == 0,
        None if i % 5 == 4 else ("", "naïve", "🌡 ok")[i % 3],
        (b"", b"\x00\xff", b"abc")[i % 3],
        None if i == 0 else time - 1,
        (0.5, 359.5),
        ((-32768, -1, 0, 32767), (1, 2, 3, 4))[i % 2],
    )
    return time, values
