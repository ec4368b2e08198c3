"""What a client tells its owner, through `on_event`. Times are in seconds; a device is named, a connection is None."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Connected:
    """The server has welcomed the client."""

    server: str


@dataclass(frozen=True)
class Attached:
    """The server takes batches of the device."""

    device: str
    epoch_number: int


@dataclass(frozen=True)
class Acked:
    """Sequences reached a level: 1 settled, 2 durable, 3 archived."""

    device: str
    start: int
    end: int
    level: int


@dataclass(frozen=True)
class Rejected:
    """A batch was refused for good; it is no longer kept here."""

    device: str
    start: int
    end: int
    code: int
    message: str
    payload: bytes


@dataclass(frozen=True)
class Deferred:
    """A batch is to come again later, and will."""

    device: str
    start: int
    end: int
    code: int
    retry: float
    message: str


@dataclass(frozen=True)
class Refused:
    """The device, or the whole connection, was turned away; retry None: until something is changed.

    The client asks again all the same, at its slowest pace: what has to be changed can only be changed elsewhere.
    """

    device: str | None
    code: int
    retry: float | None
    message: str


@dataclass(frozen=True)
class Disconnected:
    """A connection ended, or could not be made. `code` is the server's, where it gave one."""

    reason: str
    code: int | None = None


@dataclass(frozen=True)
class Renewed:
    """A new certificate (DER) was written to the identity's directory, and counts from the next connection on."""

    certificate: bytes


@dataclass(frozen=True)
class NotRenewed:
    """The certificate in use stays the one there is. Code None: one came, and is no use."""

    code: int | None
    retry: float | None
    message: str


Event = Connected | Attached | Acked | Rejected | Deferred | Refused | Disconnected | Renewed | NotRenewed
