//! A segment whose events come to belong to several policies.

use icecore_tier::segment::object_name;

use crate::life::memory;
use crate::site::{DAY, HOUR, Site};

const TOGETHER: &str = r#"
[[policy]]
name   = "all"
cold   = [{ after = "1h", store = "archive" }]
local  = { drop_after = "1h" }
delete = "never"
"#;

const APART: &str = r#"
[[policy]]
name   = "vibration"
match  = { schema = "vibration" }
cold   = [{ after = "1h", store = "archive" }]
local  = { drop_after = "1h" }
delete = { after = "30d", undo = "1d" }

[[policy]]
name   = "all"
cold   = [{ after = "1h", store = "archive" }]
local  = { drop_after = "1h" }
delete = "never"
"#;

#[test]
fn what_is_cold_is_split_when_the_first_part_is_due() {
    let (_, _, open) = memory();
    let mut site = Site::new(open);
    site.apply(TOGETHER);
    site.fill();
    site.settle();
    site.pass_time(2 * HOUR);
    site.settle();
    assert_eq!(site.entries().len(), 1);
    let parent = site.entries()[0].segment.id;
    assert!(site.files().is_empty());
    site.apply(APART);
    site.settle();
    assert_eq!(site.entries().len(), 1, "not before it is due");
    site.pass_time(30 * DAY);
    site.settle();
    site.check_rows();
    let of = ["vibration", "all"].map(|policy| site.of_policy(policy));
    assert_eq!(of.map(|segments| segments.len()), [1, 1]);
    // The part that is to be deleted is not uploaded any more, so what it came of stays where it is.
    assert_eq!(site.objects("archive", "segments").len(), 2);
    assert!(site.objects("archive", "segments").contains(&object_name(parent, None)));
    site.pass_time(2 * DAY);
    site.settle();
    assert_eq!(site.of_policy("vibration"), []);
    assert_eq!(site.entries().len(), 1);
    assert!(!site.objects("archive", "segments").contains(&object_name(parent, None)));
    site.check_rows();
    site.check_places();
}
