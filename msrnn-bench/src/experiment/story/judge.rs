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
    /// For one answer.
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
    address: String,
    key: Option<String>,
    limits: Limits,
    left: AtomicUsize,
    #[cfg(feature = "hub")]
    agent: ureq::Agent,
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
    /// When the address has no scheme, or carries a password or query, which would end up in files.
    #[cfg(feature = "hub")]
    pub fn new(setting: JudgeSetting, key: Option<String>, limits: Limits) -> Result<Self, BenchError> {
        let url = setting.url.trim_end_matches('/');
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let plain =
            |host: &str| !host.is_empty() && !host.contains(['@', '?', '#']) && !host.contains(char::is_whitespace);
        if !host.is_some_and(plain) {
            return Err(BenchError::Input(
                "--judge must be the address of an OpenAI-compatible endpoint, such as https://api.openai.com/v1, \
                 without user, password or query; the key goes into MSRNN_JUDGE_KEY or OPENAI_API_KEY"
                    .into(),
            ));
        }
        let address = match url.ends_with("/chat/completions") {
            true => url.to_owned(),
            false => format!("{url}/chat/completions"),
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(limits.patience))
            .user_agent(concat!("msrnn/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { setting, address, key, limits, left: AtomicUsize::new(limits.requests), agent })
    }

    /// A judge cannot be asked.
    ///
    /// # Errors
    ///
    /// Always: this program was built without the feature `hub`.
    #[cfg(not(feature = "hub"))]
    pub fn new(_setting: JudgeSetting, _key: Option<String>, _limits: Limits) -> Result<Self, BenchError> {
        Err(BenchError::Input("this msrnn cannot ask a judge; build it with `--features hub`".into()))
    }

    /// A judge cannot be asked.
    ///
    /// # Errors
    ///
    /// Always: this program was built without the feature `hub`.
    #[cfg(not(feature = "hub"))]
    pub fn ask(&self, _question: &str, _interrupt: &AtomicBool) -> Result<Option<String>, BenchError> {
        let Self { setting, address, key, limits, left } = self;
        let _ = (setting, address, key, limits, left);
        Err(BenchError::Input("this msrnn cannot ask a judge; build it with `--features hub`".into()))
    }
}

#[cfg(feature = "hub")]
mod asking {
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::*;

    /// Longest pause that a server may ask for.
    const LONGEST_PAUSE: Duration = Duration::from_secs(120);

    /// Why there is no answer yet.
    enum Failure {
        /// It may be there the next time, after the pause that the server asks for.
        Passing(String, Option<Duration>),
        /// It will not.
        Final(String),
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
                         command goes on with a new --max-requests"
                    )));
                }
                let wait = match self.try_once(question) {
                    Ok(answer) => return Ok(Some(answer)),
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
                "the judge at {} gave no answer in {attempts} attempts: {last}. What is judged is kept; check --judge \
                 and the network, and give the same command again",
                self.setting.url
            ))))
        }

        fn try_once(&self, question: &str) -> Result<String, Failure> {
            let mut request = self.agent.post(&self.address);
            if let Some(key) = &self.key {
                request = request.header("Authorization", format!("Bearer {key}"));
            }
            let body = json!({
                "model": self.setting.model,
                "temperature": 0,
                "messages": [{ "role": "user", "content": question }],
            });
            let mut answer = request.send_json(&body).map_err(|e| Failure::Passing(e.to_string(), None))?;
            let status = answer.status().as_u16();
            let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let text = answer.body_mut().read_to_string();
            let text = text.map_err(|e| Failure::Passing(format!("the answer broke off: {e}"), None))?;
            let told = || text.chars().take(300).collect::<String>();
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
                        "there is no judge at {} (status 404); --judge usually ends in /v1, and --judge-model must be a \
                         model there: {}",
                        self.address,
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
