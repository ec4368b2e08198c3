"""Read Icecore logs as Arrow: from a server's data directory, beside the server or without it, or from a bucket alone.

    import icecore
    import pandas

    log = icecore.open("hq/icecore.toml")
    scan = log.scan("weather", devices="station/*", start="2013-07-04", end="2013-07-05", columns=["device", "event_time", "temp"])
    frame = pandas.DataFrame.from_arrow(scan)
    print(scan.coverage)

A scan is taken as it is by everything that knows the Arrow PyCapsule interface: pandas, polars, DuckDB, PyArrow and others. Nothing is read
before that.

Times are datetimes or pandas timestamps with a time zone, dates (midnight in UTC), texts (`2013-01-31T12:00:00Z`, `2013-01-31`, `-2h`), or
nanoseconds since 1970.
"""

from ._icecore import (
    Batch,
    Coverage,
    Field,
    IcecoreError,
    IncompleteError,
    IncompleteWarning,
    Lacking,
    Log,
    Scan,
    Schema,
    __version__,
    open,
)

__all__ = [
    "Batch",
    "Coverage",
    "Field",
    "IcecoreError",
    "IncompleteError",
    "IncompleteWarning",
    "Lacking",
    "Log",
    "Scan",
    "Schema",
    "__version__",
    "open",
]
