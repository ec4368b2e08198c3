//! Where folding begins: snapshots, and the live state.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use icecore_state::snapshot::{Chain, Kind, Snapshot, SnapshotError, Snapshots};
use icecore_state::{DeviceLedger, DeviceState, Ledger, Reach, parts_up_to};
use icecore_tier::elsewhere::Elsewhere;
use icecore_wire::DeviceName;

use super::{AsOf, AsOfError, Base, ExactFrom, Who};
use crate::Replay;

/// What is known of the states of devices at some places of the log.
#[derive(Debug, Default)]
pub struct Bases {
    /// Newest first.
    snapshots: Vec<Snapshot>,
    faults: Vec<String>,
    /// Those that are kept in stores, opened when nothing else will do: newest first, and what is wrong with others.
    kept: OnceLock<(Vec<Snapshot>, Vec<String>)>,
    now: Option<Now>,
}

/// The live state of the one device that is asked for.
#[derive(Debug)]
struct Now {
    position: u64,
    state: Option<Arc<DeviceState>>,
    recent: Vec<Reach>,
}

/// Where the folding of each device begins.
#[derive(Debug, Default)]
pub(super) struct Seats {
    pub(super) devices: BTreeMap<DeviceName, Seat>,
    /// Ledgers are those of all the log says before this place. Events behind it are folded of every device, and those before it only
    /// where a seat is further back.
    pub(super) ledger: Option<Base>,
    /// The oldest that any device begins with; `None` if one begins with the first event of the log.
    pub(super) oldest: Option<Base>,
    pub(super) faults: Vec<String>,
}

/// A device as it is known at a place of the log.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Its statistics are of the events before `from`; its ledger is as new as all ledgers are.
    pub(super) state: Arc<DeviceState>,
    pub(super) from: u64,
}

impl Bases {
    /// The snapshots of a data directory.
    ///
    /// # Errors
    /// When the directory cannot be read. Damaged files are passed over, and told where states are [explained](super::Explained).
    pub fn new(snapshots: &Snapshots) -> Result<Self, SnapshotError> {
        let (mut snapshots, faults) = snapshots.list()?;
        // Of a delta and the full one that was made of its chain, the full one counts as newer.
        let age = |snapshot: &Snapshot| (snapshot.head().point.block, snapshot.head().kind == Kind::Full);
        snapshots.sort_by_key(|snapshot| Reverse(age(snapshot)));
        let faults = faults.iter().map(ToString::to_string).collect();
        Ok(Self { snapshots, faults, ..Self::default() })
    }

    /// Knows the live state, too, of the device that is asked for: of everything before `position`, and how far back its `recent` events
    /// reach. What is behind that is not looked at, so it is of use only where nothing is asked as known at a time.
    #[must_use]
    pub fn with_live(self, position: u64, state: Option<Arc<DeviceState>>, recent: Vec<Reach>) -> Self {
        Self { now: Some(Now { position, state, recent }), ..self }
    }

    /// The parts of `positions` that may hold events of the device that is asked for by `at`.
    pub(super) fn parts_up_to(&self, positions: Range<u64>, at: i64) -> Vec<Range<u64>> {
        let recent = self.now.as_ref().map_or(&[][..], |now| &now.recent);
        parts_up_to(&positions, recent, at)
    }

    /// Where the log ends for those who know the live state.
    pub(super) fn end(&self) -> Option<u64> {
        self.now.as_ref().map(|now| now.position)
    }

    /// Whether there are more snapshots than those of the data directory.
    pub(super) fn are_more_kept(&self, replay: &Replay) -> Result<bool, AsOfError> {
        let kept = replay.elsewhere().map(Elsewhere::snapshots).transpose()?;
        Ok(kept.is_some_and(|kept| !kept.is_empty()))
    }

    /// The snapshots that are kept in stores.
    fn kept(&self, replay: &Replay) -> Result<&(Vec<Snapshot>, Vec<String>), AsOfError> {
        if let Some(kept) = self.kept.get() {
            return Ok(kept);
        }
        let (mut snapshots, mut faults) = (Vec::new(), Vec::new());
        for stored in replay.elsewhere().map(Elsewhere::snapshots).transpose()?.unwrap_or_default() {
            match Snapshot::read(stored.file, &stored.name) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(fault) => faults.push(fault.to_string()),
            }
        }
        Ok(self.kept.get_or_init(|| (snapshots, faults)))
    }

    /// All chains of the log that is read, newest first; with those that are kept in stores if `all`.
    pub(super) fn chains(&self, replay: &Replay, all: bool) -> Result<Vec<Chain<'_>>, AsOfError> {
        let kept = if all { &self.kept(replay)?.0[..] } else { &[] };
        let mut chains = self.chains_of(replay, &self.snapshots)?;
        chains.extend(self.chains_of(replay, kept)?);
        // The sort is stable: of those that go as far, what is here comes first.
        chains.sort_by_key(|chain| Reverse(chain.end().head().point.block));
        Ok(chains)
    }

    fn chains_of<'a>(&self, replay: &Replay, snapshots: &'a [Snapshot]) -> Result<Vec<Chain<'a>>, AsOfError> {
        let mut chains = Vec::new();
        for snapshot in snapshots {
            let head = snapshot.head();
            let is_there = self.end().is_none_or(|end| head.point.position <= end);
            if is_there && replay.reader().holds_all_before(&head.log, head.term, head.point.position)? {
                chains.extend(Chain::to(snapshot, snapshots));
            }
        }
        Ok(chains)
    }

    /// From when on states are exact if nothing before `position` can be read: that is so from the oldest snapshot behind it on, and
    /// from the newest event in that on, for what is later is behind it.
    pub(super) fn exact_behind(
        &self,
        replay: &Replay,
        position: u64,
        who: Who<'_>,
    ) -> Result<Option<ExactFrom>, AsOfError> {
        let chains = self.chains(replay, true)?;
        let mut search = Search { chains: &[], faults: Vec::new() };
        for chain in chains.iter().rev().filter(|chain| chain.end().head().point.position >= position) {
            if let Some(states) = search.states(chain, who) {
                let newest = states.values().filter_map(|state| state.newest_time()).max();
                let known_at = chain.end().head().received;
                return Ok(Some(ExactFrom { at: newest.unwrap_or(i64::MIN), known_at }));
            }
        }
        Ok(None)
    }

    /// Where those who are asked for begin; with the snapshots that are kept in stores if `all`.
    pub(super) fn seats(
        &self,
        replay: &Replay,
        who: Who<'_>,
        as_of: AsOf,
        all: bool,
    ) -> Result<Seats, AsOfError> {
        let mut chains = self.chains(replay, all)?;
        chains.retain(|chain| as_of.known_at.is_none_or(|at| chain.end().head().received <= at));
        let mut faults = self.faults.clone();
        if all {
            faults.extend_from_slice(&self.kept(replay)?.1);
        }
        let mut search = Search { chains: &chains, faults };
        let newest = match &self.now {
            Some(now) => Some((Base::live(now.position), now.states(who))),
            None => search.newest(who),
        };
        let (ledger, newest) = match (newest, as_of) {
            (Some(newest), _) => newest,
            // Which sequences are stored is told without reading events.
            (None, AsOf { at: Some(_), known_at: None }) => {
                let (ledger, end) =
                    (replay.ledger_of(|device| who.wants(device))?, replay.reader().positions().end);
                let seats = Seats::of_ledger(&ledger, end);
                return Ok(Seats { faults: search.faults, ..seats });
            }
            (None, _) => return Ok(Seats { faults: search.faults, ..Seats::default() }),
        };
        let mut seats =
            Seats { ledger: Some(ledger.clone()), oldest: Some(ledger.clone()), ..Seats::default() };
        let mut later = BTreeMap::new();
        for (name, state) in newest {
            match as_of.at.map_or(Some(Arc::clone(&state)), |at| state.up_to(at).map(Arc::new)) {
                Some(state) => _ = seats.devices.insert(name, Seat { state, from: ledger.position }),
                None => _ = later.insert(name, state),
            }
        }
        if let Some(at) = as_of.at {
            search.older(who, at, later, &mut seats);
        }
        seats.faults = search.faults;
        Ok(seats)
    }
}

impl Now {
    fn states(&self, who: Who<'_>) -> BTreeMap<DeviceName, Arc<DeviceState>> {
        let Who::One(device) = who else { unreachable!("the live state is told of one device") };
        self.state.iter().map(|state| (device.clone(), Arc::clone(state))).collect()
    }
}

impl Base {
    pub(super) fn live(position: u64) -> Self {
        Self { file: None, position, received: None }
    }

    pub(super) fn of(chain: &Chain<'_>) -> Self {
        let (end, head) = (chain.end(), chain.end().head());
        Self {
            file: Some(end.path().to_owned()),
            position: head.point.position,
            received: Some(head.received),
        }
    }
}

impl Seats {
    /// Everybody begins with the first event, and their ledgers are known.
    fn of_ledger(ledger: &Ledger, end: u64) -> Self {
        let seat = |ledger: &DeviceLedger| {
            let mut state = DeviceState::default();
            state.settle(ledger.clone());
            Seat { state: Arc::new(state), from: 0 }
        };
        let devices = ledger.devices().map(|(name, ledger)| (name.clone(), seat(ledger)));
        Self { devices: devices.collect(), ledger: Some(Base::live(end)), ..Self::default() }
    }
}

/// Looks for states in snapshots; what is damaged is noted, and what is older used instead.
struct Search<'a> {
    /// Newest first; those that were looked at are gone.
    chains: &'a [Chain<'a>],
    faults: Vec<String>,
}

impl<'a> Search<'a> {
    /// What the newest good chain says of those who are asked for.
    fn newest(&mut self, who: Who<'_>) -> Option<(Base, BTreeMap<DeviceName, Arc<DeviceState>>)> {
        while let [chain, rest @ ..] = self.chains {
            self.chains = rest;
            if let Some(states) = self.states(chain, who) {
                return Some((Base::of(chain), states));
            }
        }
        None
    }

    /// Finds seats for devices of which the newest state has something later than `at`.
    fn older(
        &mut self,
        who: Who<'_>,
        at: i64,
        mut later: BTreeMap<DeviceName, Arc<DeviceState>>,
        seats: &mut Seats,
    ) {
        if let (Who::One(device), Some(newest)) = (who, later.values().next().cloned())
            && let Some((base, state)) = self.newest_up_to(device, at)
        {
            seats.add(device.clone(), &base, state, &newest);
            later.clear();
        }
        // For many devices every chain is read as it lies, until nobody is left.
        while let [chain, rest @ ..] = self.chains
            && matches!(who, Who::Matching(_))
            && !later.is_empty()
        {
            self.chains = rest;
            let Some(mut states) = self.states(chain, who) else { continue };
            let base = Base::of(chain);
            let found: BTreeSet<DeviceName> = later
                .iter()
                .filter_map(|(name, newest)| {
                    // Who is not in it had sent nothing yet.
                    let state = states.remove(name).unwrap_or_default();
                    seats.add(name.clone(), &base, state.up_to(at)?, newest);
                    Some(name.clone())
                })
                .collect();
            later.retain(|name, _| !found.contains(name));
        }
        for (name, newest) in later {
            let mut state = DeviceState::default();
            state.settle(newest.ledger().clone());
            seats.devices.insert(name, Seat { state: Arc::new(state), from: 0 });
            seats.oldest = None;
        }
    }

    /// The newest state of a device with nothing later than `at`: by halves, for what has nothing later now had nothing then. (An
    /// event ahead of its time may come in between: then this finds an older one, which is as good.)
    fn newest_up_to(&mut self, device: &DeviceName, at: i64) -> Option<(Base, DeviceState)> {
        let mut found = None;
        while !self.chains.is_empty() {
            let middle = self.chains.len() / 2;
            let chain = &self.chains[middle];
            let state = self.state(chain, device).and_then(|state| state.unwrap_or_default().up_to(at));
            match state {
                Some(state) => {
                    (found, self.chains) = (Some((Base::of(chain), state)), &self.chains[..middle]);
                }
                None => self.chains = &self.chains[middle + 1..],
            }
        }
        found
    }

    fn states(&mut self, chain: &Chain<'_>, who: Who<'_>) -> Option<BTreeMap<DeviceName, Arc<DeviceState>>> {
        let Who::One(device) = who else {
            let wanted = |device: &Result<(DeviceName, _), _>| {
                device.as_ref().map_or(true, |(name, _)| who.wants(name.as_str()))
            };
            let states: Result<_, _> = chain.devices().filter(wanted).collect();
            return self.good(states);
        };
        let state = self.state(chain, device)?;
        Some(state.into_iter().map(|state| (device.clone(), Arc::new(state))).collect())
    }

    fn state(&mut self, chain: &Chain<'_>, device: &DeviceName) -> Option<Option<DeviceState>> {
        let state = chain.device(device);
        self.good(state)
    }

    fn good<T>(&mut self, read: Result<T, SnapshotError>) -> Option<T> {
        read.map_err(|fault| self.faults.push(fault.to_string())).ok()
    }
}

impl Seats {
    fn add(&mut self, name: DeviceName, base: &Base, mut state: DeviceState, newest: &DeviceState) {
        state.settle(newest.ledger().clone());
        self.devices.insert(name, Seat { state: Arc::new(state), from: base.position });
        if self.oldest.as_ref().is_some_and(|oldest| base.position < oldest.position) {
            self.oldest = Some(base.clone());
        }
    }
}
