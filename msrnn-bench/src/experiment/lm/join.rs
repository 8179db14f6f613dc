//! Two grids as one, of which neither is part of the other: other policies, numbers of states, seeds, texts or models.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lm, LmModel};
use crate::error::BenchError;
use crate::experiment::manifest::{Identity, Manifest, Source, hash, table};
use crate::experiment::merge::Runs;
use crate::experiment::{Unit, common, units};

/// What a grid may have more of, and how texts are read, which is seen in the ids.
pub(super) const GROWS: [&str; 10] =
    ["texts", "skipped", "policies", "states", "contexts", "seeds", "batch", "models", "bos", "special_tokens"];

/// The union of two grids: the units of the first, then those that only the second has, in the order of model, text and
/// arm. None where anything else differs.
///
/// # Errors
///
/// When a setting cannot be read.
pub(in crate::experiment) fn join(a: &Runs, b: &Runs) -> Result<Option<Runs>, BenchError> {
    let (first, second) = (&a.manifest.identity, &b.manifest.identity);
    let alike = |identity: &Identity| (identity.meaning, identity.device.clone(), identity.dtype.clone());
    let read = |identity: &Identity| {
        identity.setting.clone().try_into::<Lm>().map_err(|e| BenchError::Input(format!("the setting of a run: {e}")))
    };
    let (mut lm, other) = (read(first)?, read(second)?);
    if alike(first) != alike(second) || !lm.goes_with(&other)? {
        return Ok(None);
    }
    let mut data = first.data.clone();
    let texts: Vec<usize> = second
        .data
        .iter()
        .zip(&other.texts)
        .map(|(source, name)| index(&mut data, source, || lm.texts.push(name.clone())))
        .collect();
    let mut sources = first.models.clone();
    let mut models = Vec::new();
    for (source, model) in second.models.iter().zip(&other.models) {
        let at = index(&mut sources, source, || lm.models.push(model.clone()));
        let LmModel { context, .. } = lm.models[at];
        if context != model.context {
            return Ok(None);
        }
        models.push(at);
    }
    // What is asked for in both need not be a rectangle: every policy names its own bounds.
    let bounds: Vec<_> = [(&lm.policies, &lm.states), (&other.policies, &other.states)]
        .into_iter()
        .flat_map(|(policies, states)| crate::experiment::arms::arms(policies, states))
        .collect();
    lm.policies = Vec::new();
    for bound in bounds {
        if !lm.policies.contains(&bound) {
            lm.policies.push(bound);
        }
    }
    lm.states = Vec::new();
    for seed in other.seeds {
        if !lm.seeds.contains(&seed) {
            lm.seeds.push(seed);
        }
    }
    lm.contexts = lm.contexts.zip(other.contexts).map(|(a, b)| a.max(b));
    lm.batch = lm.batch.max(other.batch);

    let known: BTreeSet<&str> = a.units.iter().map(|unit| unit.key.as_str()).collect();
    let moved = |unit: &Unit| Unit {
        model: unit.model.and_then(|model| models.get(model).copied()),
        texts: unit.texts.iter().filter_map(|&text| texts.get(text).copied()).collect(),
        ..unit.clone()
    };
    let new = b.units.iter().filter(|unit| !known.contains(unit.key.as_str())).map(moved);
    let mut all: Vec<Unit> = a.units.iter().cloned().chain(new).collect();
    all.sort_by_key(|unit| unit.model);
    if !is_whole(&all) {
        return Ok(None);
    }
    let identity = Identity {
        units: all.len(),
        plan: hash(&units::text(&all)?),
        models: sources,
        data,
        setting: table(&lm)?,
        ..first.clone()
    };
    let origin = a.manifest.origin.iter().chain(&b.manifest.origin).cloned().collect();
    let manifest = Manifest::new(identity, origin)?;
    Ok(Some(Runs { manifest, units: all, samples: a.samples.clone(), reasons: a.reasons.clone() }))
}

/// Whether all policies of a model have the same contexts.
fn is_whole(units: &[Unit]) -> bool {
    let mut seen: BTreeMap<(Option<usize>, &str), BTreeSet<&str>> = BTreeMap::new();
    for unit in units {
        let contexts = unit.name.strip_prefix(&unit.arm).unwrap_or(&unit.name);
        let contexts = contexts
            .strip_prefix(", seed ")
            .map_or(contexts, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        seen.entry((unit.model, &unit.arm)).or_default().insert(contexts);
    }
    let mut first: BTreeMap<Option<usize>, &BTreeSet<&str>> = BTreeMap::new();
    seen.iter().all(|((model, _), contexts)| *first.entry(*model).or_insert(contexts) == contexts)
}

/// Where a source is among those that are known, by what is in it; it is put behind them if it is not.
fn index(known: &mut Vec<Source>, source: &Source, new: impl FnOnce()) -> usize {
    let digest = source.digest();
    known.iter().position(|known| known.digest() == digest).unwrap_or_else(|| {
        new();
        known.push(source.clone());
        known.len() - 1
    })
}

impl Lm {
    /// Whether two settings differ in nothing but what a grid may have more of.
    fn goes_with(&self, other: &Self) -> Result<bool, BenchError> {
        Ok(self.reading == other.reading && common(self, &GROWS)? == common(other, &GROWS)?)
    }
}
