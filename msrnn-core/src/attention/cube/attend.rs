//! Softmax attention of one token, split over rows: a cube takes some rows of a KV head, so that one sequence alone keeps
//! a whole GPU busy, and a second launch joins what the cubes found (Flash-Decoding; Dao et al., 2023).
//!
//! A part leaves its highest logit h, the sum s of exp(logit − h) and, per channel, the sum a of exp(logit − h) · value.
//! Of all parts together, with H the highest h: the sum is S = Σ s·exp(h − H), the result Σ a·exp(h − H) / S, and the weight
//! of a row exp(logit − H) / S.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::prelude::*;

use crate::attention::Attention;
use crate::kernels::cube::access::{argument, empty, is_software, units};
use crate::kernels::cube::reduce::{HIDDEN, team_max, team_sum};

/// A part of the rows of a KV head, for each of its query heads. One cube per batch row and KV head, and part. `lanes` units
/// take a row's key, each every `lanes`-th channel; a unit takes a channel of the values.
///
/// logits: `[batch · heads, rows]`; of_parts: `[batch · heads, parts, 2]`, of each part h and s; sums: `[batch · heads,
/// parts, head_dim]`.
#[cube(launch)]
fn attend_kernel<F: Float, S: Float>(
    query: &[F],
    keys: &[S],
    values: &[S],
    positions: &[i32],
    next: &[i32],
    logits: &mut [f32],
    of_parts: &mut [f32],
    sums: &mut [f32],
    scale: f32,
    window: i32,
    slots: u32,
    rows: u32,
    rows_of_part: u32,
    kv_heads: u32,
    group: u32,
    #[comptime] head_dim: u32,
    #[comptime] layer_wise: bool,
    #[comptime] lanes: u32,
    #[comptime] units: u32,
    #[define(F, S)] _dtypes: [ElemType; 2],
) {
    let mut shared = Shared::new_slice(units as usize);
    let mut scaled = Shared::new_slice(head_dim as usize);
    let (head, part, parts) = (CUBE_POS_X, CUBE_POS_Y, CUBE_COUNT_Y);
    let mut decider = head;
    if comptime!(layer_wise) {
        decider = head / kv_heads;
    }
    let now = next[decider as usize];
    let of_positions = decider * slots;
    let of_rows = head * slots;
    let begin = part * rows_of_part;
    let end = (begin + rows_of_part).min(rows);
    let (team, lane) = (UNIT_POS / lanes, UNIT_POS % lanes);
    let teams = comptime!(units / lanes);
    // Units beside each other take channels beside each other, of as many rows as there are units for.
    let abreast = comptime!(if units > head_dim { units / head_dim } else { 1 });

    for member in 0..group {
        let query_head = head * group + member;
        let of_logits = query_head * rows;
        begin_query(query, &mut scaled, query_head * head_dim, scale, head_dim, units);

        let mut highest = HIDDEN.runtime();
        // All teams take as many turns, since sums of a team wait for each other.
        let mut first = begin;
        while first < end {
            let row = first + team;
            let mut seen = false;
            if row < end {
                let position = positions[(of_positions + row) as usize];
                seen = sees(position, now, window);
            }
            let mut dot = 0.0f32;
            if seen {
                let of_key = ((of_rows + row) * head_dim) as usize;
                let mut channel = lane;
                while channel < head_dim {
                    dot += scaled[channel as usize] * f32::cast_from(keys[of_key + channel as usize]);
                    channel += lanes;
                }
            }
            let mut logit = dot;
            if comptime!(lanes > 1) {
                logit = team_sum(dot, &mut shared, lanes);
            }
            if !seen {
                logit = HIDDEN.runtime();
            }
            if row < end && lane == 0 {
                logits[(of_logits + row) as usize] = logit;
            }
            if logit > highest {
                highest = logit;
            }
            first += teams;
        }
        let of_part = query_head * parts + part;
        let highest = rest_of_part(highest, logits, of_parts, of_logits, of_part, begin, end, &mut shared, units);

        let first = UNIT_POS / head_dim;
        let mut block = 0u32;
        while block < head_dim {
            let channel = block + UNIT_POS % head_dim.min(units);
            let mut sum = 0.0f32;
            if first < abreast && channel < head_dim {
                let mut row = begin + first;
                while row < end {
                    let of_value = ((of_rows + row) * head_dim + channel) as usize;
                    let weight = exponential(logits[(of_logits + row) as usize], highest);
                    sum += weight * f32::cast_from(values[of_value]);
                    row += abreast;
                }
            }
            end_channels(sum, &mut shared, sums, of_part * head_dim + channel, first, channel, abreast, head_dim);
            block += units;
        }
    }
}

/// Whether a query of a position attends to a row of another; −1 is none.
#[cube]
pub(super) fn sees(position: i32, now: i32, window: i32) -> bool {
    position >= 0 && now - position < window
}

/// Puts a query, scaled, where all units read it.
#[cube]
pub(super) fn begin_query<F: Float>(
    query: &[F],
    scaled: &mut [f32],
    first: u32,
    scale: f32,
    #[comptime] head_dim: u32,
    #[comptime] units: u32,
) {
    let mut channel = UNIT_POS;
    while channel < head_dim {
        scaled[channel as usize] = f32::cast_from(query[(first + channel) as usize]) * scale;
        channel += units;
    }
    sync_cube();
}

/// Once its logits are there: what a part leaves beside its sums, h and s. Returns h, to all units.
#[cube]
pub(super) fn rest_of_part(
    highest: f32,
    logits: &mut [f32],
    of_parts: &mut [f32],
    of_logits: u32,
    of_part: u32,
    begin: u32,
    end: u32,
    shared: &mut [f32],
    #[comptime] units: u32,
) -> f32 {
    let highest = team_max(highest, shared, units);
    sync_storage();
    let mut sum = 0.0f32;
    let mut row = begin + UNIT_POS;
    while row < end {
        sum += exponential(logits[(of_logits + row) as usize], highest);
        row += units;
    }
    let sum = team_sum(sum, shared, units);
    if UNIT_POS == 0 {
        of_parts[(2 * of_part) as usize] = highest;
        of_parts[(2 * of_part + 1) as usize] = sum;
    }
    highest
}

/// Adds up what units that took the same channel of different rows found, and leaves it.
#[cube]
pub(super) fn end_channels(
    sum: f32,
    shared: &mut [f32],
    sums: &mut [f32],
    to: u32,
    first: u32,
    channel: u32,
    #[comptime] abreast: u32,
    #[comptime] head_dim: u32,
) {
    shared[UNIT_POS as usize] = sum;
    sync_cube();
    if first == 0 && channel < head_dim {
        let mut total = 0.0f32;
        for other in 0..abreast {
            total += shared[(other * head_dim + UNIT_POS) as usize];
        }
        sums[to as usize] = total;
    }
    sync_cube();
}

/// exp(logit − highest); 0 where nothing is attended. Of a logit that is not a number the weight is none either.
#[cube]
pub(super) fn exponential(logit: f32, highest: f32) -> f32 {
    let mut exponential = 0.0f32;
    if logit != HIDDEN.runtime() {
        exponential = (logit - highest).exp();
    }
    exponential
}

/// Joins the parts of a query head, and makes its logits weights. One cube per batch row and query head; shapes as in
/// [`attend_kernel`].
#[cube(launch)]
fn join_kernel<F: Float>(
    of_parts: &[f32],
    sums: &[f32],
    weights: &mut [f32],
    attended: &mut [F],
    rows: u32,
    parts: u32,
    head_dim: u32,
    #[define(F)] _dtype: ElemType,
) {
    let of_parts_of_head = CUBE_POS_X * parts;
    let mut highest = HIDDEN.runtime();
    for part in 0..parts {
        let of_part = of_parts[(2 * (of_parts_of_head + part)) as usize];
        if of_part > highest {
            highest = of_part;
        }
    }
    let mut sum = 0.0f32;
    for part in 0..parts {
        let of_part = (2 * (of_parts_of_head + part)) as usize;
        sum += of_parts[of_part + 1] * (of_parts[of_part] - highest).exp();
    }
    let inverse = 1.0f32 / sum;

    let mut channel = UNIT_POS;
    while channel < head_dim {
        let mut total = 0.0f32;
        for part in 0..parts {
            let of_part = of_parts_of_head + part;
            let share = (of_parts[(2 * of_part) as usize] - highest).exp();
            total += share * sums[(of_part * head_dim + channel) as usize];
        }
        attended[(CUBE_POS_X * head_dim + channel) as usize] = F::cast_from(total * inverse);
        channel += CUBE_DIM_X;
    }
    let mut row = UNIT_POS;
    while row < rows {
        let of_weight = (CUBE_POS_X * rows + row) as usize;
        let weight = exponential(weights[of_weight], highest) * inverse;
        weights[of_weight] = weight;
        row += CUBE_DIM_X;
    }
}

/// Keys and values of a state, `[batch, kv_heads, slots, head_dim]`, and where its rows stand.
pub(super) struct Rows<'a> {
    pub(super) keys: &'a CubeTensor,
    pub(super) values: &'a CubeTensor,
    /// `[deciders, slots]`.
    pub(super) positions: &'a CubeTensor,
    /// `[deciders]`.
    pub(super) next: &'a CubeTensor,
    /// `[deciders]`.
    pub(super) free: &'a CubeTensor,
    /// Whether a layer's heads hold the same rows.
    pub(super) layer_wise: bool,
    /// Slots, and how many of them hold something at most.
    pub(super) slots: u32,
    pub(super) rows: usize,
}

/// How the rows of a step are cut into parts, and what those leave.
pub(super) struct Split {
    pub(super) parts: usize,
    pub(super) lanes: u32,
    pub(super) units: u32,
    /// `[batch, kv_heads, group, rows]`: logits, which become weights.
    pub(super) weights: CubeTensor,
    /// `[batch · heads, parts, 2]`
    pub(super) of_parts: CubeTensor,
    /// `[batch · heads, parts, head_dim]`
    pub(super) sums: CubeTensor,
}

impl Split {
    pub(super) fn of(query: &CubeTensor, [batch, heads, d]: [usize; 3], kv_heads: usize, rows: usize) -> Self {
        let client = &query.client;
        let parts = parts(client, batch * kv_heads, rows);
        Self {
            parts,
            lanes: lanes(client),
            units: units(client),
            weights: empty(query, [batch, kv_heads, heads / kv_heads, rows], DType::F32),
            of_parts: empty(query, [batch * heads, parts, 2], DType::F32),
            sums: empty(query, [batch * heads, parts, d], DType::F32),
        }
    }
}

/// What `query`, `[batch, heads, head_dim]`, takes from the rows, in its own shape and dtype, and the weights,
/// `[batch, kv_heads, group, rows]`.
pub(super) fn attend(attention: &Attention, query: &CubeTensor, dims: [usize; 3], state: &Rows<'_>) -> [CubeTensor; 2] {
    let ([batch, heads, head_dim], kv_heads) = (dims, attention.kv_heads);
    let split = Split::of(query, dims, kv_heads, state.rows);
    attend_kernel::launch(
        &query.client,
        CubeCount::Static((batch * kv_heads) as u32, split.parts as u32, 1),
        CubeDim::new_1d(split.units),
        argument(query),
        argument(state.keys),
        argument(state.values),
        argument(state.positions),
        argument(state.next),
        argument(&split.weights),
        argument(&split.of_parts),
        argument(&split.sums),
        attention.scale as f32,
        attention.window.and_then(|window| i32::try_from(window).ok()).unwrap_or(i32::MAX),
        state.slots,
        state.rows as u32,
        state.rows.div_ceil(split.parts) as u32,
        kv_heads as u32,
        (heads / kv_heads) as u32,
        head_dim as u32,
        state.layer_wise,
        split.lanes,
        split.units,
        [dtype_to_storage_type(query.dtype), dtype_to_storage_type(state.keys.dtype)],
    );
    join(query, dims, state.rows, split)
}

/// What the parts found, together: results and weights as of [`attend`].
pub(super) fn join(query: &CubeTensor, dims: [usize; 3], rows: usize, split: Split) -> [CubeTensor; 2] {
    let [batch, heads, head_dim] = dims;
    let Split { parts, units, weights, of_parts, sums, .. } = split;
    let attended = empty(query, dims, query.dtype);
    join_kernel::launch(
        &query.client,
        CubeCount::Static((batch * heads) as u32, 1, 1),
        CubeDim::new_1d(units),
        argument(&of_parts),
        argument(&sums),
        argument(&weights),
        argument(&attended),
        rows as u32,
        parts as u32,
        head_dim as u32,
        dtype_to_storage_type(query.dtype),
    );
    [attended, weights]
}

/// Units that read a row's key together: so many that a warp reads whole sectors of memory. In software every sum of a team
/// is dear.
fn lanes(client: &Client) -> u32 {
    if is_software(client) { 2 } else { 8 }
}

/// Into how many parts the rows of `heads` KV heads are cut: two cubes for each of the card's multiprocessors, as long as a
/// part is worth a cube. In software small parts cost nothing, and the small states of tests are cut too.
fn parts(client: &Client, heads: usize, rows: usize) -> usize {
    let multiprocessors = client.properties().hardware.num_streaming_multiprocessors.unwrap_or(64) as usize;
    let least = if is_software(client) { 4 } else { 64 };
    parts_for(2 * multiprocessors, least, heads, rows)
}

/// So many parts that there are about `cubes` of them, of at least `least` rows each, the last excepted. None is empty.
fn parts_for(cubes: usize, least: usize, heads: usize, rows: usize) -> usize {
    let parts = (cubes / heads).clamp(1, (rows / least).max(1));
    rows.div_ceil(rows.div_ceil(parts).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::parts_for;

    #[test]
    fn every_part_has_rows_and_together_they_are_all() {
        for cubes in [1, 7, 64, 264] {
            for least in [1, 4, 64] {
                for heads in [1, 3, 8, 300] {
                    for rows in 1..200 {
                        let parts = parts_for(cubes, least, heads, rows);
                        let each = rows.div_ceil(parts);
                        assert!(parts >= 1 && (parts - 1) * each < rows && parts * each >= rows);
                        assert!(parts == 1 || (each >= least && parts * heads <= cubes));
                    }
                }
            }
        }
        // Llama-2-7B's heads, 512 rows, an H200; Mistral's.
        assert_eq!(parts_for(264, 64, 32, 512), 8);
        assert_eq!(parts_for(264, 64, 8, 4096), 33);
    }
}
