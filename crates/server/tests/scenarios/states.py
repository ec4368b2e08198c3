"""Compares what `icecore state` says with pandas over the CSV that was sent: finally, and at five random event times a file.

    states.py ICECORE CONFIG DATA SEED NAME…

ICECORE is the binary, CONFIG a site's configuration, DATA the folder with NAME.csv.gz and fields.json, SEED what the times follow from.
"""

import json
import math
import random
import subprocess
import sys

import pandas as pd

QUESTIONS = 5


def read(path, types):
    """The rows of a file; event times as integer nanoseconds, values as their types parse them."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    digits = rows["timestamp"].str.fullmatch(r"-?\d+").all()
    if digits:
        times = rows["timestamp"].astype("int64")
    else:
        parsed = pd.to_datetime(rows["timestamp"], utc=True, format="ISO8601").dt.tz_convert(None)
        times = parsed.astype("datetime64[ns]").astype("int64")
    table = pd.DataFrame({"device": rows["device"], "time": times, "row": range(len(rows))})
    for name, kind in types.items():
        cells = rows[name].where(rows[name] != "")
        if kind == "float":
            table[name] = cells.astype("float64")
        elif kind in ("int", "u64"):
            table[name] = cells.astype("Int64")
        elif kind.startswith("bool"):
            table[name] = cells.astype("Int64").astype("boolean")
        else:
            table[name] = cells
    return table


def states(icecore, config, at, schema):
    """By device, what `icecore state` says of a schema."""
    command = [icecore, "--config", config, "state", "--all", "--json"]
    command += [] if at is None else ["--at", str(at)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    told = {}
    for line in lines:
        state = json.loads(line)
        for found in state["schemas"]:
            if found["schema"] == schema:
                told[state["device"]] = found
    return told


def near(a, b, scale):
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12 * scale)


def check_field(field, rows, kind, where):
    values = rows.dropna(subset=[field["name"]])
    assert field["values"] == len(values), f"{where}: {field['values']} values, not {len(values)}"
    if len(values) == 0:
        assert field["last"] is None, where
        return
    latest = values.sort_values(["time", "row"], kind="stable").iloc[-1][field["name"]]
    last = field["last"]["value"]
    if kind == "text":
        assert latest.startswith(last) and (latest == last or field["last"]["cut"]), f"{where}: last {last!r}, not {latest!r}"
        return
    assert last == latest, f"{where}: last {last!r}, not {latest!r}"
    column = values[field["name"]].astype("float64")
    told, scale = field["statistics"], max(1.0, column.abs().max())
    assert told["count"] == len(column), where
    assert float(told["min"]) == column.min() and float(told["max"]) == column.max(), f"{where}: {told}"
    assert near(told["mean"], column.mean(), scale), f"{where}: mean {told['mean']}, not {column.mean()}"
    if len(column) > 1:
        variance = column.var()
        assert near(told["variance"], variance, scale * scale), f"{where}: variance {told['variance']}, not {variance}"


def check(told, table, types, where):
    expected = dict(tuple(table.groupby("device")))
    assert told.keys() == expected.keys(), f"{where}: {sorted(told)} and {sorted(expected)}"
    for device, rows in expected.items():
        state = told[device]
        assert state["events"] == len(rows), f"{where}, {device}: {state['events']} events, not {len(rows)}"
        for field in state["fields"]:
            name = field["name"]
            check_field(field, rows, types[name], f"{where}, {device}, {name}")
    return len(expected)


def main():
    icecore, config, data, seed, *names = sys.argv[1:]
    with open(f"{data}/fields.json") as file:
        all_types = json.load(file)
    chance = random.Random(int(seed))
    for name in names:
        types = all_types[name]
        table = read(f"{data}/{name}.csv.gz", types)
        low, high = int(table["time"].min()), int(table["time"].max())
        instants = [None] + sorted(chance.randint(low, high) for _ in range(QUESTIONS))
        devices = 0
        for at in instants:
            rows = table if at is None else table[table["time"] <= at]
            devices += check(states(icecore, config, at, name), rows, types, f"{name} at {at}")
        print(f"{name}: {len(table)} rows, {devices} states at {len(instants)} instants agree")


if __name__ == "__main__":
    main()
