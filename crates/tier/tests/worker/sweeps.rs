//! What nobody else takes care of: left over, damaged, or somebody else's.

use std::fs;

use icecore_tier::catalog::Upload;
use icecore_tier::journal::Term;
use icecore_tier::segment::{SegmentId, object_name};
use icecore_tier::store::Parts;

use object_store::multipart::MultipartStore;
use object_store::path::Path;

use crate::faulty::Faulty;
use crate::life::{directories, memory};
use crate::site::{DAY, HOUR, Site};

/// Three segments: one of logs that is in the archive only, and two that are local.
fn site() -> (Site, SegmentId, SegmentId) {
    let (site, logs, vibration, _) = site_and_archive();
    (site, logs, vibration)
}

fn site_and_archive() -> (Site, SegmentId, SegmentId, Faulty) {
    let (archive, _, open) = memory();
    let mut site = Site::new(open);
    site.fill();
    site.pass_time(2 * HOUR);
    site.settle();
    let [logs, vibration] = ["logs", "vibration"].map(|policy| site.of_policy(policy)[0]);
    (site, logs, vibration, archive)
}

#[test]
fn what_is_left_over_is_removed_and_what_is_strange_is_left() {
    let (mut site, logs, vibration) = site();
    let store = site.store("archive");
    let put = |name: &str| site.wait(store.put_new(name, b"left over".as_slice().into())).unwrap();
    put(&object_name(logs, Some("STANDARD_IA")));
    put(&object_name(vibration, None));
    put("segments/000000000999-000.ice");
    put("segments/notes.txt");
    let bytes = site.wait(store.get(&object_name(logs, None))).unwrap();
    fs::write(site.file(logs), bytes).unwrap();
    site.restart();
    let pass = site.pass();
    assert_eq!(pass.failed, 2, "{pass:?}");
    for name in ["segments/000000000999-000.ice", "segments/notes.txt"] {
        assert!(pass.failures.iter().any(|failure| failure.what.contains(name)), "{pass:?}");
        site.wait(store.delete(name)).unwrap();
    }
    site.settle();
    site.check_places();
    site.check_rows();
}

#[test]
fn what_an_upload_to_a_directory_has_left_half_written_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let mut site = Site::new(directories(root.path()));
    site.fill();
    site.pass_time(7 * HOUR);
    site.settle();
    // As the client writes until an object is whole; it shows none of that in its listings.
    for name in ["segments/000000000000-000.ice#1", "manifests/000000000001.manifest#2"] {
        fs::write(root.path().join("archive").join(name), "half").unwrap();
    }
    site.restart();
    assert_eq!(site.pass().cleared, 2);
    for directory in ["segments", "manifests"] {
        let files = fs::read_dir(root.path().join("archive").join(directory)).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().all(|name| !name.contains('#')), "{names:?}");
    }
    site.check_rows();
    site.check_places();
}

#[test]
fn an_upload_that_nobody_goes_on_with_is_aborted() {
    let (mut site, logs, _, archive) = site_and_archive();
    let object = object_name(logs, Some("STANDARD_IA"));
    let id = site.wait(archive.create_multipart(&Path::from(format!("lab/{object}")))).unwrap();
    let parts = Parts { object, id, part_bytes: 16 << 20, arrived: Vec::new() };
    site.catalog().keep_upload(&Upload { segment: logs, store: "archive".to_owned(), parts }).unwrap();
    site.restart();
    assert_eq!(site.pass().cleared, 1);
    site.check_places();
}

#[test]
fn a_machine_whose_bucket_was_taken_over_writes_nothing_more() {
    let (mut site, _, _) = site();
    Term::take_over(&site.bucket(), [9; 16], "another machine", site.now()).unwrap();
    site.pass_time(3 * DAY);
    let before = site.objects("archive", "segments");
    for _ in 0..3 {
        let pass = site.pass();
        assert_eq!((pass.uploaded, pass.dropped, pass.cleared), (0, 0, 0));
        assert!(
            pass.failures.iter().any(|failure| failure.what.contains("took the bucket over")),
            "{pass:?}"
        );
        site.pass_time(HOUR);
    }
    assert_eq!(site.objects("archive", "segments"), before);
    site.check_rows();
}

#[test]
fn a_damaged_file_is_named_and_does_not_stop_the_others() {
    let (mut site, _, vibration) = site();
    let mut bytes = fs::read(site.file(vibration)).unwrap();
    bytes[100] ^= 1;
    fs::write(site.file(vibration), &bytes).unwrap();
    site.pass_time(DAY);
    let pass = site.pass();
    assert_eq!((pass.uploaded, pass.failed), (1, 1), "{pass:?}");
    let failure = &pass.failures[0];
    assert_eq!(failure.segment, Some(vibration));
    assert!(failure.what.contains(&format!("{vibration}.ice")), "{failure:?}");
    assert!(site.pass().failed == 0, "it is not tried in every pass");

    // Found again, it goes on.
    bytes[100] ^= 1;
    fs::write(site.file(vibration), &bytes).unwrap();
    site.settle();
    site.check_rows();
    assert!(site.objects("archive", "segments").contains(&object_name(vibration, None)));
}

#[test]
fn where_a_local_file_is_damaged_the_copy_counts() {
    let (mut site, _, _) = site();
    site.pass_time(DAY);
    site.settle();
    let alarm = site.of_policy("rest")[0];
    fs::write(site.file(alarm), "damaged").unwrap();
    let policies =
        "[[policy]]\nname = \"all\"\ncold = [{ after = \"1h\", store = \"deep\" }]\ndelete = \"never\"\n";
    site.apply(policies);
    site.settle();
    let entry = site.catalog().view().unwrap().segment(alarm).unwrap().unwrap();
    assert!(!entry.segment.local && entry.segment.copies[0].store == "deep", "{entry:?}");
    fs::remove_file(site.file(alarm)).unwrap();
    site.check_rows();
    site.check_places();
}
