//! The two protocols of the paper: strict, and prefill then strict.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// How the first tokens of a context enter the state.
///
/// ```
/// use msrnn_models::protocol::Protocol;
///
/// assert_eq!("prefill:128".parse::<Protocol>()?, Protocol::Prefill(128));
/// assert_eq!(Protocol::default().to_string(), "strict");
/// # Ok::<(), msrnn_models::error::ModelError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Protocol {
    /// Token by token from the first one: the paper's language-modelling results.
    #[default]
    Strict,
    /// That many tokens, or as many as there are, as one causal block with full attention, then one
    /// cut, then strict: the authors' released generation.
    Prefill(usize),
}

impl Protocol {
    /// Tokens of a context of `n` that enter as one block.
    pub fn block(self, n: usize) -> usize {
        match self {
            Protocol::Strict => 0,
            Protocol::Prefill(tokens) => tokens.min(n),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Strict => f.write_str("strict"),
            Protocol::Prefill(usize::MAX) => f.write_str("prefill"),
            Protocol::Prefill(tokens) => write!(f, "prefill:{tokens}"),
        }
    }
}

impl FromStr for Protocol {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let tokens = match text {
            "strict" => return Ok(Protocol::Strict),
            "prefill" => return Ok(Protocol::Prefill(usize::MAX)),
            _ => text.strip_prefix("prefill:").and_then(|tokens| tokens.parse().ok()),
        };
        match tokens {
            Some(tokens) if tokens > 0 => Ok(Protocol::Prefill(tokens)),
            _ => Err(ModelError::Protocol(text.to_owned())),
        }
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.to_string()
    }
}

impl TryFrom<String> for Protocol {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}
