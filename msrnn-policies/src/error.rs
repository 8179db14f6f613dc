//! What can be wrong with a spec; every message says the remedy, and where a text cannot be read, the place.

use crate::text::Place;

/// A policy spec that cannot be read or met.
///
/// An error about a text shows it, with the place marked:
///
/// ```
/// let error = "protect(tovaa, first=4)@512".parse::<msrnn_policies::PolicySpec>().unwrap_err();
/// let marked = "\n  protect(tovaa, first=4)@512\n          ^^^^^";
/// assert!(error.to_string().starts_with("no policy is called \"tovaa\"; did you mean tova? There are full, window, "));
/// assert!(error.to_string().ends_with(marked));
/// assert!(error.one_line().ends_with("(characters 9 to 13 of \"protect(tovaa, first=4)@512\")"));
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// No such policy.
    #[error("no policy is called {name:?}; {}here are {known}{place}", meant.map_or("t".into(), |meant| format!("did you mean {meant}? T")))]
    Unknown {
        /// As written.
        name: String,
        /// What comes nearest.
        meant: Option<&'static str>,
        /// All names.
        known: String,
        /// Where.
        place: Place,
    },
    /// A text that does not go on as it should.
    #[error("expected {expected}, found {found}{place}")]
    Expected {
        /// What may stand here.
        expected: String,
        /// What stands here.
        found: String,
        /// Where.
        place: Place,
    },
    /// A text that is spelled right and means nothing.
    #[error("{problem}{place}")]
    Meaning {
        /// What is wrong, and the remedy.
        problem: String,
        /// Where.
        place: Place,
    },
    /// A parameter that is not a number.
    #[error("{text:?} behind {name} is not a whole number; write for example window+4 or random:7{place}")]
    Parameter {
        /// The name as written.
        name: String,
        /// Its parameter.
        text: String,
        /// Where.
        place: Place,
    },
    /// A text that is too long.
    #[error(
        "a policy of {length} characters is too long; write at most {most}, or register it in a binary of your own"
    )]
    TooLong {
        /// Bytes that it has.
        length: usize,
        /// Bytes that it may have.
        most: usize,
    },
    /// Parentheses in parentheses, or terms behind terms, without end.
    #[error(
        "this is nested more than {most} deep; remember a part of it under a name, or register the policy in a binary of your own{place}"
    )]
    TooDeep {
        /// How deep it may be.
        most: usize,
        /// Where.
        place: Place,
    },
    /// A layer, or a head, with two policies.
    #[error("{one} {index} has a policy already; let ranges of {one}s not overlap")]
    Twice {
        /// `layer` or `head`.
        one: &'static str,
        /// Which, counted from 0.
        index: usize,
    },
    /// A range of layers, or of heads, that cannot be.
    #[error("there are no {one}s {first}-{last}; count up, from 0 to {most} at most")]
    NoRange {
        /// `layer` or `head`.
        one: &'static str,
        /// The first.
        first: usize,
        /// The last.
        last: usize,
        /// The last that can be named.
        most: usize,
    },
    /// A pyramid without a top.
    #[error("a pyramid with beta=0 has no top; give 1, for equal layers, or more")]
    NoBeta,
    /// A policy that protects more than it is given, whatever that is.
    #[error("no number of states is enough for {0}: it protects as many rows and more; protect fewer")]
    NeverEnough(String),
    /// A bounded policy without a bound.
    #[error("policy {0} needs a number of states; write {0}@512, or give ‘states’")]
    NoBudget(String),
    /// A bound for the unbounded state.
    #[error("full keeps every state and takes none of \"@{0}\"; leave it out, or choose another policy")]
    FullBounded(String),
    /// A bound in bytes for a state that grows.
    #[error(
        "policy {policy} lets states grow, which @{budget} cannot bound; give a number of states or a share, such as 25%"
    )]
    GrowsBeyondBytes {
        /// The policy.
        policy: String,
        /// The budget.
        budget: String,
    },
    /// A budget where there can be none.
    #[error("a policy without budget is wanted here; write {policy} without @{budget}")]
    BudgetHere {
        /// The policy.
        policy: String,
        /// The budget.
        budget: String,
    },
    /// The unbounded state where there must be a policy.
    #[error("full keeps every state and is no policy; choose one, such as tova")]
    FullHere,
    /// An entry that cannot be registered.
    #[error("policy {name} cannot be registered: {problem}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A registry that comes too late.
    #[error("policies were read before the registry was installed; install it first, and once")]
    InstalledTooLate,
    /// The bound itself.
    #[error(transparent)]
    Core(#[from] msrnn_core::Error),
}

impl SpecError {
    /// Where in which text, if that is known.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Unknown { place, .. }
            | Self::Expected { place, .. }
            | Self::Meaning { place, .. }
            | Self::Parameter { place, .. }
            | Self::TooDeep { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The message without a drawing, on one line.
    pub fn one_line(&self) -> String {
        let text = self.to_string();
        match self.place() {
            Some(place) => {
                let message = text.strip_suffix(&place.to_string()).unwrap_or(&text);
                format!("{message} ({})", place.in_words())
            }
            None => text,
        }
    }
}
