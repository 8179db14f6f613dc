//! The scalar pass of a block of tokens: logits become weights, and rows are omitted, token by token.
//!
//! What [`blocked`](crate::blocked) does on the host, in one launch. Candidates are the rows in the
//! slots and the block's new ones, each with its position, −1 where it is not held (any more).

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::score::{Numbers, Steps, numbers, score};
use super::take_in::take_in;
use crate::attention::Attention;
use crate::attention::blocked::Decision;
use crate::kernels::cube::access::{argument, close, close_int, empty, own, own_int, read_int, units};
use crate::kernels::cube::product;
use crate::kernels::cube::reduce::{HIDDEN, lowest, team_max, team_sum};
use crate::precision::{narrow, widen};
use crate::state::MultiState;

/// One cube per decision, or per query head where nothing is decided; `lanes` units share a head.
///
/// old: `[cubes, heads, n, used]`, new: `[cubes, heads, n, n]`, logits in, weights out;
/// candidates: `[deciders, used + n]`; memory: `[channels, deciders, used + n]`; next: `[deciders]`; omitted: `[deciders, n]`.
#[cube(launch)]
fn weigh_kernel(
    old: &mut [f32],
    new: &mut [f32],
    candidates: &mut [i32],
    memory: &mut [f32],
    next: &[i32],
    omitted: &mut [i32],
    numbers: &Numbers,
    states: i32,
    window: i32,
    used: u32,
    n: u32,
    heads: u32,
    cubes_per_decider: u32,
    deciders: u32,
    #[comptime] program: Steps,
    #[comptime] decides: bool,
    #[comptime] lanes: u32,
    #[comptime] units: u32,
) {
    let mut shared = Shared::new_slice(units as usize);
    let mut of_scores = Shared::new_slice(units as usize);
    let mut indices_of_scores = Shared::new_slice(units as usize);
    let decider = CUBE_POS_X / cubes_per_decider;
    let of_candidates = decider * (used + n);
    let first = next[decider as usize];
    let team = UNIT_POS / lanes;
    let lane = UNIT_POS % lanes;
    let teams = comptime!(units / lanes);
    let rounds = heads.div_ceil(teams);
    let share = 1.0f32 / f32::cast_from(heads);

    for i in 0..n {
        let now = first + i32::cast_from(i);
        let end = used + i + 1;
        for round in 0..rounds {
            let head = round * teams + team;
            let here = head < heads;
            let row = (CUBE_POS_X * heads + head) * n + i;
            let of_old = row * used;
            let of_new = row * n;

            let mut highest = HIDDEN.runtime();
            if here {
                let mut c = lane;
                while c < end {
                    let held =
                        is_attended(candidates[(of_candidates + c) as usize], c, used, first, now, window, decides);
                    let mut logit = HIDDEN.runtime();
                    if held {
                        if c < used {
                            logit = old[(of_old + c) as usize];
                        } else {
                            logit = new[(of_new + c - used) as usize];
                        }
                    }
                    if logit > highest {
                        highest = logit;
                    }
                    c += lanes;
                }
            }
            let highest = team_max(highest, &mut shared, lanes);

            let mut sum = 0.0f32;
            if here {
                let mut c = lane;
                while c < end {
                    let held =
                        is_attended(candidates[(of_candidates + c) as usize], c, used, first, now, window, decides);
                    let mut weight = 0.0f32;
                    if c < used {
                        if held {
                            weight = (old[(of_old + c) as usize] - highest).exp();
                        }
                        old[(of_old + c) as usize] = weight;
                    } else {
                        if held {
                            weight = (new[(of_new + c - used) as usize] - highest).exp();
                        }
                        new[(of_new + c - used) as usize] = weight;
                    }
                    sum += weight;
                    c += lanes;
                }
            }
            let inverse = 1.0f32 / team_sum(sum, &mut shared, lanes);
            if here {
                let mut c = lane;
                while c < end {
                    if c < used {
                        let weight = old[(of_old + c) as usize] * inverse;
                        old[(of_old + c) as usize] = weight;
                    } else {
                        let weight = new[(of_new + c - used) as usize] * inverse;
                        new[(of_new + c - used) as usize] = weight;
                    }
                    c += lanes;
                }
                // What comes later is not attended.
                let mut later = i + 1 + lane;
                while later < n {
                    new[(of_new + later) as usize] = 0.0f32;
                    later += lanes;
                }
            }
        }
        if comptime!(decides) {
            sync_storage();
            let mut best_score = 3.2e38f32;
            let mut best_position = 2147483647i32;
            // Where no score is a number the new row goes, which is held for sure.
            let mut best = used + i;
            let mut c = UNIT_POS;
            while c < end {
                let mut position = candidates[(of_candidates + c) as usize];
                if c == used + i {
                    position = now;
                }
                if position >= 0 {
                    let mut weight = 0.0f32;
                    let mut highest = 0.0f32;
                    if comptime!(program.sees_weight || program.sees_highest) {
                        for head in 0..heads {
                            let row = (CUBE_POS_X * heads + head) * n + i;
                            let mut of_head = new[(row * n + c.max(used) - used) as usize];
                            if c < used {
                                of_head = old[(row * used + c) as usize];
                            }
                            weight += of_head;
                            if of_head > highest {
                                highest = of_head;
                            }
                        }
                        weight *= share;
                    }
                    let scored = score(
                        position,
                        now,
                        weight,
                        highest,
                        decider,
                        memory,
                        of_candidates + c,
                        deciders * (used + n),
                        false,
                        numbers,
                        comptime![program.clone()],
                    );
                    if scored < best_score || (scored == best_score && position < best_position) {
                        best_score = scored;
                        best_position = position;
                        best = c;
                    }
                }
                c += units;
            }
            let gone =
                lowest(best_score, best_position, best, &mut shared, &mut of_scores, &mut indices_of_scores, units);
            if UNIT_POS == 0 {
                candidates[(of_candidates + used + i) as usize] = now;
                let mut position = (-1i32).runtime();
                if now >= states {
                    position = candidates[(of_candidates + gone) as usize];
                    candidates[(of_candidates + gone) as usize] = (-1i32).runtime();
                }
                omitted[(decider * n + i) as usize] = position;
            }
            sync_storage();
        }
    }
}

/// Whether the current token attends to candidate `c`, whose position is noted as `noted`. Where
/// nothing is decided all new ones up to the current one are held.
#[cube]
fn is_attended(noted: i32, c: u32, used: u32, first: i32, now: i32, window: i32, #[comptime] decides: bool) -> bool {
    let mut position = first + i32::cast_from(c) - i32::cast_from(used);
    if comptime!(decides) {
        if position != now {
            position = noted;
        }
    } else if c < used {
        position = noted;
    }
    position >= 0 && now - position < window
}

/// `n` tokens of every batch row; shapes as in [`Attention::scan`]. Reads nothing back.
pub(crate) fn block(
    attention: &Attention,
    [query, key, value]: [Tensor<4>; 3],
    state: &mut MultiState,
    decision: Option<Decision<'_>>,
) -> Tensor<4> {
    let [batch, heads, n, head_dim] = query.dims();
    let (kv_heads, dtype, device) = (attention.kv_heads, query.dtype(), query.device());
    let group = heads / kv_heads;
    let used = state.used();
    let deciders = batch * state.groups();
    let goes = decision.and_then(|decision| decision.states);
    let overflows = goes.is_some_and(|states| state.held.iter().any(|held| held + n > states));
    let program = decision.and_then(|decision| Steps::of(decision.program)).unwrap_or_else(Steps::nothing);
    let decides = overflows || (decision.is_some() && state.remembers());

    // What decides is computed in f32, whatever the state is in.
    let query = widen(query).mul_scalar(attention.scale).reshape([batch, kv_heads, group * n, head_dim]);
    let logits = |keys: Tensor<4>| own(product(query.clone(), widen(keys).swap_dims(2, 3)));
    let new = logits(key.clone());
    let old = match used {
        0 => empty(&new, [1], DType::F32),
        _ => logits(state.keys().narrow(2, 0, used)),
    };
    let positions = state.positions.clone();
    let candidates = match used {
        0 => Tensor::full([deciders, n], -1, &device),
        _ => Tensor::cat(vec![positions.narrow(1, 0, used), Tensor::full([deciders, n], -1, &device)], 1),
    };
    let candidates = own_int(candidates);
    let initial = state.initial(&key, &value);
    let memory = match (&state.memory, initial) {
        (Some(memory), Some(initial)) => own(match used {
            0 => initial,
            _ => Tensor::cat(vec![memory.clone().narrow(2, 0, used), initial], 2),
        }),
        _ => empty(&new, [1], DType::F32),
    };
    let omitted = empty(&new, [deciders, n], candidates.dtype);

    let cubes = if decides { deciders } else { batch * heads };
    let heads_of_cube = batch * heads / cubes;
    let units = units(&new.client);
    let lanes = units / (heads_of_cube.next_power_of_two() as u32).min(units);
    let next = read_int(state.next.clone());
    weigh_kernel::launch(
        &new.client,
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_1d(units),
        argument(&old),
        argument(&new),
        argument(&candidates),
        argument(&memory),
        argument(&next),
        argument(&omitted),
        numbers(decision, attention.window, state),
        goes.and_then(|states| i32::try_from(states).ok()).unwrap_or(i32::MAX),
        attention.window.and_then(|window| i32::try_from(window).ok()).unwrap_or(i32::MAX),
        used as u32,
        n as u32,
        heads_of_cube as u32,
        (cubes / deciders) as u32,
        deciders as u32,
        program,
        decides,
        lanes,
        units,
    );

    let weights = |weights: CubeTensor, rows: usize| close::<4>(weights).reshape([batch, kv_heads, group * n, rows]);
    let mut attended = product(weights(new, n), widen(value.clone()));
    if used > 0 {
        attended = attended + product(weights(old, used), widen(state.values().narrow(2, 0, used)));
    }
    log(state, &omitted, n, goes.filter(|_| decides));
    if decides {
        take_in(state, [key, value], candidates, memory, used);
        match goes {
            Some(_) => {
                state.omit_where_full(n);
                state.count_omitting(n);
            }
            None => state.count_held(n),
        }
    } else {
        hold_all(state, [key, value], n);
    }
    narrow(attended.reshape([batch, heads, n, head_dim]), dtype)
}

/// Writes down what every token omitted, if that is recorded.
fn log(state: &mut MultiState, omitted: &CubeTensor, n: usize, goes: Option<usize>) {
    let (batch, groups) = (state.shape.batch, state.groups());
    let Some(log) = &mut state.omitted else { return };
    let omitted: Tensor<3, Int> = close_int::<2>(omitted.clone()).reshape([batch, groups, n]);
    log.extend((0..n).map(|i| {
        let any = goes.is_some_and(|states| state.held.iter().any(|held| held + i >= states));
        any.then(|| omitted.clone().narrow(2, i, 1))
    }));
}

/// Writes the new rows behind those that are held, of which none goes.
fn hold_all(state: &mut MultiState, [key, value]: [Tensor<4>; 2], n: usize) {
    let [batch, kv_heads, _, head_dim] = key.dims();
    let (groups, slots, device) = (state.groups(), state.slots, state.device());
    let ahead = Tensor::<1, Int>::arange(0..n as i64, &device).reshape([1, n]);
    let initial = state.initial(&key, &value);
    // Slots fill up in order.
    let ahead = ahead.expand([batch * groups, n]);
    let slot = state.free.clone().expand([batch * groups, n]) + ahead.clone();
    let position = state.next.clone().expand([batch * groups, n]) + ahead;
    if let (Some(memory), Some(initial)) = (&mut state.memory, initial) {
        let [channels, deciders, _] = initial.dims();
        let slot = slot.clone().reshape([1, deciders, n]).expand([channels, deciders, n]);
        memory.inplace(|memory| memory.scatter(2, slot, initial, IndexingUpdateOp::Assign));
    }
    let rows = batch * kv_heads;
    let of_head = slot.clone().reshape([batch, groups, n]).expand([batch, kv_heads, n]).reshape([rows, n]);
    let first = Tensor::<1, Int>::arange(0..rows as i64, &device).mul_scalar(slots as i64).reshape([rows, 1]);
    let to = (of_head + first.expand([rows, n])).reshape([rows * n]);
    let assign = IndexingUpdateOp::Assign;
    let flat = |x: Tensor<4>| narrow(x.reshape([rows * n, head_dim]), state.shape.dtype);
    let (key, value) = (flat(key), flat(value));
    state.keys.inplace(|keys| keys.select_assign(0, to.clone(), key, assign));
    state.values.inplace(|values| values.select_assign(0, to, value, assign));
    state.positions.inplace(|positions| positions.scatter(1, slot, position, assign));
    state.next.inplace(|next| next.add_scalar(n as i64));
    state.free.inplace(|free| free.add_scalar(n as i64));
    state.count_held(n);
}
