//! A proxy in front of a server that speaks S3: passes everything on, and counts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use icecore_tier::store::{Place, Store};

use crate::counted::{Kind, Log};
use crate::s3;

/// Starts one in front of `server`; it runs until the process ends. Returns the stores of these names through it, each a prefix
/// in the bucket: objects are told without the bucket.
pub(crate) fn stores(server: &s3::Server, names: [&str; 2], log: &Log) -> [Store; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut options: BTreeMap<String, String> =
        server.options().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    options.insert("access_key_id".to_owned(), s3::ACCESS_KEY.to_owned());
    options.insert("secret_access_key".to_owned(), s3::SECRET_KEY.to_owned());
    let upstream = options.insert("endpoint".to_owned(), endpoint).unwrap();
    let (upstream, log) = (upstream.trim_start_matches("http://").to_owned(), log.clone());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (upstream, log) = (upstream.clone(), log.clone());
            thread::spawn(move || pass_on(&client, &upstream, &log));
        }
    });
    names.map(|name| {
        let place = Place::open(name, &s3::Server::url(name), &options).unwrap();
        Store::new(name, place, 0)
    })
}

/// A head, of a request or a response, and the body behind it.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// Reads one; `None` where there is none any more. `no_body`: a body does not follow, whatever the head says.
    fn read(from: &mut impl BufRead, no_body: bool) -> Option<Self> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
            Some(line[name.len()..].trim().to_owned())
        };
        let mut body = Vec::new();
        if no_body {
        } else if header("transfer-encoding:").is_some() {
            read_chunks(from, &mut body)?;
        } else if let Some(length) = header("content-length:") {
            body.resize(length.parse().ok()?, 0);
            from.read_exact(&mut body).ok()?;
        }
        Some(Self { head, body })
    }

    /// In one piece, so that nobody waits for the acknowledgement of half of it.
    fn write(&self, to: &mut impl Write) -> Option<()> {
        to.write_all(&[self.head.as_bytes(), &self.body].concat()).ok()
    }
}

/// Reads a body in chunks, as it is, to the empty one.
fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut size = String::new();
        from.read_line(&mut size).ok()?;
        let length = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        from.read_exact(&mut chunk).ok()?;
        body.extend(size.as_bytes());
        body.extend(chunk);
        if length == 0 {
            return Some(());
        }
    }
}

fn pass_on(client: &TcpStream, upstream: &str, log: &Log) -> Option<()> {
    let server = TcpStream::connect(upstream).ok()?;
    server.set_nodelay(true).ok()?;
    client.set_nodelay(true).ok()?;
    let (mut requests, mut responses) = (BufReader::new(client), BufReader::new(&server));
    let (mut to_client, mut to_server) = (client, &server);
    loop {
        let request = Message::read(&mut requests, false)?;
        count(&request, log);
        request.write(&mut to_server)?;
        Message::read(&mut responses, request.head.starts_with("HEAD"))?.write(&mut to_client)?;
    }
}

fn count(request: &Message, log: &Log) {
    let mut words = request.head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // Behind the bucket.
    let object = path.trim_start_matches('/').split_once('/').map_or("", |(_, object)| object);
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    match method {
        "GET" if parameter("list-type").is_some() => {
            let prefix = parameter("prefix").unwrap_or_default().replace("%2F", "/");
            log.note(Kind::List, prefix.trim_end_matches('/'), 0);
        }
        "GET" | "HEAD" => log.note(Kind::Get, object, 0),
        "POST" if query.starts_with("delete") => {
            let text = String::from_utf8_lossy(&request.body);
            let keys: Vec<&str> =
                text.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0)).collect();
            // One request, whatever it deletes; ours delete one object each.
            log.note(Kind::Delete, &keys.join(" "), 0);
        }
        "DELETE" => log.note(Kind::Delete, object, 0),
        _ => log.note(Kind::Put, object, request.body.len() as u64),
    }
}
