//! One token through an attention layer: append, attend, and omit where the score is a program.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::attend::{Rows, attend};
use super::packed;
use super::score::{Numbers, Steps, numbers, score};
use crate::attention::Attention;
use crate::attention::blocked::Decision;
use crate::kernels::cube::access::{argument, close, close_int, empty, own, own_int, read, units};
use crate::kernels::cube::reduce::lowest;
use crate::policy::Decides;
use crate::score::Initial;
use crate::state::{MultiState, StateShape};

/// Writes key, value and position of the new row into the free slot. One cube per batch row and KV
/// head, one unit per channel.
#[cube(launch)]
fn append_kernel<F: Float, S: Float>(
    key: &[F],
    value: &[F],
    keys: &mut [S],
    values: &mut [S],
    positions: &mut [i32],
    free: &[i32],
    next: &[i32],
    slots: u32,
    kv_heads: u32,
    #[comptime] head_dim: u32,
    #[comptime] layer_wise: bool,
    #[define(F, S)] _dtypes: [ElemType; 2],
) {
    let head = CUBE_POS_X;
    let mut decider = head;
    if comptime!(layer_wise) {
        decider = head / kv_heads;
    }
    let slot = u32::cast_from(free[decider as usize]);
    let from = (head * head_dim) as usize;
    let to = ((head * slots + slot) * head_dim) as usize;
    let mut channel = UNIT_POS;
    while channel < head_dim {
        keys[to + channel as usize] = S::cast_from(key[from + channel as usize]);
        values[to + channel as usize] = S::cast_from(value[from + channel as usize]);
        channel += CUBE_DIM_X;
    }
    let mut first = true;
    if comptime!(layer_wise) {
        let of_row = head % kv_heads;
        first = of_row == 0;
    }
    if UNIT_POS == 0 && first {
        positions[(decider * slots + slot) as usize] = next[decider as usize];
    }
}

/// Scores the first `rows` slots, finds the lowest, frees its slot where the state is full, and counts
/// the token. One cube per decision.
#[cube(launch)]
fn decide_kernel(
    weights: &[f32],
    memory: &mut [f32],
    positions: &mut [i32],
    free: &mut [i32],
    next: &mut [i32],
    omitted: &mut [i32],
    numbers: &Numbers,
    states: i32,
    slots: u32,
    rows: u32,
    heads: u32,
    deciders: u32,
    #[comptime] program: Steps,
    #[comptime] units: u32,
) {
    let mut scores = Shared::new_slice(units as usize);
    let mut of_scores = Shared::new_slice(units as usize);
    let mut slots_of_scores = Shared::new_slice(units as usize);
    let decider = CUBE_POS_X;
    let now = next[decider as usize];
    let newest = u32::cast_from(free[decider as usize]);
    let mut best_score = 3.2e38f32;
    let mut best_position = 2147483647i32;
    // Where no score is a number the new row goes, which is held for sure.
    let mut best_slot = newest;
    let share = 1.0f32 / f32::cast_from(heads);

    let mut row = UNIT_POS;
    while row < rows {
        let place = (decider * slots + row) as usize;
        let position = positions[place];
        if position >= 0 {
            let mut weight = 0.0f32;
            let mut highest = 0.0f32;
            if comptime!(program.sees_weight) {
                for head in 0..heads {
                    weight += weights[((decider * heads + head) * rows + row) as usize];
                }
                weight *= share;
            }
            if comptime!(program.sees_highest) {
                for head in 0..heads {
                    let of_head = weights[((decider * heads + head) * rows + row) as usize];
                    if of_head > highest {
                        highest = of_head;
                    }
                }
            }
            let scored = score(
                position,
                now,
                weight,
                highest,
                decider,
                memory,
                decider * slots + row,
                deciders * slots,
                row == newest,
                numbers,
                comptime![program.clone()],
            );
            if scored < best_score || (scored == best_score && position < best_position) {
                best_score = scored;
                best_position = position;
                best_slot = row;
            }
        }
        row += units;
    }
    let slot = lowest(best_score, best_position, best_slot, &mut scores, &mut of_scores, &mut slots_of_scores, units);
    if UNIT_POS == 0 {
        let mut gone = (-1i32).runtime();
        // Slots fill up in order.
        let mut now_free = i32::cast_from(newest) + 1;
        if now >= states {
            let place = (decider * slots + slot) as usize;
            gone = positions[place];
            positions[place] = -1i32;
            now_free = i32::cast_from(slot);
        }
        omitted[decider as usize] = gone;
        free[decider as usize] = now_free;
        next[decider as usize] = now + 1;
    }
}

/// The tensors of a state, opened to be written.
struct Opened {
    keys: CubeTensor,
    values: CubeTensor,
    positions: CubeTensor,
    free: CubeTensor,
    next: CubeTensor,
}

impl Opened {
    fn take(state: &mut MultiState) -> Self {
        Self {
            keys: own(state.keys.extract()),
            values: own(state.values.extract()),
            positions: own_int(state.positions.extract()),
            free: own_int(state.free.extract()),
            next: own_int(state.next.extract()),
        }
    }

    fn put_back(self, state: &mut MultiState) {
        state.keys = close(self.keys);
        state.values = close(self.values);
        state.positions = close_int(self.positions);
        state.free = close_int(self.free);
        state.next = close_int(self.next);
    }
}

/// Writes the new row, `[batch, kv_heads, head_dim]`; `dims`: of the query.
fn append([key, value]: [&CubeTensor; 2], [batch, _, d]: [usize; 3], state: &Rows<'_>, kv_heads: usize, units: u32) {
    append_kernel::launch(
        &key.client,
        CubeCount::Static((batch * kv_heads) as u32, 1, 1),
        CubeDim::new_1d(units.min(d.next_power_of_two() as u32)),
        argument(key),
        argument(value),
        argument(state.keys),
        argument(state.values),
        argument(state.positions),
        argument(state.free),
        argument(state.next),
        state.slots,
        kv_heads as u32,
        d as u32,
        state.layer_wise,
        [dtype_to_storage_type(key.dtype), dtype_to_storage_type(state.keys.dtype)],
    );
}

/// Appends and attends; with a `decision`, or where nobody decides, also omits and counts the
/// token. Else, with none at all, returns the weights, `[batch, kv_heads, group, rows]`, for who decides. Shapes as in
/// [`Attention::step`].
pub(crate) fn step(
    attention: &Attention,
    token: [Tensor<3>; 3],
    state: &mut MultiState,
    decision: Option<Option<Decision<'_>>>,
) -> (Tensor<3>, Option<Tensor<4>>) {
    let [batch, heads, head_dim] = token[0].dims();
    let StateShape { kv_heads, .. } = state.shape;
    let (slots, rows, groups) = (state.slots as u32, state.rows_in_step(), state.groups());
    let layer_wise = state.decides() == Decides::Layer;
    let keeps_norms = state.channels().iter().any(|channel| *channel != Initial::Zero);
    if decision.flatten().is_none() || keeps_norms {
        // Where the program is run in the kernel, that knows which row is new and begins at zero.
        let one = |x: &Tensor<3>| {
            let [batch, heads, head_dim] = x.dims();
            x.clone().reshape([batch, heads, 1, head_dim])
        };
        let initial = state.initial(&one(&token[1]), &one(&token[2]));
        state.begin_memory(initial);
    }
    let [query, key, value] = token.map(read);
    let packed = state.packed.take();
    let codes = packed.as_ref().map(|packed| packed::Opened::of(packed, head_dim));
    let opened = Opened::take(state);
    let client = query.client.clone();
    let units = units(&client);
    let cubes = |n: usize| CubeCount::Static(n as u32, 1, 1);
    let held = Rows {
        keys: &opened.keys,
        values: &opened.values,
        positions: &opened.positions,
        next: &opened.next,
        free: &opened.free,
        layer_wise,
        slots,
        rows,
    };
    let dims = [batch, heads, head_dim];
    let [attended, weights] = match &codes {
        Some(codes) => {
            codes.append([&key, &value], dims, &held, kv_heads, units);
            codes.attend(attention, &query, dims, &held)
        }
        None => {
            append([&key, &value], dims, &held, kv_heads, units);
            attend(attention, &query, dims, &held)
        }
    };
    drop(codes);
    let Some(decision) = decision else {
        opened.put_back(state);
        state.packed = packed;
        return (close(attended), Some(close(weights)));
    };
    let program = decision.and_then(|decision| Steps::of(decision.program)).unwrap_or_else(Steps::nothing);
    let goes = decision.and_then(|decision| decision.states);
    let memory = match state.memory.as_mut().filter(|_| program.remembers) {
        Some(memory) => own(memory.extract()),
        None => empty(&query, [1], DType::F32),
    };
    let omitted = empty(&query, [batch, groups, 1], opened.next.dtype);
    decide_kernel::launch(
        &client,
        cubes(batch * groups),
        CubeDim::new_1d(units),
        argument(&weights),
        argument(&memory),
        argument(&opened.positions),
        argument(&opened.free),
        argument(&opened.next),
        argument(&omitted),
        numbers(decision, attention.window, state),
        goes.and_then(|states| i32::try_from(states).ok()).unwrap_or(i32::MAX),
        slots,
        rows as u32,
        (heads / groups) as u32,
        (batch * groups) as u32,
        program.clone(),
        units,
    );
    if let Some(own) = state.memory.as_mut().filter(|_| program.remembers) {
        *own = close(memory);
    }
    opened.put_back(state);
    state.packed = packed;
    let any = goes.is_some() && state.any_full();
    if let Some(log) = &mut state.omitted {
        log.push(any.then(|| close_int(omitted)));
    }
    match goes {
        Some(_) => {
            state.omit_where_full(1);
            state.count_omitting(1);
        }
        None => state.count_held(1),
    }
    state.pack_due();
    (close(attended), None)
}
