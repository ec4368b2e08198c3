//! Files that declare schemas, and rows of older versions read as the newest.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use icecore_schema::{Cell, Declared, Evolution, Upcast};
use icecore_wire::{ColumnType, Field, Schema, Value};

const WEATHER: &str = r#"
name = "weather"

[[version]]
number = 1
fields = [
    { name = "temp", type = "f64", unit = "[degF]" },
    { name = "wind", type = "f32", unit = "m/s" },
    { name = "wind_from", type = "f32", unit = "deg", kind = "angle", nullable = true },
    { name = "place", type = "text" },
]

# Metric, and the wind by its parts.
[[version]]
number = 2
fields = [
    { name = "temperature", type = "f64", unit = "Cel" },
    { name = "wind", type = "f64", unit = "m/s" },
    { name = "wind_east", type = "f64", unit = "m/s", nullable = true },
    { name = "site", type = "text" },
    { name = "mast", type = "i64", kind = "state", nullable = true },
]
[version.upcast]
temperature = "(temp - 32) / 1.8"
wind_east = "-wind * sin(radians(wind_from))"
site = "coalesce(split(place, '/', 0), '')"
mast = "round(number(split(place, '/', 1)))"

[[version]]
number = 5
fields = [
    { name = "site", type = "text" },
    { name = "temperature", type = "f64", unit = "Cel", nullable = true },
    { name = "wind", type = "f64", unit = "m/s" },
    { name = "rain", type = "f64", unit = "mm", kind = "counter", nullable = true },
]
"#;

fn declared(text: &str) -> Result<Declared, String> {
    let mut declared = Declared::default();
    declared.add(Path::new("weather.toml"), text).map_err(|error| error.to_string())?;
    Ok(declared)
}

fn values<'r>(upcast: &Upcast, cells: &'r [Cell<'_>]) -> Vec<Value<'r>> {
    (0..).map_while(|field| upcast.value(cells, field)).collect()
}

fn stored(declared: &Declared) -> Vec<Arc<Schema>> {
    declared.lineage("weather").unwrap().versions().cloned().collect()
}

#[test]
fn older_rows_read_as_the_newest_version() {
    let declared = declared(WEATHER).unwrap();
    let versions = stored(&declared);
    let evolution = Evolution::new(&declared, &versions[..1]).unwrap();
    let upcast = evolution.upcast(versions[0].id()).expect("version 1 is not the newest");
    assert_eq!(upcast.to().version(), 5, "though nothing of it is stored");
    let row = [Value::F64(212.0), Value::F32(3.5), Value::Null, Value::Text("oslo/7")];
    let cells = upcast.apply(row);
    let expected = [Value::Text("oslo"), Value::F64(100.0), Value::F64(3.5), Value::Null];
    assert_eq!(values(upcast, &cells), expected);
    let evolution = Evolution::new(&declared, &versions).unwrap();
    assert!(evolution.upcast(versions[2].id()).is_none(), "the newest is as it is");
    let second = evolution.upcast(versions[1].id()).unwrap();
    let row = [Value::F64(20.0), Value::F64(1.0), Value::F64(-1.0), Value::Text("bergen"), Value::I64(2)];
    let cells = second.apply(row);
    assert_eq!(
        values(second, &cells),
        [Value::Text("bergen"), Value::F64(20.0), Value::F64(1.0), Value::Null]
    );
}

#[test]
fn every_step_computes() {
    let two = WEATHER.split("[[version]]\nnumber = 5").next().unwrap();
    let declared = declared(two).unwrap();
    let versions = stored(&declared);
    let evolution = Evolution::new(&declared, &versions[..1]).unwrap();
    let upcast = evolution.upcast(versions[0].id()).unwrap();
    let row = |place| [Value::F64(32.0), Value::F32(2.0), Value::F32(90.0), Value::Text(place)];
    let cells = upcast.apply(row("oslo/7"));
    let expected = [Value::F64(0.0), Value::F64(2.0), Value::F64(-2.0), Value::Text("oslo"), Value::I64(7)];
    assert_eq!(values(upcast, &cells), expected);
    let cells = upcast.apply(row("oslo"));
    assert_eq!(values(upcast, &cells).last(), Some(&Value::Null), "no mast");
}

#[test]
fn what_devices_announce_evolves_by_itself() {
    let declared = declared(WEATHER).unwrap();
    let mut versions = stored(&declared);
    let fields = |with: Field| vec![Field::new("wind", ColumnType::F64).with_unit("m/s"), with];
    let follows = Schema::new("weather", 6, fields(Field::new("snow", ColumnType::I64).nullable())).unwrap();
    let differs = Schema::new("weather", 6, fields(Field::new("snow", ColumnType::I64))).unwrap();
    declared.check(&follows, false).unwrap();
    let message = declared.check(&differs, false).unwrap_err().to_string();
    for part in [
        "weather v6 (wind f64",
        "weather v5 (site text",
        "weather.toml",
        "field snow is new and not nullable",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(
        declared.check(&follows, true).unwrap_err().to_string(),
        "weather.toml declares version 1, 2, 5 of weather, not 6"
    );
    versions.push(Arc::new(follows));
    let evolution = Evolution::new(&declared, &versions).unwrap();
    assert_eq!(evolution.upcast(versions[0].id()).unwrap().to().version(), 6);
    let other = Schema::new("wether", 1, vec![Field::new("x", ColumnType::F64)]).unwrap();
    declared.check(&other, false).unwrap();
    let message = declared.check(&other, true).unwrap_err().to_string();
    assert_eq!(message, "schema wether is not declared; did you mean weather?");
}

#[test]
fn a_changed_definition_is_told_from_the_stored_one() {
    let old = declared(WEATHER).unwrap();
    let new = declared(&WEATHER.replace("unit = \"[degF]\"", "unit = \"K\"")).unwrap();
    let message = Evolution::new(&new, &stored(&old)).unwrap_err().to_string();
    for part in ["temp f64 gauge in K", "temp f64 gauge in [degF]", "weather.toml"] {
        assert!(message.contains(part), "{message}");
    }
    let between = Schema::new("weather", 3, vec![Field::new("x", ColumnType::F64)]).unwrap();
    let message = old.check(&between, false).unwrap_err().to_string();
    assert_eq!(message, "weather.toml declares version 1, 2, 5 of weather, not 3");
}

#[test]
fn stored_versions_evolve_without_files_too() {
    let schema = |version, ty| Arc::new(Schema::new("flow", version, vec![Field::new("rate", ty)]).unwrap());
    let versions = [schema(1, ColumnType::Text), schema(2, ColumnType::F32), schema(3, ColumnType::F64)];
    let evolution = Evolution::new(&Declared::default(), &versions).unwrap();
    assert!(evolution.upcast(versions[0].id()).is_none(), "a text is no number, so it stays");
    let upcast = evolution.upcast(versions[1].id()).unwrap();
    let cells = upcast.apply([Value::F32(0.5)]);
    assert_eq!((upcast.to().version(), upcast.value(&cells, 0)), (3, Some(Value::F64(0.5))));
}

#[test]
fn every_mistake_has_its_place_and_a_remedy() {
    let cases = [
        (
            "type = \"f32\", unit = \"deg\"",
            "type = \"f33\", unit = \"deg\"",
            "weather.toml:9:34: there is no type f33; did you mean f32?",
        ),
        ("number = 2", "number = 1", "weather.toml:15:10: version 1 does not come after version 1"),
        (
            "temperature = \"(temp",
            "temprature = \"(temp",
            "weather.toml:24:14: version 2 has no field temprature; did you mean temperature?",
        ),
        (
            "sin(radians(wind_from))",
            "sin(radians(wnd_from))",
            "weather.toml:25:34: upcast of wind_east: weather version 1 has no field wnd_from; did you mean wind_from?",
        ),
        (
            "coalesce(split(place, '/', 0), '')",
            "split(place, '/', 0)",
            "upcast of site: it may be null, and site is not nullable",
        ),
        (
            "\"round(number(split(place, '/', 1)))\"",
            "\"number(place)\"",
            "upcast of mast: it yields a float, and mast is i64: use round, floor or ceil",
        ),
        (
            "temperature = \"(temp - 32) / 1.8\"",
            "",
            "version 2: field temperature is new and not nullable; say how it comes from version 1: upcast = { \"temperature\" = ",
        ),
        (
            "unit = \"m/s\" },\n    { name = \"wind_east\"",
            "unit = \"km/h\" },\n    { name = \"wind_east\"",
            "field wind was in \"m/s\" and is in \"km/h\"",
        ),
        ("kind = \"counter\"", "kind = \"meter\"", "weather.toml:35:56: unknown variant `meter`"),
        ("name = \"weather\"", "nam = \"weather\"", "weather.toml:2:1: unknown field `nam`"),
        (
            "{ name = \"place\"",
            "{ name = \"device\"",
            "version 1: field name \"device\" is taken by a system column",
        ),
        ("{ name = \"place\"", "{ name = \"Temp\"", "version 1: field name \"Temp\" occurs twice"),
    ];
    for (good, bad, expected) in cases {
        assert!(WEATHER.contains(good), "{good}");
        let message = declared(&WEATHER.replacen(good, bad, 1)).unwrap_err();
        assert!(message.contains(expected), "{message}\ndoes not say: {expected}");
    }
    let none = declared("name = \"weather\"\nversion = []\n").unwrap_err();
    assert_eq!(none, "weather.toml:1:8: there is no [[version]]");
}

#[test]
fn a_directory_is_read_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert_eq!(Declared::load(&path.join("absent")).unwrap().lineages().count(), 0);
    std::fs::write(path.join("a.toml"), WEATHER).unwrap();
    std::fs::write(path.join("notes.md"), "not a schema").unwrap();
    assert_eq!(Declared::load(path).unwrap().lineages().count(), 1);
    std::fs::write(path.join("b.toml"), WEATHER).unwrap();
    let message = Declared::load(path).unwrap_err().to_string();
    assert!(
        message.contains("b.toml: schema weather is declared in") && message.contains("a.toml already"),
        "{message}"
    );
}
