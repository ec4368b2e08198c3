"""A server's directory for tests, made with the `icecore` binary that `ICECORE_BIN` names."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
JANUARY = ROOT / "testdata" / "fixtures" / "january.csv"
PATIENCE = 90.0


class Site:
    """Configuration, certificates and a log, which goes with the value."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self._directory.name)
        self.data = self.path / "data"
        self.config = self.path / "icecore.toml"
        self.bucket = self.path / "bucket"
        self._run("init", "--dir", str(self.path))
        self._run("device", "enroll", "gw", "--gateway-for", "*", "--out", str(self.path / "gw"))

    def close(self) -> None:
        self._directory.cleanup()

    def keep_cold_in_bucket(self) -> None:
        """Adds a store called `archive`, a directory."""
        with self.config.open("a") as file:
            file.write(f'\n[store.archive]\nurl = "file://{self.bucket}"\n')

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """A server on free ports, which seals and moves what is due every second; gives the address of its QUIC port."""
        environment = {"SEAL__AFTER": "1s", "TIER__INTERVAL": "1s", "LISTEN__QUIC": "127.0.0.1:0", "LISTEN__HTTP": "127.0.0.1:0"}
        server = subprocess.Popen(
            [_binary(), "--config", str(self.config), "--log-format", "json", "serve"],
            stderr=subprocess.PIPE,
            env={**os.environ, **{f"ICECORE__{key}": value for key, value in environment.items()}},
        )
        try:
            assert server.stderr is not None
            for line in server.stderr:
                with contextlib.suppress(json.JSONDecodeError):
                    said = json.loads(line)
                    if said.get("message") == "ready":
                        yield str(said["quic"])
                        break
            else:
                raise AssertionError("the server did not get ready")
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=PATIENCE)

    def send(self, address: str, schema: str, file: pathlib.Path = JANUARY) -> None:
        identity = str(self.path / "gw")
        self._run("send", str(file), "--schema", schema, "--server", address, "--identity", identity)

    def seal(self) -> None:
        """Seals what is there: a server that starts finishes the segment of the one before."""
        with self.serving():
            wait_until(lambda: any((self.data / "sealed").glob("*.ice")), "a sealed segment")

    def _run(self, *arguments: str) -> str:
        command = [_binary(), "--config", str(self.config), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def _binary() -> str:
    return os.environ["ICECORE_BIN"]
