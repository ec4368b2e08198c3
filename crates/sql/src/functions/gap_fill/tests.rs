use super::super::testing::{Event, refusal, rows, session, table};

/// `a` has gaps and an hour without values, `b` one row.
const EVENTS: [Event<'static>; 7] = [
    ("a", "05:30:00", Some(10.0)),
    ("a", "01:10:00", Some(2.0)),
    ("b", "03:00:00", Some(7.0)),
    ("a", "01:50:00", Some(4.0)),
    ("a", "03:00:00", None),
    ("a", "07:59:59", Some(1.0)),
    ("a", "05:00:00", Some(12.0)),
];

#[tokio::test]
async fn each_series_has_all_buckets_that_the_filter_names() {
    let context = session();
    table(&context, "t", &EVENTS);
    let sql = "SELECT device, time_bucket_gapfill('1 hour', event_time) AS hour, avg(value), locf(avg(value)), interpolate(avg(value)), count(*)
        FROM t WHERE event_time >= '2013-01-31T00:30:00Z' AND event_time < '2013-01-31T07:00:00Z'
        GROUP BY device, hour ORDER BY device, hour";
    assert_eq!(
        rows(&context, sql).await.unwrap(),
        [
            "a 00:00:00Z - - - -",
            "a 01:00:00Z 3.0 3.0 3.0 2",
            "a 02:00:00Z - 3.0 5.0 -",
            "a 03:00:00Z - 3.0 7.0 1",
            "a 04:00:00Z - 3.0 9.0 -",
            "a 05:00:00Z 11.0 11.0 11.0 2",
            "a 06:00:00Z - 11.0 - -",
            "b 00:00:00Z - - - -",
            "b 01:00:00Z - - - -",
            "b 02:00:00Z - - - -",
            "b 03:00:00Z 7.0 7.0 7.0 1",
            "b 04:00:00Z - 7.0 - -",
            "b 05:00:00Z - 7.0 - -",
            "b 06:00:00Z - 7.0 - -",
        ]
    );
}

#[tokio::test]
async fn without_bounds_a_series_goes_from_its_first_to_its_last_row() {
    let context = session();
    table(&context, "t", &EVENTS);
    let sql = "SELECT time_bucket_gapfill(INTERVAL '2 hours', event_time) AS hours, sum(value) FROM t GROUP BY 1 ORDER BY 1";
    assert_eq!(
        rows(&context, sql).await.unwrap(),
        ["00:00:00Z 6.0", "02:00:00Z 7.0", "04:00:00Z 22.0", "06:00:00Z 1.0"]
    );
    let sql = "SELECT time_bucket_gapfill(INTERVAL '30 minutes', event_time), device FROM t WHERE device = 'b' GROUP BY 1, 2";
    assert_eq!(rows(&context, sql).await.unwrap(), ["03:00:00Z b"]);
    let sql = "SELECT count(*) FROM (SELECT time_bucket_gapfill(INTERVAL '1 second', event_time) FROM t GROUP BY 1)";
    assert_eq!(rows(&context, sql).await.unwrap(), ["24600"]);
    let sql = "SELECT time_bucket_gapfill(INTERVAL '1 hour', event_time) FROM t WHERE value > 100 GROUP BY 1";
    assert!(rows(&context, sql).await.unwrap().is_empty());
}

#[tokio::test]
async fn bounds_are_found_however_they_are_written() {
    let context = session();
    table(&context, "t", &EVENTS);
    for range in [
        "t WHERE event_time BETWEEN '2013-01-31T04:00:00Z' AND '2013-01-31T06:30:00Z'",
        "t WHERE '2013-01-31T04:00:00Z' <= event_time AND event_time <= TIMESTAMP '2013-01-31 06:00:00' AND value > 0",
        "(SELECT event_time, value FROM t WHERE event_time > '2013-01-31T03:59:59.999999999Z') AS u WHERE event_time < '2013-01-31T06:00:00.000000001Z'",
        "(SELECT value, event_time AS at, event_time FROM t) AS u WHERE at < '2013-01-31T06:30:00Z' AND at >= '2013-01-31T03:00:00Z'::timestamp + INTERVAL '1 hour'",
    ] {
        let time = if range.contains("AS at") { "at" } else { "event_time" };
        let sql = format!(
            "SELECT time_bucket_gapfill('1 hour', {time}) AS hour, max(value) FROM {range} GROUP BY hour ORDER BY hour"
        );
        assert_eq!(
            rows(&context, &sql).await.unwrap(),
            ["04:00:00Z -", "05:00:00Z 12.0", "06:00:00Z -"],
            "{sql}"
        );
    }
}

#[tokio::test]
async fn only_casts_that_keep_the_time_say_where_it_ends() {
    let context = session();
    table(&context, "t", &EVENTS);
    let whole = ["01:00:00Z", "02:00:00Z", "03:00:00Z", "04:00:00Z", "05:00:00Z", "06:00:00Z", "07:00:00Z"];
    let from_four = ["04:00:00Z", "05:00:00Z", "06:00:00Z", "07:00:00Z"];
    for (condition, hours) in [
        ("event_time::date > '2013-01-30'", &whole[..]),
        ("event_time::date = '2013-01-31'", &whole),
        ("event_time::timestamp(0) >= '2013-01-31T00:00:00'", &whole),
        ("event_time::timestamp AT TIME ZONE '+01:00' >= '2013-01-31T00:00:00Z'", &whole),
        ("event_time::timestamp >= '2013-01-31T04:00:00'", &from_four),
        ("event_time AT TIME ZONE '+01:00' >= '2013-01-31T05:00:00+01:00'", &from_four),
    ] {
        let sql = format!(
            "SELECT time_bucket_gapfill('1 hour', event_time) AS hour FROM t WHERE {condition} GROUP BY hour ORDER BY hour"
        );
        assert_eq!(rows(&context, &sql).await.unwrap(), hours, "{condition}");
    }
    let sql = "SELECT time_bucket_gapfill('6 hours', event_time::date) AS part FROM t
        WHERE event_time > '2013-01-31T03:00:00Z' GROUP BY part";
    assert_eq!(rows(&context, sql).await.unwrap(), ["00:00:00"]);
}

#[tokio::test]
async fn months_are_filled_and_fills_stand_in_expressions() {
    let context = session();
    table(
        &context,
        "t",
        &[("a", "2013-11-03T00:00:00Z", Some(1.0)), ("a", "2014-02-28T00:00:00Z", Some(4.0))],
    );
    let sql = "SELECT time_bucket_gapfill('1 month', event_time) AS month, round(interpolate(avg(value) * 10) + 1) AS v
        FROM t GROUP BY month HAVING locf(count(*)) = 1 ORDER BY month";
    assert_eq!(
        rows(&context, sql).await.unwrap(),
        [
            "2013-11-01T00:00:00Z 11.0",
            "2013-12-01T00:00:00Z 21.0",
            "2014-01-01T00:00:00Z 31.0",
            "2014-02-01T00:00:00Z 41.0"
        ]
    );
}

#[tokio::test]
async fn a_counters_increase_goes_with_gaps() {
    let context = session();
    table(&context, "t", &EVENTS);
    let sql = "SELECT time_bucket_gapfill('1 hour', event_time) AS hour, coalesce(increase(value ORDER BY event_time), 0)
        FROM t WHERE device = 'a' AND event_time < '2013-01-31T06:00:00Z' GROUP BY hour ORDER BY hour";
    assert_eq!(
        rows(&context, sql).await.unwrap(),
        ["01:00:00Z 2.0", "02:00:00Z 0.0", "03:00:00Z 0.0", "04:00:00Z 0.0", "05:00:00Z 10.0"]
    );
}

#[tokio::test]
async fn an_empty_bucket_has_no_count_until_it_is_called_nothing() {
    let context = session();
    table(&context, "t", &EVENTS);
    let sql = "SELECT time_bucket_gapfill('1 hour', event_time) AS hour, count(*) IS NULL, coalesce(count(*), 0) FROM t
        WHERE device = 'a' AND event_time < '2013-01-31T04:00:00Z' GROUP BY hour ORDER BY hour";
    assert_eq!(
        rows(&context, sql).await.unwrap(),
        ["01:00:00Z false 2", "02:00:00Z true 0", "03:00:00Z false 1"]
    );
}

#[tokio::test]
async fn where_nothing_can_be_filled_it_is_said() {
    let context = session();
    table(&context, "t", &EVENTS);
    for (sql, reason) in [
        ("SELECT time_bucket_gapfill('1 hour', event_time) FROM t", "must stand in GROUP BY"),
        ("SELECT locf(value) FROM t", "grouped by time_bucket_gapfill"),
        (
            "SELECT time_bucket_gapfill('1 hour', event_time), time_bucket_gapfill('2 hours', event_time) FROM t GROUP BY 1, 2",
            "one time_bucket_gapfill at most",
        ),
        (
            "SELECT count(*) FROM t GROUP BY ROLLUP(time_bucket_gapfill('1 hour', event_time), device)",
            "does not go with",
        ),
        ("SELECT time_bucket_gapfill('0 hours', event_time) FROM t GROUP BY 1", "wider than nothing"),
    ] {
        let said = refusal(&context, sql).await;
        assert!(said.contains(reason), "{sql}: {said}");
    }
}
