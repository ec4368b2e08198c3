#!/usr/bin/env python3
"""Writes one batch stream (a schema announcement and one plain batch) to standard output.

Made from docs/protocol.md alone, with nothing but the standard library: it shows that the document says enough. The
test `foreign_encoder` reads what it writes.
"""

import struct
import sys

ROWS = 10
TYPES = {"f64": 1, "f32": 2, "i64": 3, "u64": 4, "bool": 5, "text": 6, "bytes": 7, "timestamp": 8, "f32[]": 9, "i16[]": 10}
GAUGE, COUNTER, STATE, ANGLE = 1, 2, 3, 4


# Hashes and checksums


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def blake3_128(data):
    """BLAKE3 of at most 1024 bytes (one chunk), cut to 128 bits."""
    assert len(data) <= 1024
    mask = 0xFFFFFFFF
    iv = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
    permutation = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
    lanes = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
             (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]

    def rotate(x, n):
        return (x >> n | x << (32 - n)) & mask

    blocks = [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    chain = iv
    for number, block in enumerate(blocks):
        first, last = number == 0, number == len(blocks) - 1
        flags = (1 if first else 0) | (2 | 8 if last else 0)  # CHUNK_START, CHUNK_END, ROOT
        words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
        state = chain + iv[:4] + [0, 0, len(block), flags]
        for _ in range(7):
            for lane, (a, b, c, d) in enumerate(lanes):
                for word, (r, s) in ((words[2 * lane], (16, 12)), (words[2 * lane + 1], (8, 7))):
                    state[a] = (state[a] + state[b] + word) & mask
                    state[d] = rotate(state[d] ^ state[a], r)
                    state[c] = (state[c] + state[d]) & mask
                    state[b] = rotate(state[b] ^ state[c], s)
            words = [words[i] for i in permutation]
        chain = [state[i] ^ state[i + 8] for i in range(8)]
    return struct.pack("<4I", *chain[:4])


# Frames and schemas


def frame(kind, alias, payload):
    def header(crc):
        return struct.pack("<BBHIII", kind, 0, 0, len(payload), alias, crc)

    return header(crc32c(header(0) + payload)) + payload + bytes(-len(payload) % 16)


def text(value):
    encoded = value.encode()
    return struct.pack("<H", len(encoded)) + encoded


def canonical_schema(name, version, fields):
    form = b"\x01" + text(name) + struct.pack("<IH", version, len(fields))
    for field_name, type_name, length, kind, unit, nullable in fields:
        form += text(field_name) + struct.pack("<BHB", TYPES[type_name], length, kind) + text(unit) + bytes([nullable])
    return form


# Batches


class Archive:
    """Byte vectors, then the column entries, then the root; vectors are pointed to relative to the pointer."""

    def __init__(self):
        self.data = bytearray()

    def align(self, multiple):
        self.data += bytes(-len(self.data) % multiple)

    def vector(self, content):
        self.align(8)
        position = len(self.data)
        self.data += content
        return position, len(content)

    def pointer(self, target, length):
        self.data += struct.pack("<iI", target - len(self.data), length)


def encode_batch(schema_id, first_sequence, count, columns):
    archive = Archive()
    placed = [(tag, [archive.vector(part) for part in parts]) for tag, *parts in columns]
    archive.align(4)
    entries = len(archive.data)
    for tag, vectors in placed:
        archive.data += struct.pack("<BBH", tag, 0, 0)
        for position, length in vectors:
            archive.pointer(position, length)
    archive.align(8)
    archive.data += schema_id + struct.pack("<QII", first_sequence, count, 0)
    archive.pointer(entries, len(placed))
    return bytes(archive.data)


def bitmap(bits):
    packed = bytearray((len(bits) + 7) // 8)
    for row, bit in enumerate(bits):
        packed[row // 8] |= bit << (row % 8)
    return bytes(packed)


def numbers(code, values):
    return struct.pack(f"<{len(values)}{code}", *values)


def strings(values):
    ends = [0]
    for value in values:
        ends.append(ends[-1] + len(value))
    return numbers("I", ends), b"".join(values)


def main():
    rows = range(ROWS)
    valid = bitmap([row % 3 != 1 for row in rows])
    words = ["" if row % 3 == 1 else "°" * row for row in rows]
    fields = [
        ("temperature", "f64", 0, GAUGE, "Cel", False),
        ("humidity", "f32", 0, GAUGE, "%", True),
        ("energy", "u64", 0, COUNTER, "W.s", False),
        ("offset", "i64", 0, GAUGE, "", False),
        ("open", "bool", 0, STATE, "", False),
        ("status", "text", 0, STATE, "", True),
        ("raw", "bytes", 0, GAUGE, "", False),
        ("measured", "timestamp", 0, GAUGE, "", False),
        ("heading", "f32[]", 2, ANGLE, "deg", False),
        ("wave", "i16[]", 3, GAUGE, "", False),
    ]
    times = [1_700_000_000_000_000_000 + row for row in rows]
    # Each: type, validity, offsets, data.
    columns = [
        (TYPES["timestamp"], b"", b"", numbers("q", times)),
        (TYPES["f64"], b"", b"", numbers("d", [row / 4 for row in rows])),
        (TYPES["f32"], valid, b"", numbers("f", [row / 2 for row in rows])),
        (TYPES["u64"], b"", b"", numbers("Q", [2**64 - 1 - row for row in rows])),
        (TYPES["i64"], b"", b"", numbers("q", [-row for row in rows])),
        (TYPES["bool"], b"", b"", bitmap([row % 2 for row in rows])),
        (TYPES["text"], valid, *strings([word.encode() for word in words])),
        (TYPES["bytes"], b"", *strings([bytes([row, 255]) for row in rows])),
        (TYPES["timestamp"], b"", b"", numbers("q", times)),
        (TYPES["f32[]"], b"", b"", numbers("f", [x for row in rows for x in (row, -row)])),
        (TYPES["i16[]"], b"", b"", numbers("h", [x for row in rows for x in (-row, 0, row)])),
    ]
    schema = canonical_schema("foreign", 1, fields)
    batch = encode_batch(blake3_128(schema), 5000, ROWS, columns)
    sys.stdout.buffer.write(frame(32, 0, schema) + frame(33, 1, batch))


if __name__ == "__main__":
    main()
