"""Times queries in DuckDB: `duckdb.py PARQUET` reads them from standard input, one a line, and prints the median of five and the rows."""

import json
import statistics
import sys
import time

import duckdb

connection = duckdb.connect()
connection.execute(f"CREATE VIEW machine AS SELECT * FROM read_parquet('{sys.argv[1]}')")
connection.execute("SET TimeZone = 'UTC'")
for query in sys.stdin:
    times = []
    for _ in range(6):
        began = time.perf_counter()
        rows = connection.execute(query).fetchall()
        times.append(time.perf_counter() - began)
    rows = sorted([str(row[0]), row[1]] for row in rows)
    print(json.dumps({"seconds": statistics.median(times[1:]), "rows": rows}))
