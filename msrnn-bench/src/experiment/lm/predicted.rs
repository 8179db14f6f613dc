//! What the units of a grid share: texts cut into contexts, and what the full state predicts there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use msrnn_models::Model;

use super::sample::{ContextId, short_hash};
use super::tokens::Recorder;
use super::{Lm, Opened};
use crate::contexts::{Contexts, Cutting, Encoder};
use crate::divergence::{Divergence, Predictions};
use crate::error::BenchError;
use crate::evaluate::{Advance, ContextScore, Observed, Scoring, evaluate};
use crate::experiment::manifest::hash;
use crate::experiment::models::Models;
use crate::experiment::{Experiment, Unit, Watch};
use crate::texts::Text;

/// Models and texts of one setting, and what was already worked out about them.
#[derive(Debug)]
pub struct LmInputs {
    /// The models of the setting, in its order.
    pub models: Arc<Models>,
    /// The texts of the setting, in its order.
    pub texts: Vec<Text>,
    /// Batches whose predictions are kept: with units side by side, one of them may be a batch ahead.
    kept: usize,
    /// Known once all models have been opened.
    pub(super) units: OnceLock<Vec<Unit>>,
    cuts: Mutex<HashMap<usize, Arc<Cut>>>,
    full: Mutex<Vec<(Batch, Slot)>>,
}

/// A model and one of its batches of contexts.
type Batch = (usize, usize);
/// What the full state predicts, once somebody has worked it out.
type Slot = Arc<Mutex<Option<Arc<Full>>>>;

/// The full state on one batch of contexts.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) scores: Vec<ContextScore>,
    pub(super) observed: Observed,
    /// −ln p of every predicted token, by context, where that is asked for.
    pub(super) tokens: Option<Vec<Vec<f32>>>,
    predictions: Predictions,
    length: usize,
}

impl Full {
    /// A comparison with it.
    pub(super) fn divergence(&self) -> Divergence<'_> {
        Divergence::new(&self.predictions, self.scores.len(), self.length)
    }
}

/// The texts as contexts of a model.
#[derive(Debug)]
pub(super) struct Cut {
    contexts: Contexts,
    ids: Vec<ContextId>,
    groups: Vec<Range<usize>>,
}

impl Cut {
    fn new(lm: &Lm, model: usize, decoder: &Model, texts: &[Text]) -> Result<Self, BenchError> {
        let encoder = Encoder::new(decoder.tokenizer()?)?;
        let cutting = Cutting { contexts: lm.contexts, ..Cutting::new(lm.models[model].context) };
        let (mut contexts, mut ids) = (Vec::new(), Vec::new());
        for (text, content) in texts.iter().enumerate() {
            let hash = short_hash(&content.source());
            for (context, tokens) in encoder.contexts(content, &cutting)?.into_iter().enumerate() {
                decoder.check_ids(&tokens)?;
                contexts.push(tokens);
                ids.push(ContextId { text, context, hash: hash.clone() });
            }
        }
        if contexts.is_empty() {
            return Err(BenchError::Input("the texts have no token to predict; give longer ones".into()));
        }
        let mut groups = Vec::new();
        let mut first = 0;
        while first < contexts.len() {
            let alike = contexts[first..].iter().take(lm.batch).take_while(|ids| ids.len() == contexts[first].len());
            groups.push(first..first + alike.count());
            first = groups[groups.len() - 1].end;
        }
        Ok(Self { contexts: Contexts { prefix: encoder.prefix, contexts }, ids, groups })
    }

    /// Batches of contexts of equal length.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The contexts of one of them.
    pub(super) fn group(&self, group: usize) -> Contexts {
        let contexts = self.contexts.contexts[self.groups[group].clone()].to_vec();
        Contexts { prefix: self.contexts.prefix.clone(), contexts }
    }

    /// Which they are.
    pub(super) fn ids(&self, group: usize) -> &[ContextId] {
        &self.ids[self.groups[group].clone()]
    }

    /// What its contexts are to who scores them: ids, what they stand for, and which context of its text each is.
    pub(super) fn digest(&self, group: usize) -> String {
        let mut bytes = Vec::new();
        for (context, id) in self.contexts.contexts[self.groups[group].clone()].iter().zip(self.ids(group)) {
            bytes.extend(format!("{} {} {}:", id.hash, id.context, context.ids.len()).bytes());
            bytes.extend(context.ids.iter().chain(&context.bytes).flat_map(|id| id.to_le_bytes()));
        }
        hash(&bytes)
    }
}

impl LmInputs {
    /// Inputs of a setting. `jobs`: units side by side.
    pub fn new(models: Arc<Models>, texts: Vec<Text>, jobs: usize) -> Self {
        Self {
            models,
            texts,
            kept: jobs.clamp(1, 2),
            units: OnceLock::new(),
            cuts: Mutex::default(),
            full: Mutex::default(),
        }
    }

    /// The model of a unit, and which of the model's units it is. Opens no model that was looked at before.
    pub(super) fn locate(&self, lm: &Lm, unit: usize) -> Result<(usize, usize), BenchError> {
        if self.units.get().is_none() {
            lm.units(self)?;
        }
        let units = self.units.get().map_or(&[][..], Vec::as_slice);
        let model = units.get(unit).and_then(|unit| unit.model);
        let first = units.iter().position(|unit| unit.model == model).unwrap_or(0);
        let model =
            model.ok_or_else(|| BenchError::Input(format!("there is no unit {unit}; there are {}", units.len())))?;
        Ok((model, unit - first))
    }

    /// The texts as contexts of a model.
    pub(super) fn cut(&self, lm: &Lm, model: usize) -> Result<Arc<Cut>, BenchError> {
        let mut cuts = self.cuts.lock().expect("cutting texts does not panic");
        if let Some(cut) = cuts.get(&model) {
            return Ok(cut.clone());
        }
        let cut = Arc::new(Cut::new(lm, model, &*self.models.get(model)?, &self.texts)?);
        cuts.insert(model, cut.clone());
        Ok(cut)
    }

    /// The full state on a batch of contexts, from memory if another unit has been there before;
    /// none when it was interrupted. Who comes while it is being worked out waits for it. `counts`: whether its tokens are
    /// those of the unit that asks; `per_token`: whether what every token costs is kept.
    pub(super) fn full(
        &self,
        batch: Batch,
        model: &Opened,
        contexts: &Contexts,
        scoring: &Scoring,
        watch: &Watch<'_>,
        (counts, per_token): (bool, bool),
    ) -> Result<Option<Arc<Full>>, BenchError> {
        let slot = self.slot(batch);
        // Whoever panicked here has left nothing.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() && counts {
            (watch.advance)(contexts.tokens());
        }
        if slot.is_none() {
            let mut predictions = Predictions::default();
            let advance = |tokens| {
                if counts {
                    (watch.advance)(tokens)
                }
            };
            let mut recorder = Recorder::new(&contexts.contexts, per_token);
            let mut observer = (Advance(&advance), (&mut predictions, &mut recorder));
            let found = evaluate(model, &contexts.contexts, scoring, &mut observer, watch.interrupt)?;
            if !found.complete {
                return Ok(None);
            }
            let length = contexts.contexts[0].len();
            let (scores, tokens) = (found.contexts, recorder.into_nll());
            *slot = Some(Arc::new(Full { scores, observed: found.observed, tokens, predictions, length }));
        }
        Ok(slot.clone())
    }

    fn slot(&self, batch: Batch) -> Slot {
        let mut kept = self.full.lock().expect("finding a slot does not panic");
        if let Some((_, slot)) = kept.iter().find(|(key, _)| *key == batch) {
            return slot.clone();
        }
        if kept.len() == self.kept {
            kept.remove(0);
        }
        let slot = Slot::default();
        kept.push((batch, slot.clone()));
        slot
    }
}
