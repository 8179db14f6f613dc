//! A layer under trial: it runs a text in some form and keeps what comes of it.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use super::case::{Case, Verdict};
use super::packed::{Held, packing};
use super::scorer::{Scorer, bound};
use super::spy::{Calls, Change, Look, Spy, is_close, take};
use super::text::Text;
use crate::attention::Attention;
use crate::compression::Compression;
use crate::policy::Policy;
use crate::precision::computes_in;
use crate::state::MultiState;

/// The dtypes that a law of values is tried in.
pub(super) fn dtypes(device: &Device) -> Vec<DType> {
    [DType::F64, DType::F32].into_iter().filter(|&dtype| computes_in(device, dtype)).collect()
}

/// The dtype that a law of decisions is tried in; see [`laws`](crate::laws) on rounding.
pub(super) fn widest(device: &Device) -> DType {
    dtypes(device).into_iter().next().unwrap_or(DType::F32)
}

/// The attention of a trial.
pub(super) fn attention(case: &Case) -> Attention {
    Attention {
        heads: case.kv_heads * case.group,
        kv_heads: case.kv_heads,
        head_dim: case.head_dim,
        scale: 1.0 / (case.head_dim as f64).sqrt(),
        window: case.window,
        placement: None,
    }
}

/// A layer, its state, and what came of the tokens so far.
///
/// It takes the road that production takes. Beside it an observed twin goes token by token and tells which
/// decisions are so close that rounding may have made them.
pub(super) struct Machine {
    pub(super) state: MultiState,
    attention: Attention,
    pub(super) compression: Compression,
    observed: Option<Observed>,
    outputs: Vec<Tensor<4>>,
    /// Tokens that each batch row had seen when the trace began.
    before: Vec<usize>,
}

/// Who looks on.
enum Observed {
    /// The machine itself is watched.
    Itself(Calls, Scorer),
    /// A twin of it is.
    Twin(Box<Machine>),
}

impl Machine {
    /// Bounded to `case.states` rows by a policy.
    pub(super) fn bounded(case: &Case, batch: usize, policy: &Arc<dyn Policy>, device: &Device, dtype: DType) -> Self {
        let twin = Box::new(Self::observed(case, batch, policy, None, device, dtype));
        Self { observed: Some(Observed::Twin(twin)), ..Self::unobserved(case, batch, policy, device, dtype) }
    }

    /// The same token by token in tensor operations, with every call of the rule written down and its scores
    /// changed, if they are to be.
    pub(super) fn observed(
        case: &Case,
        batch: usize,
        policy: &Arc<dyn Policy>,
        change: Option<Change>,
        device: &Device,
        dtype: DType,
    ) -> Self {
        let (spy, calls) = Spy::new(policy, change);
        let compression = Compression::bounded(spy, case.states).expect("a trial has enough states");
        let scorer = Scorer(bound(policy, case));
        let observed = Some(Observed::Itself(calls, scorer));
        Self { observed, ..Self::new(case, batch, compression, device, dtype) }
    }

    /// As [`Machine::bounded`], but nobody looks on.
    pub(super) fn unobserved(
        case: &Case,
        batch: usize,
        policy: &Arc<dyn Policy>,
        device: &Device,
        dtype: DType,
    ) -> Self {
        let compression = Compression::bounded(policy.clone(), case.states).expect("a trial has enough states");
        Self::new(case, batch, compression, device, dtype)
    }

    /// Not bounded.
    pub(super) fn unbounded(case: &Case, batch: usize, device: &Device, dtype: DType) -> Self {
        Self::new(case, batch, Compression::Unbounded, device, dtype)
    }

    /// Not bounded, with rows held as under a policy.
    pub(super) fn unbounded_as(
        case: &Case,
        batch: usize,
        policy: &Arc<dyn Policy>,
        device: &Device,
        dtype: DType,
    ) -> Self {
        let held = |packing| Compression::held(Arc::new(Held(packing))).expect("nothing goes");
        let compression = packing(policy, case).map_or(Compression::Unbounded, held);
        Self::new(case, batch, compression, device, dtype)
    }

    fn new(case: &Case, batch: usize, compression: Compression, device: &Device, dtype: DType) -> Self {
        let attention = attention(case);
        let mut state = attention.initial_state(batch, 0, 1, &compression, dtype, device);
        state.record_omissions();
        Self { state, attention, compression, observed: None, outputs: Vec::new(), before: vec![0; batch] }
    }

    /// The same layer with another state, nothing traced yet, and nobody looking on.
    pub(super) fn with_state(&self, mut state: MultiState) -> Self {
        state.record_omissions();
        let before = state.seen().to_vec();
        let (attention, compression) = (self.attention.clone(), self.compression.clone());
        Self { state, attention, compression, observed: None, outputs: Vec::new(), before }
    }

    fn twin(&mut self) -> Option<&mut Machine> {
        match &mut self.observed {
            Some(Observed::Twin(twin)) => Some(twin),
            _ => None,
        }
    }

    /// Some tokens of a text, one by one.
    pub(super) fn steps(&mut self, text: &Text, tokens: Range<usize>) {
        if let Some(twin) = self.twin() {
            twin.steps(text, tokens.clone());
        }
        for t in tokens {
            let Text { query, key, value } = text.part(t, 1);
            let output = self.attention.step(
                query.clone().squeeze_dim(2),
                key.squeeze_dim(2),
                value.squeeze_dim(2),
                &mut self.state,
            );
            self.outputs.push(output.reshape(query.dims()));
        }
    }

    /// Some tokens of a text, in the chunks of a trial.
    pub(super) fn scans(&mut self, text: &Text, tokens: Range<usize>, case: &Case) {
        if let Some(twin) = self.twin() {
            twin.steps(text, tokens.clone());
        }
        let asks_by_head = self.state.bound.as_ref().is_some_and(|bound| bound.safe().is_some());
        if asks_by_head && matches!(self.observed, Some(Observed::Itself(..))) {
            // In a chunk heads of their own ask about all of its tokens, a head after the other.
            return self.steps(text, tokens);
        }
        let mut first = tokens.start;
        for n in case.chunks(tokens.len()) {
            let Text { query, key, value } = text.part(first, n);
            self.outputs.push(self.attention.scan(query, key, value, &mut self.state));
            first += n;
        }
    }

    /// The first `n` tokens with the prefill protocol.
    pub(super) fn prefill(&mut self, text: &Text, n: usize) {
        if let Some(twin) = self.twin() {
            twin.prefill(text, n);
        }
        let Text { query, key, value } = text.part(0, n);
        let output = self.attention.prefill(query, key, value, &mut self.state);
        self.outputs.push(output.expect("the state is empty"));
    }

    /// Lets a batch row start anew.
    pub(super) fn reset(&mut self, row: usize) {
        if let Some(twin) = self.twin() {
            twin.reset(row);
        }
        self.state.reset(row);
        self.before[row] = 0;
    }

    /// What the rule of an observed machine was shown since the last look, a call after the other, each by batch row
    /// and group.
    pub(super) fn looks(&self) -> Vec<Vec<Vec<Look>>> {
        let Some(Observed::Itself(calls, _)) = &self.observed else { return Vec::new() };
        let (batch, groups) = (self.state.shape().batch, self.state.groups());
        let mut calls = take(calls).into_iter();
        let mut looks = Vec::new();
        while let Some(call) = calls.next() {
            let alone = call.len() == 1 && call[0].len() == 1 && batch * groups > 1;
            if !alone {
                looks.push(call);
                continue;
            }
            // Heads that are states of their own ask one after the other.
            let mut heads: Vec<Look> = call.into_iter().flatten().collect();
            heads.extend(calls.by_ref().take(batch * groups - 1).flatten().flatten());
            looks.push(heads.chunks(groups).map(<[_]>::to_vec).collect());
        }
        looks
    }

    /// By batch row: tokens since the last trace whose decisions rounding cannot have made.
    fn certain(&mut self, tokens: usize) -> Vec<usize> {
        if let Some(twin) = self.twin() {
            return twin.certain(tokens);
        }
        let mut certain = vec![tokens; self.state.shape().batch];
        if let Some(Observed::Itself(_, scorer)) = &self.observed
            && scorer.rounds()
        {
            let (dtype, bound) = (self.state.shape().dtype, &scorer.0);
            // After a prompt more rows may go than a full state has, so that a call may be about any cut to k.
            for call in self.looks() {
                for (row, looks) in call.iter().enumerate().filter(|(_, looks)| is_close(looks, bound, dtype)) {
                    let token = (looks[0].now as usize).saturating_sub(self.before[row]);
                    certain[row] = certain[row].min(token);
                }
            }
        }
        self.before = self.state.seen().to_vec();
        certain
    }

    /// What came of every batch row since the last trace.
    pub(super) fn trace(&mut self) -> Vec<Trace> {
        let batch = self.state.shape().batch;
        let mut traces = vec![Trace::default(); batch];
        let outputs = std::mem::take(&mut self.outputs);
        if !outputs.is_empty() {
            for (trace, output) in traces.iter_mut().zip(by_row_and_token(Tensor::cat(outputs, 2))) {
                trace.certain = output.len();
                trace.outputs = output;
            }
        }
        for omitted in self.state.take_omitted() {
            let groups = self.state.groups();
            let omitted = omitted.map(|positions| positions.to_data().convert::<i64>());
            let omitted: &[i64] = omitted.as_ref().map_or(&[], |data| data.as_slice().expect("positions are integers"));
            for (row, trace) in traces.iter_mut().enumerate() {
                let each = omitted.len() / (batch * groups);
                let of = |group| omitted[(row * groups + group) * each..][..each].iter().copied();
                trace
                    .omitted
                    .push((0..groups).map(|group| of(group).filter(|&position| position >= 0).collect()).collect());
            }
        }
        let tokens = traces.iter().map(|trace| trace.outputs.len()).max().unwrap_or(0);
        for (trace, certain) in traces.iter_mut().zip(self.certain(tokens)) {
            trace.certain = trace.certain.min(certain);
        }
        self.before = self.state.seen().to_vec();
        traces
    }
}

/// What came of one batch row's tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trace {
    /// By token: all query heads' outputs.
    pub(super) outputs: Vec<Vec<f64>>,
    /// By token and group: positions omitted.
    pub(super) omitted: Vec<Vec<Vec<i64>>>,
    /// Tokens whose decisions rounding cannot have made.
    pub(super) certain: usize,
}

impl Trace {
    /// This, and what came after it.
    pub(super) fn then(mut self, later: Trace) -> Trace {
        if self.certain == self.outputs.len() {
            self.certain += later.certain;
        }
        self.outputs.extend(later.outputs);
        self.omitted.extend(later.omitted);
        self
    }

    /// The first `n` tokens.
    pub(super) fn first(mut self, n: usize) -> Trace {
        self.outputs.truncate(n);
        self.omitted.truncate(n);
        self.certain = self.certain.min(n);
        self
    }

    /// Whether the same came of both, up to the first decision that rounding may have made.
    pub(super) fn agrees(&self, other: &Trace, dtype: DType) -> Verdict {
        if self.outputs.len() != other.outputs.len() {
            return Err(format!("{} tokens in one form, {} in the other", self.outputs.len(), other.outputs.len()));
        }
        let certain = self.certain.min(other.certain);
        for t in 0..self.outputs.len().min(certain + 1) {
            near(&self.outputs[t], &other.outputs[t], dtype).map_err(|how| format!("output of token {t}: {how}"))?;
            if t < certain && self.omitted[t] != other.omitted[t] {
                let (one, other) = (&self.omitted[t], &other.omitted[t]);
                return Err(format!("token {t} omits {one:?} in one form, {other:?} in the other"));
            }
        }
        Ok(())
    }
}

/// Whether all batch rows agree.
pub(super) fn all_agree(one: &[Trace], other: &[Trace], dtype: DType) -> Verdict {
    let rows = one.iter().zip(other).enumerate();
    rows.into_iter()
        .try_for_each(|(row, (one, other))| one.agrees(other, dtype).map_err(|how| format!("batch row {row}, {how}")))
}

/// Whether values are equal but for rounding.
pub(super) fn near(one: &[f64], other: &[f64], dtype: DType) -> Verdict {
    let bound = match dtype {
        DType::F64 => 1e-12,
        // Four roundings of a value near one.
        DType::F16 => 2f64.powi(-9),
        DType::BF16 => 2f64.powi(-6),
        _ => 1e-5,
    };
    let differ = |(a, b): &(&f64, &f64)| {
        let difference = (**a - **b).abs();
        // A difference that is no number is one.
        difference.is_nan() || difference > bound * (1.0 + a.abs().max(b.abs()))
    };
    match one.iter().zip(other).find(differ) {
        None if one.len() == other.len() => Ok(()),
        None => Err(format!("{} values and {}", one.len(), other.len())),
        Some((a, b)) => Err(format!("{a} and {b}")),
    }
}

/// `[batch, heads, tokens, head_dim]` on the host: by batch row and token, all heads in one.
pub(super) fn by_row_and_token(x: Tensor<4>) -> Vec<Vec<Vec<f64>>> {
    let [_, heads, tokens, head_dim] = x.dims();
    let data = x.swap_dims(1, 2).into_data().convert::<f64>();
    let values: &[f64] = data.as_slice().expect("outputs are numbers");
    let tokens_of_rows: Vec<Vec<f64>> = values.chunks(heads * head_dim).map(<[_]>::to_vec).collect();
    tokens_of_rows.chunks(tokens).map(<[_]>::to_vec).collect()
}
