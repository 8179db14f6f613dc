//! Packed rows against rows that are rounded in plain loops and held whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData, f16};

use super::case::{Case, FEW, Verdict, check_few};
use super::machine::{Machine, all_agree, dtypes, near};
use super::scorer::bound;
use super::text::Text;
use crate::packing::{Packing, Per, Side};
use crate::policy::{Layer, Plan, Policy};
use crate::score::number;
use crate::state::MultiState;
use crate::tensors::Rows;

/// How the rows of the layer of a trial are held.
pub(super) fn packing(policy: &Arc<dyn Policy>, case: &Case) -> Option<Packing> {
    bound(policy, case).plan.packing
}

/// Nothing goes, and rows are held as a packing says.
#[derive(Debug)]
pub(super) struct Held(pub(super) Packing);

impl Policy for Held {
    fn name(&self) -> String {
        "held".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan { states: None, ..Plan::by_score(layer, number(0.0)) }.packed(self.0)
    }
}

/// Another policy with rows as they are computed.
#[derive(Debug)]
struct Whole(Arc<dyn Policy>);

impl Policy for Whole {
    fn name(&self) -> String {
        self.0.name()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan { packing: None, ..self.0.plan(layer) }
    }
}

/// A packed state gives the outputs, omits the rows and holds the rows of the plain state in which rows are replaced by
/// what they are rounded to, at the moments that the packing names: by steps, in chunks, after a prompt, and with a batch row
/// that starts anew.
///
/// Says nothing of a policy that packs no rows.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn a_packed_state_equals_the_plain_state_over_rounded_rows(policy: &Arc<dyn Policy>, device: &Device) {
    const LAW: &str = "a_packed_state_equals_the_plain_state_over_rounded_rows";
    let packing = packing(policy, &Case::smallest(policy));
    let whole: Arc<dyn Policy> = Arc::new(Whole(policy.clone()));
    for dtype in dtypes(device) {
        check_few(LAW, policy, FEW, |case| {
            let packing = packing.expect("else it is skipped");
            let text = Text::new(case, device, dtype);
            let row = case.seed as usize % case.batch;
            for prompt in [0, case.cut] {
                let mut twin = Twin::new(Machine::observed(case, case.batch, &whole, None, device, dtype), packing);
                let mut by_steps = Machine::unobserved(case, case.batch, policy, device, dtype);
                let mut in_chunks = Machine::unobserved(case, case.batch, policy, device, dtype);
                let parts =
                    if prompt == 0 { [0..case.cut, case.cut..case.tokens] } else { [0..prompt, prompt..case.tokens] };
                for (index, tokens) in parts.into_iter().enumerate() {
                    if index == 0 && prompt > 0 {
                        twin.prefill(&text, prompt);
                        by_steps.prefill(&text, prompt);
                        in_chunks.prefill(&text, prompt);
                    } else {
                        twin.steps(&text, tokens.clone());
                        by_steps.steps(&text, tokens.clone());
                        in_chunks.scans(&text, tokens, case);
                    }
                    let expected = twin.machine.trace();
                    let told = |form: &str| format!("{form}, after a prompt of {prompt}, in {dtype:?}");
                    let forms = [("by steps", &mut by_steps), ("in chunks", &mut in_chunks)];
                    let sure = expected.iter().all(|trace| trace.certain == trace.outputs.len());
                    for (form, machine) in forms {
                        all_agree(&expected, &machine.trace(), dtype)
                            .map_err(|how| format!("{}: {how}", told(form)))?;
                        if sure {
                            same_rows(&machine.state, &twin.machine.state, dtype)
                                .map_err(|how| format!("{}: {how}", told(form)))?;
                        }
                    }
                    if !sure {
                        break;
                    }
                    if prompt == 0 {
                        twin.reset(row);
                        by_steps.reset(row);
                        in_chunks.reset(row);
                    }
                }
            }
            Ok(())
        });
    }
}

/// Whether the same rows are held.
fn same_rows(found: &MultiState, expected: &MultiState, dtype: DType) -> Verdict {
    let (found, expected) = (by_position(found), by_position(expected));
    if !found.keys().eq(expected.keys()) {
        return Err("other rows are held".into());
    }
    for ((place, found), expected) in found.iter().zip(expected.values()) {
        near(found, expected, dtype).map_err(|how| format!("the row of batch row, head, position {place:?}: {how}"))?;
    }
    Ok(())
}

/// Batch row, KV head and position.
type Place = (usize, usize, i64);

/// Key and value of every row held, in one.
fn by_position(state: &MultiState) -> BTreeMap<Place, Vec<f64>> {
    let [batch, kv_heads, slots, d] = state.keys().dims();
    let positions = integers(state);
    let (keys, values) = (numbers(state.keys()), numbers(state.values()));
    let mut rows = BTreeMap::new();
    for index in 0..batch * kv_heads * slots {
        let (row, head, slot) = (index / slots / kv_heads, index / slots % kv_heads, index % slots);
        let position = positions[(row * state.groups() + head * state.groups() / kv_heads) * slots + slot];
        if position >= 0 {
            let of = |x: &[f64]| x[index * d..(index + 1) * d].to_vec();
            rows.insert((row, head, position), [of(&keys), of(&values)].concat());
        }
    }
    rows
}

fn integers(state: &MultiState) -> Vec<i64> {
    state.positions().into_data().convert::<i64>().try_into_vec().expect("positions are integers")
}

fn numbers(x: Tensor<4>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_into_vec().expect("rows are numbers")
}

/// A plain machine whose rows are rounded after every step.
struct Twin {
    machine: Machine,
    packing: Packing,
    /// Rows of which number on are not rounded yet, of keys and of values, by batch row and KV head.
    from: Vec<[usize; 2]>,
}

impl Twin {
    fn new(machine: Machine, packing: Packing) -> Self {
        let shape = machine.state.shape();
        let from = vec![[0; 2]; shape.batch * shape.kv_heads];
        Self { machine, packing, from }
    }

    fn steps(&mut self, text: &Text, tokens: std::ops::Range<usize>) {
        for t in tokens {
            let (held, rows) = (self.held(), self.rows());
            self.machine.steps(text, t..t + 1);
            self.round(&held, &rows);
        }
    }

    fn prefill(&mut self, text: &Text, n: usize) {
        self.machine.prefill(text, n);
        self.round(&vec![usize::MAX - 1; self.from.len()], &BTreeMap::new());
    }

    fn reset(&mut self, row: usize) {
        let kv_heads = self.machine.state.shape().kv_heads;
        self.machine.reset(row);
        self.from[row * kv_heads..(row + 1) * kv_heads].fill([0; 2]);
    }

    /// Rows held by batch row and head.
    fn held(&self) -> Vec<usize> {
        let state = &self.machine.state;
        let kv_heads = state.shape().kv_heads;
        match state.heads.is_empty() {
            true => state.held.iter().flat_map(|&held| std::iter::repeat_n(held, kv_heads)).collect(),
            false => state.heads.iter().map(|head| head.held[0]).collect(),
        }
    }

    fn rows(&self) -> BTreeMap<Place, Vec<f64>> {
        by_position(&self.machine.state)
    }

    /// Rounds what is due, given what was held before the step.
    fn round(&mut self, held: &[usize], before: &BTreeMap<Place, Vec<f64>>) {
        let state = &mut self.machine.state;
        let kv_heads = state.shape().kv_heads;
        if state.heads.is_empty() {
            return round(state, &self.packing, &mut self.from, held, &|row, head, position| {
                before.get(&(row, head, position)).cloned()
            });
        }
        for (index, head) in state.heads.iter_mut().enumerate() {
            let was = |_, _, position| before.get(&(index / kv_heads, index % kv_heads, position)).cloned();
            round(head, &self.packing, &mut self.from[index..=index], &held[index..=index], &was);
        }
    }
}

/// Of a state with rows in all of its own slots.
fn round(
    state: &mut MultiState,
    packing: &Packing,
    from: &mut [[usize; 2]],
    held: &[usize],
    before: &dyn Fn(usize, usize, i64) -> Option<Vec<f64>>,
) {
    let dims @ [batch, kv_heads, slots, d] = state.keys().dims();
    let dtype = state.shape().dtype;
    let positions = integers(state);
    let mut rows = [numbers(state.keys()), numbers(state.values())];
    for index in 0..batch * kv_heads {
        let (row, head) = (index / kv_heads, index % kv_heads);
        let group = row * state.groups() + head * state.groups() / kv_heads;
        let positions = &positions[group * slots..][..slots];
        let cut = state.held[row] < held[index] + 1;
        for (which, side) in [packing.keys, packing.values].into_iter().enumerate() {
            let rows = &mut rows[which][index * slots * d..][..slots * d];
            let first = from[index][which];
            let due = side.packed(if side.per == Per::Token { state.seen[row] } else { state.held[row] });
            let changed = |slot: usize, now: &[f64]| {
                let was = before(row, head, positions[slot]);
                was.is_some_and(|was| was[which * d..][..d] != *now)
            };
            round_side(rows, positions, (packing, &side, dtype), if cut { 0 } else { first }..due, first, &changed);
            from[index][which] = due;
        }
    }
    let device = state.device();
    let [keys, values] = rows.map(|rows| Tensor::<4>::from_data(TensorData::new(rows, dims), (&device, dtype)));
    state.set_rows(Rows { keys, values });
}

/// Rounds the rows of one head, `[slots, d]`: per channel those in the slots `due`; per token those of positions from
/// `first` on, and those before that have changed.
fn round_side(
    rows: &mut [f64],
    positions: &[i64],
    (packing, side, dtype): (&Packing, &Side, DType),
    due: std::ops::Range<usize>,
    first: usize,
    changed: &dyn Fn(usize, &[f64]) -> bool,
) {
    let d = rows.len() / positions.len();
    // Places of numbers that share a scale.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    match side.per {
        Per::Channel => {
            let slots: Vec<usize> = due.collect();
            for slots in slots.chunks(packing.group) {
                groups.extend((0..d).map(|channel| slots.iter().map(|slot| slot * d + channel).collect()));
            }
        }
        Per::Token => {
            let is_due = |slot: usize, rows: &[f64]| {
                let position = positions[slot];
                let now = (first as i64..due.end as i64).contains(&position);
                now || (position >= 0 && position < first as i64 && changed(slot, &rows[slot * d..][..d]))
            };
            for slot in (0..positions.len()).filter(|&slot| is_due(slot, rows)) {
                let channels: Vec<usize> = (slot * d..(slot + 1) * d).collect();
                groups.extend(channels.chunks(packing.group).map(<[_]>::to_vec));
            }
        }
    }
    for places in groups {
        let rounded = rounded(places.iter().map(|&place| rows[place]).collect(), packing, dtype);
        places.iter().zip(rounded).for_each(|(&place, number)| rows[place] = number);
    }
}

/// Numbers that share a scale, rounded.
fn rounded(numbers: Vec<f64>, packing: &Packing, dtype: DType) -> Vec<f64> {
    let highest = f64::from(packing.bits.highest());
    let (low, high) = numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
    if dtype == DType::F64 {
        let scale = (high - low) / highest;
        let code = |x: f64| if scale == 0.0 { 0.0 } else { ((x - low) / scale).clamp(0.0, highest).round_ties_even() };
        return numbers.into_iter().map(|x| code(x) * scale + low).collect();
    }
    let (low, high) = (low as f32, high as f32);
    let scale = f16::from_f32((high - low) / highest as f32).to_f32();
    let low = f16::from_f32(low).to_f32();
    let code = |x: f32| {
        if scale == 0.0 { 0.0 } else { ((x - low) / scale).clamp(0.0, highest as f32).round_ties_even() }
    };
    numbers.into_iter().map(|x| f64::from(code(x as f32) * scale + low)).collect()
}
