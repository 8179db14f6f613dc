//! What the units of a grid share: texts cut into contexts, and what the full state predicts there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use msrnn_models::Model;

use super::sample::ContextId;
use super::{Lm, Opened};
use crate::contexts::Contexts;
use crate::divergence::{Divergence, Predictions};
use crate::error::BenchError;
use crate::evaluate::{ContextScore, Observed, Scoring, evaluate};
use crate::experiment::models::Models;
use crate::experiment::{Unit, Watch};
use crate::text_ids;
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
        let tokenizer = decoder.tokenizer()?;
        let prefix = tokenizer.prefix()?;
        let (mut contexts, mut ids) = (Vec::new(), Vec::new());
        for (text, content) in texts.iter().enumerate() {
            let cut = Contexts::cut(
                &text_ids::scored(&content.name, &content.text, tokenizer)?,
                lm.models[model].context,
                &prefix,
            );
            for (context, tokens) in cut.contexts.into_iter().take(lm.contexts.unwrap_or(usize::MAX)).enumerate() {
                decoder.check_ids(&tokens)?;
                contexts.push(tokens);
                ids.push(ContextId { text, context });
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
        Ok(Self { contexts: Contexts { prefix, contexts }, ids, groups })
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

    /// The same for people.
    pub(super) fn name(&self, group: usize, texts: &[String]) -> String {
        let name = |id: &ContextId| format!("{}, context {}", texts[id.text], id.context);
        match self.ids(group) {
            [one] => name(one),
            ids => format!("{} contexts from {}", ids.len(), name(&ids[0])),
        }
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
    /// none when it was interrupted. Who comes while it is being worked out waits for it.
    pub(super) fn full(
        &self,
        batch: Batch,
        model: &Opened,
        contexts: &Contexts,
        scoring: &Scoring,
        watch: &Watch<'_>,
    ) -> Result<Option<Arc<Full>>, BenchError> {
        let slot = self.slot(batch);
        let mut slot = slot.lock().expect("scoring does not panic");
        if slot.is_none() {
            let mut predictions = Predictions::default();
            let found = evaluate(model, &contexts.contexts, scoring, &mut predictions, watch.interrupt)?;
            if !found.complete {
                return Ok(None);
            }
            let length = contexts.contexts[0].len();
            *slot = Some(Arc::new(Full { scores: found.contexts, observed: found.observed, predictions, length }));
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
