"""When to ask for a new certificate, and what becomes of the answer."""

from __future__ import annotations

from .identity import Identity

_HOUR = 3600.0
"""The shortest time between two questions."""
_DAY = 24 * _HOUR
"""When to ask again a server that said not to before something was changed: an operator may have."""


class Renewal:
    """The identity that connections are made with. It outlives them: so does the time at which the next question may come."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._not_before = 0.0

    def is_due(self, server_time: float, now: float) -> bool:
        """Whether to ask; `server_time` is the server's clock in seconds since 1970, `now` is monotonic."""
        life = self.identity.not_after - self.identity.not_before
        left = self.identity.not_after.timestamp() - server_time
        return now >= self._not_before and left < life.total_seconds() / 3

    def asked(self, now: float) -> None:
        """The question is on its way."""
        self._not_before = now + _HOUR

    def refused(self, retry: float | None, now: float) -> None:
        """The server said no, and when to ask again."""
        self._not_before = now + (_DAY if retry is None else max(retry, _HOUR))

    def take(self, certificate: bytes) -> None:
        """Puts the new certificate in the old one's place, for the next connection on.

        Raises ValueError when it is no use, and OSError when it cannot be kept. The old one stays then.
        """
        self.identity = self.identity.renewed(certificate)
