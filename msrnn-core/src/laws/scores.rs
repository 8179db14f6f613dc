//! Scores as data are the scores.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use super::case::check;
use super::machine::{Machine, all_agree, dtypes};
use super::text::Text;
use crate::policy::{Granularity, Memory, Policy, Rows, Sees, View};

/// A policy that says its score as data decides as it does in tensors: the data's own tensor operations
/// omit the same rows. Holds trivially for a policy that does not.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn scores_as_data_equal_scores_in_tensors(policy: &Arc<dyn Policy>, device: &Device) {
    let as_data: Arc<dyn Policy> = Arc::new(AsData(policy.clone()));
    for dtype in dtypes(device) {
        check("scores_as_data_equal_scores_in_tensors", policy, |case| {
            let run = |policy: &Arc<dyn Policy>| {
                let mut machine = Machine::bounded(case, case.batch, policy, device, dtype);
                machine.steps(&Text::new(case, device, dtype), 0..case.tokens);
                machine.trace()
            };
            all_agree(&run(policy), &run(&as_data), dtype)
        });
    }
}

/// A policy, scored by its data.
#[derive(Debug)]
struct AsData(Arc<dyn Policy>);

impl Policy for AsData {
    fn name(&self) -> String {
        self.0.name()
    }

    fn sees(&self) -> Sees {
        match self.0.on_device(self.0.min_states(), 0) {
            // It declares what it needs, and the policy must have declared it too.
            Some(score) if !score.rule.sees_weights() => Sees::NOTHING,
            _ => self.0.sees(),
        }
    }

    fn granularity(&self) -> Granularity {
        self.0.granularity()
    }

    fn memory(&self) -> usize {
        self.0.memory()
    }

    fn min_states(&self) -> usize {
        self.0.min_states()
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        match self.0.on_device(view.states(), view.layer()) {
            Some(score) => score.score(view, memory),
            None => self.0.score(view, memory),
        }
    }

    fn rewrites(&self) -> bool {
        self.0.rewrites()
    }

    fn rewrite(&self, view: &View, omitted: &Tensor<3, Int>, rows: &mut Rows) {
        self.0.rewrite(view, omitted, rows);
    }
}
