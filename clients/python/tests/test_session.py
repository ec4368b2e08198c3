"""A conversation with a server that is not there: what goes out, and what comes of the answers."""

from __future__ import annotations

import time
import unittest
from typing import cast

from icecore_client import BatchPolicy, Field, Ranges, Schema, events
from icecore_client.link import Link
from icecore_client.messages import Ack, Attached, Nack, Refuse
from icecore_client.renewal import Renewal
from icecore_client.session import Attachment, Session
from icecore_client.spool import Batch, Spool

BLOB = Schema("blob", 1, (Field("bytes", "bytes"),))
HALF_A_MEGABYTE = 1 << 19


class _Link:
    """Takes note of what is sent."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.closed = None

    def send_control(self, frame: bytes) -> None:
        pass

    def send_batch(self, alias: int, batch: Batch) -> None:
        self.batches.append(batch)

    def abort(self, reason: str, code: int = 0) -> None:
        pass


class Sessions(unittest.TestCase):
    def setUp(self) -> None:
        spool = Spool(BatchPolicy(max_rows=1, max_bytes=1 << 20), max_bytes=1 << 30)
        self.pump = Attachment("pump", bytes(16), spool)
        self.link, self.told = _Link(), list[events.Event]()
        self.session = Session({"pump": self.pump}, cast(Renewal, None), 30.0, self.told.append)
        self.session._link = cast(Link, self.link)

    def record(self, rows: int) -> None:
        for n in range(rows):
            self.pump.spool.record(BLOB, (n, (bytes(HALF_A_MEGABYTE),)))

    def work(self, after: float = 0.0) -> list[Batch]:
        before = len(self.link.batches)
        self.session._work(time.monotonic() + after)
        return self.link.batches[before:]

    def attach(self) -> None:
        self.session._work(time.monotonic())
        self.session.received(Attached(self.pump.alias, 0, Ranges(), Ranges(), Ranges()))

    def test_what_is_new_goes_ahead_of_a_backlog_that_nobody_reads(self) -> None:
        self.record(20)
        self.attach()
        backlog = self.work()
        self.assertTrue(0 < len(backlog) < 8 and all(batch.backlog for batch in backlog))
        self.record(2)
        self.assertEqual([(batch.first, batch.backlog) for batch in self.work()], [(20, False), (21, False)])
        self.session.received(Ack(self.pump.alias, 2, Ranges([(batch.first, batch.end) for batch in backlog])))
        self.session.received(Ack(self.pump.alias, 2, Ranges([(20, 22)])))
        self.record(1)
        self.assertEqual([batch.backlog for batch in self.work()][:2], [False, True])

    def test_who_is_taken_over_comes_back_when_it_may_and_sends_all_again(self) -> None:
        self.attach()
        self.record(2)
        self.assertEqual(len(self.work()), 2)
        first = self.pump.alias
        self.session.received(Refuse(first, 17, 1.0, "another session"))
        self.assertEqual(self.told[-1], events.Refused("pump", 17, 1.0, "another session"))
        self.assertEqual((self.work(after=0.5), self.pump.alias), ([], 0))
        self.session._work(time.monotonic() + 1.5)
        self.assertGreater(self.pump.alias, first)
        self.session.received(Ack(first, 2, Ranges([(0, 2)])))
        self.assertFalse(self.pump.spool.is_empty, "what comes late counts for nothing")
        self.session.received(Attached(self.pump.alias, 0, Ranges([(0, 1)]), Ranges(), Ranges()))
        self.assertEqual([batch.first for batch in self.work()], [1])

    def test_a_deferred_batch_holds_up_no_other(self) -> None:
        self.attach()
        self.record(2)
        self.work()
        self.session.received(Nack(self.pump.alias, 0, 1, 19, 1.0, "no room"))
        self.record(1)
        self.assertEqual([batch.first for batch in self.work(after=0.5)], [2])
        self.assertEqual([batch.first for batch in self.work(after=1.5)], [0])


