//! How long reading and writing took, apart.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Tokens and their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Speed {
    /// Tokens that went through.
    pub tokens: usize,
    /// Wall time.
    pub seconds: f64,
    /// Tokens for a second; none where none went through or no time passed.
    pub tokens_per_second: Option<f64>,
}

impl Speed {
    /// Of so many tokens in that time.
    pub(crate) fn of(tokens: usize, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        Self { tokens, seconds, tokens_per_second: (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds) }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens in {:.2} s", self.tokens, self.seconds)?;
        match self.tokens_per_second {
            Some(rate) => write!(f, " ({rate:.1}/s)"),
            None => Ok(()),
        }
    }
}
