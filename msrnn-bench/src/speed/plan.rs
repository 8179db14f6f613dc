//! Which rows are measured: tests × policies × states × depths.

use std::fmt;

use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_models::decoder::Decoder;
use msrnn_models::recurrent::{bytes_per_state, state_bytes};
use msrnn_models::rotary::Rotary;
use msrnn_policies::PolicySpec;
use serde::Serialize;

use crate::error::BenchError;
use crate::evaluate::Form;
use crate::experiment::Unit;
use crate::memory;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "test")]
pub(crate) enum Test {
    /// A prompt from an empty state, in the layer form, with the logits of its last token.
    Prefill {
        /// Tokens of the prompt.
        tokens: usize,
    },
    /// The log-likelihood of a text from an empty state, strict.
    Score {
        /// Tokens of the text.
        tokens: usize,
        /// In which order layers and tokens are computed.
        form: Form,
    },
    /// One token after the other, each with its logits.
    Decode {
        /// Tokens that are timed.
        tokens: usize,
    },
}

impl Test {
    /// Its name, without numbers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Test::Prefill { .. } => "prefill",
            Test::Score { .. } => "score",
            Test::Decode { .. } => "decode",
        }
    }

    /// Tokens of a repetition, per batch row.
    pub(crate) fn tokens(self) -> usize {
        match self {
            Test::Prefill { tokens } | Test::Score { tokens, .. } | Test::Decode { tokens } => tokens,
        }
    }

    /// Tokens that a repetition goes through: before those that are decoded comes one that is not timed.
    fn steps(self) -> usize {
        self.tokens().saturating_add(usize::from(matches!(self, Test::Decode { .. })))
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Score { tokens, form: Form::Step } => write!(f, "score {tokens}, step form"),
            Test::Decode { .. } => f.write_str("decode"),
            _ => write!(f, "{} {}", self.name(), self.tokens()),
        }
    }
}

/// One row before it is measured.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What is timed.
    pub test: Test,
    /// Name and parameters of the policy, without the bound.
    pub policy: String,
    /// How the state is bounded.
    pub compression: Compression,
    /// Tokens seen before the timed ones.
    pub depth: usize,
}

impl Row {
    /// Tokens that a state has seen before anything is timed. A growing state passes the depth half way through its steps,
    /// of which one is not timed.
    pub(crate) fn filled(&self) -> usize {
        match (&self.test, self.compression.states()) {
            (Test::Decode { tokens }, None) => self.depth.saturating_sub(tokens / 2 + 1),
            (Test::Decode { .. }, Some(_)) => self.depth,
            _ => 0,
        }
    }

    /// What it is as a unit of work: so many rounds, with `batch` rows side by side.
    pub(crate) fn unit(&self, decoder: &Decoder, batch: usize, rounds: usize) -> Unit {
        let Self { test, policy, compression, depth } = self;
        let arm = compression.states().map_or_else(|| policy.clone(), |states| format!("{policy}@{states}"));
        // Of a growing state a repetition has a copy.
        let copies = if matches!(test, Test::Decode { .. }) && compression.states().is_none() { 2 } else { 1 };
        let bytes = state_bytes(decoder, compression, depth.saturating_add(test.tokens()));
        let tokens = rounds.saturating_mul(test.steps()).saturating_add(self.filled());
        Unit {
            name: if *depth == 0 { format!("{test}, {arm}") } else { format!("{test}, {arm}, depth {depth}") },
            arm,
            tokens: tokens.saturating_mul(batch),
            state_bytes: memory::product(&[bytes, copies, batch]) as usize,
            ..Unit::default()
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    /// In this order.
    pub tests: Vec<Test>,
    /// With or without a bound of their own.
    pub policies: Vec<PolicySpec>,
    /// Bounds of the policies without one.
    pub states: Vec<usize>,
    /// Depths of the decode rows. Where there is none, a bounded policy decodes at as many tokens as it
    /// has states, and the full state at all of `states`: equal depths are then equal numbers of rows.
    pub depths: Vec<usize>,
}

impl Grid {
    /// The rows, test by test and policy by policy.
    ///
    /// # Errors
    ///
    /// When there is none, a bound is not a number of states that the policy can live with, or a row goes
    /// beyond the last position.
    pub(crate) fn rows(&self, decoder: &Decoder) -> Result<Vec<Row>, BenchError> {
        let mut rows = Vec::new();
        for &test in &self.tests {
            for spec in &self.policies {
                for (compression, depth) in self.bounds(test, spec, decoder)? {
                    if depth.saturating_add(test.tokens()) > Rotary::LIMIT {
                        return Err(BenchError::Input(format!(
                            "{test} of {} tokens at depth {depth} goes beyond the last position; depth and tokens \
                             together may be {} at most",
                            test.tokens(),
                            Rotary::LIMIT
                        )));
                    }
                    rows.push(Row { test, policy: spec.name(), compression, depth });
                }
            }
        }
        match rows.is_empty() {
            true => Err(BenchError::Input("there is nothing to measure; give a policy, and tokens to a test".into())),
            false => Ok(rows),
        }
    }

    /// Bounds and depths of a policy's rows in one test.
    fn bounds(
        &self,
        test: Test,
        spec: &PolicySpec,
        decoder: &Decoder,
    ) -> Result<Vec<(Compression, usize)>, BenchError> {
        let (decodes, config) = (matches!(test, Test::Decode { .. }), decoder.config());
        if spec.keeps_all() {
            let compression = spec.compression(usize::MAX, |_| 1)?;
            compression.check_named(config.layers, config.kv_heads)?;
            let depths = match (decodes, self.depths.is_empty()) {
                (false, _) => vec![0],
                (true, true) => self.states.clone(),
                (true, false) => self.depths.clone(),
            };
            return Ok(depths.into_iter().map(|depth| (compression.clone(), depth)).collect());
        }
        let budgets = match spec.budget() {
            Some(budget) => vec![budget],
            None => self.states.iter().map(|&states| Budget::States(states)).collect(),
        };
        let mut bounds = Vec::new();
        for budget in budgets {
            let spec = spec.with_budget(budget);
            // A number of states is taken as it is; a share refers to the positions of the model.
            let context = match budget {
                Budget::States(states) => states,
                _ => config.max_position_embeddings,
            };
            let compression = spec.compression(context, |policy| bytes_per_state(decoder, policy))?;
            compression.check_no_foresight()?;
            compression.check_named(config.layers, config.kv_heads)?;
            let states = compression.states().unwrap_or(0);
            let depths = match (decodes, self.depths.is_empty()) {
                (false, _) => vec![0],
                (true, true) => vec![states],
                (true, false) => self.depths.clone(),
            };
            bounds.extend(depths.into_iter().map(|depth| (compression.clone(), depth)));
        }
        Ok(bounds)
    }
}

/// For every row the index of the row that its time is set in relation to, none where there is none:
/// the row of the baseline in the same test at the same depth, and with the same states where it is
/// bounded.
///
/// # Errors
///
/// When no row is of the baseline.
pub(crate) fn baselines(rows: &[Row], baseline: &PolicySpec) -> Result<Vec<Option<usize>>, BenchError> {
    let bound = baseline.budget();
    let is_baseline = |row: &Row| {
        let states = row.compression.states().map(Budget::States);
        row.policy == baseline.name() && (bound.is_none() || bound == states)
    };
    if !rows.iter().any(is_baseline) {
        return Err(BenchError::Input(format!(
            "no row is of the baseline {baseline}; add it to ‘policies’, or choose one of them as ‘baseline’"
        )));
    }
    let of = |row: &Row| {
        let comparable = |other: &Row| other.test == row.test && other.depth == row.depth && is_baseline(other);
        let candidates: Vec<usize> = (0..rows.len()).filter(|&index| comparable(&rows[index])).collect();
        let states = |index: usize| rows[index].compression.states();
        match candidates[..] {
            [only] => Some(only),
            _ => candidates.iter().copied().find(|&index| states(index) == row.compression.states()),
        }
    };
    Ok(rows.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::speed::shape::Shape;

    fn grid(policies: &str, states: &[usize], depths: &[usize]) -> Grid {
        Grid {
            tests: vec![Test::Prefill { tokens: 8 }, Test::Decode { tokens: 4 }],
            policies: policies.split(',').map(|spec| spec.parse().unwrap()).collect(),
            states: states.to_vec(),
            depths: depths.to_vec(),
        }
    }

    fn rows(grid: &Grid) -> Result<Vec<Row>, BenchError> {
        let shape: Shape = "1x16x4:2x32x50".parse().unwrap();
        grid.rows(&shape.model(0, DType::F32, &Device::flex()).decoder)
    }

    fn described(rows: &[Row]) -> Vec<String> {
        let states = |row: &Row| row.compression.states().map_or("-".to_owned(), |states| states.to_string());
        rows.iter().map(|row| format!("{} {} {} {}", row.test.name(), row.policy, states(row), row.depth)).collect()
    }

    #[test]
    fn without_depths_the_full_state_decodes_at_as_many_tokens_as_the_bounded_has_states() {
        let found = rows(&grid("full,tova,window@7", &[4, 6], &[])).unwrap();
        let expected = "prefill full - 0,prefill tova 4 0,prefill tova 6 0,prefill window 7 0,\
                        decode full - 4,decode full - 6,decode tova 4 4,decode tova 6 6,decode window 7 7";
        assert_eq!(described(&found), expected.split(',').collect::<Vec<_>>());
        let relative = baselines(&found, &"full".parse().unwrap()).unwrap();
        let expected = [Some(0), Some(0), Some(0), Some(0), Some(4), Some(5), Some(4), Some(5), None];
        assert_eq!(relative, expected);
    }

    #[test]
    fn with_depths_every_policy_decodes_at_all_of_them() {
        let found = rows(&grid("full,tova", &[4], &[10, 90])).unwrap();
        let expected = "prefill full - 0,prefill tova 4 0,\
                        decode full - 10,decode full - 90,decode tova 4 10,decode tova 4 90";
        assert_eq!(described(&found), expected.split(',').collect::<Vec<_>>());
    }

    #[test]
    fn a_bounded_baseline_is_the_one_with_as_many_states() {
        let found = rows(&grid("window,tova", &[4, 6], &[10])).unwrap();
        let relative = baselines(&found[4..], &"window".parse().unwrap()).unwrap();
        assert_eq!(relative, [Some(0), Some(1), Some(0), Some(1)]);
        let relative = baselines(&found[4..], &"window@6".parse().unwrap()).unwrap();
        assert_eq!(relative, [Some(1); 4]);
        assert!(baselines(&found, &"h2o".parse().unwrap()).unwrap_err().to_string().contains("‘policies’"));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let message = |policies: &str, states: &[usize], depths: &[usize]| {
            rows(&grid(policies, states, depths)).unwrap_err().to_string()
        };
        assert!(message("tova", &[0], &[]).contains("at least one state"));
        assert!(message("window+4", &[4], &[]).contains("window+4@5"));
        assert!(message("tova", &[4], &[Rotary::LIMIT]).contains(&Rotary::LIMIT.to_string()));
        assert!(message("tova", &[4], &[usize::MAX]).contains("last position"));
        assert!(message("tova", &[], &[]).contains("nothing to measure"));
    }
}
