"""Frames: 16 bytes of header, the payload, zeros up to the next multiple of 16."""

from __future__ import annotations

import struct

from .hashes import crc32c

HEADER = struct.Struct("<BBHIII")
MAX_CONTROL_PAYLOAD = 65_536


class ProtocolError(Exception):
    """The server broke a rule of the protocol."""


def encode_frame(kind: int, payload: bytes = b"", alias: int = 0) -> bytes:
    """One frame, padding included."""
    checksum = crc32c(HEADER.pack(kind, 0, 0, len(payload), alias, 0) + payload)
    return HEADER.pack(kind, 0, 0, len(payload), alias, checksum) + payload + bytes(-len(payload) % 16)


class FrameReader:
    """Takes the bytes of the control stream as they come and gives whole frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def push(self, data: bytes) -> None:
        """Adds what was received."""
        self._bytes += data

    @property
    def at_boundary(self) -> bool:
        """Whether a stream may end here."""
        return not self._bytes

    def next(self) -> tuple[int, int, bytes] | None:
        """Kind, alias and payload of the next frame; None until it is whole."""
        if len(self._bytes) < HEADER.size:
            return None
        kind, flags, reserved, length, alias, checksum = HEADER.unpack_from(self._bytes)
        if flags or reserved or length > MAX_CONTROL_PAYLOAD:
            raise ProtocolError(f"frame of kind {kind}: flags {flags}, reserved {reserved}, length {length}")
        end = HEADER.size + length
        padded = end + -length % 16
        if len(self._bytes) < padded:
            return None
        payload, padding = bytes(self._bytes[HEADER.size : end]), bytes(self._bytes[end:padded])
        if any(padding) or crc32c(HEADER.pack(kind, 0, 0, length, alias, 0) + payload) != checksum:
            raise ProtocolError(f"frame of kind {kind}: the checksum does not match, or the padding is not zero")
        del self._bytes[:padded]
        return kind, alias, payload
