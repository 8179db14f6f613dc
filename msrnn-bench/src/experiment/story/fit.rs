//! What samples of stories look like.

use msrnn_policies::PolicySpec;

use super::{Pair, Story};
use crate::experiment::arms::arms;
use crate::experiment::fit::{holds, model, observed, same, states};
use crate::experiment::manifest::Source;

impl Story {
    pub(super) fn fits(&self, models: &[Source], unit: usize, name: &str, pair: &Pair) -> Result<(), String> {
        let bounded: Vec<PolicySpec> =
            arms(&self.policies, &self.states).into_iter().filter(|spec| !spec.is_full()).collect();
        let of_model = bounded.len().saturating_mul(self.seeds);
        let index = unit.checked_div(of_model).ok_or("it is none of the units that were asked for")?;
        let (seed, spec) = (unit % of_model / bounded.len(), &bounded[unit % bounded.len()]);
        // Stories that another run wrote are judged without models.
        if !models.is_empty() {
            same("model", &pair.model[..], model(models, index)?)?;
        }
        same("seed", &pair.seed, &(self.seed.wrapping_add(seed as u64)))?;
        states(spec.budget(), Some(pair.states))?;
        same("policy", &pair.policy, &format!("{}@{}", spec.name(), pair.states))?;
        same("name", name, &format!("{}, seed {}", pair.policy, pair.seed))?;
        observed(None, &pair.full.observed)?;
        observed(Some(pair.states), &pair.bounded.observed)?;
        let most = self.max_new_tokens.or(self.context).unwrap_or(usize::MAX);
        holds(
            &format!("a story of it has more than {most} tokens"),
            pair.full.tokens <= most && pair.bounded.tokens <= most,
        )?;
        match (&self.judge, &pair.judged) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err("it was judged, and there is no judge".into()),
            (Some(_), judged) => {
                holds("it was not judged, or is twice the same text", judged.is_some() != pair.identical())
            }
        }
    }

    /// Every seed has one story of the full state.
    pub(super) fn all_fit(&self, pairs: &[Pair]) -> Result<(), String> {
        let of = |pair: &Pair| (pair.model.clone(), pair.seed);
        let same =
            pairs.chunk_by(|a, b| of(a) == of(b)).all(|pairs| pairs.iter().all(|pair| pair.full == pairs[0].full));
        holds("two pairs of a model and seed have different stories of the full state", same)
    }
}
