//! Window and Window+i: the newest rows stay, with or without the first i.
//!
//! Window is the FIFO baseline of every cache paper. Window+i keeps the first i tokens beside it:
//! StreamingLLM's observation (Xiao et al. 2023, arXiv 2309.17453) that the first tokens draw
//! attention as sinks, in the form of Oren et al. 2024 (arXiv 2401.06104, section 3.2), with i
//! counted inside k and original positions kept.

use std::sync::Arc;

use msrnn_core::policy::{Layer, Plan, Policy};
use msrnn_core::score::number;
use serde::{Deserialize, Serialize};

use crate::registry::Entry;

/// Omits the oldest row but the first `first` tokens of the text.
///
/// ```
/// use msrnn_core::needs::fewest_states;
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::Window;
///
/// assert_eq!(Window { first: 0 }.name(), "window");
/// assert_eq!(Window { first: 4 }.name(), "window+4");
/// assert_eq!(fewest_states(&Window { first: 4 }, 0), Some(5));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// i: how many of the first tokens stay for ever. They count inside k.
    pub first: usize,
}

impl Policy for Window {
    fn name(&self) -> String {
        match self.first {
            0 => "window".into(),
            first => format!("window+{first}"),
        }
    }

    fn plan(&self, layer: &Layer) -> Plan {
        // All alike, so the oldest goes.
        Plan::by_score(layer, number(0.0)).protecting(self.first, 0)
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            idea: "Only the recent past matters.",
            rule: "Omit the oldest row (FIFO): after step t the states are the k newest.",
            cost: "O(k) comparisons of positions; no attention weights",
            citation: "Baseline of Oren et al. 2024, arXiv 2401.06104, section 3.2",
            differences: "None.",
            ..Entry::new("window", Window { first: 0 })
        },
        Entry {
            idea: "The recent past, and the first i tokens, on which models park attention they do not need (sinks).",
            rule: "Omit the oldest row whose position is at least i: the first i and the k − i newest stay. Needs k > i.",
            cost: "O(k) comparisons of positions; no attention weights",
            citation: "Xiao et al. 2023 (StreamingLLM), arXiv 2309.17453; Window+i of Oren et al. 2024, arXiv 2401.06104, section 3.2",
            differences: "As in the paper's language-modelling runs, positions stay the original ones. StreamingLLM itself numbers positions inside the cache.",
            ..Entry::with_arguments("window+i", "window+4", |arguments| {
                Ok(Arc::new(Window { first: arguments.first() }))
            })
        },
    ]
}
