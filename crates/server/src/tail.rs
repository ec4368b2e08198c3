//! `icecore tail`: events as they become durable, from the running server's API.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use crate::cli::{TailArgs, TailFormat};
use crate::config::Config;

/// A server that is there says something at least so often: it sends heartbeats.
const SILENCE: Duration = Duration::from_secs(30);
/// How long to wait before the next attempt to connect.
const AGAIN: Duration = Duration::from_secs(1);

/// Prints until it is stopped. A connection that is lost is made again, where the last one ended.
pub(crate) fn run(args: &TailArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let mut tail = Tail { args, server: config.listen.http, last: None, out };
    let mut is_known = false;
    loop {
        match tail.connect() {
            Ok(Answer::Events(events)) => {
                is_known = true;
                let lost = tail.print(events)?;
                eprintln!("lost the server: {lost}; going on when it is back");
            }
            Ok(Answer::Busy(detail)) => eprintln!("waiting: {detail}"),
            Ok(Answer::Refused(detail)) => bail!(detail),
            Err(error) if !is_known => return Err(error),
            Err(_) => {}
        }
        thread::sleep(AGAIN);
    }
}

struct Tail<'a, W> {
    args: &'a TailArgs,
    server: SocketAddr,
    /// The last id.
    last: Option<String>,
    out: &'a mut W,
}

/// What the server says to the request.
enum Answer {
    Events(BufReader<TcpStream>),
    /// There is no room at present.
    Busy(String),
    Refused(String),
}

/// What stands between two blank lines.
#[derive(Default)]
struct Message {
    id: Option<String>,
    event: String,
    data: String,
}

impl<W: Write> Tail<'_, W> {
    /// HTTP/1.0 makes the answer end with the connection, and come as it is.
    fn connect(&self) -> anyhow::Result<Answer> {
        let server = self.server;
        let context = || format!("no answer at http://{server}; is the server running?");
        let mut stream = TcpStream::connect_timeout(&server, SILENCE).with_context(context)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let TailArgs { device, schema, from, .. } = self.args;
        let from = self.last.as_ref().unwrap_or(from);
        let query = [("device", device), ("schema", schema), ("from", from)];
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        write!(stream, "GET /v1/tail?{} HTTP/1.0\r\nHost: {server}\r\n\r\n", query.join("&"))
            .with_context(context)?;
        let mut answer = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if answer.read_line(&mut head).with_context(context)? == 0 {
                bail!(context());
            }
        }
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if status == "200" {
            return Ok(Answer::Events(answer));
        }
        let problem: Value = serde_json::from_reader(answer).unwrap_or_default();
        let detail = problem["detail"].as_str().map(ToOwned::to_owned);
        let detail = detail.with_context(|| format!("http://{server} has no API: it answers {status}"))?;
        Ok(if status == "503" { Answer::Busy(detail) } else { Answer::Refused(detail) })
    }

    /// Prints the events of one connection; returns why there are no more.
    fn print(&mut self, mut events: BufReader<TcpStream>) -> anyhow::Result<String> {
        let mut line = String::new();
        let mut message = Message::default();
        loop {
            line.clear();
            match events.read_line(&mut line) {
                Ok(0) => return Ok("it ended the connection".to_owned()),
                Err(error) => return Ok(error.to_string()),
                Ok(_) => {}
            }
            match line.trim_end_matches('\n') {
                "" => self.take(std::mem::take(&mut message))?,
                field => message.add(field),
            }
        }
    }

    fn take(&mut self, message: Message) -> anyhow::Result<()> {
        let Message { id, event, data } = message;
        if !data.is_empty() {
            let content: Value = serde_json::from_str(&data).context("the server sent what is no event")?;
            match event.as_str() {
                "" => self.event(&data, &content)?,
                "missing" => eprintln!("missing: {}", content["why"].as_str().unwrap_or(&data)),
                _ => return Err(anyhow!("the tail ended: {}", content["detail"].as_str().unwrap_or(&data))),
            }
        }
        self.last = id.or(self.last.take());
        Ok(())
    }

    fn event(&mut self, data: &str, event: &Value) -> io::Result<()> {
        match self.args.format {
            TailFormat::Ndjson => writeln!(self.out, "{data}")?,
            TailFormat::Human => writeln!(self.out, "{}", human(event))?,
        }
        self.out.flush()
    }
}

impl Message {
    /// Takes one line; comments and what is not known is passed over.
    fn add(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event),
            "data" => self.data.push_str(value),
            _ => {}
        }
    }
}

/// `52  2013-01-01T05:00:00.000000000Z  EWR  weather  temp=39.02 wind_gust=null`
fn human(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let (position, time) = (&event["position"], text("event_time"));
    let mut line = format!("{position}  {time}  {}  {} ", text("device"), text("schema"));
    for (name, value) in event["fields"].as_object().into_iter().flatten() {
        write!(line, " {name}={value}").expect("a string takes it");
    }
    line
}

/// Percent-encodes everything that might mean something else.
fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let parts = text.bytes().map(|byte| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = serde_json::json!({
            "position": 52, "event_time": "T", "device": "a b", "schema": "s", "fields": { "x": 1.5, "y": null }
        });
        assert_eq!(human(&event), "52  T  a b  s  x=1.5 y=null");
        assert_eq!(encode("a/b *å"), "a%2Fb%20%2A%C3%A5");
    }
}
