//! Tokens through a layer whose heads are states of their own, since they have plans of their own or compete for its budget.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::attention::Attention;
use crate::attention::decide::{gone, rewrite};
use crate::attention::step;
use crate::error::Error;
use crate::kernels;
use crate::omission::pooled_survivors;
use crate::state::MultiState;
use crate::tensors::View;

/// What a head made of a token at which it may be cut.
struct Look {
    /// `[1, group, 1, head_dim]`
    output: Tensor<4>,
    scores: Vec<f64>,
    positions: Vec<i64>,
    view: View,
}

impl Attention {
    /// The attention of one KV head.
    pub(super) fn of_one_head(&self) -> Self {
        Attention { heads: self.heads / self.kv_heads, kv_heads: 1, ..self.clone() }
    }

    /// Query, key and value of a batch row's KV head.
    fn of_head(&self, tokens: &[Tensor<4>; 3], index: usize) -> [Tensor<4>; 3] {
        let (row, head) = (index / self.kv_heads, index % self.kv_heads);
        tokens.each_ref().map(|x| {
            let [_, heads, n, head_dim] = x.dims();
            let own = heads / self.kv_heads;
            x.clone().slice([row..row + 1, head * own..(head + 1) * own, 0..n, 0..head_dim])
        })
    }

    /// Tokens of a state whose heads have plans of their own: each goes its own way. Shapes as in [`Attention::scan`].
    pub(crate) fn each_head(
        &self,
        tokens: [Tensor<4>; 3],
        state: &mut MultiState,
        go: impl Fn(&Self, [Tensor<4>; 3], &mut MultiState) -> Result<Tensor<4>, Error> + Sync,
    ) -> Result<Tensor<4>, Error> {
        let ([batch, heads, n, head_dim], single) = (tokens[0].dims(), self.of_one_head());
        let go = |(index, head): (usize, &mut MultiState)| {
            go(&single, self.of_head(&tokens, index), head).map_err(|error| match error {
                // A head is told of one batch row.
                Error::NoScore { policy, layer, position, token, .. } => {
                    Error::NoScore { policy, layer, position, token, row: index / self.kv_heads }
                }
                other => other,
            })
        };
        let outputs: Result<Vec<Tensor<4>>, Error> = match n > 1 && kernels::is_on_host(&tokens[0]) {
            true => state.heads.par_iter_mut().enumerate().map(go).collect(),
            false => state.heads.iter_mut().enumerate().map(go).collect(),
        };
        let outputs = outputs?;
        state.count_in_heads(n);
        Ok(Tensor::cat(outputs, 1).reshape([batch, heads, n, head_dim]))
    }

    /// Tokens of a state whose heads are states of their own; if one `cuts`, it is one, and the heads of the batch rows
    /// that are full compete for what stays. Shapes as in [`Attention::scan`].
    pub(crate) fn in_heads(&self, tokens: [Tensor<4>; 3], state: &mut MultiState, cuts: bool) -> Tensor<4> {
        let [batch, heads, n, head_dim] = tokens[0].dims();
        let kv_heads = self.kv_heads;
        let single = self.of_one_head();
        if !cuts && let Some(attended) = step::heads(&single, tokens.each_ref(), state) {
            return attended;
        }
        let full: Vec<bool> = (0..batch).map(|row| state.is_full(row)).collect();
        let bound = state.bound.clone().expect("heads that compete have a bound");
        let part = |index: usize| self.of_head(&tokens, index);
        let outputs: Vec<Tensor<4>> = if cuts {
            let looks: Vec<_> =
                state.heads.iter_mut().enumerate().map(|(i, head)| single.look(part(i), head)).collect();
            let mut outputs = Vec::with_capacity(looks.len());
            for (row, &goes) in full.iter().enumerate() {
                let of_row = row * kv_heads..(row + 1) * kv_heads;
                let now = state.seen[row];
                let scores: Vec<Vec<f64>> = looks[of_row.clone()].iter().map(|look| look.scores.clone()).collect();
                let positions: Vec<Vec<i64>> =
                    looks[of_row.clone()].iter().map(|look| look.positions.clone()).collect();
                let budget = (bound.states * kv_heads, bound.safe().unwrap_or(0));
                let keep = match goes {
                    true => pooled_survivors(&scores, &positions, now as i64, budget, self.window_after(now)),
                    false => scores.iter().map(|scores| (0..scores.len()).collect()).collect(),
                };
                for ((head, look), kept) in state.heads[of_row.clone()].iter_mut().zip(&looks[of_row]).zip(keep) {
                    let keep = [vec![kept]];
                    if goes && bound.plan.rewrites() {
                        rewrite(&bound, &look.view, &gone(&keep, head), head, &[true]);
                    }
                    head.advance_cutting(&keep);
                    let broken = goes && look.scores.iter().any(|score| score.is_nan());
                    if broken {
                        head.note_unscored_by(&[true]);
                    }
                    outputs.push(match broken {
                        true => look.output.clone().mul_scalar(f32::NAN),
                        false => look.output.clone(),
                    });
                }
            }
            outputs
        } else {
            let hold = |(index, head): (usize, &mut MultiState)| single.hold(part(index), head);
            match batch * kv_heads > 1 && n > 1 && kernels::is_on_host(&tokens[0]) {
                true => state.heads.par_iter_mut().enumerate().map(hold).collect(),
                false => state.heads.iter_mut().enumerate().map(hold).collect(),
            }
        };
        state.count_in_heads(n);
        Tensor::cat(outputs, 1).reshape([batch, heads, n, head_dim])
    }

    /// Attends one token of a head that is a state of its own, and scores its rows.
    fn look(&self, token: [Tensor<4>; 3], head: &mut MultiState) -> Look {
        head.note_queries(&token[0]);
        let [query, key, value] = token.map(|x| x.squeeze_dim::<3>(2));
        head.grow(head.held[0] + 1);
        let rows = head.rows_in_step();
        head.append(key, value);
        let attended = self.attend(query, head, rows, 0);
        let (scores, view) = self.score(&attended, head, rows, head.seen[0]);
        let scores = scores.into_data().convert::<f64>().try_into_vec().expect("scores are numbers");
        let positions = view.positions.to_data().convert::<i64>().try_into_vec().expect("positions are integers");
        Look { output: attended.output.unsqueeze_dim(2), scores, positions, view }
    }
}
