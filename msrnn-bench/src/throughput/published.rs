//! Table 1 of Oren et al. 2024 (arXiv 2401.06104): Llama-2-7B in f16 on one V100 of 32 GB, 512
//! sequences of 4,096 tokens, TOVA against the full state.

use serde::Serialize;

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Published {
    /// k
    pub states: usize,
    /// State memory of one sequence, in 10⁹ bytes.
    pub gigabytes: f64,
    /// Largest batch.
    pub batch: usize,
    /// Tokens per second in relation to 4,096 states.
    pub relative: f64,
}

/// The table, from the fewest states to the most.
pub(crate) const TABLE: [Published; 5] = [
    Published { states: 256, gigabytes: 0.15, batch: 139, relative: 8.5 },
    Published { states: 512, gigabytes: 0.28, batch: 70, relative: 4.8 },
    Published { states: 1024, gigabytes: 0.56, batch: 35, relative: 3.1 },
    Published { states: 2048, gigabytes: 1.11, batch: 17, relative: 1.7 },
    Published { states: 4096, gigabytes: 2.18, batch: 8, relative: 1.0 },
];

/// The figures for a number of states, if there are any.
pub(crate) fn of(states: usize) -> Option<Published> {
    TABLE.into_iter().find(|published| published.states == states)
}
