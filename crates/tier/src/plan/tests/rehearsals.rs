//! What a rehearsal adds up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{DAY, HOUR, NOW, World, segment};
use crate::plan::{Arrivals, NewData, Prices, Rates, Rehearsal, Requests, Stores};
use crate::policy::PolicySet;

const GB: u64 = 1 << 30;
const AN_HOUR: Duration = Duration::from_hours(1);

fn policies() -> PolicySet {
    let text = "[[policy]]\nname = \"heat\"\nmatch = { schema = \"heat\" }\n\
                cold = [{ after = \"1d\", store = \"s\" }, { after = \"3d\", store = \"s\", class = \"COLD\" }]\n\
                local = { drop_after = \"2d\" }\ndelete = { after = \"6d\", undo = \"1d\" }\n\
                [[policy]]\nname = \"rest\"\ndelete = \"never\"\n";
    PolicySet::parse("p", text).unwrap()
}

fn stores() -> Stores {
    let usual = Rates { gb_month: 0.73, put_1000: 1.0, get_1000: 0.1, delete_1000: 0.5, ..Rates::default() };
    let cold = Rates { gb_month: 0.073, retrieval_gb: 0.01, min_days: 10, ..usual };
    let class = BTreeMap::from([("COLD".to_owned(), cold)]);
    let prices = BTreeMap::from([("s".to_owned(), Prices { usual, class })]);
    Stores { prices, journal: Some("s".to_owned()) }
}

fn arriving(policy: &str, bytes: u64) -> Arrivals {
    Arrivals { manifests: 24, data: vec![NewData { policy: policy.to_owned(), bytes, segments: 24 }] }
}

fn rehearse(arrivals: &Arrivals) -> Rehearsal {
    let policies = policies();
    let world = World::new(NOW, [segment(1, NOW, &[("heat", GB)])]);
    world.books(&policies).rehearse(&world.moment, 9, AN_HOUR, &stores(), arrivals).unwrap()
}

#[test]
fn bytes_requests_and_money_are_counted_on_the_day_they_come() {
    let rehearsal = rehearse(&Arrivals::default());
    let days = &rehearsal.policies[0].1;
    let column =
        |value: fn(&crate::plan::Day) -> u64| days.iter().map(|day| value(day) / GB).collect::<Vec<_>>();
    assert_eq!(column(|day| day.bytes), [1, 1, 1, 1, 1, 1, 1, 0, 0]);
    assert_eq!(column(|day| day.local), [1, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(column(|day| day.stored), [0, 1, 1, 1, 1, 1, 1, 0, 0]);
    assert_eq!(column(|day| day.uploaded), [0, 1, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(column(|day| day.dropped), [0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(column(|day| day.marked), [0, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(column(|day| day.deleted), [0, 0, 0, 0, 0, 0, 0, 1, 0]);
    // 64 parts of 16 MiB, and to begin and to complete it; it is read back, and the second time read from the store before.
    assert_eq!(days[1].requests, Requests { put: 66, get: 1, ..Requests::default() });
    assert_eq!(days[3].requests, Requests { put: 66, get: 2, delete: 1, ..Requests::default() });
    assert_eq!(days[7].requests, Requests { delete: 1, ..Requests::default() });
    let close =
        |cost: f64, expected: f64| assert!((cost - expected).abs() < 1e-9, "{cost} is not {expected}");
    close(days[1].costs.storage, 0.73 * 24.0 / 730.0);
    close(days[4].costs.storage, 0.073 * 24.0 / 730.0);
    close(days[3].costs.requests, 0.066 + 0.000_2 + 0.000_5);
    close(days[3].costs.retrieval, 0.01);
    close(days[7].costs.early, 0.073 * 6.0 * 24.0 / 730.0); // it was there for 4 of 10 days
    assert!(rehearsal.policies[1].1.iter().all(|day| day.bytes == 0));
}

#[test]
fn what_arrives_is_sealed_uploaded_and_deleted_in_its_turn() {
    let rehearsal = rehearse(&arriving("heat", 24 * GB));
    let days = &rehearsal.policies[0].1;
    assert_eq!(days[0].bytes, 25 * GB);
    assert_eq!(days[2].uploaded, 24 * GB, "what came on the day before");
    assert_eq!(days[8].deleted, 24 * GB);
    assert_eq!(days[7].bytes, days[8].bytes, "as much goes as comes");
    let unknown = World::default().books(&policies()).rehearse(
        &crate::plan::Moment::default(),
        1,
        AN_HOUR,
        &stores(),
        &arriving("cold", 1),
    );
    assert_eq!(unknown.unwrap_err().to_string(), "no policy is called cold, so no data can arrive for it");
}

#[test]
fn recent_arrivals_are_the_mean_of_the_last_days() {
    let policies = policies();
    let segments = (0..20).map(|number| segment(number, NOW - number as i64 * 12 * HOUR, &[("rest", 100)]));
    let world = World::new(NOW, segments);
    let arrivals = world.books(&policies).recent_arrivals(NOW, 7);
    let data = vec![NewData { policy: "rest".to_owned(), bytes: 200, segments: 2 }];
    assert_eq!(arrivals, Arrivals { manifests: 2, data });
}

#[test]
fn what_could_be_deleted_within_a_day_of_arriving_is_said() {
    let text = "[[policy]]\nname = \"logs\"\ndelete = { max_bytes = 1000 }\n";
    let policies = PolicySet::parse("p", text).unwrap();
    let world = World::new(NOW, [segment(1, NOW - 2 * DAY, &[("logs", 900)])]);
    let arrivals = arriving("logs", 4_800);
    let rehearsal =
        world.books(&policies).rehearse(&world.moment, 2, AN_HOUR, &Stores::default(), &arrivals).unwrap();
    let day = rehearsal.policies[0].1[1];
    assert_eq!((day.marked, day.marked_young), (4_800, 4_800));
    assert!(
        rehearsal
            .to_string()
            .contains("\nlogs: the deletion of 8.6 kB is decided within a day of arriving\n")
    );
}

#[test]
fn a_rehearsal_reads_as_it_is_meant() {
    let expected = "\
9 days from 2024-03-18T00:00:00Z

heat
  day  segments   bytes   local  objects  stored  uploaded  deleted  requests  cost
  1           1  1.1 GB  1.1 GB        1  1.1 GB    1.1 GB      0 B        67  0.09
  2           1  1.1 GB     0 B        1  1.1 GB       0 B      0 B         0  0.02
  3           1  1.1 GB     0 B        1  1.1 GB    1.1 GB      0 B        69  0.08
  6           1  1.1 GB     0 B        1  1.1 GB       0 B      0 B         0  0.01
  7           0     0 B     0 B        0     0 B       0 B   1.1 GB         1  0.01
  8           0     0 B     0 B        0     0 B       0 B      0 B         0  0.00

rest: nothing

upkeep: journal, manifests, snapshots, terms and listings
  day  manifests  journal  snapshots  requests  cost
  0            0        0          0        48  0.00
  1            0        1          0        50  0.00
  2            0        1          0        49  0.00
  3            0        1          0        51  0.00
  4            0        0          0        48  0.00
  5            0        0          0        48  0.00
  6            0        1          0        50  0.00
  7            0        2          0        52  0.00
  8            0        0          0        48  0.00

costs 0.22: storage 0.06, requests 0.14, retrieval 0.01, early deletion 0.01
";
    assert_eq!(rehearse(&Arrivals::default()).to_string(), expected);
}
