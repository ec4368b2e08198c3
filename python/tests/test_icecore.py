"""What the package reads is what was sent, in pandas, polars, DuckDB and PyArrow, wherever it lies; and what it says where that is not so."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import pathlib
import re
import shutil
import signal
import socket
import threading
import unittest
from collections.abc import Callable

import duckdb
import icecore
import pandas
import polars
import pyarrow

from sites import JANUARY, ROOT, Site, wait_until

WEATHER = ROOT / "testdata" / "nyc_weather.csv.gz"
SENT = pandas.read_csv(JANUARY, parse_dates=["timestamp"])
UTC = datetime.timezone.utc
#: Events of station/alpha are deleted, all others are in object storage only.
POLICIES = """
[[policy]]
name   = "short"
match  = { device = "station/alpha" }
delete = { after = "2s", undo = "1s" }

[[policy]]
name   = "rest"
cold   = [{ after = "1s", store = "archive" }]
local  = { drop_after = "2s" }
delete = "never"
"""


def frame(scan: icecore.Scan) -> pandas.DataFrame:
    return pandas.DataFrame.from_arrow(scan)


def key(rows: pandas.DataFrame) -> list[tuple[str, int, float]]:
    times = pandas.to_datetime(rows["event_time"], utc=True).astype("datetime64[ns, UTC]").astype("int64")
    return sorted(zip(rows["device"].astype(str), times, rows["temperature"].fillna(-999.0)))


EXPECTED = key(SENT.rename(columns={"timestamp": "event_time"}))


class Hot(unittest.TestCase):
    """A log that is not sealed yet, read beside its server."""

    site: Site
    log: icecore.Log

    @classmethod
    def setUpClass(cls) -> None:
        cls.site = Site()
        cls.addClassCleanup(cls.site.close)
        address = cls.enterClassContext(cls.site.serving())
        cls.site.send(address, "weather")
        cls.site.send(address, "quakes", ROOT / "testdata" / "usgs_quakes.csv.gz")
        cls.log = icecore.open(cls.site.data)

    def test_every_library_takes_a_scan_as_it_is(self) -> None:
        scan = self.log.scan("weather")
        self.assertIsNone(scan.coverage)
        self.assertEqual(key(frame(scan)), EXPECTED)
        assert scan.coverage is not None
        self.assertTrue(scan.coverage.complete)
        self.assertEqual(repr(scan.coverage), "62 events present, nothing missing")
        # Whoever takes it again reads again.
        self.assertEqual(key(polars.DataFrame(scan).to_pandas()), EXPECTED)
        self.assertEqual(key(pyarrow.table(scan).to_pandas()), EXPECTED)
        self.assertEqual(key(duckdb.execute("SELECT * FROM scan").df()), EXPECTED)
        means = duckdb.execute("SELECT device, avg(temperature) FROM scan GROUP BY device ORDER BY device").fetchall()
        for (device, mean), known in zip(means, SENT.groupby("device")["temperature"].mean().items(), strict=True):
            self.assertEqual(device, known[0])
            self.assertAlmostEqual(mean, known[1])

    def test_columns_tell_types_units_and_kinds(self) -> None:
        schema = pyarrow.schema(self.log.scan("weather", columns=["Temperature", "event_time", "device"]))
        self.assertEqual(schema.names, ["temperature", "event_time", "device"])
        self.assertEqual(schema.field("event_time").type, pyarrow.timestamp("ns", "UTC"))
        self.assertEqual(schema.field("temperature").metadata[b"icecore.kind"], b"gauge")
        known = {schema.name: schema for schema in self.log.schemas()}
        self.assertEqual(sorted(known), ["quakes", "weather"])
        fields = [(field.name, field.type, field.kind) for field in known["weather"].fields]
        self.assertIn(("pressure", "f64", "gauge"), fields)
        self.assertIn("pressure: f64 gauge", repr(known["weather"]))

    def test_only_what_is_asked_for_is_read(self) -> None:
        rows = frame(self.log.scan("weather", devices=["station/beta"], where=["temperature>=2", "pressure<1025"]))
        beta = SENT[SENT["device"] == "station/beta"]
        expected = beta[(beta["temperature"] >= 2) & (beta["pressure"] < 1025)]
        self.assertTrue(0 < len(expected) < len(beta))
        self.assertEqual(sorted(rows["temperature"]), sorted(expected["temperature"]))
        self.assertEqual(len(frame(self.log.scan("weather", devices="*/alpha"))), 31)
        self.assertEqual(len(frame(self.log.scan("weather", where="temperature>=1000"))), 0)

    def test_times_are_given_as_python_has_them(self) -> None:
        day = datetime.datetime(2026, 1, 2, tzinfo=UTC)
        forms = [
            day,
            day.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
            datetime.date(2026, 1, 2),
            pandas.Timestamp(day),
            "2026-01-02",
            "2026-01-02T01:00:00+01:00",
            int(day.timestamp()) * 10**9,
        ]
        for start in forms:
            rows = frame(self.log.scan("weather", start=start, end=day + datetime.timedelta(days=2)))
            self.assertEqual(len(rows), 4, start)
        # To the nanosecond.
        first = pandas.Timestamp(SENT["timestamp"].min())
        for offset, expected in [(0, 0), (1, 2)]:
            self.assertEqual(len(frame(self.log.scan("weather", end=first + pandas.Timedelta(offset, "ns")))), expected)
        # Nothing had been received before the server was there.
        self.assertEqual(len(frame(self.log.scan("weather", known_at=day))), 0)

    def test_orders(self) -> None:
        times = frame(self.log.scan("quakes", order="time", columns=["event_time"]))["event_time"]
        self.assertTrue(times.is_monotonic_increasing)
        positions = frame(self.log.scan("quakes", order="log", columns=["position"]))["position"]
        self.assertTrue(positions.is_monotonic_increasing)
        self.assertFalse(frame(self.log.scan("quakes", order="log"))["event_time"].is_monotonic_increasing)

    def test_batches_one_by_one(self) -> None:
        batches = list(self.log.scan("weather", order="time"))
        self.assertEqual(sum(len(batch) for batch in batches), 62)
        self.assertEqual(key(pandas.concat([pandas.DataFrame.from_arrow(batch) for batch in batches])), EXPECTED)
        self.assertEqual(pyarrow.record_batch(batches[0]).num_rows, len(batches[0]))
        # Whoever takes only some does not read the others.
        self.assertIn("temperature", next(iter(self.log.scan("weather"))).columns)

    def test_states_are_a_table(self) -> None:
        table = pandas.DataFrame.from_arrow(self.log.state_at(devices="station/*"))
        rows = table[table["field"] == "temperature"].set_index("device")
        self.assertEqual(list(rows["kind"]), ["gauge", "gauge"])
        for device, sent in SENT.groupby("device"):
            self.assertEqual(rows["last"][device], sent["temperature"].iloc[-1])
            self.assertEqual(rows["max"][device], sent["temperature"].max())
            self.assertAlmostEqual(rows["mean"][device], sent["temperature"].mean())
        noon = datetime.datetime(2026, 1, 10, 12, tzinfo=UTC)
        known = self.log.state_at(noon, devices=["station/alpha"])
        last = duckdb.execute("SELECT \"last\", last_time FROM known WHERE field = 'temperature'").fetchall()
        before = SENT[(SENT["device"] == "station/alpha") & (SENT["timestamp"] <= noon)]
        self.assertEqual([value for value, _ in last], [before["temperature"].iloc[-1]])
        self.assertEqual(len(self.log.state_at(known_at="2026-01-01")), 0)

    def test_mistakes_are_named(self) -> None:
        day = datetime.datetime(2026, 1, 2)
        broken = self.site.path / "broken.toml"
        broken.write_text("[data\n")
        mistakes: list[tuple[Callable[[], object], type[Exception], str]] = [
            (lambda: self.log.scan("wether"), icecore.IcecoreError, "no schema wether; did you mean weather?"),
            (lambda: self.log.scan("weather", columns=["temprature"]), icecore.IcecoreError, "did you mean temperature?"),
            (lambda: self.log.scan("weather", devices="nobody"), icecore.IcecoreError, "no device that was asked for"),
            (lambda: self.log.scan("weather", where="temperature~3"), ValueError, "is not a comparison"),
            (lambda: self.log.scan("weather", start=day), ValueError, "has no time zone"),
            (lambda: self.log.scan("weather", start="yesterday"), ValueError, "is not a time"),
            (lambda: self.log.scan("weather", start=3.5), TypeError, "a time is a datetime"),  # type: ignore[arg-type]
            (lambda: self.log.scan("weather", start=2**63), OverflowError, "1677 to 2262"),
            (lambda: self.log.scan("weather", order="random"), ValueError, "order is"),  # type: ignore[arg-type]
            (lambda: self.log.scan("*"), ValueError, "a scan is of one schema"),
            (lambda: icecore.open(self.site.path / "nowhere"), icecore.IcecoreError, "holds no log"),
            (lambda: icecore.open(f"file://{self.site.path}/empty"), icecore.IcecoreError, "nothing was archived in"),
            (lambda: icecore.open(broken), icecore.IcecoreError, "cannot read the configuration .*broken.toml: TOML parse error"),
            (lambda: icecore.open("ftp://example"), icecore.IcecoreError, "is no place for objects"),
            (lambda: icecore.open(self.site.data, schemas="nowhere"), icecore.IcecoreError, "no directory of schema files"),
        ]
        for make, error, message in mistakes:
            with self.subTest(message), self.assertRaisesRegex(error, message.replace("?", r"\?")):
                make()
        # What is wrong only as it is read comes through whoever reads.
        with self.assertRaisesRegex(icecore.IcecoreError, "device holds no numbers"):
            list(self.log.scan("weather", where="device>3"))
        with self.assertRaisesRegex(Exception, "device holds no numbers"):
            pyarrow.table(self.log.scan("weather", where="device>3"))

    def test_a_store_that_does_not_answer_can_be_interrupted(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            options = {"endpoint": f"http://127.0.0.1:{port}", "allow_http": "true", "region": "here"}
            options |= {"access_key_id": "nobody", "secret_access_key": "nothing"}
            # Whoever starts the tests in the background has it ignored.
            self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            with self.assertRaises(KeyboardInterrupt):
                icecore.open("s3://bucket/prefix", store_options=options)


class Sealed(unittest.TestCase):
    """A log that is sealed, and damaged."""

    def test_damage_is_named_and_read_around_on_demand(self) -> None:
        site = Site()
        self.addCleanup(site.close)
        with site.serving() as address:
            site.send(address, "weather", WEATHER)
        site.seal()
        sent = len(pandas.read_csv(WEATHER))
        self.assertEqual(len(frame(icecore.open(site.data).scan("weather"))), sent)
        [segment] = (site.data / "sealed").glob("*.ice")
        content = bytearray(segment.read_bytes())
        content[len(content) // 3] ^= 1
        segment.write_bytes(content)
        log = icecore.open(site.data)
        with self.assertRaisesRegex(icecore.IcecoreError, f"{segment.name}.*skip_damaged=True"):
            list(log.scan("weather"))
        scan = log.scan("weather", skip_damaged=True)
        with self.assertWarnsRegex(icecore.IncompleteWarning, "events damaged in"):
            rows = frame(scan)
        assert scan.coverage is not None
        self.assertTrue(0 < len(rows) < sent, len(rows))
        self.assertEqual(scan.coverage.present, len(rows))
        self.assertIn(segment.name, scan.coverage.damage[0])
        with self.assertRaisesRegex(icecore.IncompleteError, "not everything that was asked for"):
            list(log.scan("weather", skip_damaged=True, require_complete=True))


class Tiers(unittest.TestCase):
    """A log of which half is deleted by policy, and the rest in object storage only."""

    site: Site

    @classmethod
    def setUpClass(cls) -> None:
        cls.site = Site()
        cls.addClassCleanup(cls.site.close)
        cls.site.keep_cold_in_bucket()
        (cls.site.path / "retention.toml").write_text(POLICIES)
        with cls.site.serving() as address:
            cls.site.send(address, "weather")
        with cls.site.serving():
            wait_until(cls.is_deleted, "a deletion that is on record")
            wait_until(lambda: not list((cls.site.data / "sealed").glob("*.ice")), "no events here")

    @classmethod
    def is_deleted(cls) -> bool:
        try:
            return bool(icecore.open(f"file://{cls.site.bucket}").coverage("weather").deleted)
        except icecore.IcecoreError:
            return False

    def logs(self) -> list[icecore.Log]:
        """The same, opened in every way."""
        url = f"file://{self.site.bucket}"
        shutil.rmtree(self.site.data / "cache", ignore_errors=True)
        return [icecore.open(self.site.config), icecore.open(str(self.site.data), stores={"archive": url}), icecore.open(url)]

    def test_what_is_deleted_is_told_and_the_rest_is_read(self) -> None:
        beta = [row for row in EXPECTED if row[0] == "station/beta"]
        for log in self.logs():
            scan = log.scan("weather")
            with self.subTest(log), self.assertWarnsRegex(icecore.IncompleteWarning, "deleted by policy `short`"):
                self.assertEqual(key(frame(scan)), beta)
            assert scan.coverage is not None
            self.assertFalse(scan.coverage.complete)
            [deleted] = scan.coverage.deleted
            self.assertEqual((deleted.events, deleted.why), (31, "short"))
            self.assertEqual(log.coverage("weather").missing, scan.coverage.missing)
            self.assertEqual([deleted.events for deleted in log.coverage().deleted], [31])
            complete = log.scan("weather", require_complete=True)
            with self.assertRaisesRegex(icecore.IncompleteError, "deleted by policy `short`"):
                list(complete)
            with self.assertRaisesRegex(Exception, "deleted by policy `short`"):
                pyarrow.table(complete)

    def test_states_are_exact_or_refused(self) -> None:
        for log in self.logs():
            table = pandas.DataFrame.from_arrow(log.state_at())
            rows = table[table["field"] == "temperature"].set_index("device")
            for device, sent in SENT.groupby("device"):
                self.assertEqual(rows["max"][device], sent["temperature"].max(), log)
            with self.assertRaisesRegex(icecore.IcecoreError, "not exact: .* deleted by policy `short`.* exact from"):
                log.state_at("2026-01-10T12:00:00Z")
        # Where the catalog tells what was in the segment, only those are refused whose events it had.
        known = self.logs()[0].state_at("2026-01-10T12:00:00Z", devices="station/beta")
        self.assertEqual({*pandas.DataFrame.from_arrow(known)["device"]}, {"station/beta"})

    def test_a_store_that_is_not_known_is_named(self) -> None:
        shutil.rmtree(self.site.data / "cache", ignore_errors=True)
        with self.assertRaisesRegex(icecore.IcecoreError, r"store `archive`, which is not configured"):
            list(icecore.open(self.site.data).scan("weather"))
        with self.assertRaisesRegex(icecore.IcecoreError, "names its own stores"):
            icecore.open(self.site.config, stores={"archive": "file:///x"})

    def test_a_segment_that_is_missing_is_named(self) -> None:
        bucket = pathlib.Path(self.site.path / "copy")
        shutil.copytree(self.site.bucket, bucket)
        [segment] = (bucket / "segments").glob("*.ice")
        segment.unlink()
        log = icecore.open(f"file://{bucket}")
        with self.assertRaisesRegex(icecore.IcecoreError, segment.stem.split(".")[0]):
            list(log.scan("weather"))
        scan = log.scan("weather", skip_damaged=True)
        with self.assertWarnsRegex(icecore.IncompleteWarning, "not to be read"):
            self.assertEqual(len(frame(scan)), 0)
        self.assertEqual([missing.segment for missing in log.coverage("weather", skip_damaged=True).absent], [segment.stem])


class Document(unittest.TestCase):
    """`docs/python.md`."""

    def test_the_worked_example_works(self) -> None:
        site = Site()
        self.addCleanup(site.close)
        with site.serving() as address:
            site.send(address, "weather", WEATHER)
        text = (ROOT / "docs" / "python.md").read_text()
        blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "matplotlib" not in block]
        self.assertEqual(len(blocks), 3)
        (site.path / "hq").symlink_to(site.path)
        said = io.StringIO()
        with contextlib.chdir(site.path), contextlib.redirect_stdout(said):
            exec("\n".join(blocks), {})
        # What it prints is what the document shows.
        shown = {line.strip() for line in text.splitlines()}
        printed = [line.strip() for line in said.getvalue().splitlines()]
        for line in printed[printed.index("504 events present, nothing missing") :]:
            self.assertIn(line, shown)


if __name__ == "__main__":
    unittest.main()
