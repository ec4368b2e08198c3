"""A client of Icecore in plain Python, written from the protocol's document: small, and meant to be read."""

from . import events
from .client import Backoff, Client, Device
from .identity import Identity, create_request
from .messages import Code, code_name
from .ranges import Ranges
from .schema import Field, Schema
from .spool import BatchPolicy, SpoolFull

__all__ = [
    "Backoff", "BatchPolicy", "Client", "Code", "Device", "Field", "Identity", "Ranges", "Schema", "SpoolFull",
    "code_name", "create_request", "events",
]  # fmt: skip
