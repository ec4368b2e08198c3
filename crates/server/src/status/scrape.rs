//! Asking the server's HTTP side.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;

/// A server that is there answers within this time.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The metrics of one moment.
pub(super) struct Scrape(HashMap<String, f64>);

impl Scrape {
    /// Reads `/metrics`.
    pub(super) fn metrics(server: SocketAddr) -> anyhow::Result<Self> {
        let (_, text) = get(server, "/metrics")?;
        Ok(Self::parse(&text))
    }

    /// The value of a metric, summed over its labels; 0 if there is none yet.
    pub(super) fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// Reads the Prometheus text format: `name{labels} value`, comments after `#`.
    fn parse(text: &str) -> Self {
        let mut values = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let name = series.split('{').next().unwrap_or(series);
            *values.entry(name.to_owned()).or_insert(0.0) += value;
        }
        Self(values)
    }
}

/// What `/readyz` says, such as `ready`.
pub(super) fn readiness(server: SocketAddr) -> anyhow::Result<String> {
    let (_, text) = get(server, "/readyz")?;
    Ok(text.trim_end().to_owned())
}

/// One HTTP request; returns status line and body. HTTP/1.0 makes the answer end with the connection.
fn get(server: SocketAddr, path: &str) -> anyhow::Result<(String, String)> {
    let context = || format!("no answer at http://{server}{path}");
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT).with_context(context)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").with_context(context)?;
    let mut response = String::new();
    stream.read_to_string(&mut response).with_context(context)?;
    let (head, body) = response.split_once("\r\n\r\n").with_context(context)?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_summed_over_labels() {
        let text = "# TYPE refused counter\nrefused{code=\"a b\"} 2\nrefused{code=\"c\"} 3\nup 1e3\n\n";
        let scrape = Scrape::parse(text);
        assert_eq!((scrape.value("refused"), scrape.value("up"), scrape.value("other")), (5.0, 1000.0, 0.0));
    }
}
