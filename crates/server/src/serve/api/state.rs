//! `/v1/devices/{device}/state`: what a device looks like, or looked like.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use icecore_ingest::LiveDevice;
use icecore_log::RealDisk;
use icecore_replay::{AsOf, AsOfError, Bases};
use icecore_state::DeviceState;
use icecore_state::snapshot::Snapshots;
use icecore_wire::DeviceName;
use serde_json::Value;

use super::Api;
use super::parameters::{Named, Parameters};
use super::pool::Cancelled;
use super::problem::{Kind, Problem};
use crate::state::json;

pub(super) async fn of_device(
    State(api): State<Arc<Api>>,
    Named(name): Named<DeviceName>,
    mut parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    let as_of = AsOf { at: parameters.time("at")?, known_at: parameters.time("known_at")? };
    parameters.end()?;
    let looking = Arc::clone(&api);
    let look = move |cancelled: &Cancelled| {
        let state = looking.state(&name, as_of, cancelled)?;
        Ok(json::of(&name, as_of, &state))
    };
    api.pool.run(look).await.map(Json)
}

impl Api {
    /// Reads nothing where the live state has the answer.
    fn state(
        &self,
        name: &DeviceName,
        as_of: AsOf,
        cancelled: &Cancelled,
    ) -> Result<Arc<DeviceState>, Problem> {
        self.check_known(name)?;
        let LiveDevice { state: live, position, recent } = self.known.device(name);
        if as_of.known_at.is_none() {
            let live = live.clone().unwrap_or_default();
            let found = as_of.at.map_or(Some(Arc::clone(&live)), |at| live.up_to(at).map(Arc::new));
            if let Some(state) = found {
                return Ok(state);
            }
        }
        // Opened after the live state was looked at: everything that is in it is in the log.
        let replay = self.replay()?.stopped_by(cancelled.flag());
        let snapshots = Snapshots::new(Arc::new(RealDisk), &self.config.data.dir);
        let bases = Bases::new(&snapshots).map_err(anyhow::Error::from)?;
        let bases = if as_of.known_at.is_none() { bases.with_live(position, live, recent) } else { bases };
        let mut states = replay.state(name, as_of, &bases)?;
        states.explained.faults.iter().for_each(|fault| tracing::warn!(fault, "a snapshot is passed over"));
        // Nothing was received of it by then.
        Ok(states.devices.remove(name).unwrap_or_default())
    }
}

impl From<AsOfError> for Problem {
    fn from(error: AsOfError) -> Self {
        match error {
            AsOfError::Refused(refusal) => Self::new(Kind::Inexact, refusal.to_string()),
            AsOfError::Stopped => Self::new(Kind::Internal, "the client has gone"),
            error => anyhow::Error::from(error).into(),
        }
    }
}
