//! Terms: which machine may write to a bucket.

use icecore_log::checked_line::{self, LineCheck};
use serde::{Deserialize, Serialize};

use super::{Bucket, BucketError, JournalError};
use crate::instant;

/// The right to write to a bucket, until somebody takes a later one.
///
/// It is an object `terms/<number>` that is created once. There is no lock in object storage, so the order of things makes
/// up for it: a deletion is written to the journal, then the term is checked, then the bytes go. Whoever takes over creates
/// his term first and reads the journal after that: he sees every deletion whose check had still passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Its number; dense, from 1.
    pub number: u64,
}

/// What the object says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    term: u64,
    /// The catalog that took it, in hexadecimal digits.
    catalog: String,
    by: String,
    #[serde(with = "instant")]
    time: i64,
}

fn object(number: u64) -> String {
    format!("terms/{number:010}")
}

/// Creates the object of a term; `false` if there is one.
fn create(
    bucket: &dyn Bucket,
    number: u64,
    catalog: [u8; 16],
    by: &str,
    time: i64,
) -> Result<bool, JournalError> {
    let taken = Taken { term: number, catalog: hex(catalog), by: by.to_owned(), time };
    let mut text = serde_json::to_vec(&taken).expect("a term has string keys only");
    checked_line::close(&mut text);
    match bucket.create(&object(number), &text) {
        Ok(()) => Ok(true),
        Err(BucketError::Exists) => Ok(false),
        Err(source) => Err(JournalError::Bucket { object: object(number), source }),
    }
}

fn read(bucket: &dyn Bucket, number: u64) -> Result<Taken, JournalError> {
    let object = object(number);
    let text = bucket.get(&object).map_err(JournalError::bucket(&object))?;
    parse(&text, number).map_err(|what| JournalError::Diverged { object, what })
}

/// Terms that earlier versions wrote have no checksum.
fn parse(text: &[u8], number: u64) -> Result<Taken, String> {
    if checked_line::check(text) == LineCheck::Damaged {
        return Err("its checksum does not fit".to_owned());
    }
    let taken: Taken = serde_json::from_slice(text).map_err(|error| format!("this is no term: {error}"))?;
    match taken.term == number {
        true => Ok(taken),
        false => Err(format!("this is term {}, under a wrong name", taken.term)),
    }
}

/// What is wrong with the terms of a bucket.
pub(super) fn faults(bucket: &dyn Bucket) -> Result<Vec<String>, JournalError> {
    let names = bucket.list("terms/").map_err(JournalError::bucket("terms/"))?;
    let numbers = names.iter().filter_map(|name| name.strip_prefix("terms/")?.parse::<u64>().ok());
    let mut faults = Vec::new();
    let mut next = 1;
    for number in numbers {
        if number > next {
            faults.push(format!("{}: it is not there, and those behind it are", object(next)));
        }
        next = number + 1;
        match read(bucket, number) {
            Err(JournalError::Diverged { object, what }) => faults.push(format!("{object}: {what}")),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(faults)
}

impl Term {
    /// The newest term of a bucket, 0 if it has none.
    pub(super) fn newest(bucket: &dyn Bucket) -> Result<u64, JournalError> {
        let names = bucket.list("terms/").map_err(JournalError::bucket("terms/"))?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix("terms/")?.parse().ok());
        Ok(numbers.max().unwrap_or(0))
    }

    /// Takes the first term of a bucket that nobody has written to, for the catalog with the id `catalog`; or finds the
    /// newest one to be this catalog's.
    ///
    /// # Errors
    /// [`JournalError::Foreign`] when the bucket is another catalog's; or when it does not answer.
    pub fn first(bucket: &dyn Bucket, catalog: [u8; 16], by: &str, time: i64) -> Result<Self, JournalError> {
        // A listing may lag behind: only a first term of one's own says that nobody came before.
        let number = Self::newest(bucket)?.max(1);
        if number == 1 && create(bucket, number, catalog, by, time)? {
            return Ok(Self { number });
        }
        let taken = read(bucket, number)?;
        if taken.catalog == hex(catalog) {
            return Ok(Self { number });
        }
        Err(JournalError::Foreign { term: number, by: taken.by })
    }

    /// Takes a bucket over: the newest term, for the catalog with the id `catalog`. Whoever had it before may not write any
    /// more. `by` and `time` (nanoseconds since the Unix epoch) are put on record.
    ///
    /// # Errors
    /// When the bucket does not answer.
    pub fn take_over(
        bucket: &dyn Bucket,
        catalog: [u8; 16],
        by: &str,
        time: i64,
    ) -> Result<Self, JournalError> {
        // The newest term may be from an earlier try of ours, of which we never heard.
        let mut number = Self::newest(bucket)?.max(1);
        while !create(bucket, number, catalog, by, time)? {
            match read(bucket, number) {
                Ok(taken) if taken.catalog == hex(catalog) => break,
                // Whosever a damaged one is, the next one beats it.
                Ok(_) | Err(JournalError::Diverged { .. }) => number += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { number })
    }

    /// Makes sure that the bucket is the one in which the catalog with the id `catalog` took this term. One request.
    ///
    /// # Errors
    /// [`JournalError::Emptied`] when it has no such term; [`JournalError::Foreign`] when it is another catalog's; or when the
    /// bucket does not answer.
    pub fn recognise(self, bucket: &dyn Bucket, catalog: [u8; 16]) -> Result<(), JournalError> {
        match read(bucket, self.number) {
            Ok(taken) if taken.catalog == hex(catalog) => Ok(()),
            Ok(taken) => Err(JournalError::Foreign { term: self.number, by: taken.by }),
            Err(JournalError::Bucket { source: BucketError::Absent, .. }) => {
                Err(JournalError::Emptied { term: self.number })
            }
            Err(error) => Err(error),
        }
    }

    /// Checks that nobody took a later term: to be asked before every upload, and before every deletion after it was written
    /// to the journal. One request.
    ///
    /// # Errors
    /// [`JournalError::Superseded`] when somebody did; or when the bucket does not answer, then nothing may be written.
    pub fn check(self, bucket: &dyn Bucket) -> Result<(), JournalError> {
        // Terms are dense: whoever took a later one created the next one, or somebody else did before.
        let next = object(self.number + 1);
        match bucket.get(&next) {
            Err(BucketError::Absent) => Ok(()),
            Err(source) => Err(JournalError::Bucket { object: next, source }),
            Ok(_) => {
                let taken = read(bucket, self.number + 1)?;
                Err(JournalError::Superseded { ours: self.number, newest: taken.term, by: taken.by })
            }
        }
    }
}

fn hex(catalog: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(catalog))
}
