"""Frames and messages, beside the golden files."""

from __future__ import annotations

import random
import unittest

from golden_rows import GOLDEN

from icecore_client import Ranges, messages
from icecore_client.frames import FrameReader, ProtocolError, encode_frame

RANGES = Ranges([(0, 100), (200, 0x0102_0304_0506_0708)])


def golden(name: str) -> list[bytes]:
    lines = [line for file in ("messages.txt", "renewal.txt") for line in (GOLDEN / file).read_text().splitlines()]
    return [bytes.fromhex(frame) for of, frame in (line.split() for line in lines) if of == name]


def decoded(frame: bytes) -> messages.Message:
    reader = FrameReader()
    reader.push(frame)
    whole = reader.next()
    assert whole is not None and reader.at_boundary
    return messages.decode(*whole)


class Messages(unittest.TestCase):
    def test_what_the_client_says_is_golden(self) -> None:
        self.assertEqual([messages.attach(1, "plant 7/pump-é", b"0123456789abcdef")], golden("Attach"))
        self.assertEqual([messages.bye()], golden("Bye"))
        self.assertEqual([messages.renew()], golden("Renew"))

    def test_what_the_server_says_is_read(self) -> None:
        (welcome,) = map(decoded, golden("Welcome"))
        self.assertEqual(welcome, messages.Welcome(1, "icecore 0.1.0", 1_700_000_000_000_000_000, 1 << 20, 65_536, 1024))
        (attached,) = map(decoded, golden("Attached"))
        self.assertEqual(attached, messages.Attached(1, 3, RANGES, Ranges([(100, 200)]), Ranges()))
        self.assertEqual([decoded(frame) for frame in golden("Ack")], [messages.Ack(1, level, RANGES) for level in (2, 3, 1)])
        text = "other content under the same sequences"
        nacks = [messages.Nack(1, 300, 400, 8, retry, text) for retry in (None, 1.5)]
        self.assertEqual([decoded(frame) for frame in golden("Nack")], nacks)
        refusals = [messages.Refuse(0, 14, 1.5, "ask the operator"), messages.Refuse(1, 14, None, "ask the operator")]
        self.assertEqual([decoded(frame) for frame in golden("Refuse")], refusals)
        self.assertEqual([decoded(frame) for frame in golden("Pace")], [messages.Pace(1_000_000, 1.5)])
        self.assertEqual([decoded(frame) for frame in golden("GoAway")], [messages.GoAway(1.5, "going down for an update")])
        self.assertEqual(len([decoded(frame) for frame in golden("Renewed") + golden("NotRenewed")]), 2)

    def test_frames_come_in_any_pieces(self) -> None:
        frames = golden("Welcome") + golden("Pace")
        stream, reader, found = b"".join(frames), FrameReader(), 0
        for byte in stream:
            reader.push(bytes([byte]))
            while reader.next():
                found += 1
        self.assertEqual((found, reader.at_boundary), (2, True))

    def test_damage_is_an_error_and_nothing_else(self) -> None:
        frame = golden("Attached")[0]
        for bit in range(len(frame) * 8):
            bad = bytearray(frame)
            bad[bit // 8] ^= 1 << bit % 8
            reader = FrameReader()
            reader.push(bytes(bad))
            with self.subTest(bit=bit):
                # A length that grew waits for more; everything else is refused.
                try:
                    self.assertIsNone(reader.next())
                except ProtocolError:
                    pass

    def test_any_payload_is_read_or_refused(self) -> None:
        chance = random.Random(1)
        for _ in range(5000):
            kind, alias = chance.choice(range(15, 26)), chance.choice((0, 1))
            payload = chance.randbytes(chance.randrange(48)).replace(b"\xff", b"\0")
            try:
                messages.decode(kind, alias, payload)
            except ProtocolError:
                pass

    def test_padding_and_checksum(self) -> None:
        self.assertEqual(len(encode_frame(32, b"x" * 17)) % 16, 0)
