//! A device whose identity and spool are copied, and both go on.
//!
//! The copy is made while batches are pending. Both send those under the old epoch, where they are stored once; what the
//! copy records is new, under an epoch of its own. The two take the device over from each other until the operator stops
//! both, and lets each deliver what it has. In the end comes a copy that takes no care, and goes on in the original's
//! epoch with other content: the batch in which it meets the original's is refused.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use icecore_device::{Code, Epoch, Event, Gateway, Level, Spool};
use tokio::time::Instant;

use super::account::Account;
use super::kind::Kind;
use super::scene::Scene;
use crate::crew::{self, Crew, Member, PATIENCE, SPOOL_BYTES};
use crate::fleet::Pace;
use crate::workload::{self, Machine, Readings};

/// The share of the time after which the copy is made.
const COPIED: f64 = 0.25;
/// Batches that are pending then.
const PENDING: u32 = 2;
/// Unread events of the careless copy: more than it makes.
const EVENT_BUFFER: usize = 1 << 14;

pub(super) async fn live(scene: &Scene, number: usize) -> Result<Account> {
    let path = scene.path()?;
    let crew = scene.alone(number, path.address().to_string())?;
    let dirs = ["original", "copy"].map(|which| scene.server.path(&format!("spools/{number:05}-{which}")));
    let [original, copy] = dirs.each_ref().map(|dir| disk(dir));
    let mut account = Account::new(Kind::Cloned);

    let member = crew.alone(number, original.clone())?;
    let epoch = member.device.epoch();
    let pace = scene.pace(number, scene.batch_every);
    member.stream(Pace { end: scene.at(COPIED), ..pace }).await?;
    path.cut(None);
    member.stream(from_now(scene, Some(PENDING))).await?;
    leave(&mut account, member).await?;
    copy_spool(&dirs)?;
    path.restore();

    let both = [crew.alone(number, original.clone())?, crew.alone(number, copy.clone())?];
    let epochs = both.each_ref().map(|member| member.device.epoch());
    ensure!(epochs[0] == epoch, "the original did not go on with its epoch {epoch}");
    ensure!(epochs[1] != epoch, "the copy went on with the original's epoch {epoch}");
    account.clients = both.len();
    let paces = [(); 2].map(|()| from_now(scene, None));
    let (original_streamed, copy_streamed) = tokio::join!(both[0].stream(paces[0]), both[1].stream(paces[1]));
    original_streamed.and(copy_streamed)?;
    for member in both {
        leave(&mut account, member).await?;
    }

    for spool in [original, copy] {
        let member = crew.alone(number, spool)?;
        account.close(scene, member).await?;
    }
    // The original cut everything of its epoch that there is.
    careless_copy(scene, number, epoch, &mut account).await?;
    Ok(account)
}

fn disk(dir: &Path) -> Spool {
    Spool::Disk { dir: dir.to_owned(), max_bytes: SPOOL_BYTES as u64 }
}

/// From now on, for some batches or until the end.
fn from_now(scene: &Scene, batches: Option<u32>) -> Pace {
    let begin = Instant::now();
    let end = batches.map_or(scene.end, |batches| begin + scene.batch_every * batches);
    Pace { begin, every: scene.batch_every, end }
}

/// Closes `member`; what it cut is in its spool, and will be delivered.
async fn leave(account: &mut Account, member: Member) -> Result<()> {
    let cut = member.cut();
    account.must(&member, cut);
    account.leave(member).await
}

fn copy_spool([from, to]: &[PathBuf; 2]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Records in the original's `epoch`, from its start and past its end, in batches that do not end where the original's do.
async fn careless_copy(scene: &Scene, number: usize, epoch: Epoch, account: &mut Account) -> Result<()> {
    let name = crew::name(number).parse()?;
    let end = account.next(&name, epoch);
    let rows = (scene.crew.rows + 1..).find(|&rows| !end.is_multiple_of(rows as u64));
    let rows = rows.context("every batch would end where the original's do")?;
    let crew = Crew::new(scene.server.address().to_string(), scene.gateway.clone(), rows);
    let gateway = Gateway::connect(crew.config.endpoint(scene.socket(number)))?;
    let device = gateway.device_with_epoch(name.clone(), epoch, SPOOL_BYTES)?;
    let mut events = device.events(EVENT_BUFFER);
    let mut recorder = device.recorder(workload::schema());
    let (mut machine, mut readings) = (Machine::new(number as u64, workload::now()), Readings::default());
    let meeting = end / rows as u64;
    for _ in 0..meeting + 2 {
        machine.read(rows, &mut readings);
        recorder.columns(&readings.times, &readings.columns()).await?;
    }
    device.flush(Level::Durable, PATIENCE).await?;
    drop(recorder);
    gateway.close(PATIENCE).await?;

    let met = meeting * rows as u64..(meeting + 1) * rows as u64;
    let beyond = met.end..met.end + rows as u64;
    let mut refused = false;
    while let Some(event) = events.next().await {
        match event {
            Event::Rejected { code: Code::SequenceConflict, range, .. } if range == met => refused = true,
            Event::Rejected { range, message, .. } => bail!("{range:?} was rejected: {message}"),
            // What the server had already, it had of the original: this is no ack of what was cut here.
            Event::Acked { ref range, .. } if *range == beyond => scene.crew.acked.note(&event),
            Event::Missed { events } => bail!("{events} events were missed"),
            _ => {}
        }
    }
    ensure!(refused, "the batch {met:?} of a copy was not refused; the original had ended at {end}");
    account.must_have(&name, epoch, beyond);
    account.events_cut += rows as u64;
    Ok(())
}
