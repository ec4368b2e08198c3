import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, SupportsIndex, TypeAlias, final

Instant: TypeAlias = datetime.datetime | datetime.date | str | SupportsIndex
Devices: TypeAlias = str | Sequence[str]
Order: TypeAlias = Literal["stored", "log", "time", "device"]

__version__: str

class IcecoreError(Exception):
    """Something cannot be read, or there is no such thing."""

class IncompleteError(IcecoreError):
    """Not everything that was asked for is there."""

class IncompleteWarning(UserWarning):
    """Not everything that was asked for is there; `coverage` of the scan tells what is missing."""

def open(
    place: str | os.PathLike[str],
    *,
    schemas: str | os.PathLike[str] | None = None,
    stores: Mapping[str, str] | None = None,
    store_options: Mapping[str, str] | None = None,
) -> Log:
    """Opens a log: the URL of a bucket, a server's configuration file, or its data directory. Whether the server runs makes no difference.

    A bucket is `s3://bucket/prefix`, `gs://…`, `az://…` or `file:///directory`; credentials come from the environment, and
    `store_options` are those of the client: `region`, `endpoint` and so on. What of a data directory is in object storage only is
    found by the configuration file, or where `stores` says: the URL of each store by the name that the configuration gives it.
    `schemas` is a directory of schema files, which say how older versions read as newer ones; a configuration names its own.
    """

@final
class Log:
    """A log, as it was when it was opened: what came since is seen by opening it again."""

    def schemas(self) -> list[Schema]:
        """The schemas of its events: each is one table. Those of the form `name@1m` are rollups."""

    def scan(
        self,
        schema: str,
        *,
        devices: Devices | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        where: str | Sequence[str] | None = None,
        known_at: Instant | None = None,
        order: Order = "stored",
        as_written: bool = False,
        require_complete: bool = False,
        skip_damaged: bool = False,
    ) -> Scan:
        """The events of a schema, to be taken by whatever knows Arrow; see `Scan`.

        `devices` are a glob of names (`*` crosses `/`) or a list of names, all by default; `start` and `end` bound the event time, the
        latter is not in it. Of `columns` only those are read. `where` are comparisons of fields with numbers, such as `"temp>=30"`,
        all of which have to hold. `known_at` leaves out what was received later: what was known then. The order is `"stored"`, which is
        fastest and says nothing of the events, `"log"` (as they were received), `"time"` or `"device"`. Events are read as the
        newest version of the schema unless `as_written`.

        Where something is missing (deleted by a policy, never arrived, …) an `IncompleteWarning` says so at the end, or with
        `require_complete` an `IncompleteError`; see `Scan.coverage`. Damage ends the scan, unless `skip_damaged` reads around it.
        """

    def coverage(
        self,
        schema: str | None = None,
        *,
        devices: Devices | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        known_at: Instant | None = None,
        skip_damaged: bool = False,
    ) -> Coverage:
        """What a scan of these would cover, without reading values; of all schemas, if none is named, which takes longer."""

    def state_at(
        self, at: Instant | None = None, *, known_at: Instant | None = None, devices: Devices | None = None
    ) -> Batch:
        """What the devices looked like at an instant: a table with one row for each field of each schema of each device, with its last
        value and the statistics of its kind.

        `at` takes only events that happened by then, `known_at` only those that were received by then; both together tell what was
        believed at one time of another. Where events that an exact answer needs were deleted, the error says from when on there
        is one.
        """

@final
class Scan:
    """The events of a scan, which libraries that know Arrow take as they are: `pyarrow.table(scan)`,
    `pandas.DataFrame.from_arrow(scan)`, `polars.DataFrame(scan)`, `duckdb.sql("SELECT … FROM scan")`.

    Nothing is read before that, and whoever takes it again reads again. It can be iterated, too, and yields a `Batch` at a time.
    """

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""

    @property
    def coverage(self) -> Coverage | None:
        """What was read and what is missing; `None` until it was read to its end."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...
    def __iter__(self) -> Iterator[Batch]: ...

@final
class Batch:
    """Rows of a table: `pandas.DataFrame.from_arrow`, `polars.DataFrame`, `pyarrow.record_batch` and so on take it as it is."""

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...
    def __len__(self) -> int: ...

@final
class Coverage:
    """What a scan covers of what it asked for."""

    @property
    def present(self) -> int:
        """Events that were read."""

    @property
    def complete(self) -> bool:
        """Whether that is all."""

    @property
    def missing(self) -> str:
        """What is missing, in words; empty if nothing is."""

    @property
    def not_arrived(self) -> int | None:
        """Sequences that did not arrive though later ones did, of any schema and time; `None` if damage hides it."""

    @property
    def dropped(self) -> int | None:
        """Sequences that devices say they dropped."""

    @property
    def refused(self) -> int | None:
        """Sequences that were refused for good."""

    @property
    def deleted(self) -> list[Lacking]:
        """Segments that a policy deleted."""

    @property
    def absent(self) -> list[Lacking]:
        """Segments that could not be read."""

    @property
    def damage(self) -> list[str]:
        """Damage that was read around, each in words."""

@final
class Lacking:
    """A segment that was not read, though it has events of what was asked, or may have."""

    @property
    def segment(self) -> str:
        """Its name."""

    @property
    def events(self) -> int:
        """How many of its events were asked for, at most."""

    @property
    def exact(self) -> bool:
        """Whether it is exactly so many."""

    @property
    def why(self) -> str:
        """The policy that deleted it, or what keeps it from being read."""

@final
class Schema:
    """A schema of the log: one table."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def version(self) -> int:
        """The version that its events read as."""

    @property
    def fields(self) -> list[Field]:
        """Its fields, in order."""

@final
class Field:
    """A field of a schema."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def type(self) -> str:
        """Its type: `f64`, `i64`, `text` and so on."""

    @property
    def kind(self) -> str:
        """What its values are: `gauge`, `counter`, `state` or `angle`."""

    @property
    def unit(self) -> str:
        """Their unit in UCUM, or nothing."""

    @property
    def nullable(self) -> bool:
        """Whether it may have no value."""
