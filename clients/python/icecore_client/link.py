"""One QUIC connection: frames out on the control stream and the batch streams, frames in from the control stream."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from . import messages
from .frames import FrameReader, ProtocolError
from .identity import Identity
from .messages import Code, Message
from .spool import Batch

ALPN = "icecore/1"
_HANDSHAKE_TIMEOUT = 10.0
_IDLE_TIMEOUT = 60.0
_PING_EVERY = 2.0
"""Seconds between two signs of life while answers are due; otherwise ten times as long, for the sake of NATs."""
_DEAD_AFTER = 5.0
"""Seconds without a sign of life after which a path is given up."""
_SCHEMAS_REMEMBERED = 256


class LinkClosed(Exception):
    """The connection is no more. `code` is what the server closed it with, if it did."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class _BatchStream:
    """A stream of batches, and the schemas that were announced on it."""

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self._announced: dict[bytes, None] = {}

    def announces(self, schema_id: bytes) -> bool:
        """Whether the schema has to be announced now. The oldest announcement is forgotten for it, as the server does."""
        if schema_id in self._announced:
            return False
        if len(self._announced) == _SCHEMAS_REMEMBERED:
            del self._announced[next(iter(self._announced))]
        self._announced[schema_id] = None
        return True


class Link(QuicConnectionProtocol):
    """A connection to a server. `on_message` hears what the server says, `on_closed` that it ended."""

    def __init__(
        self, quic: QuicConnection, on_message: Callable[[Message], None], on_closed: Callable[[], None]
    ) -> None:
        super().__init__(quic)
        self._on_message = on_message
        self._on_closed = on_closed
        self._frames = FrameReader()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._control = 0
        self._live: _BatchStream | None = None
        self._backlog: _BatchStream | None = None
        self.closed: LinkClosed | None = None

    def send_control(self, frame: bytes) -> None:
        """Sends a frame on the control stream."""
        self._send(self._control, frame)

    def send_batch(self, alias: int, batch: Batch) -> None:
        """Sends a batch, live or as backlog, after its schema if that stream has not carried it yet."""
        if batch.backlog:
            if self._backlog is None:
                self._backlog = self._open_batch_stream()
                self._send(self._backlog.id, messages.backlog())
            stream = self._backlog
        else:
            if self._live is None:
                self._live = self._open_batch_stream()
            stream = self._live
        if stream.announces(batch.schema.id):
            self._send(stream.id, messages.schema(batch.schema.canonical))
        self._send(stream.id, messages.batch(alias, batch.payload))

    def abort(self, reason: str, code: int = 0) -> None:
        """Closes the connection without waiting for anybody."""
        if self.closed is None:
            self.close(code, reason[:200])
            self._end(LinkClosed(reason))

    async def opened(self) -> None:
        """Waits for the end of the handshake; raises LinkClosed when there is none."""
        try:
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT):
                await self._ready
        except TimeoutError:
            self.abort("the server does not answer")
            raise self.closed or LinkClosed("the server does not answer") from None
        self._control = self._quic.get_next_available_stream_id()

    async def keep_alive(self, answers_due: Callable[[], bool]) -> None:
        """Notices a path that has died in silence."""
        quiet = 0
        while self.closed is None:
            await asyncio.sleep(_PING_EVERY)
            quiet += 1
            if not answers_due() and quiet < 10:
                continue
            quiet = 0
            try:
                async with asyncio.timeout(_DEAD_AFTER):
                    await self.ping()
            except TimeoutError:
                self.abort("the server is silent")
            except ConnectionError:
                return

    def _open_batch_stream(self) -> _BatchStream:
        return _BatchStream(self._quic.get_next_available_stream_id(is_unidirectional=True))

    def _send(self, stream: int, data: bytes) -> None:
        if self.closed is None:
            self._quic.send_stream_data(stream, data)
            self._transmit_soon()

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case HandshakeCompleted():
                if not self._ready.done():
                    self._ready.set_result(None)
            case ConnectionTerminated(error_code=code, frame_type=frame_type, reason_phrase=reason):
                # Only the closing of an application has no type of frame to blame.
                if frame_type is None and code:
                    self._end(LinkClosed(f"{messages.code_name(code)}: {reason}", code))
                else:
                    self._end(LinkClosed(reason or "the connection was closed"))
            case StreamReset() | StopSendingReceived():
                self.abort("the server broke off a stream", Code.protocol_violation)
            case StreamDataReceived(data=data, end_stream=ended):
                self._received(data, ended)

    def _received(self, data: bytes, ended: bool) -> None:
        self._frames.push(data)
        try:
            while self.closed is None and (frame := self._frames.next()):
                self._on_message(messages.decode(*frame))
        except ProtocolError as error:
            self.abort(f"the server broke a rule: {error}", Code.protocol_violation)
        if ended:
            whole = "" if self._frames.at_boundary else " in the middle of a frame"
            self.abort(f"the server ended the control stream{whole}")

    def error_received(self, exc: Exception) -> None:
        # Nobody listens there (any more): the socket is connected, so this is about our server.
        self.abort(f"the server cannot be reached: {exc}")

    def _end(self, closed: LinkClosed) -> None:
        if self.closed is not None:
            return
        self.closed = closed
        if not self._ready.done():
            self._ready.set_exception(closed)
        self._loop.call_later(0.5, self._release)
        self._on_closed()

    def _release(self) -> None:
        """Lets go of the socket, once the last datagram had time to leave."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()


async def dial(
    host: str, port: int, identity: Identity, on_message: Callable[[Message], None], on_closed: Callable[[], None]
) -> Link:
    """Connects and shows the identity's certificate; raises LinkClosed or OSError."""
    configuration = QuicConfiguration(alpn_protocols=[ALPN], server_name=host, idle_timeout=_IDLE_TIMEOUT)
    configuration.load_verify_locations(cafile=str(identity.directory / "ca.pem"))
    configuration.load_cert_chain(identity.directory / "cert.pem", identity.directory / "key.pem")
    configuration.verify_mode = ssl.CERT_REQUIRED
    quic = QuicConnection(configuration=configuration)
    loop = asyncio.get_running_loop()
    transport, link = await loop.create_datagram_endpoint(
        lambda: Link(quic, on_message, on_closed), remote_addr=(host, port)
    )
    link.connect(transport.get_extra_info("peername"))
    await link.opened()
    return link
