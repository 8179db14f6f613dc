//! Scores are numbers, or there are none.

use std::sync::Once;

use burn::tensor::{Int, Tensor};
use msrnn_core::compression::Compression;
use msrnn_core::kernels::log_likelihood;
use msrnn_core::state::MultiState;
use msrnn_models::error::ModelError;
use msrnn_models::storage::Storage;
use msrnn_models::trouble::{check, reason, remedy};

use crate::contexts::Context;
use crate::error::BenchError;

/// A block of tokens that was just scored.
pub(crate) struct Scored<'a> {
    /// The contexts of the batch.
    pub(crate) contexts: &'a [Context],
    /// Index of the first of them.
    pub(crate) first: usize,
    /// Position of the block's first token.
    pub(crate) start: usize,
    /// `[batch, n, vocab]`
    pub(crate) logits: &'a Tensor<3>,
    /// −ln p of what each token predicts, one batch row after the other.
    pub(crate) nll: &'a [f64],
}

impl Scored<'_> {
    /// Whether all scores are numbers, and the logits of a context's last token too, which nothing is scored by.
    ///
    /// # Errors
    ///
    /// When they are not, with context and token.
    pub(crate) fn check(
        &self,
        storage: Storage,
        compression: &Compression,
        states: &[MultiState],
    ) -> Result<(), BenchError> {
        let batch = self.contexts.len();
        let per_row = self.nll.len() / batch;
        let broken = self.nll.iter().position(|nll| !nll.is_finite()).map(|at| (at / per_row, at % per_row));
        let Some((row, token)) = broken.or_else(|| self.unscored(per_row)) else { return Ok(()) };
        let [_, _, vocab] = self.logits.dims();
        let logits = self.logits.clone().slice([row..row + 1, token..token + 1, 0..vocab]).into_data().convert::<f32>();
        let logits: &[f32] = logits.as_slice().expect("logits are floats");
        let position = self.start + token;
        let place = format!("context {}, token {position}", self.first + row);
        // Matrix products take a block together, and nothing times NaN is NaN.
        let together = self.logits.dims()[1] > 1;
        let place =
            if together { format!("{place} (or a later one of its block; ‘form’ step tells)") } else { place };
        let id = self.contexts[row].get(position + 1).copied().unwrap_or_default();
        Err(refuse(logits, id, place, storage, || reason(storage, compression, states, row)))
    }

    /// A token behind those that were scored whose logits are no numbers, with its batch row.
    fn unscored(&self, per_row: usize) -> Option<(usize, usize)> {
        let [batch, n, vocab] = self.logits.dims();
        if per_row == n {
            return None;
        }
        let last = self.logits.clone().narrow(1, n - 1, 1).reshape([batch, vocab]);
        // Of any token: NaN where the row is no distribution.
        let any = Tensor::<1, Int>::zeros([batch], &last.device());
        let found = log_likelihood(last, any).into_data().convert::<f64>();
        let found: &[f64] = found.as_slice().expect("log probabilities are floats");
        found.iter().position(|value| value.is_nan()).map(|row| (row, n - 1))
    }
}

/// Why a token has no score: logits that are no numbers, or a likelihood of nothing.
pub(crate) fn refuse(
    logits: &[f32],
    id: u32,
    place: String,
    storage: Storage,
    reason: impl FnOnce() -> String,
) -> BenchError {
    match check(logits) {
        Err(what) => ModelError::Logits { place, what, reason: reason() }.into(),
        Ok(()) => BenchError::Input(format!(
            "{place}: the logit of the token that follows, id {id}, is −∞ or too low for its likelihood to be a number, so \
             there is no result; {}",
            remedy(storage)
        )),
    }
}

/// The same error, with the first context of the batch that it came from.
pub(crate) fn in_context(error: BenchError, first: usize) -> BenchError {
    match error {
        BenchError::Model(ModelError::Core(error @ msrnn_core::Error::NoScore { row, .. })) => {
            BenchError::Input(format!("context {}: {error}", first + row))
        }
        error => error,
    }
}

/// Whether the logits of a block tell no token from another. nll: −ln p of what was scored by them.
pub(crate) fn is_uniform(logits: &Tensor<3>, nll: &[f64]) -> bool {
    let [_, _, vocab] = logits.dims();
    // Looked at closely only where it may be so.
    let even = (vocab as f64).ln();
    let may_be = vocab > 1 && nll.iter().all(|nll| (nll - even).abs() < 1e-2);
    may_be && logits.clone().max_dim(2).equal(logits.clone().min_dim(2)).all().into_scalar::<bool>()
}

/// Says, once, that a model tells no token from another.
pub(crate) fn warn_of_uniform() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            "all logits are equal: every token is as likely as any other, as with a model that was never trained or whose \
             weights are zeros; these numbers say nothing about a policy"
        );
    });
}
