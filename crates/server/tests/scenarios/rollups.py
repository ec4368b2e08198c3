"""Compares rows of rollups with a single pass of pandas over the events: rollups.py EVENTS ROWS WIDTH [whole]

EVENTS has one JSON object a line (device, time in nanoseconds, level, turns, mode, heading), in the order of each device; ROWS is what
`icecore replay --format ndjson` says of the derived schema; WIDTH is in nanoseconds. With `whole`, every window has to be there.
"""

import json
import math
import sys

import numpy as np
import pandas as pd


def near(found, expected, what):
    if expected is None or (isinstance(expected, float) and math.isnan(expected)):
        assert found is None, f"{what}: {found}, not null"
    else:
        assert found is not None and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-6), f"{what}: {found}, not {expected}"


def whole_columns(row, window, what):
    """What is to be right even where the window was put together from parts."""
    level = window["level"].dropna()
    near(row["events"], len(window), f"{what} events")
    near(row["level_count"], len(level), f"{what} level_count")
    for column, value in [("min", level.min()), ("max", level.max()), ("mean", level.mean()), ("variance", level.var())]:
        near(row[f"level_{column}"], float(value), f"{what} level_{column}")
    radians = np.radians(window["heading"])
    north, east = np.cos(radians).sum(), np.sin(radians).sum()
    near(row["heading_length"], math.hypot(north, east) / len(window), f"{what} heading_length")
    turned = (row["heading_mean"] - math.degrees(math.atan2(east, north)) + 180) % 360 - 180
    assert abs(turned) < 1e-6, f"{what} heading_mean: off by {turned}"


def in_order(row, window, what):
    """What needs all events of the window, in their order."""
    turns = window["turns"]
    rise = turns.diff().iloc[1:]
    resets = rise < 0
    near(row["turns_increase"], float(rise.where(~resets, turns.iloc[1:]).sum()), f"{what} turns_increase")
    near(row["turns_resets"], int(resets.sum()), f"{what} turns_resets")
    near(row["turns_first"], turns.iloc[0], f"{what} turns_first")
    near(row["turns_last"], turns.iloc[-1], f"{what} turns_last")
    mode = window["mode"]
    near(row["mode_changes"], int((mode != mode.shift()).sum()) - 1, f"{what} mode_changes")
    assert row["mode_last"] == mode.iloc[-1], f"{what} mode_last"
    lasted = window["time"].diff().shift(-1).fillna(0).astype("int64")
    expected = {state: [int(of.count()), int(of.sum())] for state, of in lasted.groupby(mode)}
    found = {state: [events, time] for state, events, time in json.loads(row["mode_times"])}
    assert found == expected, f"{what} mode_times: {found}, not {expected}"
    level = window["level"].dropna()
    for column, quantile in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)]:
        if f"level_{column}" in row and len(level):
            exact = float(level.quantile(quantile, interpolation="lower"))
            assert abs(row[f"level_{column}"] - exact) <= 0.0101 * abs(exact) + 1e-9, f"{what} level_{column}"


def main():
    events_file, rows_file, width, *whole = sys.argv[1:]
    width = int(width)
    events = pd.DataFrame([json.loads(line) for line in open(events_file, encoding="utf-8")])
    events["start"] = events["time"] // width * width
    newest, seen = {}, set()
    for line in open(rows_file, encoding="utf-8"):
        row = json.loads(line)
        start = pd.Timestamp(row["event_time"]).value
        key, revision = (row["device"], start), row["fields"]["revision"]
        assert (key, revision) not in seen, f"{key} is there twice with revision {revision}"
        seen.add((key, revision))
        if key not in newest or newest[key]["revision"] < revision:
            newest[key] = row["fields"]
    partial, wrong, known = 0, [], set()
    for (device, start), window in events.groupby(["device", "start"], sort=False):
        known.add((device, start))
        row = newest.get((device, start))
        if row is None:
            assert not whole, f"{device} {start}: there is no row"
            continue
        # The sort is stable: equal times stay in the order of the device.
        window = window.sort_values("time", kind="stable")
        try:
            whole_columns(row, window, f"{device} {start}")
            if not row["partial"]:
                in_order(row, window, f"{device} {start}")
        except AssertionError as error:
            wrong.append(str(error))
        partial += row["partial"]
    unknown = newest.keys() - known
    assert not unknown, f"no events are in {sorted(unknown)[:5]}"
    assert not wrong, "\n".join(wrong[:10]) + f"\n{len(wrong)} in all"
    print(f"{len(newest)} windows, {len(seen)} rows, {partial} partial: as in pandas")


main()
