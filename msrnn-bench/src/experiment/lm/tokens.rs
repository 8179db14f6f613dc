//! What every single token cost, where that is asked for: `tokens.parquet`.

use std::path::Path;

use super::{Lm, Sample};
use crate::contexts::{Context, Contexts};
use crate::error::BenchError;
use crate::evaluate::{Block, Observer, token_nll};
use crate::memory;
use crate::output::write_file;
use crate::render::frame::{Column, Frame, Values};
use crate::render::parquet;

/// File name of the table.
pub const TOKENS: &str = "tokens.parquet";

/// Bytes of a row while the table is put together.
const ROW: usize = 160;

/// Keeps −ln p of every predicted token; of nothing where nobody asks for it.
pub(super) struct Recorder<'c> {
    contexts: &'c [Context],
    /// By context.
    nll: Option<Vec<Vec<f32>>>,
}

impl<'c> Recorder<'c> {
    pub(super) fn new(contexts: &'c [Context], wanted: bool) -> Self {
        Self { contexts, nll: wanted.then(|| vec![Vec::new(); contexts.len()]) }
    }

    pub(super) fn into_nll(self) -> Option<Vec<Vec<f32>>> {
        self.nll
    }

    /// Those of short contexts, one list for each context that they were cut from.
    pub(super) fn regrouped(self, whole: &Contexts, length: usize) -> Option<Vec<Vec<f32>>> {
        let mut parts = self.nll?.into_iter();
        let of = |context| parts.by_ref().take(whole.parts(context, length).len()).flatten().collect();
        Some(whole.contexts.iter().map(of).collect())
    }
}

impl Observer for Recorder<'_> {
    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        let Some(nll) = &mut self.nll else { return Ok(()) };
        let batch = &self.contexts[block.contexts.clone()];
        let found = token_nll(batch, block.start, block.logits);
        let per_row = found.len() / batch.len();
        for (row, context) in block.contexts.enumerate() {
            nll[context].extend(found[row * per_row..(row + 1) * per_row].iter().map(|&nll| nll as f32));
        }
        Ok(())
    }
}

/// Writes the table: model, policy, states, text, context, seed, which of the predicted tokens of its context, and its nll.
pub(super) fn write(lm: &Lm, samples: &[Sample], directory: &Path) -> Result<(), BenchError> {
    let all = || {
        samples.iter().flat_map(|sample| {
            let contexts = sample.contexts.iter().zip(sample.tokens.iter().flatten());
            contexts.flat_map(move |(id, nll)| nll.iter().enumerate().map(move |(at, &nll)| (sample, id, at, nll)))
        })
    };
    let rows = all().count();
    memory::check(
        memory::product(&[rows, ROW]),
        &format!("a table of {rows} tokens"),
        "score fewer ‘contexts’, or leave ‘per_token’ out",
    )?;
    let columns = [
        ("model", Values::Text(all().map(|(sample, ..)| lm.models[sample.model].name.clone()).collect())),
        ("policy", Values::Text(all().map(|(sample, ..)| sample.run.policy.clone()).collect())),
        ("states", Values::Number(all().map(|(sample, ..)| sample.run.states.map(|k| k as f64)).collect())),
        ("text", Values::Text(all().map(|(_, id, ..)| lm.texts[id.text].clone()).collect())),
        ("context", Values::Number(all().map(|(_, id, ..)| Some(id.context as f64)).collect())),
        ("seed", Values::Number(all().map(|(sample, ..)| sample.seed.map(|seed| seed as f64)).collect())),
        ("token", Values::Number(all().map(|(_, _, at, _)| Some(at as f64)).collect())),
        ("nll", Values::Number(all().map(|(.., nll)| Some(f64::from(nll))).collect())),
    ];
    let columns = columns.into_iter().map(|(name, values)| Column { name: name.into(), values }).collect();
    let about = [("token", "which of the predicted tokens of its context, from 0"), ("nll", "-ln p, in nats")];
    write_file(&directory.join(TOKENS), &parquet::parquet(&Frame { columns }, &about)?)
}
