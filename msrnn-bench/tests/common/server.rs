//! An HTTP server on this machine, for tests of what talks to one.

// Every test file uses its own part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Announces the whole body and closes after that many bytes.
    Half(u16, Vec<(&'static str, String)>, Vec<u8>, usize),
    /// Says nothing for that long.
    Silence(Duration),
    /// Writes these bytes as they are, and then does that.
    Raw(Vec<u8>, Then),
}

/// What follows bytes that were written as they are.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    Close,
    /// Says nothing more for that long.
    Hold(Duration),
    /// Writes as long as somebody reads.
    Endless,
}

impl Reply {
    /// The beginning of an answer, of which everything is made up by the test.
    pub(crate) fn raw(head: &str, body: &[u8], then: Then) -> Self {
        Self::Raw([head.replace('\n', "\r\n").as_bytes(), b"\r\n", body].concat(), then)
    }
}

/// Running until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Starts one on a free port that answers with `reply`.
    pub(crate) fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (seen, end, reply) = (requests.clone(), ended.clone(), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let (seen, reply) = (seen.clone(), reply.clone());
                std::thread::spawn(move || {
                    let Ok(mut stream) = stream else { return };
                    if let Some(request) = read(&stream) {
                        seen.lock().unwrap().push(request.clone());
                        // Whoever asked may be gone.
                        let _ = write(&mut stream, reply(&request), request.method == "HEAD");
                    }
                });
            }
        });
        Self { url, requests, ended }
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

/// The address of a port on which nothing listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body: String::from_utf8(body).ok()? })
}

fn write(stream: &mut TcpStream, reply: Reply, head: bool) -> std::io::Result<()> {
    let (status, headers, body, sent) = match reply {
        Reply::Answer(status, headers, body) => (status, headers, body, usize::MAX),
        Reply::Half(status, headers, body, sent) => (status, headers, body, sent),
        Reply::Silence(duration) => {
            std::thread::sleep(duration);
            return Ok(());
        }
        Reply::Raw(bytes, then) => {
            stream.write_all(&bytes)?;
            stream.flush()?;
            match then {
                Then::Close => return Ok(()),
                Then::Hold(duration) => std::thread::sleep(duration),
                Then::Endless => loop {
                    stream.write_all(&[b'x'; 4096])?;
                },
            }
            return Ok(());
        }
    };
    let sent = if head { 0 } else { sent };
    write!(stream, "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {}\r\n", body.len())?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    stream.write_all(&body[..sent.min(body.len())])?;
    stream.flush()
}
