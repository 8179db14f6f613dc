//! A bounded layer once more, in plain f64 code that keeps the whole history and hides what was
//! omitted: no slots, no free row, nothing written over.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::case::Case;
use super::machine::{Trace, attention};
use super::scorer::{Scorer, bound};
use super::spy::{gone, is_close, looks};
use super::text::Text;
use crate::policy::Policy;
use crate::precision::accumulation;
use crate::state::bound::Bound;
use crate::tensors::{Memory, Tensors, View};

/// A layer with one batch row.
pub(super) struct Simulation<'a> {
    case: &'a Case,
    scorer: Scorer,
    device: &'a Device,
    dtype: DType,
    query: Vec<f64>,
    key: Vec<f64>,
    value: Vec<f64>,
    /// By group and token.
    hidden: Vec<Vec<bool>>,
    memory: Memory,
}

impl<'a> Simulation<'a> {
    /// Everything that comes of one batch row's text.
    pub(super) fn trace(
        case: &'a Case,
        policy: &'a Arc<dyn Policy>,
        device: &'a Device,
        dtype: DType,
        row: &Text,
    ) -> Trace {
        let host = |x: &Tensor<4>| -> Vec<f64> {
            let data = x.to_data().convert::<f64>();
            data.as_slice().expect("texts are numbers").to_vec()
        };
        let scorer = Scorer(bound(policy, case));
        let groups = scorer.0.decides().groups(case.kv_heads);
        let memory = Memory { channels: Vec::new() };
        let (query, key, value) = (host(&row.query), host(&row.key), host(&row.value));
        let hidden = vec![Vec::new(); groups];
        let mut simulation = Self { case, scorer, device, dtype, query, key, value, hidden, memory };
        let mut trace = Trace { certain: case.tokens, ..Trace::default() };
        for t in 0..case.tokens {
            let (output, omitted, close) = simulation.token(t);
            trace.outputs.push(output);
            trace.omitted.push(omitted);
            if close {
                trace.certain = trace.certain.min(t);
            }
        }
        trace
    }

    /// Attends, decides and hides: outputs, positions omitted by group, and whether a decision is
    /// within rounding.
    fn token(&mut self, t: usize) -> (Vec<f64>, Vec<Vec<i64>>, bool) {
        self.hidden.iter_mut().for_each(|hidden| hidden.push(false));
        let (mut output, mut weights, mut logits) = (Vec::new(), Vec::new(), Vec::new());
        for head in 0..self.case.kv_heads * self.case.group {
            let (attended, of_head, before) = self.attend(head, t);
            output.extend(attended);
            weights.extend(of_head);
            logits.extend(before);
        }
        let bound: &Bound = &self.scorer.0;
        let held: usize = self.hidden.iter().flatten().filter(|hidden| !**hidden).count();
        let goes = bound.limit().is_some_and(|limit| held >= limit * self.hidden.len());
        if !goes && self.scorer.memory() == 0 {
            return (output, vec![Vec::new(); self.hidden.len()], false);
        }
        self.remember(t);
        let view = self.view(t, weights, logits);
        let scores = self.scorer.protected_score(&view, &mut self.memory);
        if !goes {
            return (output, vec![Vec::new(); self.hidden.len()], false);
        }
        let looks = looks(&view, &scores).remove(0);
        let (close, omitted) = (is_close(&looks, &self.scorer.0, self.dtype), gone(&looks, &self.scorer.0));
        for (hidden, omitted) in self.hidden.iter_mut().zip(&omitted) {
            omitted.iter().for_each(|&position| hidden[position as usize] = true);
        }
        (output, omitted, close)
    }

    /// Softmax attention of one query head over what is not hidden: output, weights and logits by token.
    fn attend(&self, head: usize, t: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let &Case { tokens, head_dim, group, window, .. } = self.case;
        let kv_head = head / group;
        let vector = |of: &'_ [f64], head: usize, token: usize| -> Vec<f64> {
            of[(head * tokens + token) * head_dim..][..head_dim].to_vec()
        };
        let query = vector(&self.query, head, t);
        let scale = attention(self.case).scale;
        let logits: Vec<f64> = (0..=t)
            .map(|j| {
                let outside = window.is_some_and(|window| t - j >= window);
                if self.is_hidden(kv_head, j) || outside {
                    return f64::NEG_INFINITY;
                }
                let key = vector(&self.key, kv_head, j);
                scale * query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>()
            })
            .collect();
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - highest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        let weights: Vec<f64> = exponentials.iter().map(|e| e / sum).collect();
        let mut output = vec![0.0; head_dim];
        for (j, weight) in weights.iter().enumerate() {
            let value = vector(&self.value, kv_head, j);
            output.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight * v);
        }
        // What a hidden row has does not matter, but it is a number.
        let logits = logits.into_iter().map(|x| if x.is_finite() { x } else { 0.0 }).collect();
        (output, weights, logits)
    }

    fn is_hidden(&self, kv_head: usize, token: usize) -> bool {
        self.hidden[kv_head * self.hidden.len() / self.case.kv_heads][token]
    }

    /// Gives the newest row a memory of zeros, in every channel.
    fn remember(&mut self, t: usize) {
        let groups = self.hidden.len();
        let wide: DType = accumulation(self.dtype).into();
        let zeros = |rows: usize| Tensor::<3>::zeros([1, groups, rows], (self.device, wide));
        if self.memory.channels.is_empty() {
            self.memory.channels = (0..self.scorer.memory()).map(|_| zeros(t + 1)).collect();
        } else {
            let channels = std::mem::take(&mut self.memory.channels);
            self.memory.channels =
                channels.into_iter().map(|channel| Tensor::cat(vec![channel, zeros(1)], 2)).collect();
        }
    }

    /// What the policy is shown: hidden rows as empty slots.
    fn view(&self, t: usize, weights: Vec<f64>, logits: Vec<f64>) -> View {
        let &Case { kv_heads, group, head_dim, states, tokens, .. } = self.case;
        let (groups, sees) = (self.hidden.len(), self.scorer.sees());
        let float = |values: Vec<f64>, dims: [usize; 4], dtype: DType| {
            Tensor::<4>::from_data(TensorData::new(values, dims), (self.device, dtype))
        };
        let rows = |of: &[f64]| {
            let mut rows = Vec::new();
            for head in 0..kv_heads {
                for j in 0..=t {
                    let visible = f64::from(u8::from(!self.is_hidden(head, j)));
                    rows.extend(of[(head * tokens + j) * head_dim..][..head_dim].iter().map(|x| x * visible));
                }
            }
            float(rows, [1, kv_heads, t + 1, head_dim], self.dtype)
        };
        let position = |hidden: &[bool]| (0..).zip(hidden).map(|(j, &hidden)| if hidden { -1 } else { j }).collect();
        let positions: Vec<Vec<i64>> = self.hidden.iter().map(|hidden| position(hidden)).collect();
        View {
            decides: self.scorer.0.decides(),
            states,
            layer: 0,
            first_head: 0,
            window: self.case.window.map(|window| window as i64),
            wide: accumulation(self.dtype),
            logits: sees.logits.then(|| float(logits, [1, kv_heads, group, t + 1], accumulation(self.dtype).into())),
            latest: None,
            weights: sees.weights.then(|| float(weights, [1, kv_heads, group, t + 1], accumulation(self.dtype).into())),
            keys: sees.keys.then(|| rows(&self.key)),
            values: sees.values.then(|| rows(&self.value)),
            positions: Tensor::<3, Int>::from_data(
                TensorData::new(positions.concat(), [1, groups, t + 1]),
                self.device,
            ),
            now: Tensor::full([1, groups, 1], t as i64, self.device),
        }
    }
}
