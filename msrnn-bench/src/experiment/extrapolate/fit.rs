//! What samples of an extrapolation look like.

use msrnn_models::recurrent::Positions;

use super::{Extrapolate, Stretch};
use crate::experiment::fit::{budgets, finite, holds, model, observed, same, states};
use crate::experiment::manifest::Source;

impl Extrapolate {
    pub(super) fn fits(&self, models: &[Source], unit: usize, name: &str, found: &Stretch) -> Result<(), String> {
        let mut asked = Vec::new();
        if self.full_tokens > 1 {
            asked.push(("full".to_owned(), None, Positions::Original));
        }
        for spec in &self.policies {
            for budget in budgets(spec, &self.states) {
                asked.extend(self.positions.iter().map(|&positions| (spec.name(), budget, positions)));
            }
        }
        let none = || format!("it is none of the units that were asked for, {} of each model", asked.len());
        let index = unit.checked_div(asked.len()).ok_or_else(none)?;
        let (policy, budget, positions) = &asked[unit % asked.len()];
        same("model", &found.model, &index)?;
        same("policy", &found.policy, policy)?;
        states(*budget, found.states)?;
        holds(&format!("its positions are {}, not {positions}", found.positions), found.positions == *positions)?;
        let asked = self.models.get(index).ok_or_else(none)?;
        same("model", &asked.name[..], model(models, index)?)?;
        let bound = found.states.map_or_else(String::new, |states| format!("@{states}"));
        same("name", name, &format!("{policy}{bound}, {positions}"))?;
        observed(found.states, &found.observed)?;

        let curve = &found.curve;
        same("number of values", &curve.nll.len(), &curve.positions.len())?;
        holds("it has no values", !curve.positions.is_empty() && curve.positions[0] > 0)?;
        holds("its values are not in the order of the text", curve.positions.is_sorted_by(|a, b| a < b))?;
        let most = if found.states.is_none() { self.full_tokens } else { self.tokens };
        holds(&format!("it has more tokens than the {most} that were asked for"), curve.tokens() < most)?;
        finite("likelihood", &curve.nll)
    }
}

/// A model reads the same text under all policies.
pub(super) fn all(samples: &[Stretch]) -> Result<(), String> {
    let of_models = samples.chunk_by(|a, b| a.model == b.model);
    let same = of_models.clone().all(|of_model| of_model.iter().all(|stretch| stretch.prefix == of_model[0].prefix));
    holds("a model's text begins with other ids under another policy", same)?;
    let bounded = |stretch: &&Stretch| stretch.states.is_some();
    let lengths =
        |of_model: &[Stretch]| of_model.iter().filter(bounded).map(|s| s.curve.positions.clone()).collect::<Vec<_>>();
    let same = of_models.map(lengths).all(|all| all.iter().all(|positions| *positions == all[0]));
    holds("a model's text is longer under another policy, or looked at elsewhere", same)
}
