//! A log that was opened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use icecore_log::OnDamage;
use icecore_replay::{
    AsOf, AsOfError, EventTimes, Explained, Order, Query, Replay, ReplayError, States, TableScan,
};
use icecore_wire::Glob;
use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;

use crate::arguments::{self, Devices, Instant, Texts};
use crate::batch::Batch;
use crate::coverage::Coverage;
use crate::error::{failed, invalid, unread, warn};
use crate::place::Place;
use crate::scan::Scan;
use crate::schema::Schema;
use crate::stream::{Request, beside, reading};

/// A log, as it was when it was opened: what came since is seen by opening it again.
#[pyclass(frozen, module = "icecore")]
pub(crate) struct Log {
    /// What it was opened by.
    name: String,
    replay: Replay,
}

/// Opens a log: the URL of a bucket, a server's configuration file, or its data directory. Whether the server runs makes no difference.
///
/// A bucket is `s3://bucket/prefix`, `gs://…`, `az://…` or `file:///directory`; credentials come from the environment, and
/// `store_options` are those of the client: `region`, `endpoint` and so on. What of a data directory is in object storage only is found by
/// the configuration file, or where `stores` says: the URL of each store by the name that the configuration gives it. `schemas` is a
/// directory of schema files, which say how older versions read as newer ones; a configuration names its own.
#[pyfunction]
#[pyo3(signature = (place, *, schemas=None, stores=None, store_options=None))]
pub(crate) fn open(
    py: Python<'_>,
    place: PathBuf,
    schemas: Option<PathBuf>,
    stores: Option<BTreeMap<String, String>>,
    store_options: Option<BTreeMap<String, String>>,
) -> PyResult<Log> {
    let name = place.display().to_string();
    let place = Place { name: place, schemas, stores, options: store_options.unwrap_or_default() };
    let opened = beside(py, || place.open())?.map_err(|error| failed(format_args!("{error:#}")))?;
    for warning in opened.warnings {
        warn(py, &py.get_type::<PyUserWarning>(), &format!("{name}: {warning}"))?;
    }
    Ok(Log { name, replay: opened.replay })
}

#[pymethods]
impl Log {
    /// The schemas of its events: each is one table. Those of the form `name@1m` are rollups.
    fn schemas(&self, py: Python<'_>) -> PyResult<Vec<Schema>> {
        let schemas = reading(py, &self.replay, |replay| replay.schemas(&Query::default()))?;
        let schemas = schemas.map_err(|error| unread(&error))?;
        Ok(schemas.iter().map(|schema| Schema::from(&**schema)).collect())
    }

    /// The events of a schema, to be taken by whatever knows Arrow; see `Scan`.
    ///
    /// `devices` are a glob of names (`*` crosses `/`) or a list of names, all by default; `start` and `end` bound the event time, the latter
    /// is not in it. Of `columns` only those are read. `where` are comparisons of fields with numbers, such as `"temp>=30"`, all of which
    /// have to hold. `known_at` leaves out what was received later: what was known then. The order is `"stored"`, which is fastest and says
    /// nothing of the events, `"log"` (as they were received), `"time"` or `"device"`. Events are read as the newest version of the schema
    /// unless `as_written`.
    ///
    /// Where something is missing (deleted by a policy, never arrived, …) an `IncompleteWarning` says so at the end, or with `require_complete`
    /// an `IncompleteError`; see `Scan.coverage`. Damage ends the scan, unless `skip_damaged` reads around it.
    #[pyo3(signature = (
        schema, *, devices=None, start=None, end=None, columns=None, r#where=None, known_at=None, order="stored", as_written=false,
        require_complete=false, skip_damaged=false
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn scan(
        &self,
        py: Python<'_>,
        schema: &str,
        devices: Option<Devices>,
        start: Option<Instant>,
        end: Option<Instant>,
        columns: Option<Vec<String>>,
        r#where: Option<Texts>,
        known_at: Option<Instant>,
        order: &str,
        as_written: bool,
        require_complete: bool,
        skip_damaged: bool,
    ) -> PyResult<Scan> {
        let query = Query {
            order: arguments::order(order)?,
            as_written,
            ..query(Some(schema), devices, [start, end, known_at], skip_damaged)?
        };
        let scan = self.table_scan(py, query, columns, arguments::comparisons(r#where)?)?;
        let columns = scan.schema().map_err(|error| unread(&error))?;
        Ok(Scan(Arc::new(Request::new(self.replay.clone(), scan, columns, require_complete))))
    }

    /// What a scan of these would cover, without reading values; of all schemas, if none is named, which takes longer.
    #[pyo3(signature = (schema=None, *, devices=None, start=None, end=None, known_at=None, skip_damaged=false))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn coverage(
        &self,
        py: Python<'_>,
        schema: Option<&str>,
        devices: Option<Devices>,
        start: Option<Instant>,
        end: Option<Instant>,
        known_at: Option<Instant>,
        skip_damaged: bool,
    ) -> PyResult<Coverage> {
        let query = query(schema, devices, [start, end, known_at], skip_damaged)?;
        let covered = match schema {
            None => {
                reading(py, &self.replay, move |replay| replay.count(&query).map(|count| count.coverage))?
            }
            Some(_) => {
                let scan = self.table_scan(py, query, Some(Vec::new()), Vec::new())?;
                reading(py, &self.replay, move |replay| {
                    replay.record_batches(&scan, &mut |_| Ok(())).map(|replayed| replayed.coverage)
                })?
            }
        };
        covered.map(|coverage| Coverage::from(&coverage)).map_err(|error| unread(&error))
    }

    /// What the devices looked like at an instant: a table with one row for each field of each schema of each device, with its last value and the
    /// statistics of its kind.
    ///
    /// `at` takes only events that happened by then, `known_at` only those that were received by then; both together tell what was believed at
    /// one time of another. Where events that an exact answer needs were deleted, the error says from when on there is one.
    #[pyo3(signature = (at=None, *, known_at=None, devices=None))]
    fn state_at(
        &self,
        py: Python<'_>,
        at: Option<Instant>,
        known_at: Option<Instant>,
        devices: Option<Devices>,
    ) -> PyResult<Batch> {
        let as_of = AsOf { at: at.map(|Instant(time)| time), known_at: known_at.map(|Instant(time)| time) };
        let states = reading(py, &self.replay, states(as_of, devices)?)?.map_err(failed)?;
        Ok(Batch(states.table().map_err(failed)?))
    }

    fn __repr__(&self) -> String {
        let positions = self.replay.reader().positions();
        format!("log of {} events in {}", positions.end - positions.start, self.name)
    }
}

impl Log {
    /// The scan of the one schema of `query`.
    fn table_scan(
        &self,
        py: Python<'_>,
        query: Query,
        columns: Option<Vec<String>>,
        comparisons: Vec<icecore_replay::Comparison>,
    ) -> PyResult<TableScan> {
        let asked = query.clone();
        let table = reading(py, &self.replay, move |replay| match replay.table(&asked) {
            Err(ReplayError::NoSchema) => Err(no_table(replay, &asked)),
            table => Ok(table),
        })?;
        let table = table.map_err(failed)?.map_err(|error| unread(&error))?;
        Ok(TableScan { columns, comparisons, ..TableScan::new(query, Arc::new(table)) })
    }
}

/// What is asked for; `times` are its start, its end, and when it was known.
fn query(
    schema: Option<&str>,
    devices: Option<Devices>,
    times: [Option<Instant>; 3],
    skip_damaged: bool,
) -> PyResult<Query> {
    let [from, to, known_at] = times.map(|time| time.map(|Instant(time)| time));
    let mut query = Query {
        schemas: schema.map_or_else(Glob::any, Glob::new),
        times: EventTimes { from, to },
        known_at,
        order: Order::Stored,
        on_damage: if skip_damaged { OnDamage::Skip } else { OnDamage::Fail },
        ..Query::default()
    };
    if schema.is_some_and(|name| name.contains(['*', '?'])) {
        return Err(invalid("a scan is of one schema: write its name"));
    }
    Devices::select(devices, &mut query)?;
    Ok(query)
}

/// Why there is no table: the schema is not there, or these devices have none of its events.
fn no_table(replay: &Replay, query: &Query) -> String {
    let name = query.schemas.as_str();
    let every = Query { on_damage: query.on_damage, ..Query::default() };
    let mut names: Vec<String> = match replay.schemas(&every) {
        Ok(schemas) => schemas.iter().map(|schema| schema.name().to_owned()).collect(),
        Err(error) => return error.to_string(),
    };
    names.dedup();
    if names.iter().any(|known| known == name) {
        return format!("no device that was asked for has events of schema {name}");
    }
    let near =
        names.iter().max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    match near {
        None => "the log has no events that can be read".to_owned(),
        Some(near) => format!("there is no schema {name}; did you mean {near}?"),
    }
}

/// Makes the states that are asked for.
fn states(
    as_of: AsOf,
    devices: Option<Devices>,
) -> PyResult<impl FnOnce(&Replay) -> Result<States, AsOfError> + Send + 'static> {
    let glob = match &devices {
        Some(Devices::Matching(glob)) => Glob::new(glob),
        _ => Glob::any(),
    };
    let named = Devices::named(devices)?;
    Ok(move |replay: &Replay| {
        let bases = replay.bases()?;
        let Some(named) = named else { return replay.states(&glob, as_of, &bases) };
        let mut all = States { devices: BTreeMap::new(), explained: Explained::default() };
        for device in &named {
            all.devices.extend(replay.state(device, as_of, &bases)?.devices);
        }
        Ok(all)
    })
}
