"""Writes one batch stream (a schema and one plain batch of all column types) to standard output.

A test of `crates/wire` reads it: what this client writes is a valid batch.
"""

from __future__ import annotations

import sys

from golden_rows import ROWS, SCHEMA, row

from icecore_client import messages
from icecore_client.batch import encode_batch

payload = encode_batch(SCHEMA, 1000, [row(i) for i in range(ROWS)], time_uncertain=True)
sys.stdout.buffer.write(messages.schema(SCHEMA.canonical) + messages.batch(1, payload))
