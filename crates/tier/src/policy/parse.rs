//! From the text of a policy file to its policies. What cannot be meant is refused here, where it has a place.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{PolicyError, Section, Source, nearest};
use super::{AgeBy, Cold, Delete, Local, Period, Policy, Rollup, Selector};
use super::{MAX_PLACES, MAX_POLICIES, MAX_STAGES, MAX_TEXT_BYTES};

const POLICY_KEYS: [&str; 9] =
    ["name", "match", "importance", "age_by", "grace", "cold", "local", "rollup", "delete"];
const SELECTOR_KEYS: [&str; 4] = ["schema", "device", "labels", "not"];
const ROLLUP_KEYS: [&str; 3] = ["every", "delete_after", "quantiles"];
const NAME_BYTES: usize = 64;

/// Beyond a year, an undo window is another retention time.
const LONGEST_UNDO: Period = Period::days(365);

const DELETE_FORMS: &str =
    "delete = \"never\", delete = { after = \"90d\", undo = \"7d\" } or delete = { max_bytes = \"500GB\" }";

/// Reads all policies of the file called `name`.
pub(super) fn policies(name: &str, text: &str) -> Result<Vec<Policy>, PolicyError> {
    let source = Source { name, text };
    if text.len() > MAX_TEXT_BYTES {
        return Err(source.error(0..0, format!("a policy file may have {MAX_TEXT_BYTES} bytes")));
    }
    let document = DeTable::parse(text)
        .map_err(|error| source.error(error.span().unwrap_or_default(), error.message().to_owned()))?;
    let document = Section::of(source, "a policy file", 0..0, document.get_ref(), &["policy"])?;
    let sections = document.sections("policy", "a policy", &POLICY_KEYS, MAX_POLICIES)?;
    let Some(last) = sections.len().checked_sub(1) else {
        return Err(document.error(format!(
            "there is no policy: write at least [[policy]] with name = \"default\" and {DELETE_FORMS}"
        )));
    };

    let mut policies: Vec<Policy> = Vec::with_capacity(sections.len());
    for (number, section) in sections.iter().enumerate() {
        let policy = policy(section, number == last)?;
        if policies.iter().any(|other| other.name == policy.name) {
            return Err(section.error_at("name", format!("there are two policies named {}", policy.name)));
        }
        policies.push(policy);
        let stages = policies.iter().flat_map(|policy| &policy.cold);
        if stages.map(|stage| (&stage.store, &stage.class)).collect::<HashSet<_>>().len() > MAX_PLACES {
            let message = format!("a policy file may name {MAX_PLACES} different stores and classes at most");
            return Err(section.error_at("cold", message));
        }
    }
    Ok(policies)
}

fn policy(section: &Section<'_>, is_last: bool) -> Result<Policy, PolicyError> {
    let name = name(section)?;
    let selector = match section.section("match", "match", &SELECTOR_KEYS)? {
        Some(_) if is_last => {
            let default = "a last [[policy]] without match, for everything that no other policy matches";
            let message = format!("the last policy must be the default: add {default}");
            return Err(section.error_at("match", message));
        }
        Some(part) => Some(selector(&part, true)?),
        None if is_last => None,
        None => {
            let message =
                format!("policy {name} has no match, but is not the last: those after it apply to nothing");
            return Err(section.error(message));
        }
    };
    let policy = Policy {
        selector,
        importance: section.number("importance", 0..101)?.unwrap_or(Policy::USUAL_IMPORTANCE),
        age_by: age_by(section)?,
        cold: cold(section)?,
        local: local(section)?,
        rollup: rollup(section)?,
        delete: delete(section, name)?,
        name: name.to_owned(),
    };
    check_order(section, &policy)?;
    Ok(policy)
}

fn name<'t>(section: &Section<'t>) -> Result<&'t str, PolicyError> {
    let name = section.wanted("name", "name = \"…\"")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() > NAME_BYTES || !name.chars().all(fits) {
        let message = format!(
            "a policy's name has 1 to {NAME_BYTES} letters a to z, digits, and - _ ., unlike {name:?}"
        );
        return Err(section.error_at("name", message));
    }
    Ok(name)
}

/// `outermost` is false in a `not`, which has none of its own.
fn selector(section: &Section<'_>, outermost: bool) -> Result<Selector, PolicyError> {
    let globs = |key| match section.value(key) {
        Some(value) => section.globs(key, value),
        None => Ok(Vec::new()),
    };
    let mut labels = BTreeMap::new();
    if let Some(value) = section.value("labels") {
        let DeValue::Table(keys) = value.get_ref() else {
            return Err(section.error_at("labels", "labels: expected keys and values, { site = \"oslo\" }"));
        };
        for (key, value) in keys {
            labels.insert(key.get_ref().to_string(), section.globs(key.get_ref(), value)?);
        }
    }
    let not = match section.section("not", "not", &SELECTOR_KEYS)? {
        Some(_) if !outermost => return Err(section.error_at("not", "a not has no not of its own")),
        Some(part) => Some(Box::new(selector(&part, false)?)),
        None => None,
    };
    let selector = Selector { schemas: globs("schema")?, devices: globs("device")?, labels, not };
    if selector == Selector::default() {
        let message =
            "matches everything: name a schema, device or label (only the last policy has no match)";
        return Err(section.error(message));
    }
    Ok(selector)
}

fn age_by(section: &Section<'_>) -> Result<AgeBy, PolicyError> {
    let grace = section.period("grace")?;
    match section.text("age_by")? {
        Some("event") => Ok(AgeBy::Event { grace: grace.unwrap_or(Policy::USUAL_GRACE) }),
        None | Some("received") if grace.is_some() => {
            Err(section.error_at("grace", "a grace is for age_by = \"event\"; received times need none"))
        }
        None | Some("received") => Ok(AgeBy::Received),
        Some(other) => {
            let near = nearest(other, &["received", "event"]);
            Err(section.error_at("age_by", format!("ages do not count from {other:?}{near}")))
        }
    }
}

fn cold(section: &Section<'_>) -> Result<Vec<Cold>, PolicyError> {
    let example = "{ after = \"6h\", store = \"archive\" }";
    let mut stages: Vec<Cold> = Vec::new();
    let mut places = BTreeSet::new();
    for stage in section.sections("cold", "a cold stage", &["after", "store", "class"], MAX_STAGES)? {
        let Some(after) = stage.period("after")? else {
            return Err(stage.error(format!("a cold stage lacks after: write {example}")));
        };
        let (store, class) = (stage.wanted("store", example)?, stage.text("class")?);
        if let Some(before) = stages.last().filter(|before| before.after >= after) {
            let message =
                format!("cold stages go from young to old: {after} does not come after {}", before.after);
            return Err(stage.error_at("after", message));
        }
        if !places.insert((store, class)) {
            let message = format!("an earlier cold stage is in store {store} and the same class already");
            return Err(stage.error_at("store", message));
        }
        stages.push(Cold { after, store: store.to_owned(), class: class.map(str::to_owned) });
    }
    Ok(stages)
}

fn local(section: &Section<'_>) -> Result<Local, PolicyError> {
    let Some(part) = section.section("local", "local", &["drop_after", "max_bytes", "min_free"])? else {
        return Ok(Local::default());
    };
    let local = Local {
        drop_after: part.period("drop_after")?,
        max_bytes: part.bytes("max_bytes")?,
        min_free: part.bytes("min_free")?,
    };
    if local == Local::default() {
        return Err(
            part.error("local says nothing: write drop_after, max_bytes or min_free, or leave local out")
        );
    }
    if section.value("cold").is_none() {
        let message = "local copies only go when a copy is in object storage: write a cold stage too, or leave local out";
        return Err(part.error(message));
    }
    Ok(local)
}

fn rollup(section: &Section<'_>) -> Result<Vec<Rollup>, PolicyError> {
    let example = "{ every = \"1h\", delete_after = \"10y\" }";
    let mut rollups: Vec<Rollup> = Vec::new();
    for part in section.sections("rollup", "a rollup", &ROLLUP_KEYS, MAX_STAGES)? {
        let Some(every) = part.period("every")? else {
            return Err(part.error(format!("a rollup needs the width of its windows: write {example}")));
        };
        if !(Rollup::NARROWEST..=Rollup::WIDEST).contains(&every) {
            let (narrowest, widest) = (Rollup::NARROWEST, Rollup::WIDEST);
            let message = format!("windows are from {narrowest} to {widest} wide, not {every}");
            return Err(part.error_at("every", message));
        }
        if let Some(before) = rollups.last().filter(|before| before.every >= every) {
            let message =
                format!("rollups go from narrow to wide: {every} does not come after {}", before.every);
            return Err(part.error_at("every", message));
        }
        let delete_after = match part.value("delete_after").map(Spanned::get_ref) {
            Some(DeValue::String(text)) if text == "never" => None,
            Some(_) => part.period("delete_after")?,
            None => {
                let message =
                    format!("a rollup lacks delete_after: write {example}, or delete_after = \"never\"");
                return Err(part.error(message));
            }
        };
        let quantiles = part.truth("quantiles")?.unwrap_or_default();
        rollups.push(Rollup { every, delete_after, quantiles });
    }
    Ok(rollups)
}

fn delete(section: &Section<'_>, name: &str) -> Result<Option<Delete>, PolicyError> {
    match section.value("delete").map(Spanned::get_ref) {
        None => return Err(section.error(format!("policy {name} lacks delete: write {DELETE_FORMS}"))),
        Some(DeValue::String(text)) if text == "never" => return Ok(None),
        Some(DeValue::Table(_)) => {}
        Some(_) => return Err(section.error_at("delete", format!("expected {DELETE_FORMS}"))),
    }
    let part = section.section("delete", "delete", &["after", "max_bytes", "undo"])?.expect("it is a table");
    let undo = part.period("undo")?.unwrap_or(Policy::USUAL_UNDO);
    let delete = Delete { after: part.period("after")?, max_bytes: part.bytes("max_bytes")?, undo };
    if delete.after.is_none() && delete.max_bytes.is_none() {
        return Err(part.error(format!("delete does not say when: write {DELETE_FORMS}")));
    }
    if delete.after == Some(Period::ZERO) {
        return Err(part.error_at("after", "after = \"0s\" deletes everything on arrival"));
    }
    if undo > LONGEST_UNDO {
        let message = format!("an undo of {undo} is longer than {LONGEST_UNDO}: write a later after instead");
        return Err(part.error_at("undo", message));
    }
    Ok(Some(delete))
}

/// Refuses stages that never come, because another one is there before them.
fn check_order(section: &Section<'_>, policy: &Policy) -> Result<(), PolicyError> {
    let deleted = policy.delete.and_then(|delete| delete.after);
    let never = |after: Period| deleted.filter(|deleted| after > *deleted);
    for stage in &policy.cold {
        if let Some(deleted) = never(stage.after) {
            let message =
                format!("the cold stage at {} never comes: the data is deleted at {deleted}", stage.after);
            return Err(section.error_at("cold", message));
        }
    }
    if let Some(drop_after) = policy.local.drop_after {
        if let Some(deleted) = never(drop_after) {
            let message = format!("drop_after = {drop_after} never comes: the data is deleted at {deleted}");
            return Err(section.error_at("local", message));
        }
        let first = policy.cold.first().expect("a policy with local has a cold stage").after;
        if drop_after < first {
            let message = format!(
                "drop_after = {drop_after} comes before the first cold stage at {first}, when there is no other copy: \
                 write {first} or more"
            );
            return Err(section.error_at("local", message));
        }
    }
    let too_short =
        |rollup: &&Rollup| rollup.delete_after.is_some_and(|after| deleted.is_some_and(|raw| after <= raw));
    if let Some(rollup) = policy.rollup.iter().find(too_short) {
        let message =
            format!("the rollup of {} is deleted no later than the raw data it was made from", rollup.every);
        return Err(section.error_at("rollup", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = "\n[[policy]]\nname = \"default\"\ndelete = \"never\"\n";

    fn error(text: &str) -> String {
        policies("p.toml", text).unwrap_err().to_string()
    }

    /// The mistake in a policy that has these lines, from the third of the file on.
    fn error_in(lines: &str) -> String {
        error(&format!("[[policy]]\nname = \"a\"\n{lines}\n{DEFAULT}"))
    }

    #[test]
    fn mistakes_of_the_file_name_their_place() {
        let cases = [
            ("", "1:1: there is no policy: write at least [[policy]] with name = \"default\" and delete = "),
            ("[[polcy]]\n", "1:3: unknown key polcy in a policy file; did you mean policy?"),
            ("[policy]\n", "1:1: policy: expected a list, [{ … }, …], not a table"),
            ("policy = []\n", "1:10: policy: 0 entries; leave policy out, or write 1 to 256"),
            ("[[policy]]\nname = 3\n", "2:8: expected a text in name, not 3"),
            ("[[policy]]\nname = \"a b\"\n", "2:8: a policy's name has 1 to 64 letters"),
            ("[[policy]]\ndelete = \"never\"\n", "1:1: a policy lacks name: write name = "),
            (
                "[[policy]]\nname = \"a\"\n",
                "1:1: policy a lacks delete: write delete = \"never\", delete = {",
            ),
            ("[[policy]\n", "1:10: "),
        ];
        for (text, expected) in cases {
            let message = error(text);
            assert!(message.starts_with(&format!("p.toml:{expected}")), "{message}");
        }
        let no_default = "[[policy]]\nname = \"a\"\nmatch = { schema = \"*\" }\ndelete = \"never\"\n";
        assert!(error(no_default).starts_with("p.toml:3:9: the last policy must be the default: add"));
        assert!(
            error(&format!("{DEFAULT}{DEFAULT}")).contains("p.toml:2:1: policy default has no match, but is")
        );
        let twice = "[[policy]]\nname = \"default\"\nmatch = { schema = \"a\" }\ndelete = \"never\"\n";
        assert_eq!(error(&format!("{twice}{DEFAULT}")), "p.toml:7:8: there are two policies named default");
    }

    #[test]
    fn mistakes_of_a_policy_name_their_place() {
        let cases = [
            ("mach = 1", "3:1: unknown key mach in a policy; did you mean match?"),
            ("match = { shema = \"a\" }", "3:11: unknown key shema in match; did you mean schema?"),
            ("match = \"a\"", "3:9: expected match, { … }, not a string"),
            ("match = {}", "3:9: matches everything: name a schema, device or label"),
            ("match = { schema = [] }", "3:20: schema: an empty list matches nothing; leave schema out"),
            (
                "match = { device = [\"a\", 3] }",
                "3:26: device: expected a name or glob, or a list of them, not 3",
            ),
            ("match = { labels = \"a\" }", "3:20: labels: expected keys and values"),
            ("match = { not = { not = { device = \"a\" } } }", "3:25: a not has no not of its own"),
            ("importance = 101", "3:14: importance: expected a whole number from 0 to 100, not 101"),
            ("age_by = \"evnt\"", "3:10: ages do not count from \"evnt\"; did you mean event?"),
            ("grace = \"1d\"", "3:9: a grace is for age_by = \"event\"; received times need none"),
            ("delete = \"nevr\"", "3:10: expected delete = \"never\", delete = {"),
            ("delete = {}", "3:10: delete does not say when: write delete = "),
            (
                "delete = { after = \"90 days\" }",
                "3:20: after: expected a length of time such as \"6h\", \"90d\"",
            ),
            ("delete = { after = 90 }", "3:20: after: expected a length of time such as"),
            ("delete = { after = \"0s\" }", "3:20: after = \"0s\" deletes everything on arrival"),
            ("delete = { max_bytes = \"lots\" }", "3:24: max_bytes: expected a size such as \"500GB\""),
            (
                "delete = { after = \"1d\", undo = \"2y\" }",
                "3:33: an undo of 2y is longer than 1y: write a later",
            ),
        ];
        for (lines, expected) in cases {
            let rest = if lines.starts_with("match") { "" } else { "\nmatch = { device = \"*\" }" };
            let message = error_in(&format!("{lines}{rest}\n"));
            assert!(message.starts_with(&format!("p.toml:{expected}")), "{lines}: {message}");
        }
    }

    #[test]
    fn stages_that_make_no_sense_name_their_place() {
        let match_and_delete = "match = { device = \"*\" }\ndelete = { after = \"90d\" }\n";
        let cold = "cold = [{ after = \"6h\", store = \"a\" }]\n";
        let cases = [
            ("cold = []", "5:8: cold: 0 entries; leave cold out, or write 1 to 8"),
            ("cold = [{ store = \"a\" }]", "5:9: a cold stage lacks after: write { after = \"6h\", store = "),
            ("cold = [{ after = \"6h\" }]", "5:9: a cold stage lacks store: write { after = "),
            (
                "cold = [{ after = \"6h\", store = \"a\", clas = \"b\" }]",
                "5:38: unknown key clas in a cold stage; did",
            ),
            (
                "cold = [{ after = \"6h\", store = \"a\" }, { after = \"6h\", store = \"b\" }]",
                "5:50: cold stages go from young to old: 6h does not come after 6h",
            ),
            (
                "cold = [{ after = \"6h\", store = \"a\" }, { after = \"7h\", store = \"a\" }]",
                "5:64: an earlier cold stage is in store a and the same class already",
            ),
            (
                "cold = [{ after = \"91d\", store = \"a\" }]",
                "5:8: the cold stage at 91d never comes: the data is deleted at 90d",
            ),
            ("local = { drop_after = \"2d\" }", "5:9: local copies only go when a copy is in object storage"),
            ("local = {}", "5:9: local says nothing: write drop_after, max_bytes or min_free"),
            ("rollup = []", "5:10: rollup: 0 entries"),
            ("rollup = [{ delete_after = \"1y\" }]", "5:11: a rollup needs the width of its windows: write"),
            (
                "rollup = [{ every = \"0s\", delete_after = \"1y\" }]",
                "5:21: windows are from 1s to 1d wide, not 0s",
            ),
            (
                "rollup = [{ every = \"1d1s\", delete_after = \"1y\" }]",
                "5:21: windows are from 1s to 1d wide, not 1d1s",
            ),
            (
                "rollup = [{ every = \"1m\", delete_after = \"1y\", quantiles = \"yes\" }]",
                "5:60: quantiles: expected true or false, not \"yes\"",
            ),
            ("rollup = [{ every = \"1m\" }]", "5:11: a rollup lacks delete_after: write"),
            (
                "rollup = [{ every = \"1h\", delete_after = \"1y\" }, { every = \"1m\", delete_after = \"1y\" }]",
                "5:60: rollups go from narrow to wide: 1m does not come after 1h",
            ),
            (
                "rollup = [{ every = \"1m\", delete_after = \"90d\" }]",
                "5:10: the rollup of 1m is deleted no later than the raw data it was made from",
            ),
        ];
        for (lines, expected) in cases {
            let message = error_in(&format!("{match_and_delete}{lines}"));
            assert!(message.starts_with(&format!("p.toml:{expected}")), "{lines}: {message}");
        }
        let with_cold = |lines: &str| error_in(&format!("{match_and_delete}{cold}{lines}"));
        let early = with_cold("local = { drop_after = \"2h\" }");
        assert_eq!(
            early,
            "p.toml:6:9: drop_after = 2h comes before the first cold stage at 6h, when there is no other copy: \
             write 6h or more"
        );
        let late = with_cold("local = { drop_after = \"91d\" }");
        assert_eq!(late, "p.toml:6:9: drop_after = 91d never comes: the data is deleted at 90d");
    }
}
