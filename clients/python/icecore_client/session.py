"""One connection's conversation: attach the devices, send what waits, hear the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from . import events, messages
from .link import Link
from .messages import Ack, Attached, GoAway, Message, Nack, NotRenewed, Pace, Refuse, Renewed, Welcome
from .renewal import Renewal
from .spool import Batch, Spool

_ANSWER_TIMEOUT = 10.0
_WINDOW = 4 * 1024 * 1024
"""Bytes of batches that may be on their way unanswered, over the whole connection."""
_BACKLOG_WINDOW = _WINDOW // 2
"""When this much is on its way, no more backlog is sent: one that is not read leaves room for live data."""


class Attachment:
    """A device as a connection knows it, kept over connections for the time at which to ask again."""

    def __init__(self, name: str, epoch: bytes, spool: Spool) -> None:
        self.name = name
        self.epoch = epoch
        self.spool = spool
        self.alias = 0
        self.attached = False
        self.not_before = 0.0


class Session:
    """What is said over one link, from the welcome on."""

    def __init__(
        self,
        devices: dict[str, Attachment],
        renewal: Renewal,
        patience: float,
        tell: Callable[[events.Event], None],
    ) -> None:
        self._devices = devices
        self._renewal = renewal
        self._patience = patience
        self._tell = tell
        self._link: Link | None = None
        self._by_alias: dict[int, Attachment] = {}
        self._last_alias = 0
        self._welcomed = False
        self._server_ahead = 0.0
        """Seconds by which the server's clock, since 1970, is ahead of the monotonic one here."""
        self._leave_at: float | None = None
        self._pace = 0
        self._pace_until = 0.0
        self._may_send_at = 0.0
        self.wake = asyncio.Event()
        self.retry: float | None = None
        """When to connect again, if the server said so."""
        self.was_useful = False
        """Whether the server has taken a device on."""

    async def run(self, link: Link) -> None:
        """Talks until the link is closed."""
        self._link = link
        link.send_control(messages.hello(time.time_ns()))
        for device in self._devices.values():
            device.alias, device.attached = 0, False
        welcome_by = time.monotonic() + _ANSWER_TIMEOUT
        keep_alive = asyncio.create_task(link.keep_alive(self._answers_due))
        try:
            while link.closed is None:
                now = time.monotonic()
                if not self._welcomed and now >= welcome_by:
                    link.abort("the server does not welcome us")
                if self._leave_at is not None and now >= self._leave_at:
                    link.abort("the server wanted us to go")
                pause = self._work(now)
                try:
                    async with asyncio.timeout(pause):
                        await self.wake.wait()
                except TimeoutError:
                    pass
                self.wake.clear()
        finally:
            keep_alive.cancel()

    def renew(self) -> None:
        """Asks for a new certificate."""
        self._renewal.asked(time.monotonic())
        self._control(messages.renew())

    def leave(self) -> None:
        """Says goodbye and closes."""
        if self._link is not None:
            self._link.send_control(messages.bye())
            self._link.abort("goodbye")

    def _answers_due(self) -> bool:
        return not self._welcomed or self._bytes_in_flight() > 0

    def _bytes_in_flight(self) -> int:
        return sum(device.spool.bytes_in_flight for device in self._devices.values())

    # Out

    def _work(self, now: float) -> float:
        """Does all there is to do now; returns the seconds until there may be more."""
        if self._leave_at is None:
            if self._welcomed and self._renewal.is_due(now + self._server_ahead, now):
                self.renew()
            for device in self._devices.values():
                device.spool.cut(older_than=now)
                if not device.alias and device.not_before <= now:
                    self._attach(device)
            for backlog in (False, True):
                while any([self._send_one(device, backlog, now) for device in self._devices.values()]):
                    pass
        return max(0.0, min(self._deadlines(now)) - now)

    def _deadlines(self, now: float) -> list[float]:
        deadlines = [now + 1.0]
        for device in self._devices.values():
            if not device.alias:
                deadlines.append(device.not_before)
            if (cut := device.spool.next_cut) is not None:
                deadlines.append(cut)
            waiting = [batch for backlog in (False, True) for batch in device.spool.waiting(backlog)]
            deadlines += [batch.not_before for batch in waiting if batch.not_before > now]
        if self._may_send_at > now:
            deadlines.append(self._may_send_at)
        return deadlines

    def _attach(self, device: Attachment) -> None:
        self._last_alias += 1
        device.alias = self._last_alias
        self._by_alias[device.alias] = device
        self._control(messages.attach(device.alias, device.name, device.epoch))

    def _send_one(self, device: Attachment, backlog: bool, now: float) -> bool:
        """Sends the device's next batch of this kind, if there is one that may go now."""
        if not device.attached or self._link is None:
            return False
        batch = next((batch for batch in device.spool.waiting(backlog) if batch.not_before <= now), None)
        if batch is None or not self._may_send(batch, now):
            return False
        device.spool.sent(batch)
        self._link.send_batch(device.alias, batch)
        return True

    def _may_send(self, batch: Batch, now: float) -> bool:
        in_flight = self._bytes_in_flight()
        if in_flight and in_flight + len(batch.payload) > (_BACKLOG_WINDOW if batch.backlog else _WINDOW):
            return False
        if now < self._pace_until:
            if not self._pace or now < self._may_send_at:
                return False
            self._may_send_at = min(self._pace_until, now + len(batch.payload) / self._pace)
        return True

    def _control(self, frame: bytes) -> None:
        if self._link is not None:
            self._link.send_control(frame)

    # In

    def received(self, message: Message) -> None:
        """Takes what the server says."""
        match message:
            case Welcome():
                self._welcomed = True
                self._server_ahead = message.clock / 1e9 - time.monotonic()
                self._tell(events.Connected(message.software))
            case Attached() | Ack() | Nack():
                # What is said of an alias that has ended meanwhile comes too late to matter.
                if device := self._by_alias.get(message.alias):
                    self._answered(device, message)
            case Refuse():
                self._refused(message)
            case Pace():
                self._pace = message.bytes_per_second
                self._pace_until = time.monotonic() + message.seconds
                self._may_send_at = 0.0 if self._pace else self._pace_until
            case GoAway():
                self.retry = message.retry
                self._leave_at = time.monotonic() + _ANSWER_TIMEOUT
            case Renewed():
                self._renewed(message.certificate)
            case NotRenewed():
                self._renewal.refused(message.retry, time.monotonic())
                self._tell(events.NotRenewed(message.code, message.retry, message.message))
        self.wake.set()

    def _answered(self, device: Attachment, message: Attached | Ack | Nack) -> None:
        match message:
            case Attached():
                device.attached = self.was_useful = True
                self._tell(events.Attached(device.name, message.epoch_number))
                for level, known in (3, message.archived), (2, message.stored), (1, message.settled):
                    for batch in device.spool.settle(known):
                        self._tell(events.Acked(device.name, batch.first, batch.end, level))
                device.spool.rewind()
            case Ack():
                device.spool.settle(message.ranges)
                for start, end in message.ranges:
                    self._tell(events.Acked(device.name, start, end, message.level))
            case Nack():
                self._nacked(device, message)

    def _nacked(self, device: Attachment, nack: Nack) -> None:
        batch = device.spool.find(nack.start, nack.end)
        if batch is None:
            return
        about = (device.name, nack.start, nack.end, nack.code)
        if nack.retry is None:
            device.spool.remove(batch)
            self._tell(events.Rejected(*about, nack.message, batch.payload))
        else:
            device.spool.defer(batch, until=time.monotonic() + nack.retry)
            self._tell(events.Deferred(*about, nack.retry, nack.message))

    def _renewed(self, certificate: bytes) -> None:
        try:
            self._renewal.take(certificate)
        except (ValueError, OSError) as error:
            self._tell(events.NotRenewed(None, None, f"the new certificate cannot be used: {error}"))
        else:
            self._tell(events.Renewed(certificate))

    def _refused(self, refuse: Refuse) -> None:
        # "Never" means until something is changed, which cannot be seen from here: ask again, but seldom.
        retry = self._patience if refuse.retry is None else refuse.retry
        if not refuse.alias:
            self.retry = retry
            self._tell(events.Refused(None, refuse.code, refuse.retry, refuse.message))
            if self._link is not None:
                self._link.abort("refused")
        elif device := self._by_alias.pop(refuse.alias, None):
            device.alias, device.attached, device.not_before = 0, False, time.monotonic() + retry
            self._tell(events.Refused(device.name, refuse.code, refuse.retry, refuse.message))
