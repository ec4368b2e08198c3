//! A tail tells what becomes durable, once and in order, and goes on where it ended.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{filled_site, problem, send, split};
use crate::cold::Cold;
use crate::harness::{Server, Site};
use crate::sealed::{SEGMENT, archived_site, delete};

/// More than an event takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tail being read.
struct Tail(BufReader<TcpStream>);

/// One message: its name, its id and its data.
#[derive(Debug)]
struct Message {
    name: String,
    id: String,
    data: Value,
}

impl Tail {
    fn open(http: SocketAddr, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let resume = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        write!(stream, "GET /v1/tail?{query} HTTP/1.0\r\n{resume}\r\n").unwrap();
        let mut tail = Self(BufReader::new(stream));
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(tail.0.read_line(&mut line).unwrap() > 0);
        }
        tail
    }

    /// The next message with data.
    fn next(&mut self) -> Message {
        let mut message = Message { name: String::new(), id: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the tail ended");
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => message.id = id.to_owned(),
                Some(("event", name)) => message.name = name.to_owned(),
                Some(("data", data)) => message.data = serde_json::from_str(data).unwrap(),
                None if !message.data.is_null() => return message,
                _ => {}
            }
        }
    }

    /// The positions of the next events, and the id of the last.
    fn take(&mut self, events: usize) -> (Vec<u64>, String) {
        let mut positions = Vec::new();
        let mut last = String::new();
        for _ in 0..events {
            let Message { name, id, data } = self.next();
            assert_eq!(name, "", "{data}");
            assert_eq!(id.split_once(':').unwrap().1, data["position"].to_string());
            positions.push(data["position"].as_u64().unwrap());
            last = id;
        }
        (positions, last)
    }
}

fn gateway(site: &Site) -> String {
    site.path("gw").to_str().unwrap().to_owned()
}

#[test]
fn what_comes_is_told_once_and_over_restarts() {
    let site = filled_site();
    let server = site.serve();
    let mut all = Tail::open(server.http, "from=start", None);
    assert_eq!(all.take(96).0, Vec::from_iter(0..96));
    let mut beta = Tail::open(server.http, "device=*beta&schema=weather", None);
    send(&site, &server, &gateway(&site), "february.csv", "weather");
    let (positions, _) = all.take(56);
    assert_eq!(positions, Vec::from_iter(96..152));
    let (positions, seen) = beta.take(10);
    assert!(positions.iter().all(|position| *position >= 96));
    let (rest, _) = beta.take(18);
    server.kill();

    let server = site.serve();
    let mut again = Tail::open(server.http, "device=*beta&schema=weather", Some(&seen));
    assert_eq!(again.take(18).0, rest, "behind the last id, as it would have gone on");
    send(&site, &server, &gateway(&site), "reversed_time.csv", "quake");
    let mut by_position = Tail::open(server.http, "from=151", None);
    assert_eq!(by_position.take(1).0, [152]);
}

#[test]
fn one_that_is_slow_is_late_and_misses_nothing() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let mut slow = Tail::open(server.http, "", None);
    // More than what waits on its way.
    send(&site, &server, &identity, "../nyc_weather.csv.gz", "weather");
    server.wait_for_events(26_115);
    assert_eq!(super::json(&server, "/v1/devices/JFK")["events"], 8706, "it holds up nobody");
    assert_eq!(slow.take(26_115).0, Vec::from_iter(0..26_115));
}

#[test]
fn a_place_that_is_not_there_is_said_to_be_so() {
    let site = filled_site();
    let server = site.serve();
    assert!(problem(&server, "/v1/tail?from=2:96", 410).contains("is in term 2 and has 96 events"));
    assert!(problem(&server, "/v1/tail?from=96", 410).contains("there is no 96"));
    assert!(problem(&server, "/v1/tail?from=3:1", 410).contains("begin with from=start"));
    let resumed = server.request("GET /v1/tail HTTP/1.0\r\nLast-Event-ID: 0:100\r\n\r\n");
    assert!(split(&resumed).0.starts_with("HTTP/1.0 410 "), "{resumed}");
    let wrong = server.request("GET /v1/tail HTTP/1.0\r\nLast-Event-ID: nonsense\r\n\r\n");
    assert!(
        split(&wrong).0.starts_with("HTTP/1.0 400 ") && wrong.contains("Last-Event-ID: expected"),
        "{wrong}"
    );
}

#[test]
fn what_was_deleted_is_told_as_missing() {
    let mut site = archived_site();
    site.set("TIER__INTERVAL", "1h");
    delete(&site, &Cold::Directory);
    fs::remove_file(SEGMENT.file(&site.path("data"))).unwrap();
    let server = site.serve();
    let mut tail = Tail::open(server.http, "from=start", None);
    let missing = tail.next();
    assert_eq!((missing.name.as_str(), &missing.data["segment"]), ("missing", &SEGMENT.to_string().into()));
    send(&site, &server, &gateway(&site), "february.csv", "weather");
    assert_eq!(tail.take(56).0[0], 62);
}

#[test]
fn only_so_many_are_read_at_once() {
    let site = filled_site();
    let server = site.serve();
    let mut tails: Vec<Tail> = (0..16).map(|_| Tail::open(server.http, "from=start", None)).collect();
    tails.iter_mut().for_each(|tail| _ = tail.take(1));
    assert!(problem(&server, "/v1/tail", 503).starts_with("16 tails are being read"));
    assert!(server.get("/v1/tail").contains("retry-after: 2"));
    tails.clear();
    // Their threads notice it when they look next.
    while server.get_head("/v1/tail?from=start").starts_with("HTTP/1.0 503 ") {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_command_prints_events_and_goes_on_after_a_restart() {
    let mut site = filled_site();
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.set("LISTEN__HTTP", http.to_string());
    let refused = site.run(&["tail"]);
    crate::harness::assert_failure(&refused, &["is the server running?"]);
    let server = site.serve();
    let (mut child, lines) = tail_command(&site, &["--from", "90", "--format", "ndjson"]);
    let position = |line: String| serde_json::from_str::<Value>(&line).unwrap()["position"].as_u64().unwrap();
    for expected in 91..96 {
        assert_eq!(position(lines.recv_timeout(PATIENCE).unwrap()), expected);
    }
    server.kill();
    let server: Server = site.serve();
    send(&site, &server, &gateway(&site), "february.csv", "weather");
    for expected in 96..152 {
        assert_eq!(position(lines.recv_timeout(PATIENCE).unwrap()), expected);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, lines) = tail_command(&site, &["--from", "start", "--device", "*alpha"]);
    let line = lines.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("  station/alpha  weather  ") && line.ends_with(" temperature=2.2"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
    crate::harness::assert_failure(&site.run(&["tail", "--from", "99:1"]), &["there is no 99:1 in this log"]);
}

fn tail_command(site: &Site, arguments: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let mut command = site.command(&[&["tail"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = mpsc::channel();
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    (child, lines)
}
