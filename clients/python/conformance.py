"""The Python client behind the conformance suite's protocol: commands and answers as lines of JSON.

`crates/server/tests/conformance` says what the commands are and runs this program.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import sys
from typing import Any

from icecore_client import Backoff, BatchPolicy, Client, Field, Identity, Schema, events

_LEVELS = {1: "settled", 2: "durable", 3: "archived"}
_NEVER = 3600.0


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _tell(event: events.Event) -> None:
    match event:
        case events.Acked(device, start, end, level):
            _say({"event": "acked", "device": device, "start": start, "end": end, "level": _LEVELS[level]})
        case events.Rejected(device, start, end, code):
            _say({"event": "rejected", "device": device, "start": start, "end": end, "code": code})
        case events.Attached(device, number):
            _say({"event": "attached", "device": device, "epoch_number": number})
        case events.Refused(device, code):
            _say({"event": "refused", "device": device, "code": code})
        case events.Disconnected(reason):
            _say({"event": "disconnected", "device": None, "reason": reason})
        case events.Renewed():
            _say({"event": "renewed", "device": None})
        case events.NotRenewed():
            _say({"event": "not_renewed", "device": None})
        case events.Connected():
            _say({"event": "connected", "device": None})
        case _:
            _say({"event": "other", "device": None, "what": repr(event)})


class Adapter:
    def __init__(self) -> None:
        self.client: Client
        self.schemas: dict[str, Schema] = {}

    async def obey(self, command: dict[str, Any]) -> str:
        match command["do"]:
            case "connect":
                self.client = Client(
                    command["server"],
                    Identity.load(command["identity"]),
                    batch=BatchPolicy(command["max_rows"], command["max_bytes"], _NEVER),
                    spool_bytes=16 * 1024 * 1024,
                    backoff=Backoff(command["backoff_min_ms"] / 1000, command["backoff_max_ms"] / 1000),
                    on_event=_tell,
                )
                await self.client.__aenter__()
            case "attach":
                epoch = command["epoch"]
                self.client.device(command["device"], epoch and bytes.fromhex(epoch))
            case "schema":
                fields = tuple(Field(**field) for field in command["fields"])
                self.schemas[command["schema"]] = Schema(command["name"], command["version"], fields)
            case "record":
                self._record(command)
            case "flush":
                try:
                    await self.client.flush(command["timeout_ms"] / 1000)
                except TimeoutError:
                    return "pending"
            case "close":
                await self.client.close()
            case other:
                raise ValueError(f"there is no command {other}")
        return "ok"

    def _record(self, command: dict[str, Any]) -> None:
        schema, device = self.schemas[command["schema"]], self.client.device(command["device"])
        for time, *cells in command["rows"]:
            pairs = zip(schema.fields, cells)
            device.record(schema, {field.name: _value(field.type, cell) for field, cell in pairs}, time)


def _value(type_: str, cell: Any) -> Any:
    """Floats come as the bits that they are, in hexadecimal; so do bytes."""
    if cell is None:
        return None
    if isinstance(cell, list):
        return [_value(type_.partition("[")[0], item) for item in cell]
    if type_ in ("f64", "f32"):
        return struct.unpack(">d" if type_ == "f64" else ">f", bytes.fromhex(cell))[0]
    return bytes.fromhex(cell) if type_ == "bytes" else cell


async def main() -> None:
    adapter = Adapter()
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        try:
            _say({"answer": await adapter.obey(command)})
        except Exception as error:
            _say({"answer": "error", "message": f"{type(error).__name__}: {error}"})
        if command["do"] == "close":
            break


logging.getLogger("quic").setLevel(logging.CRITICAL)  # what ends a connection is told as an event
asyncio.run(main())
