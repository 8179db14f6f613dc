//! Heads that have plans of their own against layers of one head that know nothing of each other.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use super::case::{Case, FEW, Verdict, check_few};
use super::machine::dtypes;
use super::text::Text;
use crate::attention::Attention;
use crate::compression::Compression;
use crate::policy::{Layer, Plan, Policy};
use crate::state::MultiState;

/// What one head does, as the policy of a layer that has no other.
#[derive(Debug)]
struct Alone {
    policy: Arc<dyn Policy>,
    kv_heads: usize,
    head: usize,
}

impl Policy for Alone {
    fn name(&self) -> String {
        self.policy.name()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let positions = self.policy.plan(layer).positions;
        let plan = self.policy.plan(&Layer { kv_heads: self.kv_heads, ..*layer }).heads.swap_remove(self.head);
        Plan { positions, ..plan }
    }
}

/// A layer whose heads have plans of their own gives the outputs of as many layers of one head, and holds and omits their
/// rows: by steps, in chunks, after a prompt, saved and restored, and with a batch row that starts anew.
///
/// # Panics
///
/// When it does not hold, with the smallest shape; and when no head has a plan of its own.
pub fn heads_with_plans_of_their_own_equal_layers_of_one_head(policy: &Arc<dyn Policy>, device: &Device) {
    const LAW: &str = "heads_with_plans_of_their_own_equal_layers_of_one_head";
    for dtype in dtypes(device) {
        check_few(LAW, policy, FEW, |case| {
            let text = Text::new(case, device, dtype);
            for prompt in [0, case.cut] {
                let mut layer = of_all(case, policy, device, dtype);
                let mut heads: Vec<_> =
                    (0..case.batch * case.kv_heads).map(|index| of_one(case, policy, index, device, dtype)).collect();
                let mut done = 0;
                for (index, n) in parts(case, prompt).into_iter().enumerate() {
                    let part = text.part(done, n);
                    let is_prompt = index == 0 && prompt > 0;
                    let found = layer.go(&part, is_prompt)?;
                    for (index, head) in heads.iter_mut().enumerate() {
                        let [row, own] = [index / case.kv_heads, index % case.kv_heads];
                        let expected = head.go(&of_head(&part, case, row, own), is_prompt)?;
                        let own = found.clone().slice([row..row + 1, own * case.group..(own + 1) * case.group]);
                        same(own, expected)
                            .map_err(|how| format!("batch row and head {index}, prompt {prompt}: {how}"))?;
                    }
                    done += n;
                    same_rows(&layer.state, &heads, case)?;
                    // A prompt may be cut; its omissions are not told token by token.
                    same_omissions(&mut layer.state, &mut heads, case)?;
                    // Every other time it is saved and restored, and once a batch row starts anew.
                    if index % 2 == 1 {
                        let compression = layer.compression.clone();
                        let restored = MultiState::restore(layer.state.snapshot(), &compression, device);
                        layer.state = restored.map_err(|error| error.to_string())?;
                        // What is recorded is not part of a snapshot.
                        layer.state.record_omissions();
                    }
                    if index == 1 && prompt == 0 {
                        layer.state.reset(0);
                        heads[..case.kv_heads].iter_mut().for_each(|head| head.state.reset(0));
                    }
                }
            }
            Ok(())
        });
    }
}

/// A layer and its state.
struct One {
    attention: Attention,
    compression: Compression,
    state: MultiState,
}

impl One {
    fn new(attention: Attention, batch: usize, compression: Compression, device: &Device, dtype: DType) -> Self {
        let mut state = attention.initial_state(batch, 0, 1, &compression, dtype, device);
        state.record_omissions();
        Self { attention, compression, state }
    }

    fn go(&mut self, text: &Text, is_prompt: bool) -> Result<Tensor<4>, String> {
        let Text { query, key, value } = text.clone();
        match is_prompt {
            true => self.attention.prefill(query, key, value, &mut self.state).map_err(|error| error.to_string()),
            false => Ok(self.attention.scan(query, key, value, &mut self.state)),
        }
    }
}

fn attention(case: &Case, kv_heads: usize) -> Attention {
    let scale = (case.head_dim as f64).sqrt().recip();
    let heads = kv_heads * case.group;
    Attention { heads, kv_heads, head_dim: case.head_dim, scale, window: case.window, placement: None }
}

fn of_all(case: &Case, policy: &Arc<dyn Policy>, device: &Device, dtype: DType) -> One {
    let plan = policy.plan(&Layer { kv_heads: case.kv_heads, ..Layer::only(case.states) });
    assert_eq!(plan.heads.len(), case.kv_heads, "a policy with plans for heads");
    let compression = Compression::Bounded { policy: policy.clone(), states: case.states };
    One::new(attention(case, case.kv_heads), case.batch, compression, device, dtype)
}

fn of_one(case: &Case, policy: &Arc<dyn Policy>, index: usize, device: &Device, dtype: DType) -> One {
    let (kv_heads, head) = (case.kv_heads, index % case.kv_heads);
    let policy = Arc::new(Alone { policy: policy.clone(), kv_heads, head });
    One::new(attention(case, 1), 1, Compression::Bounded { policy, states: case.states }, device, dtype)
}

/// The prompt, and then chunks.
fn parts(case: &Case, prompt: usize) -> Vec<usize> {
    let first = (prompt > 0).then_some(prompt);
    first.into_iter().chain(case.chunks(case.tokens - prompt)).collect()
}

fn of_head(text: &Text, case: &Case, row: usize, head: usize) -> Text {
    let own = |x: &Tensor<4>, heads: usize| x.clone().slice([row..row + 1, head * heads..(head + 1) * heads]);
    Text { query: own(&text.query, case.group), key: own(&text.key, 1), value: own(&text.value, 1) }
}

/// The same numbers to the last bit: what is computed is the same.
fn same(found: Tensor<4>, expected: Tensor<4>) -> Verdict {
    let numbers = |x: Tensor<4>| x.into_data().convert::<f64>().try_into_vec::<f64>().expect("numbers");
    let (found, expected) = (numbers(found), numbers(expected));
    match found.iter().zip(&expected).position(|(found, expected)| found.to_bits() != expected.to_bits()) {
        None if found.len() == expected.len() => Ok(()),
        at => Err(format!("other outputs, from number {at:?} on")),
    }
}

fn same_rows(state: &MultiState, heads: &[One], case: &Case) -> Verdict {
    let found: Vec<Vec<i64>> = state.held().into_iter().flatten().collect();
    for (index, (found, head)) in found.iter().zip(heads).enumerate() {
        let expected = head.state.held().remove(0).remove(0);
        if *found != expected {
            return Err(format!("batch row and head {index} holds {found:?} instead of {expected:?}"));
        }
        if head.state.seen()[0] != state.seen()[index / case.kv_heads] {
            return Err(format!("batch row {} counts otherwise", index / case.kv_heads));
        }
    }
    Ok(())
}

/// What was omitted since the last look, token by token.
fn same_omissions(state: &mut MultiState, heads: &mut [One], case: &Case) -> Verdict {
    let positions = |omitted: crate::state::Omitted| -> Vec<i64> {
        omitted.map_or_else(Vec::new, |positions| {
            positions.into_data().convert::<i64>().try_into_vec().expect("positions are integers")
        })
    };
    let found: Vec<Vec<i64>> = state.take_omitted().into_iter().map(positions).collect();
    for (index, head) in heads.iter_mut().enumerate() {
        let expected: Vec<Vec<i64>> = head.state.take_omitted().into_iter().map(positions).collect();
        if found.len() != expected.len() {
            return Err(format!("omissions of {} tokens instead of {}", found.len(), expected.len()));
        }
        for (token, (all, expected)) in found.iter().zip(&expected).enumerate() {
            let each = all.len() / (case.batch * case.kv_heads);
            let mut own: Vec<i64> = all[index * each..(index + 1) * each].to_vec();
            own.retain(|&position| position >= 0);
            let expected: Vec<i64> = expected.iter().copied().filter(|&position| position >= 0).collect();
            if own != expected {
                return Err(format!("token {token}: head {index} omits {own:?} instead of {expected:?}"));
            }
        }
    }
    let firsts =
        heads.chunks(case.kv_heads).map(|heads| heads.iter().filter_map(|one| one.state.first_omission()[0]).min());
    match firsts.zip(state.first_omission()).all(|(expected, found)| expected == *found) {
        true => Ok(()),
        false => Err("rows first went at another token".into()),
    }
}
