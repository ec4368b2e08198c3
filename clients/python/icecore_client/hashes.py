"""The two hashes of the protocol, in plain Python: CRC32C for frames, BLAKE3 for the names of schemas."""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC32C (Castagnoli), as iSCSI uses it."""
    crc = _MASK
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ _MASK


_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_COLUMNS_THEN_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
_CHUNK, _BLOCK = 1024, 64
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8

_Words = tuple[int, ...]


def _compress(chain: _Words, block: bytes, counter: int, flags: int) -> _Words:
    words: _Words = struct.unpack("<16I", block.ljust(_BLOCK, b"\0"))
    state = [*chain, *_IV[:4], counter & _MASK, counter >> 32, len(block), flags]
    for _ in range(7):
        for lane, (a, b, c, d) in enumerate(_COLUMNS_THEN_DIAGONALS):
            for word, turn_d, turn_b in ((words[2 * lane], 16, 12), (words[2 * lane + 1], 8, 7)):
                state[a] = state[a] + state[b] + word & _MASK
                x = state[d] ^ state[a]
                state[d] = (x >> turn_d | x << 32 - turn_d) & _MASK
                state[c] = state[c] + state[d] & _MASK
                x = state[b] ^ state[c]
                state[b] = (x >> turn_b | x << 32 - turn_b) & _MASK
        words = tuple(words[i] for i in _PERMUTATION)
    return tuple(state[i] ^ state[i + 8] for i in range(8))


def _chunk(data: bytes, number: int, root: int) -> _Words:
    blocks = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)] or [b""]
    chain: _Words = _IV
    for index, block in enumerate(blocks):
        start = _CHUNK_START if index == 0 else 0
        end = _CHUNK_END | root if index == len(blocks) - 1 else 0
        chain = _compress(chain, block, number, start | end)
    return chain


def _tree(data: bytes, first_chunk: int, root: int) -> _Words:
    if len(data) <= _CHUNK:
        return _chunk(data, first_chunk, root)
    # The left side is the largest power of two of chunks that leaves something for the right one.
    left_chunks = 1 << ((len(data) - 1) // _CHUNK).bit_length() - 1
    cut = left_chunks * _CHUNK
    children = _tree(data[:cut], first_chunk, 0) + _tree(data[cut:], first_chunk + left_chunks, 0)
    return _compress(_IV, struct.pack("<16I", *children), 0, _PARENT | root)


def blake3(data: bytes) -> bytes:
    """BLAKE3 of `data`, 32 bytes."""
    return struct.pack("<8I", *_tree(data, 0, _ROOT))
