//! A bit that flips is named with its place, whatever kind of file it is in: by `segments verify`, by a server that starts, and by
//! `replay`. What is derived is made anew, and that is said.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use icecore_log::{HotLog, Options, RealDisk};

use crate::cold::Cold;
use crate::harness::{Site, assert_failure, assert_success, output, testdata};
use crate::sealed::{SEGMENT, archived_site, catalog, now, why};

/// Flips in each kind of file.
const ROUNDS: u64 = 3;
/// Bytes of a sealed segment's trailer.
const TRAILER: usize = 72;

/// Where a bit may flip, and what has to be said of it.
struct Kind {
    file: PathBuf,
    bytes: fn(&[u8]) -> Range<usize>,
    names: Vec<String>,
}

fn kind(file: PathBuf, bytes: fn(&[u8]) -> Range<usize>, names: &[&str]) -> Kind {
    Kind { file, bytes, names: names.iter().map(|&name| name.to_owned()).collect() }
}

fn all(bytes: &[u8]) -> Range<usize> {
    0..bytes.len()
}

/// Where the footer of a sealed segment begins.
fn footer_start(bytes: &[u8]) -> usize {
    let trailer = bytes.len() - TRAILER;
    let footer = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap());
    trailer - usize::try_from(footer).unwrap()
}

fn rows(bytes: &[u8]) -> Range<usize> {
    16..footer_start(bytes) / 2
}

fn page(bytes: &[u8]) -> Range<usize> {
    bytes.len() / 3..bytes.len() / 3 + 8
}

fn batch_directory(bytes: &[u8]) -> Range<usize> {
    footer_start(bytes) - 8..footer_start(bytes)
}

fn footer_and_trailer(bytes: &[u8]) -> Range<usize> {
    footer_start(bytes)..bytes.len()
}

/// Flips a bit in every kind of file in turn, with `check` between the flip and its repair: that has to say where it is.
fn flip_each(kinds: &[Kind], check: impl Fn() -> String) {
    for Kind { file, bytes, names } in kinds {
        let whole = fs::read(file).unwrap();
        let range = bytes(&whole);
        for seed in 0..ROUNDS {
            let random = fastrand::Rng::with_seed(seed).u64(0..range.len() as u64 * 8);
            let (byte, bit) = (range.start + usize::try_from(random / 8).unwrap(), random % 8);
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << bit;
            fs::write(file, &flipped).unwrap();
            let said = check();
            for name in names {
                assert!(
                    said.contains(name),
                    "{}, byte {byte}, bit {bit}: {name:?} is not in {said:?}",
                    file.display()
                );
            }
            fs::write(file, &whole).unwrap();
        }
    }
}

/// All that was said by a command that found damage.
fn found(output: &Output) -> String {
    assert_failure(output, &[]);
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// A month in a sealed segment with a copy, another in a finished hot segment, and a hot segment that is not finished.
fn site() -> Site {
    let site = archived_site();
    let server = site.serve();
    let (file, identity) = (testdata().join("fixtures/february.csv"), site.path("gw"));
    let to =
        ["--schema", "february", "--server", &server.address(), "--identity", identity.to_str().unwrap()];
    site.expect(&[&["send", file.to_str().unwrap()], &to[..]].concat());
    assert!(server.stop().success());
    assert!(site.serve().stop().success());
    site
}

/// Files in a directory with this extension, in order.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let files = directory.read_dir().unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

fn hot(site: &Site) -> Vec<Kind> {
    let segments = files(&site.path("data/hot"), "hot");
    assert!(segments.len() >= 2, "{segments:?}");
    let begin = |bytes: &[u8]| 0..bytes.len().min(1024);
    segments.into_iter().map(|segment| kind(segment, begin, &[".hot at offset"])).collect()
}

fn sealed(file: &Path) -> Vec<Kind> {
    let id = SEGMENT.to_string();
    vec![
        kind(file.to_owned(), rows, &[&id, "weather v1, row group 0"]),
        kind(file.to_owned(), page, &[&id, "weather v1, row group 0, column"]),
        kind(file.to_owned(), batch_directory, &[&id, "batch directory"]),
        kind(file.to_owned(), footer_and_trailer, &[&id, "at offset"]),
    ]
}

fn others(site: &Site) -> Vec<Kind> {
    vec![
        kind(site.path("data/manifests/000000000000.manifest"), all, &["000000000000.manifest at offset"]),
        kind(site.path("data/registry.jsonl"), all, &["registry.jsonl:"]),
    ]
}

#[test]
fn verify_names_it_in_every_kind_of_file() {
    let site = site();
    assert_eq!(site.expect(&["segments", "verify", "--all"]), "1 segment whole\n");
    let kinds = [hot(&site), sealed(&SEGMENT.file(&site.path("data"))), others(&site)];
    flip_each(&kinds.into_iter().flatten().collect::<Vec<_>>(), || {
        found(&site.run(&["segments", "verify", "--all"]))
    });
    assert_eq!(site.expect(&["segments", "verify", "--all"]), "1 segment whole\n");
}

#[test]
fn verify_names_it_in_every_kind_of_object() {
    let site = site();
    let bucket = site.path("bucket");
    let verify = || output(Cold::Directory.command(&site, &["segments", "verify", "--all"]));
    assert_success(&verify());
    let journal = files(&bucket.join("journal/0000000001"), "json");
    let mut kinds = sealed(&bucket.join("segments").join(format!("{SEGMENT}.ice")));
    kinds.push(kind(
        bucket.join("manifests/000000000000.manifest"),
        all,
        &["manifests/000000000000.manifest"],
    ));
    kinds.extend(journal.iter().map(|object| kind(object.clone(), all, &["journal/0000000001/", "line"])));
    kinds.push(kind(bucket.join("terms/0000000001"), all, &["terms/0000000001"]));
    flip_each(&kinds, || found(&verify()));

    let id = SEGMENT.to_string();
    let objects = [
        (bucket.join("segments").join(format!("{id}.ice")), "no policy deleted it"),
        (bucket.join("manifests/000000000000.manifest"), "its manifest is gone"),
        (journal[0].clone(), "journal"),
    ];
    for (object, name) in objects {
        let whole = fs::read(&object).unwrap();
        fs::remove_file(&object).unwrap();
        let said = found(&verify());
        assert!(said.contains(name), "{}: {said}", object.display());
        fs::write(&object, whole).unwrap();
    }
}

#[test]
fn a_server_that_starts_names_it() {
    let site = site();
    let before = site.expect(&["replay", "--format", "ndjson"]);
    let refused = || site.try_serve(&[]).expect_err("it starts in spite of damage");
    // Of what is finished only the directories are read.
    flip_each(&[hot(&site).pop().unwrap()], refused);
    flip_each(&others(&site), refused);

    let anew = |file: &str, byte: usize, says: &str| {
        let file = site.path(file);
        let mut bytes = fs::read(&file).unwrap();
        bytes[byte] ^= 4;
        fs::write(&file, bytes).unwrap();
        let server = site.serve();
        server.assert_said(says);
        assert!(server.stop().success());
        assert_eq!(site.expect(&["replay", "--format", "ndjson"]), before);
    };
    anew("data/hot/watermark", 33, "the watermark is damaged");
    let directories = files(&site.path("data/hot"), "dir");
    let directory = format!("data/hot/{}", directories[0].file_name().unwrap().to_str().unwrap());
    for byte in [40, 170, fs::read(&directories[0]).unwrap().len() - 20] {
        anew(&directory, byte, "the batch directory is damaged");
    }
}

#[test]
fn replay_names_it() {
    let site = site();
    let mut kinds = hot(&site);
    kinds.truncate(1);
    kinds.extend(sealed(&SEGMENT.file(&site.path("data"))));
    kinds.push(kind(site.path("data/manifests/000000000000.manifest"), all, &[".manifest at offset"]));
    kinds.iter_mut().for_each(|kind| kind.names.push("--skip-damaged reads around it".to_owned()));
    flip_each(&kinds, || found(&site.run(&["replay", "--format", "ndjson"])));
}

#[test]
fn what_is_cold_is_no_different() {
    let site = archived_site();
    let opened = HotLog::open(Arc::new(RealDisk), &site.path("data"), Options::default(), now(), &mut |_| ());
    let (_, committer, _) = opened.unwrap();
    catalog(&site).drop_local(SEGMENT, &why()).unwrap();
    assert!(committer.sealer().drop_pages(SEGMENT).is_ok());
    drop(committer);
    let tail = site.path("data/sealed").join(format!("{SEGMENT}.tail"));
    let kept = [
        kind(tail.clone(), batch_directory, &[".tail at offset", "batch directory"]),
        kind(tail, footer_and_trailer, &[".tail at offset"]),
    ];
    flip_each(&kept, || found(&site.run(&["segments", "verify", "--all"])));

    let object = site.path("bucket/segments").join(format!("{SEGMENT}.ice"));
    flip_each(&sealed(&object), || found(&site.run(&["segments", "verify", &SEGMENT.to_string()])));
    flip_each(&[kind(object, page, &[&SEGMENT.to_string(), "weather v1, row group 0, column"])], || {
        let _ = fs::remove_dir_all(site.path("data/cache"));
        found(&site.run(&["replay", "--format", "ndjson"]))
    });
}

#[test]
fn a_damaged_catalog_is_named_and_made_anew() {
    let site = archived_site();
    let file = site.path("data/catalog.redb");
    let whole = fs::read(&file).unwrap();
    let list = site.expect(&["segments", "list"]);
    // What was written before lies around in the file; of that nothing is read.
    let places = whole.windows(6).enumerate().filter(|(_, window)| window == b"a test").map(|(at, _)| at);
    let mut named = 0;
    for place in places {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        fs::write(&file, flipped).unwrap();
        let verified = site.run(&["segments", "verify", "--all"]);
        if verified.status.success() {
            continue;
        }
        named += 1;
        let said = found(&verified);
        assert!(said.contains("catalog.redb: ") && said.contains("catalog rebuild"), "{said}");
        assert!(said.contains("1 segment whole"), "what can be read is read: {said}");
        let refused = site.try_serve(&[]).unwrap_err();
        assert!(refused.contains("catalog.redb: ") && refused.contains("catalog rebuild"), "{refused}");
    }
    assert!(named > 0, "no bit of the catalog is in use");
    site.expect(&["catalog", "rebuild"]);
    assert_eq!(site.expect(&["segments", "list"]), list);
}

#[test]
fn a_rebuild_goes_on_past_a_damaged_segment_and_keeps_it_in_mind() {
    let site = archived_site();
    let rebuild = || {
        fs::remove_file(site.path("data/catalog.redb")).unwrap();
        site.expect(&["catalog", "rebuild"])
    };
    let file = SEGMENT.file(&site.path("data"));
    let mut bytes = fs::read(&file).unwrap();
    let place = footer_start(&bytes) + 4;
    bytes[place] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let said = rebuild();
    assert!(said.contains(&format!("damaged, and not counted: {}", file.display())), "{said}");
    assert!(!said.contains("missing"), "the store has it: {said}");
    let list = site.expect(&["segments", "list"]);
    assert!(list.contains("archive") && !list.contains("local"), "{list}");
    let explained = site.expect(&["segments", "explain", &SEGMENT.to_string()]);
    assert!(explained.contains("a rebuild found its file damaged"), "{explained}");

    // Where nothing else has it, it is missing, and still nobody's to delete for not being known.
    fs::remove_dir_all(site.path("bucket")).unwrap();
    let said = rebuild();
    assert!(said.contains("but for its damaged file"), "{said}");
    assert!(site.expect(&["segments", "list"]).contains("missing"));
    assert!(site.expect(&["hold", "add", "--schema", "weather"]).contains(": 1 sealed segments"));

    // A manifest is another matter.
    let manifest = site.path("data/manifests/000000000000.manifest");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[100] ^= 1;
    fs::write(&manifest, bytes).unwrap();
    let refused = site.run(&["catalog", "rebuild"]);
    assert_failure(
        &refused,
        &["nothing was changed: ", "000000000000.manifest at offset", "move the file away"],
    );
}

#[test]
fn a_policy_file_is_a_proposal_and_a_flip_in_it_deletes_nothing() {
    let site = archived_site();
    let file = site.path("retention.toml");
    let policies = "[[policy]]\nname = \"all\"\ndelete = { after = \"30d\" }\n";
    fs::write(&file, policies).unwrap();
    site.expect(&["retention", "apply", file.to_str().unwrap(), "--yes"]);
    for byte in [3, 12, 22, 30, 43, 44, 45] {
        let mut flipped = policies.as_bytes().to_vec();
        flipped[byte] ^= if byte == 12 { 0x80 } else { 1 };
        fs::write(&file, flipped).unwrap();
        let server = site.serve();
        server.assert_said("retention.toml");
        assert!(server.stop().success());
    }
    fs::write(&file, [policies.as_bytes(), b"# \xff"].concat()).unwrap();
    assert_failure(
        &site.run(&["retention", "check", file.to_str().unwrap()]),
        &["retention.toml:4: this is no text"],
    );
}
