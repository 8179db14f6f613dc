//! Requests, with redirects, credentials and time as [`super`] says.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ureq::http::{self, HeaderMap, Method};

use super::exchange::{Event, Exchange, Waited};
use super::{Address, shown};

/// Redirects that are followed for one request.
pub(crate) const REDIRECTS: usize = 10;

/// How long a server may keep one waiting. The whole of an answer may take any time, as long as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the name, and again for connection and handshake.
    pub connect: Duration,
    /// From the request to the answer's status and headers.
    pub answer: Duration,
    /// Without a single byte, within a body.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), answer: Duration::from_secs(30), stall: Duration::from_secs(30) }
    }
}

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The user ended it.
    #[error("interrupted")]
    Interrupted,
    /// It may be there the next time.
    #[error("{0}")]
    Passing(String),
    /// The server does what is not followed or accepted.
    #[error("{0}")]
    Refused(String),
}

/// What proves who asks. Shown nowhere.
#[derive(Clone)]
pub(crate) struct Credentials {
    origin: Address,
    header: String,
}

impl Credentials {
    /// The value of an `Authorization` header, for the origin of an address only. None where it cannot be sent in
    /// a header at all.
    pub(crate) fn new(origin: &Address, header: String) -> Option<Self> {
        let sendable = header.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        sendable.then(|| Self { origin: origin.clone(), header })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Which redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Following {
    /// All that may be.
    All,
    /// Those that stay at the origin; the first that does not is the answer.
    AtOrigin,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) address: &'a Address,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// JSON; such a request is not redirected.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) following: Following,
}

impl<'a> Request<'a> {
    pub(crate) fn get(address: &'a Address, credentials: Option<&'a Credentials>) -> Self {
        Self { method: Method::GET, address, credentials, headers: vec![], body: None, following: Following::All }
    }
}

/// Asks servers.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    patience: Patience,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(patience: Patience) -> Self {
        let Patience { connect, answer, stall } = patience;
        // The waits proper are counted by `Exchange::next`. ureq's are for its thread, so that it ends.
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(answer))
            .timeout_per_read(Some(answer.max(stall)))
            .timeout_per_write(Some(answer.max(stall)))
            .user_agent(concat!("msrnn/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { agent, patience }
    }

    /// The answer to a request, after its redirects. Any status is an answer.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub(crate) fn send(&self, request: Request<'_>, interrupt: &AtomicBool) -> Result<Answer, Failure> {
        let mut address = request.address.clone();
        let mut credentials = request.credentials;
        for _ in 0..=REDIRECTS {
            credentials = credentials.filter(|credentials| credentials.origin.is_origin_of(&address));
            let answer = self.once(&request, &address, credentials, interrupt)?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let refused =
                |why: &str| Failure::Refused(format!("{address} sends on to an address that is not followed: {why}"));
            if request.body.is_some() {
                return Err(Failure::Refused(format!(
                    "{address} sends on to another address (status {}), which is not followed with what was sent; give \
                     the address that it leads to",
                    answer.status
                )));
            }
            let location = answer.header("location").ok_or_else(|| refused("it gives none that can be read"))?;
            let next = address.follow(location).map_err(refused)?;
            if request.following == Following::AtOrigin && !request.address.is_origin_of(&next) {
                return Ok(answer);
            }
            address = next;
        }
        Err(Failure::Refused(format!("{} sends on and on; after {REDIRECTS} redirects it was left", request.address)))
    }

    fn once(
        &self,
        request: &Request<'_>,
        address: &Address,
        credentials: Option<&Credentials>,
        interrupt: &AtomicBool,
    ) -> Result<Answer, Failure> {
        let mut sent = http::Request::builder()
            .method(request.method.clone())
            .uri(address.in_full())
            .header("Accept-Encoding", "identity");
        if let Some(credentials) = credentials {
            sent = sent.header("Authorization", credentials.header.as_str());
        }
        for (name, value) in &request.headers {
            sent = sent.header(*name, value.as_str());
        }
        let sent = sent.body(request.body.clone());
        let sent = sent.map_err(|e| Failure::Refused(format!("{address} cannot be asked for: {e}")))?;
        let exchange = Exchange::start(self.agent.clone(), sent);
        let patience = self.patience.connect * 2 + self.patience.answer;
        let event = exchange.next(patience, interrupt);
        match event {
            Ok(Event::Head(status, headers)) => {
                let answer = Answer { status, headers, address: address.clone(), exchange, stall: self.patience.stall };
                match answer.header("content-encoding").map(str::trim) {
                    None | Some("" | "identity") => Ok(answer),
                    Some(encoding) => Err(Failure::Refused(format!(
                        "{address} sends its answer as {:?} though it was asked not to, so that no length can be trusted; \
                         is there a proxy in between?",
                        shown(encoding)
                    ))),
                }
            }
            Ok(Event::Failed(error)) => Err(failed(address, &error)),
            Ok(_) => Err(Failure::Passing(format!("{address} does not answer"))),
            Err(waited) => Err(late(address, &waited, patience)),
        }
    }
}

/// The beginning of an answer, and the rest as it comes.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where it came from, after redirects.
    pub(crate) address: Address,
    headers: HeaderMap,
    exchange: Exchange,
    stall: Duration,
}

impl Answer {
    /// A header's value, if it is there once and is visible ASCII.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        value.filter(|_| values.next().is_none())
    }

    /// How many bytes are announced.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|length| length.trim().parse().ok())
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    ///
    /// See [`Failure`]; what came before is good.
    pub(crate) fn next(&mut self, interrupt: &AtomicBool) -> Result<Option<Vec<u8>>, Failure> {
        match self.exchange.next(self.stall, interrupt) {
            Ok(Event::Piece(piece)) => Ok(Some(piece)),
            Ok(Event::End | Event::Head(..)) => Ok(None),
            Ok(Event::Failed(error)) => Err(failed(&self.address, &error)),
            Err(waited) => Err(late(&self.address, &waited, self.stall)),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// When it is longer than `limit` bytes, or does not come whole.
    pub(crate) fn whole(&mut self, limit: usize, interrupt: &AtomicBool) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(piece) = self.next(interrupt)? {
            if all.len() + piece.len() > limit {
                return Err(Failure::Refused(format!("{} answers with more than {limit} bytes", self.address)));
            }
            all.extend(piece);
        }
        Ok(all)
    }
}

fn failed(address: &Address, error: &ureq::Error) -> Failure {
    let late = match error {
        ureq::Error::Timeout(_) => true,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
        _ => false,
    };
    if late {
        return Failure::Passing(format!("nothing came from {address} in time ({error})"));
    }
    Failure::Passing(format!("{address} does not answer as it should ({})", shown(&error.to_string())))
}

fn late(address: &Address, waited: &Waited, patience: Duration) -> Failure {
    match waited {
        Waited::Interrupted => Failure::Interrupted,
        Waited::TooLong => Failure::Passing(format!("nothing came from {address} for {patience:?} (timeout)")),
    }
}
