//! Uploads in parts, by a store that does everything wrong: they go on, or begin anew, and what is there in the end is what was sent.

use std::fs;
use std::io;

use icecore_tier::store::{Digest, Parts, Place, Progress, Store, Waiting};

use crate::faulty::{FAULTS, Fault, Faulty};

/// Three parts.
const BYTES: usize = (33 << 20) + 17;

const OBJECT: &str = "segments/large";

/// Tries, with the patience of the breaker's first rests.
const TRIES: usize = 4;

/// What the catalog keeps, but in memory.
#[derive(Default)]
struct Kept(Option<Parts>);

impl Progress for Kept {
    fn resumed(&self) -> Option<Parts> {
        self.0.clone()
    }

    fn keep(&mut self, parts: Option<&Parts>) -> io::Result<()> {
        self.0 = parts.cloned();
        Ok(())
    }
}

/// Uploads the file until it is there, with this fault at this request of them all. What the requests were.
fn upload(file: &std::path::Path, planted: Option<(usize, Fault)>) -> Vec<String> {
    let (place, waiting) = (Faulty::default(), Waiting::new(None).unwrap());
    let store = Store::new("archive", Place::remote(place.clone(), "lab"), 0);
    planted.into_iter().for_each(|(request, fault)| place.plant(request, fault));
    let mut kept = Kept::default();
    let mut requests = Vec::new();
    for _ in 0..TRIES {
        let sent = waiting.wait(store.upload(OBJECT, None, file, &mut kept));
        requests = place.kinds();
        let found = waiting.wait(store.read_back(OBJECT));
        if let (Ok(sent), Ok(found)) = (sent, found)
            && sent == found
        {
            assert_eq!(kept.0, None, "it is over");
            assert_eq!(
                sent,
                Digest { hash: *blake3::hash(&fs::read(file).unwrap()).as_bytes(), bytes: BYTES as u64 }
            );
            return requests;
        }
    }
    panic!("{planted:?} is not made good: {requests:?}");
}

#[test]
fn any_fault_at_any_request_of_an_upload_in_parts_is_made_good() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut content = vec![0; BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    fs::write(file.path(), &content).unwrap();
    let requests = upload(file.path(), None);
    assert_eq!(requests.len(), 5, "{requests:?}");
    let crashes = [Fault::CrashBefore, Fault::CrashAfter];
    for (number, kind) in requests.iter().enumerate() {
        for fault in FAULTS.into_iter().filter(|fault| fault.concerns(kind) && !crashes.contains(fault)) {
            upload(file.path(), Some((number, fault)));
        }
    }
}
