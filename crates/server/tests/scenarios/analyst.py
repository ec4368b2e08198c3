"""Answers the questions of docs/analyst.md with pandas over the files that were sent.

    analyst.py split FILE EARLY LATE      what LaGuardia measured since 15 July goes into LATE, all else into EARLY
    analyst.py compare DATA ANSWERS       compares ANSWERS/1.csv and so on, as `icecore sql` gave them, with pandas' answers
"""

import sys

import numpy as np
import pandas as pd

# What SQL rounds is half a unit of its last digit away at most; what it does not round is the same to nearly all digits.
ROUNDED = {2: 0.005, 3: 0.0005, 1: 0.05, None: 0.0}
DIGITS = {
    1: {"mean": 2},
    2: {"new_york": 2, "beijing": 2, "correlation": 3},
    3: {"mean": 2},
    4: {"measured": 2, "carried": 2, "interpolated": 2},
    5: {"mean_measured": 2, "mean_recent": 2},
    7: {"per_second": 3},
    9: {"direction": 1, "wrong": 1},
}
CUT_OFF = ("LGA", "2013-07-15T00:00:00Z")


def read(data, name):
    rows = pd.read_csv(f"{data}/{name}.csv.gz", keep_default_na=False, na_values=[""], low_memory=False)
    rows["time"] = pd.to_datetime(rows["timestamp"], utc=True, format="ISO8601").astype("datetime64[ns, UTC]")
    return rows


def between(rows, start, end):
    return rows[(rows["time"] >= pd.Timestamp(start, tz="UTC")) & (rows["time"] < pd.Timestamp(end, tz="UTC"))]


def by_hour(data):
    rows = read(data, "nyc_weather")
    grouped = rows.assign(hour=rows["time"].dt.hour).groupby(["device", "hour"])["temp"]
    return grouped.agg(mean="mean", measured="count").reset_index()


def joined(data):
    new_york, beijing = read(data, "nyc_weather"), read(data, "beijing_air")
    new_york, beijing = new_york[new_york["device"] == "JFK"], beijing[beijing["device"] == "Dongsi"]
    both = new_york[["time", "temp"]].merge(beijing[["time", "TEMP"]], on="time")
    grouped = both.groupby(both["time"].dt.month.rename("month"))
    return pd.DataFrame({
        "hours": grouped.size(),
        "new_york": grouped["temp"].apply(lambda temp: ((temp - 32) / 1.8).mean()),
        "beijing": grouped["TEMP"].mean(),
        "correlation": grouped[["temp", "TEMP"]].apply(lambda pair: pair["temp"].corr(pair["TEMP"])),
    }).reset_index()


def missing(data):
    rows = read(data, "beijing_air")
    rows["both"] = rows["PM2_5"].isna() & rows["CO"].isna()
    grouped = rows.groupby("device")
    told = pd.DataFrame({
        "hours": grouped.size(),
        "missing": grouped["PM2_5"].apply(lambda values: values.isna().sum()),
        "both_missing": grouped["both"].sum(),
        "mean": grouped["PM2_5"].mean(),
    }).reset_index()
    return told.sort_values(["missing", "device"], ascending=[False, True]).head(5)


def gaps(data):
    rows = between(read(data, "metro_traffic"), "2014-06-01", "2015-08-01")
    monthly = rows.set_index("time")["temp"].resample("MS")
    mean = monthly.mean().reindex(pd.date_range("2014-06-01", "2015-07-01", freq="MS", tz="UTC"))
    count = monthly.size().reindex(mean.index)
    return pd.DataFrame({
        "month": mean.index,
        "rows": count.where(count > 0).to_numpy(),
        "measured": mean.to_numpy() - 273.15,
        "carried": mean.ffill().to_numpy() - 273.15,
        "interpolated": mean.interpolate(method="time", limit_area="inside").to_numpy() - 273.15,
    })


def as_of(data):
    rows = read(data, "nyc_weather")[["device", "time", "wind_gust"]].sort_values("time", kind="stable")
    gusts = rows.dropna().groupby(["device", "time"], as_index=False)["wind_gust"].max()
    gusts = gusts.rename(columns={"wind_gust": "gust"}).sort_values("time")
    found = pd.merge_asof(rows, gusts, on="time", by="device", tolerance=pd.Timedelta(hours=3))
    told = found.groupby("device").agg(
        rows=("time", "size"),
        measured=("wind_gust", "count"),
        recent=("gust", "count"),
        mean_measured=("wind_gust", "mean"),
        mean_recent=("gust", "mean"),
    )
    return told.reset_index()


def newest(data):
    rows = read(data, "usgs_quakes")
    last = rows.sort_values("time").groupby("device").tail(1).set_index("device")
    told = pd.DataFrame({
        "quakes": rows.groupby("device").size(),
        "newest": last["time"],
        "magnitude": last["mag"],
        "place": last["place"],
    })
    return told.reset_index().sort_values("newest", ascending=False)


def counter(data):
    rows = read(data, "metro_traffic")[["time", "traffic_volume"]].drop_duplicates().sort_values("time")
    assert not rows["time"].duplicated().any(), "a time has two volumes, so there is no one order"
    rows["cars"] = rows.groupby(rows["time"].dt.strftime("%Y-%m"))["traffic_volume"].cumsum()
    rows = between(rows, "2013-02-11", "2013-03-11")
    week = (rows["time"].dt.normalize() - pd.to_timedelta(rows["time"].dt.day_of_week, unit="D")).rename("week")

    def increase(cars):
        rises = cars.diff().dropna()
        return float(rises.where(rises >= 0, cars).sum())

    told = rows.groupby(week)["cars"].apply(increase).rename("passed").reset_index()
    return told.assign(per_second=told["passed"] / (7 * 24 * 3600))


def daily_maximum(data):
    rows = between(read(data, "nyc_weather"), "2013-07-15", "2013-07-20")
    rows = rows.assign(day=rows["time"].dt.normalize()).sort_values(["temp", "time"], ascending=[False, True])
    first = rows.groupby(["device", "day"]).first().reset_index()
    return first[["device", "day", "temp", "time"]].rename(columns={"temp": "warmest", "time": "at"})


def wind(data):
    rows = read(data, "nyc_weather")
    rows = rows[rows["wind_speed"] > 0]
    radians = np.radians(rows["wind_dir"])
    parts = rows.assign(quarter=rows["time"].dt.quarter, sine=np.sin(radians), cosine=np.cos(radians))
    told = parts.groupby(["device", "quarter"])[["sine", "cosine", "wind_dir"]].mean().reset_index()
    direction = np.degrees(np.arctan2(told["sine"], told["cosine"])) % 360
    return told[["device", "quarter"]].assign(direction=direction, wrong=told["wind_dir"])


def is_late(rows):
    device, since = CUT_OFF
    return (rows["device"] == device) & (rows["time"] >= pd.Timestamp(since))


def believed(data):
    rows = read(data, "nyc_weather")
    known = rows[~is_late(rows)].groupby("device")["temp"]
    last = rows[~is_late(rows)].dropna(subset=["temp"]).sort_values("time", kind="stable").groupby("device")[["time", "temp"]].last()
    today = rows.groupby("device")["temp"]
    told = pd.DataFrame({
        "rows_believed": known.size(),
        "rows": today.size(),
        "warmest_believed": known.max(),
        "warmest": today.max(),
        "newest_believed": last["time"],
        "temp_believed": last["temp"],
    })
    return told.reset_index()


QUESTIONS = [by_hour, joined, missing, gaps, as_of, newest, counter, daily_maximum, wind, believed]


def check(number, told, expected):
    assert list(told.columns) == list(expected.columns), f"{number}: {list(told.columns)}, not {list(expected.columns)}"
    assert len(told) == len(expected), f"{number}: {len(told)} rows, not {len(expected)}"
    for name in expected.columns:
        ours, theirs = told[name], expected[name].reset_index(drop=True)
        if isinstance(theirs.dtype, pd.DatetimeTZDtype):
            ours = pd.to_datetime(ours, utc=True, format="ISO8601").astype("datetime64[ns, UTC]")
            assert (ours == theirs).all(), f"{number}, {name}: {ours.tolist()}, not {theirs.tolist()}"
        elif pd.api.types.is_numeric_dtype(theirs):
            ours, theirs = ours.astype("float64").to_numpy(), theirs.astype("float64").to_numpy()
            assert (np.isnan(ours) == np.isnan(theirs)).all(), f"{number}, {name}: NULL elsewhere: {ours}, not {theirs}"
            slack = ROUNDED[DIGITS.get(number, {}).get(name)]
            near = np.isnan(ours) | (np.abs(ours - theirs) <= slack + 1e-9 * np.maximum(1, np.abs(theirs)))
            assert near.all(), f"{number}, {name}: {ours[~near]}, not {theirs[~near]}"
        else:
            assert ours.tolist() == theirs.tolist(), f"{number}, {name}: {ours.tolist()}, not {theirs.tolist()}"
    print(f"{number}. {len(expected)} rows agree")


def main():
    command, *paths = sys.argv[1:]
    if command == "split":
        source, early, late = paths
        rows = pd.read_csv(source, dtype=str, keep_default_na=False)
        times = pd.to_datetime(rows["timestamp"], utc=True, format="ISO8601")
        is_after = is_late(rows.assign(time=times))
        rows[~is_after].to_csv(early, index=False)
        rows[is_after].to_csv(late, index=False)
        return
    data, answers = paths
    for number, question in enumerate(QUESTIONS, start=1):
        told = pd.read_csv(f"{answers}/{number}.csv", keep_default_na=False, na_values=[""])
        check(number, told, question(data))


if __name__ == "__main__":
    main()
