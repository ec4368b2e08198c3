"""The client: devices that record, and a connection that is made again whenever it is lost."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from . import events
from .identity import Identity
from .link import LinkClosed, dial
from .renewal import Renewal
from .schema import Schema
from .session import Attachment, Session
from .spool import BatchPolicy, Spool

_MAX_DEVICES = 1024


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait ahead of another attempt: from `min`, doubled at every failure, to `max`."""

    min: float = 0.2
    max: float = 30.0


class Device:
    """A device that this client writes for: its own, or one that its gateway was granted."""

    def __init__(self, client: Client, attachment: Attachment) -> None:
        self._client = client
        self._attachment = attachment

    @property
    def name(self) -> str:
        """The device's name."""
        return self._attachment.name

    @property
    def epoch(self) -> bytes:
        """The incarnation of the device's spool."""
        return self._attachment.epoch

    def record(self, schema: Schema, values: Mapping[str, Any], time_ns: int | None = None) -> None:
        """Takes one event; a field that is not in `values` is null. Without `time_ns` it happens now.

        Raises SpoolFull when there is no room, and ValueError when the values do not fit the schema.
        """
        if unknown := values.keys() - {field.name for field in schema.fields}:
            raise ValueError(f"{schema.name} has no field {', '.join(sorted(unknown))}")
        row = tuple(values.get(field.name) for field in schema.fields)
        if self._attachment.spool.record(schema, (time.time_ns() if time_ns is None else time_ns, row)):
            self._client._wake()


class Client:
    """A connection to a server that is kept up until the client is closed.

    The identity of a device writes for that device; the one of a gateway for those that it was granted, named by `device`.
    """

    def __init__(
        self,
        server: str,
        identity: Identity,
        *,
        batch: BatchPolicy = BatchPolicy(),
        spool_bytes: int = 8 * 1024 * 1024,
        backoff: Backoff = Backoff(),
        on_event: Callable[[events.Event], None] = lambda event: None,
    ) -> None:
        """`server` is HOST:PORT; `spool_bytes` bounds what is kept for each device."""
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"server {server!r}: expected HOST:PORT")
        self._host, self._port = host.strip("[]"), int(port)
        self._renewal = Renewal(identity)
        self._batch = batch
        self._spool_bytes = spool_bytes
        self._backoff = backoff
        self._on_event = on_event
        self._devices: dict[str, Attachment] = {}
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def device(self, name: str | None = None, epoch: bytes | None = None) -> Device:
        """The device `name`, or the one that the identity names.

        The epoch is random unless the caller can do better: who records the same rows in the same order again may give the
        same epoch, and nothing is stored twice.
        """
        name = self._renewal.identity.name if name is None else name
        known = self._devices.get(name)
        if known is None:
            if len(self._devices) == _MAX_DEVICES:
                raise ValueError(f"a connection carries at most {_MAX_DEVICES} devices")
            known = Attachment(name, epoch or os.urandom(16), Spool(self._batch, self._spool_bytes))
            self._devices[name] = known
            self._wake()
        return Device(self, known)

    def record(self, schema: Schema, values: Mapping[str, Any], time_ns: int | None = None) -> None:
        """Takes one event of the device that the identity names; see `Device.record`."""
        self.device().record(schema, values, time_ns)

    async def flush(self, timeout: float | None = None) -> None:
        """Waits until the server has settled all that was recorded; raises TimeoutError after `timeout` seconds."""
        for device in self._devices.values():
            device.spool.cut()
        self._wake()
        async with asyncio.timeout(timeout):
            while not all(device.spool.is_empty for device in self._devices.values()):
                self._progress.clear()
                await self._progress.wait()

    def renew(self) -> None:
        """Asks for a new certificate now. Without this it is asked for when a third of the old one's time is left."""
        if self._session is not None:
            self._session.renew()

    async def close(self) -> None:
        """Ends the connection. What was not flushed is lost."""
        if self._session is not None:
            self._session.leave()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _wake(self) -> None:
        if self._session is not None:
            self._session.wake.set()

    def _tell(self, event: events.Event) -> None:
        self._progress.set()
        self._on_event(event)

    async def _run(self) -> None:
        failures = 0
        while True:
            session = Session(self._devices, self._renewal, self._backoff.max, self._tell)
            closed = await self._talk(session)
            self._session = None
            failures = 0 if session.was_useful else failures + 1
            self._tell(events.Disconnected(str(closed), closed.code))
            pause = min(self._backoff.max, self._backoff.min * 2 ** min(failures, 16))
            # A fleet that lost its server together does not come back together.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0) if session.retry is None else session.retry)

    async def _talk(self, session: Session) -> LinkClosed:
        try:
            identity = self._renewal.identity
            link = await dial(self._host, self._port, identity, session.received, session.wake.set)
        except LinkClosed as closed:
            return closed
        except OSError as error:
            return LinkClosed(f"the server cannot be reached: {error}")
        self._session = session
        await session.run(link)
        return link.closed or LinkClosed("the connection ended")
