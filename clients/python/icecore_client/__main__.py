"""`python -m icecore_client`: make a key to be enrolled, send a CSV file."""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

from . import BatchPolicy, Client, Device, Field, Identity, Schema, SpoolFull, code_name, create_request, events

_BATCH = BatchPolicy(max_age=3600.0)  # cut by the rows alone: the same file gives the same batches
_NAMES = ("device", "timestamp")


def main() -> int:
    parser = argparse.ArgumentParser(prog="icecore_client", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    csr = commands.add_parser("csr", help="make a key and a request for `icecore device enroll --csr`")
    csr.add_argument("name", metavar="NAME")
    csr.add_argument("--out", required=True, metavar="DIR", help="directory of the identity")
    send = commands.add_parser("send", help="send a CSV file with a column `timestamp` and, for a gateway, `device`")
    send.add_argument("file", type=Path, metavar="FILE.csv")
    send.add_argument("--server", required=True, metavar="HOST:PORT")
    send.add_argument("--identity", required=True, metavar="DIR")
    send.add_argument("--schema", required=True, metavar="NAME")
    args = parser.parse_args()
    try:
        if args.command == "csr":
            print(f"made a key; have {create_request(args.name, args.out)} signed, and put ca.pem and cert.pem beside it")
            return 0
        return asyncio.run(_send(args.file, args.server, Identity.load(args.identity), args.schema))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


async def _send(file: Path, server: str, identity: Identity, schema_name: str) -> int:
    content = file.read_bytes()
    rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines(keepends=True), strict=True))
    if not rows:
        raise ValueError(f"{file} has no rows")
    columns = [name for name in rows[0] if name not in _NAMES]
    types = {name: _type_of([row[name] for row in rows]) for name in columns}
    schema = Schema(schema_name, 1, tuple(Field(name, types[name], nullable=True) for name in columns))
    rejected = 0

    def tell(event: events.Event) -> None:
        nonlocal rejected
        match event:
            case events.Rejected(device, start, end, code, message):
                rejected += end - start
                print(f"{device} {start}..{end} was rejected: {code_name(code)}: {message}", file=sys.stderr)
            case events.Refused(device, code, _, message):
                print(f"{device or 'the connection'} was refused: {code_name(code)}: {message}", file=sys.stderr)
            case events.Disconnected(reason):
                print(f"disconnected: {reason}", file=sys.stderr)

    async with Client(server, identity, batch=_BATCH, on_event=tell) as client:
        for row in rows:
            name = row.get("device") or identity.name
            # The same file again is the same epoch again: what the server has of it is not stored twice.
            epoch = hashlib.blake2b(content + schema.id + name.encode(), digest_size=16).digest()
            values = {field: _value(row[field], types[field]) for field in columns}
            await _record(client, client.device(name, epoch), schema, values, _instant(row["timestamp"]))
        await client.flush()
    print(f"{len(rows) - rejected} rows durable, {rejected} rejected")
    return 1 if rejected else 0


async def _record(client: Client, device: Device, schema: Schema, values: dict[str, object], time_ns: int) -> None:
    try:
        device.record(schema, values, time_ns)
    except SpoolFull:
        await client.flush()
        device.record(schema, values, time_ns)


def _type_of(cells: list[str]) -> str:
    for type_, convert in (("i64", _integer), ("f64", float)):
        try:
            for cell in cells:
                if cell:
                    convert(cell)
            return type_
        except ValueError:
            pass
    return "text"


def _integer(cell: str) -> int:
    value = int(cell)
    if str(value) != cell or not -(2**63) <= value < 2**63:
        raise ValueError(f"{cell} would not come back as it is")
    return value


def _value(cell: str, type_: str) -> object:
    if not cell:
        return None
    return {"i64": int, "f64": float, "text": str}[type_](cell)


def _instant(cell: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time, or of a number of nanoseconds."""
    if re.fullmatch(r"-?\d+", cell):
        return int(cell)
    parts = re.fullmatch(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", cell, re.ASCII)
    if parts is None:
        raise ValueError(f"timestamp {cell!r}: expected RFC 3339, or nanoseconds since 1970")
    moment = datetime.fromisoformat(parts[1] + parts[3].upper().replace("Z", "+00:00"))
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((parts[2] or "0").ljust(9, "0"))


if __name__ == "__main__":
    sys.exit(main())
