//! One token through an attention layer: append, attend and omit where the state lies.
//!
//! Per KV head one task reads its keys once and its values once, for all query heads of its group.
//! Nothing is copied but what the policy is shown.

use burn::tensor::{DType, Int, Tensor, TensorData, bf16, f16};
use pulp::Arch;
use rayon::prelude::*;

use super::decide::{Decider, decide};
use super::merge::{merge, merges, nearest};
use super::numbered::{Angles, Numbered, Rotated, is_on_host};
use crate::attention::Attention;
use crate::kernels::flex::access::{Dense, is_here, tensor};
use crate::kernels::flex::is_worth_cores;
use crate::kernels::flex::number::{Index, Stored};
use crate::kernels::flex::rows::{Rows, Scratch, Whole, parts};
use crate::kernels::flex::team::{each, is_worth_parts};
use crate::kernels::flex::tile::Tile;
use crate::precision::{accumulation, narrow};
use crate::score::{Initial, Op};
use crate::simd::{Buffer, Real};
use crate::state::flex::{OfCode, OpenedCodes, PackedRows};
use crate::state::flex::{Opened, has_known_integers};
use crate::state::packed::Of;
use crate::state::{EMPTY, MultiState, StateShape};

/// Whether [`step`] can be taken.
pub(crate) fn steps<const D: usize>(attention: &Attention, query: &Tensor<D>, state: &MultiState) -> bool {
    let dtype: DType = accumulation(state.shape.dtype).into();
    let numbered = attention.placement.as_deref().is_none_or(|placement| is_on_host(placement, dtype));
    numbered && is_here(query) && is_here(&state.keys) && has_known_integers(state)
}

/// A function for the dtypes of a state.
macro_rules! by_types {
    ($state:expr, $step:ident) => {
        match ($state.shape.dtype, $state.positions.dtype()) {
            (DType::F64, DType::I64) => $step::<f64, f64, f64, i64>,
            (DType::F16, DType::I64) => $step::<f32, f16, f16, i64>,
            (DType::BF16, DType::I64) => $step::<f32, bf16, f16, i64>,
            (_, DType::I64) => $step::<f32, f32, f16, i64>,
            (DType::F64, _) => $step::<f64, f64, f64, i32>,
            (DType::F16, _) => $step::<f32, f16, f16, i32>,
            (DType::BF16, _) => $step::<f32, bf16, f16, i32>,
            _ => $step::<f32, f32, f16, i32>,
        }
    };
}

/// Appends and attends. If it is to `count` the token it also lets the program decide, if it is to, and omits;
/// else it returns the weights, `[batch, kv_heads, group, rows]`, for who decides.
pub(crate) fn step(
    attention: &Attention,
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    state: &mut MultiState,
    counts: bool,
    decides: bool,
) -> (Tensor<3>, Option<Tensor<4>>) {
    let dtype = query.dtype();
    let step = by_types!(state, step_as);
    let (attended, weights) = step(attention, [query, key, value], state, counts, decides);
    (narrow(attended, dtype), weights)
}

/// One token of heads that are states of their own, each as by [`step`], which counts; side by side where that is worth
/// it. `single`: the attention of one head. token: `[batch, heads, 1, head_dim]`; `decides`: by head, as in [`step`].
pub(crate) fn step_heads(
    single: &Attention,
    token: [Tensor<4>; 3],
    heads: &mut [MultiState],
    decides: &[bool],
) -> Tensor<4> {
    let dtype = token[0].dtype();
    let step = by_types!(heads[0], step_heads_as);
    narrow(step(single, token, heads, decides), dtype)
}

fn step_heads_as<T: Tile + OfCode + Stored<T>, S: Stored<T>, G: Stored<T>, I: Index>(
    single: &Attention,
    token: [Tensor<4>; 3],
    heads: &mut [MultiState],
    decides: &[bool],
) -> Tensor<4> {
    let (dims, d) = (token[0].dims(), single.head_dim);
    let accumulated: DType = accumulation(heads[0].shape.dtype).into();
    let token = token.map(|x| Dense::of(narrow(x, accumulated)));
    let token: [&[T]; 3] = token.each_ref().map(|x| x.values());
    let mut attended = vec![T::ZERO; token[0].len()];
    let bytes: usize = heads.iter().map(|head| 2 * head.rows_in_step() * d * size_of::<S>()).sum();
    let heads = heads.iter_mut().zip(attended.chunks_exact_mut(single.heads * d)).zip(decides).enumerate();
    let go = |(index, ((head, attended), decides)): &mut (usize, ((&mut MultiState, &mut [T]), &bool))| {
        let own = [single.heads * d, d, d];
        let token = std::array::from_fn(|part| &token[part][*index * own[part]..][..own[part]]);
        attended.copy_from_slice(&step_of::<T, S, G, I>(single, token, head, true, **decides).0);
    };
    match is_worth_parts(bytes) {
        true => each(&mut heads.collect::<Vec<_>>(), go),
        false => heads.for_each(|mut head| go(&mut head)),
    }
    tensor(attended, dims)
}

/// What one KV head reads and writes. G: what scales of packed rows are held in.
struct Head<'a, T, S, G, I> {
    /// `[slots, head_dim]`, of packed rows the places of those that are whole.
    keys: &'a mut [S],
    values: &'a mut [S],
    /// Packed keys and values.
    packed: Option<[PackedRows<'a, G, I>; 2]>,
    /// `[group, rows]`
    weights: &'a mut [T],
    /// The same before the softmax; empty where nobody looks.
    logits: &'a mut [T],
    /// `[group, head_dim]`
    attended: &'a mut [T],
}

fn step_as<T: Tile + OfCode + Stored<T>, S: Stored<T>, G: Stored<T>, I: Index>(
    attention: &Attention,
    token: [Tensor<3>; 3],
    state: &mut MultiState,
    counts: bool,
    decides: bool,
) -> (Tensor<3>, Option<Tensor<4>>) {
    let dims = token[0].dims();
    let accumulated: DType = accumulation(state.shape.dtype).into();
    let token = token.map(|x| Dense::of(narrow(x, accumulated)));
    let token = token.each_ref().map(|x| x.values());
    let (attended, weights) = step_of::<T, S, G, I>(attention, token, state, counts, decides);
    (tensor(attended, dims), weights)
}

/// Query, key and value: `[batch · heads, head_dim]`, as what is attended; weights as in [`step`].
fn step_of<T: Tile + OfCode + Stored<T>, S: Stored<T>, G: Stored<T>, I: Index>(
    attention: &Attention,
    [query, key, value]: [&[T]; 3],
    state: &mut MultiState,
    counts: bool,
    decides: bool,
) -> (Vec<T>, Option<Tensor<4>>) {
    let (batch, heads, kv_heads, d) = (state.shape.batch, attention.heads, attention.kv_heads, attention.head_dim);
    let (groups, slots, rows) = (state.groups(), state.slots, state.rows_in_step());
    let group = heads / kv_heads;
    let scale = T::from_f64(attention.scale);
    let mut query: Vec<T> = query.iter().map(|&x| x * scale).collect();
    let packed = state.packed.take();
    let codes = packed.as_ref().map(|packed| Of::BOTH.map(|of| OpenedCodes::of(packed, of, d)));
    let bound = state.bound.clone().filter(|_| decides);
    let program = bound.as_ref().and_then(|bound| bound.program());
    let shows_logits = program.is_some_and(|program| program.uses(Op::Logit));
    let initial = initial::<T, S>(state, key, value);
    let mut opened = Opened::take(state);

    // Append: positions and memory here, keys and values by the heads.
    let (free, next) = (I::of_mut(&mut opened.free), I::of_mut(&mut opened.next));
    let positions = I::of_mut(&mut opened.positions);
    let memory: &mut [T] = opened.memory.as_mut().map_or(&mut [], T::of_mut);
    let mut memory: Vec<&mut [T]> = memory.chunks_exact_mut(batch * groups * slots).collect();
    for (i, (free, next)) in free.iter().zip(next.iter()).enumerate() {
        let slot = i * slots + free.get() as usize;
        positions[slot] = *next;
        for (channel, initial) in memory.iter_mut().zip(initial.chunks_exact(batch * groups)) {
            channel[slot] = initial[i];
        }
    }

    // Attend.
    let decider_of = |head: usize| head / kv_heads * groups + if groups == 1 { 0 } else { head % kv_heads };
    let numbered = attention.placement.as_deref().map(|placement| Numbered::of(placement, positions, slots, rows));
    if let Some(numbered) = &numbered {
        for (index, query) in query.chunks_exact_mut(group * d).enumerate() {
            let decider = decider_of(index);
            if let Some(angles) = numbered.angles::<T>(decider) {
                query.chunks_exact_mut(d).for_each(|query| angles.rotate(free[decider].get() as usize, query));
            }
        }
    }
    let bias = bias::<T, I>(attention, state, positions, (free, next), numbered.as_ref());
    let mut weights = T::buffer(Buffer::Weights).take();
    weights.resize(batch * heads * rows, T::ZERO);
    let mut logits = vec![T::ZERO; if shows_logits { batch * heads * rows } else { 0 }];
    let mut attended = vec![T::ZERO; batch * heads * d];
    let attend = |(index, head): &mut (usize, Head<'_, T, S, G, I>)| {
        let index = *index;
        let decider = decider_of(index);
        let (slot, position) = (free[decider].get() as usize, next[decider].get() as usize);
        let place = |side: usize| head.packed.as_ref().map_or(slot, |packed| packed[side].place_of_new(slot, position));
        let (at_key, at_value) = (place(0) * d, place(1) * d);
        let own = index * d..(index + 1) * d;
        write(&mut head.keys[at_key..at_key + d], &key[own.clone()]);
        write(&mut head.values[at_value..at_value + d], &value[own]);
        let bias = if bias.len() == rows { &bias[..] } else { &bias[decider * rows..][..rows] };
        let angles = numbered.as_ref().and_then(|numbered| numbered.angles(decider));
        head.attend(&query[index * group * d..][..group * d], bias, angles);
    };
    let places = |side: usize| codes.as_ref().map_or(slots, |codes| codes[side].places);
    let keys = S::of_mut(&mut opened.keys).chunks_exact_mut(places(0) * d);
    let values = S::of_mut(&mut opened.values).chunks_exact_mut(places(1) * d);
    let results = weights.chunks_exact_mut(group * rows).zip(attended.chunks_exact_mut(group * d));
    let mut logits_of = logits.chunks_exact_mut(group * rows);
    let tasks = keys.zip(values).zip(results).enumerate().map(|(index, ((keys, values), (weights, attended)))| {
        let logits = logits_of.next().unwrap_or_default();
        let positions = &positions[decider_of(index) * slots..][..slots];
        let packed = codes
            .as_ref()
            .map(|codes| codes.each_ref().map(|codes| codes.head::<T, G, I>(index, [kv_heads, slots], positions)));
        (index, Head { keys, values, packed, weights, logits, attended })
    });
    if batch * kv_heads > 1 && is_worth_parts(2 * batch * kv_heads * rows * d * size_of::<S>()) {
        each(&mut tasks.collect::<Vec<_>>(), attend);
    } else {
        tasks.for_each(|mut task| attend(&mut task));
    }
    drop(codes);
    if !counts {
        opened.put_back(state);
        state.packed = packed;
        return (attended, Some(tensor(weights, [batch, kv_heads, group, rows])));
    }

    // Omit.
    let mut omitted = vec![None; batch * groups];
    let mut unscored = vec![false; batch * groups];
    let goes = state.is_strict();
    let decision = bound.as_ref().and_then(|bound| attention.decision(bound, state.newest(0), goes));
    if let Some(decision) = decision {
        let mut channels: Vec<_> = memory.into_iter().map(|channel| channel.chunks_exact_mut(slots)).collect();
        let deciders =
            weights.chunks_exact(heads / groups * rows).zip(omitted.iter_mut().zip(&mut unscored)).enumerate();
        let deciders = deciders.map(|(i, (weights, (omitted, unscored)))| Decider {
            weights,
            logits: if shows_logits { &logits[i * weights.len()..][..weights.len()] } else { &[] },
            positions: &positions[i * slots..][..rows],
            now: next[i].get(),
            head: state.first_head + i % groups,
            memory: channels.iter_mut().map(|chunks| &mut chunks.next().expect("one per decider")[..rows]).collect(),
            is_full: goes && state.is_full(i / groups),
            omitted,
            unscored,
        });
        decide(deciders.collect(), decision);
    }
    T::buffer(Buffer::Weights).set(weights);
    let mergings = bound.as_ref().map_or(&[][..], |bound| &bound.plan.merging);
    if !mergings.is_empty() && omitted.iter().any(Option::is_some) {
        let (keys, values) = (S::of_mut(&mut opened.keys), S::of_mut(&mut opened.values));
        let thresholds: &mut [T] = opened.thresholds.as_mut().map_or(&mut [], T::of_mut);
        let spread = batch * kv_heads > 1 && is_worth_cores(batch * kv_heads * rows * d * size_of::<S>());
        for (which, merging) in mergings.iter().enumerate() {
            let nearest = |index: usize| {
                let decider = decider_of(index);
                let keys = &keys[index * slots * d..][..slots * d];
                let (slot, positions) = (omitted[decider]?, &positions[decider * slots..][..rows]);
                nearest::<T, S, I>(slot, keys, positions, d).map(|partner| (slot, partner))
            };
            let pairs: Vec<Option<(usize, (usize, f64))>> = match spread {
                true => (0..batch * kv_heads).into_par_iter().map(nearest).collect(),
                false => (0..batch * kv_heads).map(nearest).collect(),
            };
            for (row, pairs) in pairs.chunks_exact(kv_heads).enumerate() {
                let cosines: Vec<f64> = pairs.iter().flatten().map(|(_, (_, cosine))| *cosine).collect();
                if cosines.is_empty() {
                    continue;
                }
                let merges = merges(merging, &cosines, thresholds.get_mut(row * mergings.len() + which));
                let pairs = pairs.iter().enumerate().filter_map(|(head, pair)| Some((head, (*pair)?)));
                for ((head, (slot, partner)), _) in pairs.zip(merges).filter(|(_, merges)| *merges) {
                    let of_head = (row * kv_heads + head) * slots * d;
                    for rows in [&mut *keys, &mut *values] {
                        merge::<T, S>(merging.weight, slot, partner, &mut rows[of_head..][..slots * d], d);
                    }
                }
            }
        }
    }
    let mut gone = vec![EMPTY; batch * groups];
    for i in 0..batch * groups {
        next[i] = I::new(next[i].get() + 1);
        // Slots fill up in order.
        free[i] = I::new(free[i].get() + 1);
        if let Some(slot) = omitted[i] {
            gone[i] = std::mem::replace(&mut positions[i * slots + slot], I::new(EMPTY)).get();
            free[i] = I::new(slot as i64);
            state.omits(i / groups, state.seen[i / groups]);
        }
    }
    opened.put_back(state);
    state.packed = packed;
    if unscored.contains(&true) {
        // Without a lowest score any row may have gone: so it is seen in the logits.
        let of_decider = attended.chunks_exact_mut(heads / groups * d).zip(&unscored);
        of_decider.filter(|(_, unscored)| **unscored).for_each(|(attended, _)| attended.fill(T::from_f64(f64::NAN)));
        state.note_unscored_by(&unscored);
    }
    if let Some(log) = &mut state.omitted {
        let any = omitted.iter().any(Option::is_some);
        let data = TensorData::new(gone, [batch, groups, 1]);
        log.push(any.then(|| Tensor::<3, Int>::from_data(data, &state.keys.device())));
    }
    match omitted.iter().any(Option::is_some) {
        true => state.count_omitting(1),
        false => state.count_held(1),
    }
    state.pack_due();
    (attended, None)
}

/// What the channels hold of the new rows, `[channels, batch · groups]`. key, value: `[batch · kv_heads, head_dim]`
fn initial<T: Real, S: Stored<T>>(state: &MultiState, key: &[T], value: &[T]) -> Vec<T> {
    let StateShape { batch, kv_heads, head_dim, .. } = state.shape;
    let groups = state.groups();
    let shared = kv_heads / groups;
    let norm = |row: &[T]| row.iter().map(|&x| S::store(x).load().to_f64().powi(2)).sum::<f64>().sqrt();
    let norms = |rows: &[T]| -> Vec<T> {
        let of_decider = |rows: &[T]| T::from_f64(rows.chunks_exact(head_dim).map(norm).sum::<f64>() / shared as f64);
        rows.chunks_exact(shared * head_dim).map(of_decider).collect()
    };
    let channel = |initial: Initial| match initial {
        Initial::Zero => vec![T::ZERO; batch * groups],
        Initial::KeyNorm => norms(key),
        Initial::ValueNorm => norms(value),
    };
    state.channels().into_iter().flat_map(channel).collect()
}

/// What is added to the logits of rows: nothing, or −∞ where a slot is empty or outside the sliding
/// window, by the numbers in use. `[batch · groups, rows]`, or one line of nothing for all.
fn bias<T: Real, I: Index>(
    attention: &Attention,
    state: &MultiState,
    positions: &[I],
    (free, next): (&[I], &[I]),
    numbered: Option<&Numbered>,
) -> Vec<T> {
    let rows = state.rows_in_step();
    let newest = state.seen.iter().max().copied().unwrap_or(0);
    let window = attention.window.filter(|&window| numbered.is_some() || newest >= window);
    let window = window.map_or(i64::MAX, |window| window as i64);
    if window == i64::MAX && state.held.iter().all(|&held| held + 1 >= rows) {
        return vec![T::ZERO; rows];
    }
    let seen = |position: i64, now: i64| position >= 0 && now - position < window;
    if let Some(numbered) = numbered {
        let deciders = positions.chunks_exact(state.slots).zip(free).enumerate();
        let of_decider = |(decider, (slots, free)): (usize, (&[I], &I))| {
            let numbers = numbered.numbers(decider);
            let now = numbers[free.get() as usize];
            let each = slots[..rows].iter().zip(numbers);
            each.map(|(p, &number)| T::bias(p.get() >= 0 && seen(number, now))).collect::<Vec<T>>()
        };
        return deciders.flat_map(of_decider).collect();
    }
    let deciders = positions.chunks_exact(state.slots).zip(next);
    deciders.flat_map(|(slots, &now)| slots[..rows].iter().map(move |&p| T::bias(seen(p.get(), now.get())))).collect()
}

fn write<T: Copy, S: Stored<T>>(row: &mut [S], values: &[T]) {
    row.iter_mut().zip(values).for_each(|(row, &value)| *row = S::store(value));
}

impl<T: Tile + OfCode, S: Stored<T>, G: Stored<T>, I: Index> Head<'_, T, S, G, I> {
    /// Softmax over all rows, and their values' mean by it. query: `[group, head_dim]`, scaled and rotated; `angles`: by
    /// which keys still have to be rotated.
    fn attend(&mut self, query: &[T], bias: &[T], angles: Option<Angles<'_, T>>) {
        let Self { keys, values, packed, weights, logits, attended } = self;
        let d = query.len() * bias.len() / weights.len();
        let to = Attend { query, bias, weights, logits, attended, d };
        match packed.take() {
            Some([packed_keys, packed_values]) => {
                to.rows(&packed_keys.beside(keys), angles, &packed_values.beside(values));
            }
            None => to.rows(&Whole { rows: keys, d }, angles, &Whole { rows: values, d }),
        }
    }
}

/// What the queries of a group do with all rows of their head.
struct Attend<'a, T> {
    query: &'a [T],
    bias: &'a [T],
    /// `[group, rows]`
    weights: &'a mut [T],
    logits: &'a mut [T],
    /// `[group, head_dim]`, which begins at nothing.
    attended: &'a mut [T],
    d: usize,
}

impl<T: Tile> Attend<'_, T> {
    fn rows(self, keys: &dyn Rows<T>, angles: Option<Angles<'_, T>>, values: &dyn Rows<T>) {
        let Self { query, bias, weights, logits, attended, d } = self;
        let rotated = angles.map(|angles| Rotated { keys, angles, d });
        let keys = rotated.as_ref().map_or(keys, |rotated| rotated);
        let (arch, rows) = (Arch::new(), bias.len());
        let mut scratch = Scratch::new();
        for part in parts::<T>(rows, d, keys.at_once()) {
            keys.products(arch, query, part, weights, &mut scratch);
        }
        if !logits.is_empty() {
            logits.copy_from_slice(weights);
        }
        weights.chunks_exact_mut(rows).for_each(|weights| T::softmax(weights, &mut [], bias));
        for part in parts::<T>(rows, d, values.at_once()) {
            values.add_weighted(arch, weights, part, attended, &mut scratch);
        }
    }
}
