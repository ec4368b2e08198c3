"""Compares what pandas, polars, DuckDB and pyarrow read of a site's tables with the file that was sent.

Arguments: the file, a Parquet file, an Arrow stream, a Parquet file of some columns and rows, and two exports.
"""

import pathlib
import sys

import duckdb
import pandas
import polars
import pyarrow.dataset
import pyarrow.ipc

sent_file, parquet, arrow, part, lake, cold_lake = sys.argv[1:]
sent = pandas.read_csv(sent_file, parse_dates=["timestamp"])
fields = [name for name in sent.columns if name not in ("device", "timestamp")]


def check(name, frame):
    """The same rows as those that were sent, whatever their order."""
    frame = frame.rename(columns={"event_time": "timestamp"})[list(sent.columns)]
    frame = frame.assign(device=frame["device"].astype(str))
    frame["timestamp"] = pandas.to_datetime(frame["timestamp"], utc=True).astype("datetime64[ns, UTC]")
    order = ["device", "timestamp"]
    expected = sent.assign(timestamp=sent["timestamp"].astype("datetime64[ns, UTC]"))
    pandas.testing.assert_frame_equal(
        frame.sort_values(order).reset_index(drop=True),
        expected.sort_values(order).reset_index(drop=True),
        check_dtype=False,
        check_categorical=False,
    )
    print(name, len(frame), "rows")


check("pandas, Parquet", pandas.read_parquet(parquet))
check("polars, Parquet", polars.read_parquet(parquet).to_pandas())
check("DuckDB, Parquet", duckdb.sql(f"SELECT * FROM read_parquet('{parquet}')").df())
with pyarrow.ipc.open_stream(arrow) as stream:
    table = stream.read_all()
times = table.column("event_time").to_pylist()
assert times == sorted(times)
check("pyarrow, Arrow stream", table.to_pandas())
assert table.schema.metadata[b"icecore.schema"] == b"weather", table.schema.metadata
assert table.schema.field("temperature").metadata[b"icecore.kind"] == b"gauge"

some = pandas.read_parquet(part)
assert list(some.columns) == ["temperature", "event_time"], some.columns
expected = sent[(sent["temperature"] >= 2) & (sent["pressure"] < 1025)]
assert 0 < len(expected) < len(sent)
assert sorted(some["temperature"]) == sorted(expected["temperature"])

for directory in (lake, cold_lake):
    glob = f"{directory}/schema=weather/**/*.parquet"
    check("DuckDB, export", duckdb.sql(f"SELECT * FROM read_parquet('{glob}', hive_partitioning = true)").df())
    check("polars, export", polars.read_parquet(glob, hive_partitioning=True).to_pandas())
    check("pandas, export", pandas.read_parquet(f"{directory}/schema=weather"))
    dates = duckdb.sql(
        f"SELECT date, count(*) FROM read_parquet('{glob}', hive_partitioning = true) "
        "WHERE strftime(event_time AT TIME ZONE 'UTC', '%Y-%m-%d') = CAST(date AS VARCHAR) GROUP BY date ORDER BY date"
    ).fetchall()
    by_day = sent.groupby(sent["timestamp"].dt.strftime("%Y-%m-%d")).size()
    assert [(str(date), count) for date, count in dates] == list(by_day.items()), dates
    devices = pyarrow.dataset.dataset(f"{directory}/schema=weather", partitioning="hive").to_table()
    assert set(devices.column("device").to_pylist()) == set(sent["device"]), devices.schema
    assert not list(pathlib.Path(directory).rglob("*.unfinished"))
