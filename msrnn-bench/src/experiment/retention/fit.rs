//! What samples of retention look like.

use super::{Retention, Sample};
use crate::experiment::fit::{finite, holds, model, same, states};
use crate::experiment::manifest::Source;

impl Retention {
    pub(super) fn fits(&self, models: &[Source], unit: usize, name: &str, sample: &Sample) -> Result<(), String> {
        let units = self.models.len() * self.arms.len() * self.contexts;
        holds("it is none of the units that were asked for", unit < units)?;
        let (index, arm, context) = self.indices(unit);
        let arm = &self.arms[arm];
        same("model", &self.models[index][..], model(models, index)?)?;
        same("name", name, &format!("{arm}, context {context}"))?;
        states(arm.budget(), sample.states)?;
        let (tokens, layers) = (sample.tokens, sample.held.len());
        let asked = self.context;
        holds(&format!("it has {tokens} tokens, of contexts of {asked}"), (1..=asked).contains(&tokens))?;
        holds("it has no layers, or no groups", layers > 0 && sample.groups > 0)?;

        let spans = self.grid().spans(tokens);
        let first = self.first.min(tokens);
        let triangle = |layer: &Vec<Vec<u32>>| {
            layer.len() == spans && layer.iter().enumerate().all(|(at, held)| held.len() == at + 1)
        };
        holds("its map is not one of its context", sample.held.iter().all(triangle))?;
        same("number of first tokens", &(sample.first_held.len(), sample.first_kept.len()), &(first, first))?;
        holds(
            "its first tokens are not followed to the end",
            sample.first_held.iter().all(|held| held.len() == spans),
        )?;
        same("number of layers with recent rows", &sample.recent.len(), &layers)?;
        let rows: u64 = sample.kinds.values().map(|kept| kept.rows).fold(0, u64::saturating_add);
        let all = crate::memory::product(&[tokens, sample.groups, layers]);
        same("number of rows", &rows, &all)?;
        let whole = |rows: u64| rows.is_multiple_of((sample.groups * layers) as u64);
        holds("a kind of token has a part of a row", sample.kinds.values().all(|kept| whole(kept.rows)))?;

        same("attention", &sample.losses.is_some(), &self.attention)?;
        for loss in sample.losses.iter().flatten() {
            same("number of spans with attention", &loss.missing.len(), &spans)?;
            finite("attention", &[&loss.missing[..], &[loss.omitted]].concat())?;
        }
        let of_losses = sample.losses.as_ref().map_or(layers, Vec::len);
        same("number of layers with attention", &of_losses, &layers)?;
        same("trace", &sample.trace.is_some(), &self.trace)?;
        for trace in sample.trace.iter().flatten() {
            holds("its trace is of no layer of it", trace.layer < layers)?;
            let inside = |&position: &u32| (position as usize) < tokens;
            let last = trace.first.saturating_add(trace.positions.len());
            // There is an omission at every step from the first one on.
            let whole = trace.positions.is_empty() || last == tokens;
            holds("its trace does not end with its text", trace.positions.iter().all(inside) && whole)?;
            let masses = trace.mass.len();
            holds("its trace has not one weight for each omission", masses == 0 || masses == trace.positions.len())?;
        }
        let traces = sample.trace.as_ref().map_or(layers * sample.groups, Vec::len);
        same("number of groups with a trace", &traces, &(layers * sample.groups))
    }

    /// All samples of a model have as many layers, and of an arm as many groups.
    pub(super) fn all_fit(&self, samples: &[Sample]) -> Result<(), String> {
        let per_model = self.arms.len() * self.contexts;
        for (model, of_model) in self.models.iter().zip(samples.chunks(per_model)) {
            let layers = |sample: &Sample| sample.held.len();
            let same = of_model.iter().all(|sample| layers(sample) == layers(&of_model[0]));
            holds(&format!("samples of {model} have different numbers of layers"), same)?;
            for (arm, of_arm) in self.arms.iter().zip(of_model.chunks(self.contexts)) {
                let of = |sample: &Sample| (sample.groups, sample.states);
                let same = of_arm.iter().all(|sample| of(sample) == of(&of_arm[0]));
                holds(&format!("samples of {model} under {arm} have different bounds or groups"), same)?;
            }
            // A context is as long under every policy.
            for sample in self.contexts_of(of_model) {
                holds(&format!("contexts of {model} have different lengths under its policies"), sample)?;
            }
        }
        Ok(())
    }

    fn contexts_of<'s>(&'s self, of_model: &'s [Sample]) -> impl Iterator<Item = bool> + 's {
        (0..self.contexts).map(move |context| {
            let mut of_context = of_model.iter().skip(context).step_by(self.contexts).map(|sample| sample.tokens);
            let first = of_context.next();
            of_context.all(|tokens| Some(tokens) == first)
        })
    }
}
