"""Hashes, ranges and the spool."""

from __future__ import annotations

import unittest

from icecore_client import BatchPolicy, Field, Ranges, Schema, SpoolFull
from icecore_client.hashes import blake3, crc32c
from icecore_client.spool import Spool

SCHEMA = Schema("s", 1, (Field("x", "i64"),))


class Hashes(unittest.TestCase):
    def test_crc32c(self) -> None:
        self.assertEqual(crc32c(b""), 0)
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)

    def test_blake3_of_the_official_vectors(self) -> None:
        for length, expected in (
            (0, "af1349b9f5f9a1a6a0404dea36dcc949"),
            (1, "2d3adedff11b61f14c886e35afa03673"),
            (1024, "42214739f095a406f3fc83deb889744a"),
            (1025, "d00278ae47eb27b34faecf67b4fe263f"),
            (2048, "e776b6028c7cd22a4d0ba182a8bf6220"),
            (3073, "7124b49501012f81cc7f11ca069ec922"),
            (31_744, "62b6960e1a44bcc1eb1a611a8d6235b6"),
        ):
            with self.subTest(length):
                self.assertEqual(blake3(bytes(i % 251 for i in range(length)))[:16].hex(), expected)


class RangeSets(unittest.TestCase):
    def test_neighbours_are_joined(self) -> None:
        ranges = Ranges([(10, 20), (0, 5), (5, 10), (30, 40)])
        self.assertEqual(list(ranges), [(0, 20), (30, 40)])
        self.assertTrue(ranges.cover(3, 18))
        self.assertFalse(ranges.cover(18, 31))
        self.assertEqual(list(ranges | Ranges([(20, 30)])), [(0, 40)])


class Spools(unittest.TestCase):
    def spool(self, rows: int) -> Spool:
        spool = Spool(BatchPolicy(max_rows=10), max_bytes=4096)
        for n in range(rows):
            spool.record(SCHEMA, (n, (n,)))
        return spool

    def test_rows_become_batches_without_gaps(self) -> None:
        spool = self.spool(25)
        spool.cut()
        self.assertEqual([(batch.first, batch.end) for batch in spool.waiting(backlog=False)], [(0, 10), (10, 20), (20, 25)])

    def test_what_the_server_has_is_not_sent_again(self) -> None:
        spool = self.spool(30)
        for batch in list(spool.waiting(backlog=False)):
            spool.sent(batch)
        self.assertGreater(spool.bytes_in_flight, 0)
        self.assertEqual(len(spool.settle(Ranges([(0, 10), (20, 30)]))), 2)
        spool.rewind()
        self.assertEqual([batch.first for batch in spool.waiting(backlog=True)], [10])
        self.assertEqual(list(spool.waiting(backlog=False)), [])
        self.assertEqual(spool.bytes_in_flight, 0)
        spool.settle(Ranges([(10, 20)]))
        self.assertTrue(spool.is_empty)

    def test_a_full_spool_says_so_and_has_room_again(self) -> None:
        spool = self.spool(0)
        with self.assertRaises(SpoolFull):
            for n in range(10_000):
                spool.record(SCHEMA, (n, (n,)))
        spool.settle(Ranges([(0, 10_000)]))
        spool.record(SCHEMA, (0, (0,)))
