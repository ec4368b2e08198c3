"""Asks a server over Flight SQL, as ADBC and as a plain Flight client.

Arguments: which part, the server's address, its authority's certificate, and what the part takes.
"""

import datetime
import json
import pathlib
import random
import sys

import adbc_driver_flightsql.dbapi
import pandas
import pyarrow
import pyarrow.flight
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_manager import dbapi

part, address, authority, *more = sys.argv[1:]
uri = f"grpc+tls://{address}"
authority = pathlib.Path(authority).read_text()
HEADER = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
SESSION = "adbc.flight.sql.session."
# Some millions of rows, from some dozens.
BIG = "SELECT a.device, a.event_time, b.temperature, c.pressure FROM weather a, weather b, weather c, weather d"


def connect(trusted=authority, **options):
    options = {DatabaseOptions.TLS_ROOT_CERTS.value: trusted, **options}
    return adbc_driver_flightsql.dbapi.connect(uri, db_kwargs=options, autocommit=True)


def refused(asked, *expected, kind=Exception):
    """What is asked fails, and says these words."""
    try:
        asked()
    except kind as error:
        said = str(error)
        assert all(words in said for words in expected), said
        return
    raise AssertionError(f"not refused: {expected}")


def ask(connection, statement, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetch_arrow_table()


def message(*fields):
    """A message of protobuf with these fields, which are texts, bytes or messages."""
    encoded = b""
    for number, value in fields:
        value = value.encode() if isinstance(value, str) else value
        length, rest = b"", len(value)
        while rest > 0x7F:
            length, rest = length + bytes([rest & 0x7F | 0x80]), rest >> 7
        encoded += bytes([number << 3 | 2]) + length + bytes([rest]) + value
    return encoded


def command(name, *fields):
    return message((1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}"), (2, message(*fields)))


def flight():
    return pyarrow.flight.FlightClient(uri, tls_root_certs=authority)


def describe(client, statement):
    return client.get_flight_info(
        pyarrow.flight.FlightDescriptor.for_command(command("CommandStatementQuery", (1, statement)))
    )


def metadata(connection):
    assert connection.adbc_get_info()["vendor_name"] == "Icecore", connection.adbc_get_info()
    assert connection.adbc_get_table_types() == ["SYSTEM TABLE", "TABLE", "VIEW"], connection.adbc_get_table_types()
    (catalog,) = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    assert catalog["catalog_name"] == "icecore", catalog
    tables = {
        (schema["db_schema_name"], table["table_name"]): table
        for schema in catalog["catalog_db_schemas"]
        for table in schema["db_schema_tables"]
    }
    weather = tables["public", "weather"]
    assert weather["table_type"] == "TABLE", weather
    columns = [column["column_name"] for column in weather["table_columns"]]
    assert {"device", "event_time", "temperature", "pressure"} <= set(columns), columns
    assert tables["system", "devices"]["table_type"] == "SYSTEM TABLE"
    some = connection.adbc_get_objects(depth="tables", table_name_filter="weath%").read_all().to_pylist()
    names = [table["table_name"] for schema in some[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]]
    assert names == ["weather"], names
    schema = connection.adbc_get_table_schema("weather", db_schema_filter="public")
    assert schema.field("device").type == pyarrow.string(), schema
    assert schema.field("temperature").type == pyarrow.float64(), schema
    assert connection.adbc_current_catalog == "icecore"
    print(len(tables), "tables")


def typed(connection, sent):
    answer = ask(connection, "SELECT device, event_time, temperature FROM weather ORDER BY device, event_time")
    assert answer.schema.field("device").type == pyarrow.string(), answer.schema
    assert answer.schema.field("event_time").type == pyarrow.timestamp("ns", tz="UTC"), answer.schema
    frame = answer.to_pandas()
    expected = sent.sort_values(["device", "timestamp"]).reset_index(drop=True)
    assert list(frame["device"]) == list(expected["device"])
    assert list(frame["temperature"]) == list(expected["temperature"])
    assert list(frame["event_time"].astype("int64")) == list(expected["timestamp"].astype("datetime64[ns, UTC]").astype("int64"))
    means = ask(connection, "SELECT device, avg(temperature) AS mean FROM weather GROUP BY device ORDER BY device").to_pandas()
    expected = sent.groupby("device")["temperature"].mean()
    assert list(means["device"]) == list(expected.index)
    pandas.testing.assert_series_equal(means["mean"], expected.reset_index(drop=True), check_names=False)
    assert ask(connection, "SELECT count(*) AS n FROM weather").to_pydict() == {"n": [len(sent)]}
    assert ask(connection, "SELECT count(*) AS n FROM weather WHERE false").to_pydict() == {"n": [0]}
    assert ask(connection, "SELECT device FROM weather WHERE false").num_rows == 0
    assert ask(connection, "SHOW TABLES").num_rows > 4
    print(len(frame), "rows, typed")


def prepared(connection, sent):
    statement = "SELECT count(*) AS n FROM weather WHERE device = $1 AND temperature > $2"
    with connection.cursor() as cursor:
        parameters = cursor.adbc_prepare(statement)
        assert parameters.names == ["$1", "$2"], parameters
        assert parameters.types == [pyarrow.string(), pyarrow.float64()], parameters
        for device, least in [("station/alpha", 0.0), ("station/beta", 2.5), ("nobody", 0.0)]:
            cursor.execute(statement, (device, least))
            expected = ((sent["device"] == device) & (sent["temperature"] > least)).sum()
            assert cursor.fetchone() == (expected,), (device, least)
    # As JDBC writes them; and a value of another type.
    asked = ask(connection, "SELECT ? + temperature AS sum FROM weather WHERE device = ? ORDER BY event_time", (1, "station/alpha"))
    assert asked.num_rows == (sent["device"] == "station/alpha").sum()
    when = datetime.datetime(2026, 2, 2, tzinfo=datetime.timezone.utc)
    asked = ask(connection, "SELECT count(*) AS n FROM weather WHERE event_time < ?", (when,))
    assert asked.to_pydict() == {"n": [(sent["timestamp"] < pandas.Timestamp(when)).sum()]}
    refused(lambda: ask(connection, statement, ("station/alpha",)), "2 parameters ($1, $2), and 1 value was given")
    refused(lambda: ask(connection, statement), "2 parameters ($1, $2), and 0 values were given")


def mistakes(connection):
    bad = [
        ("SELECT avg( FROM weather", ["line 1, column 18"]),
        ("SELECT temprature FROM weather", ["temprature", "did you mean temperature?", "line 1, column 8"]),
        ("SELECT 1 FROM wether", ["there is no table wether", "did you mean weather?"]),
    ]
    for statement, expected in bad:
        refused(lambda: ask(connection, statement), *expected, kind=dbapi.ProgrammingError)
    refused(lambda: ask(connection, "DROP TABLE weather"), "DROP TABLE is refused", kind=dbapi.NotSupportedError)
    with connection.cursor() as cursor:
        rows = pyarrow.table({"device": ["x"]})
        refused(lambda: cursor.adbc_ingest("weather", rows, mode="append"), "events are only read here")


def missing(connection):
    """Half of what is asked for was deleted by policy: the answer is given, and this is said."""
    option = SESSION + "option.coverage"
    ask(connection, "SELECT temperature FROM weather")
    coverage = json.loads(connection.adbc_connection.get_option(option))
    assert not coverage["complete"] and coverage["deleted"][0]["why"] == "default", coverage
    assert "deleted by policy `default`" in coverage["summary"], coverage
    ask(connection, "SELECT 1 AS one")
    assert json.loads(connection.adbc_connection.get_option(option))["complete"]
    required = SESSION + "optionbool.require_complete"
    connection.adbc_connection.set_options(**{required: "true"})
    refused(lambda: ask(connection, "SELECT temperature FROM weather"), "not everything", "deleted by policy")
    ask(connection, "SELECT 1 AS one")
    connection.adbc_connection.set_options(**{required: "false"})
    ask(connection, "SELECT temperature FROM weather")
    refused(lambda: connection.adbc_connection.set_options(**{SESSION + "option.colour": "blue"}), "colour")
    with connect(**{HEADER + "icecore-require-complete": "true"}) as strict:
        refused(lambda: ask(strict, "SELECT temperature FROM weather"), "not everything", "deleted by policy")
    with connect(**{HEADER + "icecore-require-complete": "perhaps"}) as wrong:
        refused(lambda: ask(wrong, "SELECT 1"), "expected true or false")


def answers(february, other_authority):
    sent = pandas.read_csv(february, parse_dates=["timestamp"])
    with connect(**{DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}) as connection:
        metadata(connection)
        typed(connection, sent)
        prepared(connection, sent)
        mistakes(connection)
        missing(connection)
    other = pathlib.Path(other_authority).read_text()
    refused(lambda: ask(connect(trusted=other), "SELECT 1"), "certificate")


def cut_short():
    """Clients that fetch no more, more often than statements are answered at once: the server goes on."""
    for _ in range(9):
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute(BIG)
            assert cursor.fetch_record_batch().read_next_batch().num_rows > 0
    with connect() as connection:
        assert ask(connection, "SELECT 1 AS one").to_pydict() == {"one": [1]}


def cancelled(client):
    info = describe(client, BIG)
    rows = client.do_get(info.endpoints[0].ticket)
    rows.read_chunk()
    request = message((1, info.serialize()))
    (result,) = client.do_action(pyarrow.flight.Action("CancelFlightInfo", request))
    assert result.body.to_pybytes() == b"\x08\x01", result.body.to_pybytes()
    refused(lambda: [rows.read_chunk() for _ in range(10**6)], "the statement was cancelled")
    again = pyarrow.flight.Action("CancelFlightInfo", request)
    refused(lambda: list(client.do_action(again)), "no such statement is being answered")


def last_message(client):
    """What an answer covers is in its last message, which has no rows."""
    statement = "SELECT temperature FROM weather"
    info = describe(client, statement)
    descriptor = pyarrow.flight.FlightDescriptor.for_command(command("CommandStatementQuery", (1, statement)))
    assert client.get_schema(descriptor).schema == info.schema
    chunks = list(client.do_get(info.endpoints[0].ticket))
    *rows, last = chunks
    assert sum(chunk.data.num_rows for chunk in rows) > 0 and last.data.num_rows == 0
    assert all(chunk.app_metadata is None for chunk in rows)
    coverage = json.loads(last.app_metadata.to_pybytes())
    assert coverage["present"] > 0 and coverage["deleted"], coverage


def questions(client):
    """What JDBC asks about a server, and ADBC does not."""
    for name, columns in [
        ("CommandGetPrimaryKeys", 6),
        ("CommandGetImportedKeys", 13),
        ("CommandGetExportedKeys", 13),
        ("CommandGetCrossReference", 13),
        ("CommandGetXdbcTypeInfo", 19),
        ("CommandGetSqlInfo", 2),
        ("CommandGetTables", 4),
    ]:
        info = client.get_flight_info(pyarrow.flight.FlightDescriptor.for_command(command(name)))
        table = client.do_get(info.endpoints[0].ticket).read_all()
        assert table.schema == info.schema and table.num_columns == columns, (name, table.schema)
        assert (table.num_rows == 0) == ("Key" in name or "Cross" in name), (name, table.num_rows)
    actions = {action.type for action in client.list_actions()}
    assert {"CreatePreparedStatement", "CancelFlightInfo", "SetSessionOptions"} <= actions, actions


def made_up(client):
    """Tickets, commands and actions that nobody issued are errors."""
    chance = random.Random(7)
    good = describe(client, "SELECT 1").endpoints[0].ticket.ticket
    bad = [b"", b"\xff", chance.randbytes(100), good[:-3], command("TicketStatementQuery", (1, b"\xff\xff"))]
    for _ in range(100):
        changed = bytearray(good)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        bad.append(bytes(changed))
    failed = 0
    for ticket in bad:
        try:
            client.do_get(pyarrow.flight.Ticket(ticket)).read_all()
        except (pyarrow.ArrowException, pyarrow.flight.FlightError):
            failed += 1
    assert failed >= 5, failed
    for body in [b"", b"\xff", chance.randbytes(50)]:
        for action in ["CreatePreparedStatement", "CancelFlightInfo", "CancelQuery", "SetSessionOptions", "Nothing"]:
            try:
                list(client.do_action(pyarrow.flight.Action(action, body)))
            except (pyarrow.ArrowException, pyarrow.flight.FlightError):
                pass
    refused(lambda: list(client.list_flights()), "nothing is listed as flights")
    assert client.do_get(pyarrow.flight.Ticket(good)).read_all().num_rows == 1, "it goes on"


def greedy(client):
    """Statements that would take the stack or the memory of the server are refused, and up to there they are answered."""
    assert client.do_get(describe(client, "SELECT " + "1+" * 990 + "1").endpoints[0].ticket).read_all().num_rows == 1
    for deep in ["1+", "(", "NOT ", "1 UNION ALL SELECT "]:
        refused(lambda: describe(client, "SELECT " + deep * 100_000 + "1"), "more than 1000 keywords and operators")
    many = describe(client, " UNION ALL ".join(["SELECT temperature FROM weather"] * 40))
    refused(lambda: client.do_get(many.endpoints[0].ticket).read_all(), "reads 40 tables at once")
    refused(lambda: describe(client, "SELECT length(repeat('a', 1500000000))"), "repeat")


def clients():
    cut_short()
    client = flight()
    cancelled(client)
    last_message(client)
    questions(client)
    made_up(client)
    greedy(client)


def damage(file):
    with connect() as connection:
        refused(lambda: ask(connection, "SELECT * FROM weather"), pathlib.Path(file).name)
    cookies = {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}
    with connect(**cookies, **{HEADER + "icecore-skip-damaged": "true"}) as connection:
        ask(connection, "SELECT * FROM weather")
        coverage = json.loads(connection.adbc_connection.get_option(SESSION + "option.coverage"))
        assert not coverage["complete"] and coverage["damage"], coverage


def stop(begun):
    client = flight()
    rows = client.do_get(describe(client, BIG).endpoints[0].ticket)
    rows.read_chunk()
    pathlib.Path(begun).touch()
    refused(lambda: [rows.read_chunk() for _ in range(10**6)], "the server stops")


{"answers": answers, "clients": clients, "damage": damage, "stop": stop}[part](*more)
