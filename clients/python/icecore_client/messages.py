"""Messages: what the client says (functions that give a frame) and what the server says (`decode`)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from .frames import ProtocolError, encode_frame
from .ranges import Ranges

VERSION = 1
SOFTWARE = "icecore-client-python 0.1.0"
_MAX_TEXT = 512
_MAX_RANGES = 1024


class Code(IntEnum):
    """Why something was refused. A number that is not here is no reason to give up."""

    protocol_violation = 1
    unsupported_version = 2
    malformed_batch = 3
    unknown_schema = 4
    schema_conflict = 5
    schema_incompatible = 6
    schema_undeclared = 7
    sequence_conflict = 8
    too_many_ranges = 9
    too_many_epochs = 10
    too_many_aliases = 11
    too_large = 12
    not_enrolled = 13
    not_granted = 14
    revoked = 15
    expired = 16
    taken_over = 17
    identity_conflict = 18
    overloaded = 19
    disk_full = 20
    shutting_down = 21
    internal = 22
    rate_limited = 23
    schema_reserved = 24


def code_name(code: int) -> str:
    """The code's name, or its number where this client does not know it."""
    try:
        return Code(code).name
    except ValueError:
        return f"code {code}"


# From the client


def hello(clock: int) -> bytes:
    """The first message; `clock` in nanoseconds, 0 = none."""
    return encode_frame(1, struct.pack("<H", VERSION) + _text(SOFTWARE) + struct.pack("<qB", clock, 0))


def attach(alias: int, device: str, epoch: bytes) -> bytes:
    """From now on `alias` stands for this device and epoch."""
    return encode_frame(2, _text(device) + epoch, alias)


def bye() -> bytes:
    """The client is done."""
    return encode_frame(5)


def renew() -> bytes:
    """Asks for a new certificate for the same name and key."""
    return encode_frame(6)


def schema(canonical: bytes) -> bytes:
    """Announces a schema on a batch stream."""
    return encode_frame(32, canonical)


def batch(alias: int, payload: bytes) -> bytes:
    """A batch of the device that `alias` stands for."""
    return encode_frame(33, payload, alias)


def backlog() -> bytes:
    """Opens a stream that carries old data."""
    return encode_frame(34)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<H", len(encoded)) + encoded


# From the server. `retry` is in seconds; None is "never".


@dataclass(frozen=True)
class Welcome:
    protocol: int
    software: str
    clock: int
    max_payload: int
    max_rows: int
    max_devices: int


@dataclass(frozen=True)
class Attached:
    alias: int
    epoch_number: int
    stored: Ranges
    settled: Ranges
    archived: Ranges


@dataclass(frozen=True)
class Ack:
    alias: int
    level: int
    ranges: Ranges


@dataclass(frozen=True)
class Nack:
    alias: int
    start: int
    end: int
    code: int
    retry: float | None
    message: str


@dataclass(frozen=True)
class Refuse:
    alias: int
    code: int
    retry: float | None
    message: str


@dataclass(frozen=True)
class Pace:
    bytes_per_second: int
    seconds: float


@dataclass(frozen=True)
class GoAway:
    retry: float
    message: str


@dataclass(frozen=True)
class Renewed:
    certificate: bytes


@dataclass(frozen=True)
class NotRenewed:
    code: int
    retry: float | None
    message: str


Message = Welcome | Attached | Ack | Nack | Refuse | Pace | GoAway | Renewed | NotRenewed

_ABOUT_AN_ALIAS = (17, 18, 19)
_ABOUT_THE_CONNECTION = (16, 21, 22, 23, 24)


def decode(kind: int, alias: int, payload: bytes) -> Message:
    """Reads a message of the server; raises a ProtocolError on anything else."""
    if kind in _ABOUT_AN_ALIAS and not alias or kind in _ABOUT_THE_CONNECTION and alias:
        raise ProtocolError(f"message of kind {kind} for alias {alias}")
    take = _Reader(payload)
    message: Message
    match kind:
        case 16:
            message = Welcome(take.u16(), take.text(), take.i64(), take.u32(), take.u32(), take.u32())
        case 17:
            message = Attached(alias, take.u32(), take.ranges(), take.ranges(), take.ranges())
        case 18:
            message = Ack(alias, take.u8(), take.ranges())
        case 19:
            message = Nack(alias, take.u64(), take.u64(), take.u16(), take.retry(), take.text())
        case 20:
            message = Refuse(alias, take.u16(), take.retry(), take.text())
        case 21:
            message = Pace(take.u64(), take.u32() / 1000)
        case 22:
            message = GoAway(take.u32() / 1000, take.text())
        case 23:
            message = Renewed(take.bytes(take.u32()))
        case 24:
            message = NotRenewed(take.u16(), take.retry(), take.text())
        case _:
            raise ProtocolError(f"a message of kind {kind} from the server")
    take.end()
    return message


class _Reader:
    """Takes the fields of a message one after the other."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def bytes(self, length: int) -> bytes:
        taken = self._payload[self._at : self._at + length]
        if len(taken) != length:
            raise ProtocolError("a message is too short")
        self._at += length
        return taken

    def _integer(self, length: int, signed: bool = False) -> int:
        return int.from_bytes(self.bytes(length), "little", signed=signed)

    def u8(self) -> int:
        return self._integer(1)

    def u16(self) -> int:
        return self._integer(2)

    def u32(self) -> int:
        return self._integer(4)

    def u64(self) -> int:
        return self._integer(8)

    def i64(self) -> int:
        return self._integer(8, signed=True)

    def text(self) -> str:
        length = self.u16()
        if length > _MAX_TEXT:
            raise ProtocolError(f"a text of {length} bytes")
        try:
            return self.bytes(length).decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"a text that is not UTF-8: {error}") from error

    def retry(self) -> float | None:
        flag, milliseconds = self.u8(), self.u32()
        if flag > 1 or not flag and milliseconds:
            raise ProtocolError(f"a retry with flag {flag} and {milliseconds} ms")
        return milliseconds / 1000 if flag else None

    def ranges(self) -> Ranges:
        count = self.u32()
        if count > _MAX_RANGES:
            raise ProtocolError(f"{count} ranges in one message")
        ranges = [(self.u64(), self.u64()) for _ in range(count)]
        before = -1
        for start, end in ranges:
            if not before < start < end:
                raise ProtocolError(f"range {start}..{end} after one that ends at {before}")
            before = end
        return Ranges(ranges)

    def end(self) -> None:
        if self._at != len(self._payload):
            raise ProtocolError("a message is too long")
