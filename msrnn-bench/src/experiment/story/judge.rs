//! A judge: a model behind an OpenAI-compatible endpoint.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use super::JudgeSetting;
use crate::error::BenchError;

/// How far a judge is asked. None of it decides an answer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in all, those counted that failed.
    pub requests: usize,
    /// Requests for one answer, before giving up.
    pub attempts: u32,
    /// Pause after the first failure; every further one is twice as long.
    pub pause: Duration,
    /// Until an answer begins, and for every pause within it.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: 10_000, attempts: 6, pause: Duration::from_secs(2), patience: Duration::from_secs(180) }
    }
}

/// Asks a model.
pub struct Judge {
    setting: JudgeSetting,
    limits: Limits,
    left: AtomicUsize,
    key: Option<String>,
    #[cfg(feature = "hub")]
    line: asking::Line,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("setting", &self.setting).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Judge {
    /// A judge at `setting.url`, such as `https://api.openai.com/v1`. The key is sent and kept nowhere.
    ///
    /// # Errors
    ///
    /// When the address is none, or carries a password or query, which would end up in files, and when the key
    /// cannot be sent.
    #[cfg(feature = "hub")]
    pub fn new(setting: JudgeSetting, key: Option<String>, limits: Limits) -> Result<Self, BenchError> {
        let line = asking::Line::new(&setting.url, key.as_deref(), limits.patience)?;
        Ok(Self { setting, limits, left: AtomicUsize::new(limits.requests), key, line })
    }

    /// A judge cannot be asked.
    ///
    /// # Errors
    ///
    /// Always: this program was built without the feature `hub`.
    #[cfg(not(feature = "hub"))]
    pub fn new(_setting: JudgeSetting, _key: Option<String>, _limits: Limits) -> Result<Self, BenchError> {
        Err(BenchError::Input(
            "this msrnn cannot ask a judge; build it with `cargo build --release --features hub`".into(),
        ))
    }

    /// A judge cannot be asked.
    ///
    /// # Errors
    ///
    /// Always: this program was built without the feature `hub`.
    #[cfg(not(feature = "hub"))]
    pub fn ask(&self, _question: &str, _interrupt: &AtomicBool) -> Result<Option<String>, BenchError> {
        let Self { setting, limits, left, key } = self;
        let _ = (setting, limits, left, key);
        Err(BenchError::Input(
            "this msrnn cannot ask a judge; build it with `cargo build --release --features hub`".into(),
        ))
    }
}

#[cfg(feature = "hub")]
mod asking {
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::*;
    use crate::http::{self, Address, Client, Credentials, Method, Patience, Request, shown};

    /// Longest answer that is read, in bytes.
    const LONGEST: usize = 10 << 20;
    /// Longest pause that a server may ask for.
    const LONGEST_PAUSE: Duration = Duration::from_secs(120);

    /// Why there is no answer yet.
    enum Failure {
        /// It was interrupted.
        Interrupted,
        /// It may be there the next time, after the pause that the server asks for.
        Passing(String, Option<Duration>),
        /// It will not.
        Final(String),
    }

    /// Where a judge is and how it is spoken to.
    pub(super) struct Line {
        address: Address,
        credentials: Option<Credentials>,
        client: Client,
    }

    impl Line {
        pub(super) fn new(url: &str, key: Option<&str>, patience: Duration) -> Result<Self, BenchError> {
            let url = url.trim_end_matches('/');
            let address = Address::parse(url).ok().filter(|_| !url.contains(['?', '#']));
            let address = address.ok_or_else(|| {
                BenchError::Input(
                    "‘judge’ must be the address of an OpenAI-compatible endpoint, such as https://api.openai.com/v1, \
                     without user, password or query; the key goes into MSRNN_JUDGE_KEY or OPENAI_API_KEY"
                        .into(),
                )
            })?;
            let address = match url.ends_with("/chat/completions") {
                true => address,
                false => address.below("chat/completions"),
            };
            let credentials = key.map(|key| {
                Credentials::new(&address, format!("Bearer {key}")).ok_or_else(|| {
                    BenchError::Input(
                        "the judge's key (MSRNN_JUDGE_KEY or OPENAI_API_KEY) has signs that no key has; copy it again"
                            .into(),
                    )
                })
            });
            let credentials = credentials.transpose()?;
            if credentials.is_some() && address.is_in_the_clear() {
                tracing::warn!("{address} is http: the judge's key can be read on the way; use https in ‘judge’");
            }
            let connect = patience.min(Patience::default().connect);
            Ok(Self {
                address,
                credentials,
                client: Client::new(Patience { connect, answer: patience, stall: patience }),
            })
        }
    }

    impl From<http::Failure> for Failure {
        fn from(failure: http::Failure) -> Self {
            match failure {
                http::Failure::Interrupted => Self::Interrupted,
                http::Failure::Passing(why) => Self::Passing(why, None),
                http::Failure::Refused(why) => Self::Final(why),
            }
        }
    }

    impl Judge {
        /// The answer to a question; none when it was interrupted.
        ///
        /// # Errors
        ///
        /// When there is none after all attempts, or no request is left; the message says what to do.
        pub fn ask(&self, question: &str, interrupt: &AtomicBool) -> Result<Option<String>, BenchError> {
            let Limits { requests, attempts, pause, .. } = self.limits;
            let mut last = String::new();
            for attempt in 0..attempts {
                if interrupt.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                if left.is_err() {
                    return Err(BenchError::Input(format!(
                        "all {requests} requests to the judge are used up; what is judged is kept, and the same \
                         command goes on with a new ‘max_requests’"
                    )));
                }
                let wait = match self.try_once(question, interrupt) {
                    Ok(answer) => return Ok(Some(answer)),
                    Err(Failure::Interrupted) => return Ok(None),
                    Err(Failure::Final(reason)) => return Err(BenchError::Input(self.redacted(&reason))),
                    Err(Failure::Passing(reason, wait)) => {
                        last = reason;
                        wait.map_or(pause * 2u32.saturating_pow(attempt), |wait| wait.min(LONGEST_PAUSE))
                    }
                };
                if attempt + 1 < attempts && !sleep(wait, interrupt) {
                    return Ok(None);
                }
            }
            Err(BenchError::Input(self.redacted(&format!(
                "the judge at {} gave no answer in {attempts} attempts: {last}. What is judged is kept; check ‘judge’ \
                 and the network, and give the same command again",
                self.setting.url
            ))))
        }

        fn try_once(&self, question: &str, interrupt: &AtomicBool) -> Result<String, Failure> {
            let Line { address, credentials, client } = &self.line;
            let body = json!({
                "model": self.setting.model,
                "temperature": 0,
                "messages": [{ "role": "user", "content": question }],
            });
            let mut request = Request::get(address, credentials.as_ref());
            request.method = Method::POST;
            request.headers.push(("Content-Type", "application/json".into()));
            request.body = Some(body.to_string().into_bytes());
            let mut answer = client.send(request, interrupt)?;
            let status = answer.status;
            let wait = answer.header("retry-after").and_then(|value| value.trim().parse().ok());
            let text = answer.whole(LONGEST, interrupt)?;
            let text = String::from_utf8_lossy(&text);
            let told = || shown(&text);
            match status {
                200 => {}
                401 | 403 => {
                    return Err(Failure::Final(format!(
                        "the judge refuses the key (status {status}); set MSRNN_JUDGE_KEY or OPENAI_API_KEY: {}",
                        told()
                    )));
                }
                404 => {
                    return Err(Failure::Final(format!(
                        "there is no judge at {} (status 404); ‘judge’ usually ends in /v1, and ‘judge_model’ must be a \
                         model there: {}",
                        address,
                        told()
                    )));
                }
                408 | 409 | 425 | 429 | 500.. => {
                    return Err(Failure::Passing(
                        format!("status {status}: {}", told()),
                        wait.map(Duration::from_secs),
                    ));
                }
                _ => {
                    return Err(Failure::Final(format!("the judge refuses the request (status {status}): {}", told())));
                }
            }
            let parsed: Option<Value> = serde_json::from_str(&text).ok();
            let content = parsed.as_ref().and_then(|value| value["choices"][0]["message"]["content"].as_str());
            content.map(|content| self.redacted(content.trim())).ok_or_else(|| {
                Failure::Passing(format!("no chat completion with choices[0].message.content: {}", told()), None)
            })
        }

        /// A text without the key, should the server repeat it.
        fn redacted(&self, text: &str) -> String {
            match &self.key {
                Some(key) if !key.is_empty() => text.replace(key.as_str(), "[key]"),
                _ => text.to_owned(),
            }
        }
    }

    /// Waits; false when it was interrupted.
    fn sleep(duration: Duration, interrupt: &AtomicBool) -> bool {
        let started = Instant::now();
        while started.elapsed() < duration {
            if interrupt.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20).min(duration));
        }
        true
    }
}
