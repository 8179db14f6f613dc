//! What can be wrong with a spec; every message says the remedy.

/// A policy spec that cannot be read or met.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// No such policy.
    #[error("no policy is called {name:?}; there are {known}")]
    Unknown {
        /// As written.
        name: String,
        /// All names.
        known: String,
    },
    /// A parameter that is not a number.
    #[error("{text:?} in {name:?} is not a number; write for example window+4 or random:7")]
    Parameter {
        /// The name as written.
        name: String,
        /// Its parameter.
        text: String,
    },
    /// A bounded policy without a bound.
    #[error("policy {0} needs a number of states; write {0}@512, or give --states")]
    NoBudget(String),
    /// A bound for the unbounded state.
    #[error("full keeps every state and takes none of \"@{0}\"; leave it out, or choose another policy")]
    FullBounded(String),
    /// The bound itself.
    #[error(transparent)]
    Core(#[from] msrnn_core::Error),
}

impl SpecError {
    pub(crate) fn unknown(name: &str) -> Self {
        let known: Vec<&str> =
            std::iter::once("full").chain(crate::registry::entries().map(|entry| entry.name)).collect();
        Self::Unknown { name: name.into(), known: known.join(", ") }
    }
}
