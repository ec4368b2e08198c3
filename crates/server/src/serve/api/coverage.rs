//! `/v1/coverage`: how much of what is asked for is there, and what became of the rest.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use icecore_log::OnDamage;
use icecore_replay::{Coverage, EventTimes, Lacking, Query, ReplayError};
use serde_json::{Value, json};

use super::Api;
use super::parameters::Parameters;
use super::problem::{Kind, Problem};

pub(super) async fn of_range(
    State(api): State<Arc<Api>>,
    mut parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    let query = Query {
        devices: parameters.glob("device")?,
        schemas: parameters.glob("schema")?,
        times: EventTimes { from: parameters.time("start")?, to: parameters.time("end")? },
        as_written: true,
        on_damage: on_damage(&mut parameters)?,
        ..Query::default()
    };
    parameters.end()?;
    let reading = Arc::clone(&api);
    let coverage = move |cancelled: &super::pool::Cancelled| {
        let replay = reading.replay()?.stopped_by(cancelled.flag());
        match replay.count(&query) {
            Ok(count) => Ok(as_json(&count.coverage)),
            Err(ReplayError::Output(_)) => Err(Problem::new(Kind::Internal, "the client has gone")),
            Err(error) => Err(error.into()),
        }
    };
    api.pool.run(coverage).await.map(Json)
}

/// Takes `damaged`.
pub(super) fn on_damage(parameters: &mut Parameters) -> Result<OnDamage, Problem> {
    parameters.word("damaged", &[("fail", OnDamage::Fail), ("skip", OnDamage::Skip)])
}

pub(super) fn as_json(coverage: &Coverage) -> Value {
    let Coverage { present, unstored, deleted, absent, damage } = coverage;
    let unstored = unstored.as_ref().map(|unstored| {
        json!({
            "not_arrived": unstored.not_arrived,
            "dropped": unstored.dropped,
            "refused": unstored.refused,
        })
    });
    json!({
        "present": present,
        "complete": coverage.is_complete(),
        "unstored": unstored,
        "deleted": deleted.iter().map(lacking).collect::<Vec<_>>(),
        "absent": absent.iter().map(lacking).collect::<Vec<_>>(),
        "damage": damage.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "summary": coverage.to_string(),
    })
}

/// A segment that was not read.
pub(super) fn lacking(lacking: &Lacking) -> Value {
    let Lacking { segment, events, is_exact, why } = lacking;
    json!({ "segment": segment.to_string(), "events": events, "exact": is_exact, "why": why })
}
