//! Where numbers end: what a state knows of values and scores that are none.
//!
//! A NaN or an infinity in a key or a value makes what later tokens attend to NaN, and so their logits, where
//! whoever reads them finds it. A policy's score that is NaN would not: some row would go, and the numbers look
//! well. Therefore what is attended in such a step is made NaN too, and the state takes note. From the logits
//! one can then look back here for the reason.

use burn::tensor::{Bool, Tensor, TensorData};

use crate::precision::is_finite;
use crate::state::MultiState;

/// What is wrong in the state of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Keys or values are NaN or infinite: what came into the layer was, or did not fit into the dtype of the state.
    Rows,
    /// A row had to go and the policy scored some row NaN.
    Scores,
}

impl MultiState {
    /// What is wrong with a batch row, if anything; rows before scores, which follow from them. Reads the device.
    pub fn trouble(&self, row: usize) -> Option<Trouble> {
        if self.is_ragged() {
            let kv_heads = self.shape.kv_heads;
            let of_heads = self.heads[row * kv_heads..(row + 1) * kv_heads].iter().filter_map(|head| head.trouble(0));
            return of_heads.min_by_key(|trouble| *trouble == Trouble::Scores);
        }
        let of_row = |x: Tensor<4>| x.narrow(0, row, 1);
        if !(is_finite(of_row(self.keys())) && is_finite(of_row(self.values()))) {
            return Some(Trouble::Rows);
        }
        let unscored = self.unscored.as_ref()?.clone().narrow(0, row, 1).any().into_scalar::<bool>();
        unscored.then_some(Trouble::Scores)
    }

    /// Takes note of decisions whose scores were not numbers, `[batch, groups, 1]`.
    pub(crate) fn note_unscored(&mut self, decisions: Tensor<3, Bool>) {
        self.unscored = Some(match self.unscored.take() {
            Some(before) => before.bool_or(decisions),
            None => decisions,
        });
    }

    /// The same of decisions on the host, in the order of batch rows and groups.
    pub(crate) fn note_unscored_by(&mut self, decisions: &[bool]) {
        let dims = [self.shape.batch, self.groups(), 1];
        let decisions = TensorData::new(decisions.to_vec(), dims);
        self.note_unscored(Tensor::from_data(decisions, &self.device()));
    }
}
