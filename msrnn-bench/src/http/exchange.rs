//! One request and its answer, on a thread of its own, so that whoever waits can stop waiting.
//!
//! The thread owns no file and decides nothing. When nobody listens any more it ends with the next piece
//! that comes, or at the time-out of its read at the latest.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::{self, HeaderMap};

/// Bytes of a piece, at most.
const PIECE: usize = 128 << 10;
/// Pieces that may wait to be taken.
const WAITING: usize = 4;
/// How often a wait looks for an interrupt.
const GLANCE: Duration = Duration::from_millis(50);

/// What came.
pub(super) enum Event {
    /// Status and headers.
    Head(u16, HeaderMap),
    /// The next bytes of the body.
    Piece(Vec<u8>),
    /// The body is over.
    End,
    /// There is no more, and why.
    Failed(ureq::Error),
}

/// Why there is no event.
pub(super) enum Waited {
    Interrupted,
    TooLong,
}

/// A request that is under way.
pub(super) struct Exchange {
    events: Receiver<Event>,
}

impl Exchange {
    /// Sends a request; a body only with methods that have one.
    pub(super) fn start(agent: ureq::Agent, request: http::Request<Option<Vec<u8>>>) -> Self {
        let (sender, events) = sync_channel(WAITING);
        std::thread::spawn(move || {
            let last = match run(&agent, request, &sender) {
                Ok(true) => Event::End,
                Ok(false) => return,
                Err(error) => Event::Failed(error),
            };
            // Nobody may be listening any more.
            let _ = sender.send(last);
        });
        Self { events }
    }

    /// The next event, if it comes in time.
    pub(super) fn next(&self, patience: Duration, interrupt: &AtomicBool) -> Result<Event, Waited> {
        let started = Instant::now();
        loop {
            if interrupt.load(Ordering::Relaxed) {
                return Err(Waited::Interrupted);
            }
            let left = patience.saturating_sub(started.elapsed());
            match self.events.recv_timeout(left.min(GLANCE)) {
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Event::Failed(ureq::Error::Io(std::io::ErrorKind::UnexpectedEof.into())));
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Waited::TooLong),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Whether the body was sent on to its end; false when nobody listens.
fn run(
    agent: &ureq::Agent,
    request: http::Request<Option<Vec<u8>>>,
    sender: &SyncSender<Event>,
) -> Result<bool, ureq::Error> {
    let (parts, body) = request.into_parts();
    let answer = match body {
        Some(body) => agent.run(http::Request::from_parts(parts, body)),
        None => agent.run(http::Request::from_parts(parts, ())),
    }?;
    let (parts, body) = answer.into_parts();
    if sender.send(Event::Head(parts.status.as_u16(), parts.headers)).is_err() {
        return Ok(false);
    }
    let mut body = body.into_reader();
    loop {
        let mut piece = vec![0; PIECE];
        let length = match body.read(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ureq::Error::Io(error)),
        };
        piece.truncate(length);
        if sender.send(Event::Piece(piece)).is_err() {
            return Ok(false);
        }
    }
}
