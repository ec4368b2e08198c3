//! `/v1/segments`: the sealed segments, where they are, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use icecore_log::{Child, LogReader, Manifest, RealDisk, SegmentId};
use icecore_replay::format_instant;
use icecore_tier::catalog::{Decision, Entry, View};
use icecore_tier::segment::{Content, Segment};
use icecore_wire::Glob;
use serde_json::{Value, json};

use super::Api;
use super::cursor::Page;
use super::parameters::{Named, Parameters};
use super::problem::{Kind, Problem};
use crate::segments::open_local;

/// Which segments are asked for.
struct Wanted {
    tier: Option<&'static str>,
    schemas: Glob,
    devices: Glob,
    start: Option<i64>,
    end: Option<i64>,
}

/// A segment, from the catalog or, before that has heard of it, from its manifest.
enum Found {
    Entry(Box<Entry>),
    New(SegmentId, Child),
}

pub(super) async fn list(State(api): State<Arc<Api>>, mut query: Parameters) -> Result<Json<Value>, Problem> {
    let wanted = Wanted::of(&mut query)?;
    let page = Page::of(&mut query, &wanted.describe())?;
    query.end()?;
    let reading = Arc::clone(&api);
    let list = move |_: &_| {
        let behind: Option<SegmentId> = page.behind.as_ref().and_then(|cursor| cursor.name.parse().ok());
        let view = reading.catalog.view()?;
        let mut segments = Vec::new();
        let mut next = None;
        reading.each_segment(&view, behind, &mut |found| {
            if !wanted.wants(&found, &view, &reading)? {
                return Ok(true);
            }
            if segments.len() == page.limit {
                next = segments.last().map(|(id, _): &(SegmentId, _)| page.cursor(None, &id.to_string()));
                return Ok(false);
            }
            segments.push((found.id(), found.as_json()));
            Ok(true)
        })?;
        let segments: Vec<Value> = segments.into_iter().map(|(_, segment)| segment).collect();
        Ok(json!({ "segments": segments, "next": next }))
    };
    api.pool.run(list).await.map(Json)
}

/// One segment, live or gone, with what is in it and every decision about it.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Named(id): Named<SegmentId>,
    query: Parameters,
) -> Result<Json<Value>, Problem> {
    query.end()?;
    let reading = Arc::clone(&api);
    let one = move |_: &_| {
        let view = reading.catalog.view()?;
        let mut found = None;
        if let Some(entry) = view.segment(id)? {
            found = Some(Found::Entry(Box::new(entry)));
        } else if view.tombstone(id)?.is_none() {
            let new = reading.new_segments(&view)?.into_iter().find(|(other, _)| *other == id);
            let (id, child) =
                new.ok_or_else(|| Problem::new(Kind::NotFound, format!("there never was a segment {id}")))?;
            found = Some(Found::New(id, child));
        }
        let mut segment = found.as_ref().map_or_else(|| json!({ "id": id }), Found::as_json);
        let contents = match &found {
            Some(new @ Found::New(..)) => new.contents(&view, &reading)?,
            _ => view.contents(id)?,
        };
        segment["contents"] = contents.iter().map(content).collect();
        let explanation = matches!(&found, Some(Found::New(..))).then_some(Ok(None));
        let explanation = explanation.unwrap_or_else(|| view.explain(id).map(Some))?;
        segment["standing"] = match &explanation {
            Some(explanation) => json!(explanation.standing),
            None => json!("is local only, and the catalog has not heard of it yet"),
        };
        let (made, pending) = explanation.map_or_else(Default::default, |e| (e.decisions, e.pending));
        segment["decisions"] = made.iter().map(decision).collect();
        segment["pending"] = pending.iter().map(decision).collect();
        Ok(segment)
    };
    api.pool.run(one).await.map(Json)
}

impl Api {
    /// Hands over the live segments behind one, by name, until it is told to stop.
    fn each_segment(
        &self,
        view: &View,
        behind: Option<SegmentId>,
        take: &mut dyn FnMut(Found) -> Result<bool, Problem>,
    ) -> Result<(), Problem> {
        for entry in view.segments_behind(behind)? {
            if !take(Found::Entry(Box::new(entry?)))? {
                return Ok(());
            }
        }
        for (id, child) in self.new_segments(view)? {
            if behind.is_none_or(|behind| id > behind) && !take(Found::New(id, child))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Segments of manifests that the catalog has not heard of: it follows them.
    fn new_segments(&self, view: &View) -> Result<Vec<(SegmentId, Child)>, Problem> {
        let next = view.next_manifest()?;
        let data = &self.config.data.dir;
        if !Manifest::path(data, next).exists() {
            return Ok(Vec::new());
        }
        let reader = LogReader::open(Arc::new(RealDisk), data)?;
        let new = reader.sealed().filter(|(id, _)| id.manifest >= next);
        Ok(new.map(|(id, child)| (id, child.clone())).collect())
    }
}

impl Wanted {
    fn of(query: &mut Parameters) -> Result<Self, Problem> {
        Ok(Self {
            tier: query.word("tier", &[("any", None), ("warm", Some("warm")), ("cold", Some("cold"))])?,
            schemas: query.glob("schema")?,
            devices: query.glob("device")?,
            start: query.time("start")?,
            end: query.time("end")?,
        })
    }

    /// Which list it is, for its cursors. Times that are relative to now are others on every page, and do not count.
    fn describe(&self) -> String {
        let Self { tier, schemas, devices, start, end } = self;
        format!("segments {tier:?} {schemas:?} {devices:?} {} {}", start.is_some(), end.is_some())
    }

    fn wants(&self, found: &Found, view: &View, api: &Api) -> Result<bool, Problem> {
        let (first, last) = found.times();
        let in_time = self.start.is_none_or(|start| last >= start) && self.end.is_none_or(|end| first < end);
        if !in_time || self.tier.is_some_and(|tier| tier != found.tier()) {
            return Ok(false);
        }
        if self.schemas.is_any() && self.devices.is_any() {
            return Ok(true);
        }
        let contents = found.contents(view, api)?;
        let matches = |content: &Content| {
            self.schemas.matches(&content.schema) && self.devices.matches(&content.device)
        };
        Ok(contents.iter().any(matches))
    }
}

impl Found {
    fn id(&self) -> SegmentId {
        match self {
            Self::Entry(entry) => entry.segment.id,
            Self::New(id, _) => *id,
        }
    }

    /// Warm while it has a local file.
    fn tier(&self) -> &'static str {
        match self {
            Self::Entry(entry) if !entry.segment.local => "cold",
            Self::Entry(_) | Self::New(..) => "warm",
        }
    }

    /// First and last event time.
    fn times(&self) -> (i64, i64) {
        match self {
            Self::Entry(entry) => (entry.segment.events.first, entry.segment.events.last),
            Self::New(_, child) => (*child.times.start(), *child.times.end()),
        }
    }

    fn contents(&self, view: &View, api: &Api) -> Result<Vec<Content>, Problem> {
        let Self::New(id, _) = self else { return Ok(view.contents(self.id())?) };
        let segment = open_local(*id, &api.config.data.dir)?;
        Ok(segment.map(|segment| icecore_tier::catalog::contents(segment.summary())).unwrap_or_default())
    }

    fn as_json(&self) -> Value {
        let (first, last) = self.times();
        let mut json = match self {
            Self::Entry(entry) => entry_as_json(entry),
            Self::New(_, child) => json!({
                "events": child.rows,
                "bytes": child.bytes,
                "root": crate::segments::hex(child.root),
                "positions": { "from": child.positions.start, "to": child.positions.end },
                "received": span(*child.received.start(), *child.received.end()),
                "policies": [{ "policy": child.class, "events": child.rows }],
                "local": true,
                "copies": [],
                "missing": false,
                "deletion": null,
                "holds": [],
            }),
        };
        json["id"] = json!(self.id().to_string());
        json["tier"] = json!(self.tier());
        json["happened"] = span(first, last);
        json
    }
}

fn entry_as_json(entry: &Entry) -> Value {
    let Entry { segment, holds, missing } = entry;
    let Segment { bytes, rows, root, positions, received, shares, local, copies, deletion, .. } = segment;
    let shares = shares.iter().map(|share| json!({ "policy": share.policy, "events": share.rows }));
    let copies = copies.iter().map(
        |copy| json!({ "store": copy.store, "class": copy.class, "verified": format_instant(copy.verified) }),
    );
    let deletion = deletion.as_ref().map(|deletion| {
        json!({
            "marked": format_instant(deletion.marked),
            "due": format_instant(deletion.due),
            "policy": deletion.policy,
        })
    });
    json!({
        "events": rows,
        "bytes": bytes,
        "root": crate::segments::hex(*root),
        "positions": { "from": positions.start, "to": positions.end },
        "received": span(received.first, received.last),
        "policies": shares.collect::<Vec<_>>(),
        "local": local,
        "copies": copies.collect::<Vec<_>>(),
        "missing": missing,
        "deletion": deletion,
        "holds": holds,
    })
}

/// Both ends included.
fn span(first: i64, last: i64) -> Value {
    json!({ "first": format_instant(first), "last": format_instant(last) })
}

fn content(content: &Content) -> Value {
    json!({
        "schema": content.schema,
        "device": content.device,
        "events": content.rows,
        "received": span(content.received.first, content.received.last),
    })
}

fn decision(decision: &Decision) -> Value {
    json!({
        "number": decision.number,
        "time": format_instant(decision.time),
        "by": decision.by,
        "policy": decision.policy,
        "policies": decision.version,
        "reason": decision.reason,
        "what": decision.what.to_string(),
    })
}
