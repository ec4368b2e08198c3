//! The server's local socket: how a command changes what the running server owns.
//!
//! One request and one answer a connection, each a line of JSON. The socket is in a directory that only the server's user may
//! enter. A command that finds nobody there takes the lock of what it changes and does it itself.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// The socket's directory in the data directory, and its name there.
const DIRECTORY: &str = "control";
const SOCKET: &str = "server.sock";
/// Bytes of a request or an answer.
const LONGEST_LINE: u64 = 16 << 20;
/// How long a client may take to write its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a command waits for the answer: an application of policies looks at every segment, and waits for the bucket.
const ANSWER_TIME: Duration = Duration::from_secs(300);

/// Answers requests, one at a time, on a thread that lives as long as the process.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn serve<Q, A>(
    data: &Path,
    mut answer: impl FnMut(Q) -> anyhow::Result<A> + Send + 'static,
) -> anyhow::Result<()>
where
    Q: DeserializeOwned,
    A: Serialize,
{
    let directory = data.join(DIRECTORY);
    let make = || -> io::Result<UnixListener> {
        if !directory.exists() {
            DirBuilder::new().mode(0o700).create(&directory)?;
        }
        let directory = File::open(&directory)?;
        let socket = reachable(&directory);
        // The lock on the log says that no other server runs: what is left is of one that is gone.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(socket),
        }
    };
    let listener = make().with_context(|| format!("cannot make the socket in {}", directory.display()))?;
    let serve = move || {
        for connection in listener.incoming() {
            let served = connection.map_err(Into::into).and_then(|stream| serve_one(&stream, &mut answer));
            if let Err(error) = served {
                warn!(%error, "a command on the local socket was not served");
            }
        }
    };
    thread::Builder::new().name("control".to_owned()).spawn(serve).context("cannot start a thread")?;
    Ok(())
}

/// Asks the server that runs on `data`; `None` if none does.
///
/// # Errors
/// When the server says no, or its answer does not come.
pub(crate) fn ask<A: DeserializeOwned>(data: &Path, request: &impl Serialize) -> anyhow::Result<Option<A>> {
    let path = data.join(DIRECTORY);
    let Ok(directory) = File::open(&path) else { return Ok(None) };
    let stream = match UnixStream::connect(reachable(&directory)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot reach the server at {}", path.display()));
        }
    };
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    write_line(&stream, request)?;
    let answer: Answer<A> =
        read_line(&stream).context("the server did not answer: it may have done what was asked")?;
    match answer {
        Answer::Done(answer) => Ok(Some(answer)),
        Answer::Refused(message) => Err(anyhow!(message)),
    }
}

/// What goes back.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer<A> {
    Done(A),
    Refused(String),
}

fn serve_one<Q: DeserializeOwned, A: Serialize>(
    stream: &UnixStream,
    answer: &mut impl FnMut(Q) -> anyhow::Result<A>,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIME))?;
    stream.set_write_timeout(Some(REQUEST_TIME))?;
    let answered = read_line(stream).context("not a request of this version").and_then(answer);
    write_line(stream, &answered.map_or_else(|error| Answer::Refused(format!("{error:#}")), Answer::Done))
}

fn read_line<T: DeserializeOwned>(stream: &UnixStream) -> anyhow::Result<T> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line)?;
    ensure!(line.ends_with('\n'), "the line is cut off");
    Ok(serde_json::from_str(&line)?)
}

fn write_line(mut stream: &UnixStream, content: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(content)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// The socket in an open directory by a path that is short enough: the system takes no more than 107 bytes.
fn reachable(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with the sum of what it was sent so far, and refuses 0.
    fn start(data: &Path) {
        let mut sum = 0;
        let answer = move |number: i64| {
            ensure!(number != 0, "nothing to add");
            sum += number;
            Ok(sum)
        };
        serve(data, answer).unwrap();
    }

    #[test]
    fn requests_are_answered_or_refused() {
        let data = tempfile::tempdir().unwrap();
        start(data.path());
        assert_eq!(ask(data.path(), &4).unwrap(), Some(4));
        assert_eq!(ask(data.path(), &3).unwrap(), Some(7));
        assert_eq!(ask::<i64>(data.path(), &0).unwrap_err().to_string(), "nothing to add");
        let error = ask::<i64>(data.path(), &"four").unwrap_err().to_string();
        assert!(error.starts_with("not a request of this version"), "{error}");
        assert_eq!(ask(data.path(), &1).unwrap(), Some(8), "it goes on");
    }

    #[test]
    fn nobody_there_is_no_error() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(ask::<i64>(data.path(), &1).unwrap(), None, "never a server");
        fs::create_dir(data.path().join(DIRECTORY)).unwrap();
        let directory = File::open(data.path().join(DIRECTORY)).unwrap();
        drop(UnixListener::bind(reachable(&directory)).unwrap());
        assert_eq!(ask::<i64>(data.path(), &1).unwrap(), None, "a server that was killed");
        start(data.path());
        assert_eq!(ask(data.path(), &1).unwrap(), Some(1));
    }

    #[test]
    fn a_long_path_is_no_obstacle() {
        let data = tempfile::tempdir().unwrap();
        let deep = data.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        start(&deep);
        assert_eq!(ask(&deep, &1).unwrap(), Some(1));
    }
}
