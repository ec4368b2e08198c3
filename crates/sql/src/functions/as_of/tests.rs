use super::super::testing::{Event, nanoseconds, refusal, rows, session, table};

const LEFT: [Event<'static>; 6] = [
    ("a", "03:00:00", Some(1.0)),
    ("a", "01:00:00", Some(2.0)),
    ("b", "02:00:00", Some(3.0)),
    ("c", "02:00:00", Some(4.0)),
    ("a", "00:00:00", Some(5.0)),
    ("b", "09:00:00", Some(6.0)),
];

const RIGHT: [Event<'static>; 6] = [
    ("b", "01:00:00", Some(20.0)),
    ("a", "02:30:00", Some(11.0)),
    ("a", "01:00:00", Some(10.0)),
    ("d", "00:00:00", Some(40.0)),
    ("b", "02:30:00", None),
    ("a", "04:00:00", Some(12.0)),
];

#[tokio::test]
async fn each_row_meets_the_newest_that_is_not_later() {
    let context = session();
    table(&context, "a", &LEFT);
    table(&context, "b", &RIGHT);
    let sql = "SELECT a.device, a.event_time, a.value, b.event_time, b.value FROM a
        ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time) ON a.device = b.device ORDER BY a.device, a.event_time";
    assert_eq!(
        rows(&context, sql).await.unwrap(),
        [
            "a 00:00:00Z 5.0 - -",
            "a 01:00:00Z 2.0 01:00:00Z 10.0",
            "a 03:00:00Z 1.0 02:30:00Z 11.0",
            "b 02:00:00Z 3.0 01:00:00Z 20.0",
            "b 09:00:00Z 6.0 02:30:00Z -",
            "c 02:00:00Z 4.0 - -",
        ]
    );
    let sql = "SELECT value, later FROM a ASOF JOIN (SELECT device, event_time AS t, value AS later FROM b) AS r
        MATCH_CONDITION (t < event_time AND event_time - t <= INTERVAL '40 minutes') USING (device) ORDER BY value";
    assert_eq!(rows(&context, sql).await.unwrap(), ["1.0 11.0", "2.0 -", "3.0 -", "4.0 -", "5.0 -", "6.0 -"]);
}

#[tokio::test]
async fn it_stands_among_other_joins_and_filters() {
    let context = session();
    table(&context, "a", &LEFT);
    table(&context, "b", &RIGHT);
    let sql = "SELECT l.device, l.value, r.value, again.value FROM a AS l
        JOIN a AS again ON l.device = again.device AND l.event_time = again.event_time
        ASOF JOIN b AS r MATCH_CONDITION (r.event_time <= l.event_time) ON l.device = r.device
        WHERE l.device = 'a' AND l.event_time < '2013-01-31T03:00:00Z' ORDER BY l.event_time";
    assert_eq!(rows(&context, sql).await.unwrap(), ["a 5.0 - 5.0", "a 2.0 10.0 2.0"]);
    let sql =
        "SELECT count(*), count(b.value) FROM a ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time)";
    assert_eq!(rows(&context, sql).await.unwrap(), ["6 5"]);
    let sql = "SELECT count(*) FROM (a ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time) USING (device)) WHERE b.value IS NULL";
    assert_eq!(rows(&context, sql).await.unwrap(), ["3"]);
    let sql = "SELECT * FROM a ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time) USING (device) WHERE device = 'c'";
    assert_eq!(rows(&context, sql).await.unwrap(), ["c 02:00:00Z 4.0 - -"]);
}

#[tokio::test]
async fn floats_are_keys_as_what_they_are_cast_to() {
    let context = session();
    table(&context, "a", &[("a", "01:00:00", Some(-0.0)), ("a", "02:00:00", Some(7.0))]);
    table(&context, "b", &[("b", "00:00:00", Some(0.0))]);
    let sql = "SELECT a.value, b.device FROM a ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time)
        ON a.value::bigint = b.value::bigint ORDER BY a.event_time";
    assert_eq!(rows(&context, sql).await.unwrap(), ["-0.0 b", "7.0 -"]);
}

#[tokio::test]
async fn filters_of_the_left_side_reach_the_tables() {
    let context = session();
    table(&context, "a", &LEFT);
    table(&context, "b", &RIGHT);
    let sql = "EXPLAIN SELECT b.value FROM a ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time) ON a.device = b.device
        WHERE a.device = 'b' AND a.event_time < '2013-01-31T03:00:00Z' AND b.value > 1";
    let plan = rows(&context, sql).await.unwrap().join("\n");
    let (_, below) = plan.split_once("AsOfJoin").unwrap();
    let (logical, _) = below.split_once("physical_plan").unwrap();
    assert_eq!(logical.matches("Utf8(\"b\")").count(), 2, "{plan}");
    assert_eq!(logical.matches("event_time <").count(), 2, "{plan}");
    assert!(!logical.contains("a.value") && !logical.contains("b.value >"), "{plan}");
}

/// As a nested loop would: for many rows, in batches and partitions that end anywhere.
#[tokio::test]
async fn it_agrees_with_a_search_of_all_rows() {
    let context = session();
    let mut random = fastrand::Rng::with_seed(7);
    let mut events = |count: usize| -> Vec<(&str, String, Option<f64>)> {
        let event = |at| {
            let device = ["a", "b", "c", "d"][random.usize(..4)];
            let time = format!("{:02}:{:02}:00", random.u32(..24), random.u32(..60));
            (device, time, Some(at as f64))
        };
        (0..count).map(event).collect()
    };
    let (left, mut right) = (events(300), events(200));
    // Of several at the same time it is not said which one it is.
    right.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    right.dedup_by(|one, other| (one.0, &one.1) == (other.0, &other.1));
    for (name, events) in [("a", &left), ("b", &right)] {
        let events: Vec<Event<'_>> =
            events.iter().map(|(device, time, value)| (*device, time.as_str(), *value)).collect();
        table(&context, name, &events);
    }
    let expected: Vec<String> = left
        .iter()
        .map(|(device, time, value)| {
            let not_later = right.iter().filter(|other| other.0 == *device && other.1 <= *time);
            let newest = not_later.max_by_key(|other| nanoseconds(&other.1));
            format!(
                "{:?} {}",
                value.unwrap(),
                newest.map_or("-".to_owned(), |newest| format!("{:?}", newest.2.unwrap()))
            )
        })
        .collect();
    let sql = "SELECT a.value, b.value FROM a ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time) ON a.device = b.device ORDER BY 1";
    assert_eq!(rows(&context, sql).await.unwrap(), expected);
}

#[tokio::test]
async fn conditions_that_are_no_join_as_of_a_time_are_refused() {
    let context = session();
    table(&context, "a", &LEFT);
    table(&context, "b", &RIGHT);
    for (sql, reason) in [
        ("a.event_time <= b.event_time) ON a.device = b.device", "MATCH_CONDITION must say"),
        ("a.event_time >= a.event_time) ON a.device = b.device", "MATCH_CONDITION must say"),
        (
            "a.event_time >= b.event_time) ON a.device = b.device AND b.value > 3",
            "ON of an ASOF JOIN takes equalities",
        ),
        ("a.event_time >= b.event_time) USING (valu)", "valu"),
        ("a.event_time >= b.value) USING (device)", "cannot be compared"),
        ("a.event_time >= b.event_time) USING (device, value)", "cast both to an integer or a text"),
        (
            "a.event_time >= b.event_time) ON a.value::bigint = b.value",
            "are compared as floats, which are no keys",
        ),
        ("a.event_time >= b.event_time) ON [a.value] = [b.value]", "which are no keys"),
    ] {
        let sql = format!("SELECT * FROM a ASOF JOIN b MATCH_CONDITION ({sql}");
        let said = refusal(&context, &sql).await;
        assert!(said.contains(reason), "{sql}: {said}");
    }
}
