//! What samples of retrieval look like.

use super::{Retrieval, Sample};
use crate::experiment::fit::{finite, holds, model, observed, same, states};
use crate::experiment::manifest::Source;

impl Retrieval {
    pub(super) fn fits(&self, models: &[Source], unit: usize, name: &str, sample: &Sample) -> Result<(), String> {
        holds("it is none of the units that were asked for", unit < self.cells())?;
        let cell = self.cell(unit);
        let (arm, task) = (&self.arms[cell.arm], self.tasks[cell.task]);
        let (length, depth) = (self.lengths[cell.length], self.depths[cell.depth]);
        same("model", &self.models[cell.model][..], model(models, cell.model)?)?;
        let asked = format!("{arm}, {}, {length} tokens, depth {depth}", task.name());
        same("name", name, &asked)?;
        states(arm.budget(), sample.states)?;
        observed(sample.states, &sample.observed)?;
        same("number of answers", &sample.trials.len(), &self.trials)?;
        for trial in &sample.trials {
            let ranks = 1..=task.candidates();
            holds(&format!("a rank of it is {}, of {}", trial.rank, task.candidates()), ranks.contains(&trial.rank))?;
            holds(&format!("a text of it has more than {length} tokens"), trial.tokens <= length)?;
            finite("likelihood", &[trial.log_likelihood])?;
            holds("an answer of it is more than certain", trial.log_likelihood <= 1e-3)?;
        }
        Ok(())
    }
}
