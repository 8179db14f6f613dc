//! One token over rows of which the older ones are packed: codes become numbers where they are multiplied.
//!
//! A row is whole from some number on, which a unit computes by itself from how many rows came: its number is its position
//! where rows are packed per token, and its slot where they are per channel. See [`crate::state::packed`].

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::attend::{Rows, Split, begin_query, end_channels, exponential, join, rest_of_part, sees};
use crate::attention::Attention;
use crate::kernels::cube::access::{argument, is_read, read, read_int};
use crate::kernels::cube::reduce::{HIDDEN, team_sum};
use crate::packing::{Per, Side};
use crate::state::MultiState;
use crate::state::packed::{Of, Packed};

/// Bytes of a word.
const BYTES: u32 = 4;

/// How keys, or values, are packed, known when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Layout {
    bits: u32,
    /// Numbers that share a scale.
    group: u32,
    per_channel: bool,
    /// Places of whole rows.
    places: u32,
    recent: u32,
    /// Rows that are packed at once.
    every: u32,
    /// Of a row.
    words: u32,
    /// Groups of a row.
    parts: u32,
}

impl Layout {
    fn of(packed: &Packed, of: Of, head_dim: usize) -> Self {
        let (grid, side) = (packed.grid(of, head_dim), packed.side(of));
        let Side { recent, every, per } = *side;
        Self {
            bits: grid.bits.number() as u32,
            group: grid.group as u32,
            per_channel: per == Per::Channel,
            places: side.whole() as u32,
            recent: recent.min(1 << 30) as u32,
            every: every as u32,
            words: grid.bits.words(head_dim) as u32,
            parts: grid.parts() as u32,
        }
    }
}

/// The number of a row.
#[cube]
fn number_of(position: i32, slot: u32, #[comptime] layout: Layout) -> i32 {
    let mut number = position;
    if comptime!(layout.per_channel) {
        number = i32::cast_from(slot);
    }
    number
}

/// From which number on rows are whole, when that is the number of the new row.
#[cube]
fn whole_from(newest: i32, #[comptime] layout: Layout) -> i32 {
    let mut whole = 0i32;
    if newest > comptime!(layout.recent as i32) {
        whole = (newest - comptime!(layout.recent as i32)) / comptime!(layout.every as i32)
            * comptime!(layout.every as i32);
    }
    whole
}

/// What a code of a row stands for. `of_row`: head · slots + slot; `of_group`: head · groups of slots + the group of the slot.
#[cube]
fn number<G: Float>(
    word: i32,
    channel: u32,
    shift: u32,
    scales: &[G],
    lows: &[G],
    of_row: u32,
    of_group: u32,
    head_dim: u32,
    #[comptime] layout: Layout,
) -> f32 {
    let code = (word >> i32::cast_from(shift)) & comptime!((1i32 << layout.bits) - 1);
    let mut at = of_row * comptime!(layout.parts) + channel / comptime!(layout.group);
    if comptime!(layout.per_channel) {
        at = of_group * head_dim + channel;
    }
    f32::cast_from(code) * f32::cast_from(scales[at as usize]) + f32::cast_from(lows[at as usize])
}

/// Writes key, value and position of the new row: what is new is whole. One cube per batch row and KV head, one unit per
/// channel.
#[cube(launch)]
fn append_packed_kernel<F: Float, S: Float>(
    key: &[F],
    value: &[F],
    keys: &mut [S],
    values: &mut [S],
    positions: &mut [i32],
    free: &[i32],
    next: &[i32],
    slots: u32,
    kv_heads: u32,
    head_dim: u32,
    #[comptime] layer_wise: bool,
    #[comptime] of_keys: Layout,
    #[comptime] of_values: Layout,
    #[define(F, S)] _dtypes: [ElemType; 2],
) {
    let head = CUBE_POS_X;
    let mut decider = head;
    if comptime!(layer_wise) {
        decider = head / kv_heads;
    }
    let slot = u32::cast_from(free[decider as usize]);
    let position = next[decider as usize];
    let key_place = u32::cast_from(number_of(position, slot, of_keys)) % comptime!(of_keys.places);
    let value_place = u32::cast_from(number_of(position, slot, of_values)) % comptime!(of_values.places);
    let from = head * head_dim;
    let key_to = (head * comptime!(of_keys.places) + key_place) * head_dim;
    let value_to = (head * comptime!(of_values.places) + value_place) * head_dim;
    let mut channel = UNIT_POS;
    while channel < head_dim {
        keys[(key_to + channel) as usize] = S::cast_from(key[(from + channel) as usize]);
        values[(value_to + channel) as usize] = S::cast_from(value[(from + channel) as usize]);
        channel += CUBE_DIM_X;
    }
    let mut first = true;
    if comptime!(layer_wise) {
        let of_row = head % kv_heads;
        first = of_row == 0;
    }
    if UNIT_POS == 0 && first {
        positions[(decider * slots + slot) as usize] = position;
    }
}

/// As `attend_kernel` in [`super::attend`], over packed rows. `keys` and `values` are those that are whole, by place; words,
/// scales and lows as in [`crate::state::rounding::Codes`]. Of a packed key a unit takes every `lanes`-th word.
#[cube(launch)]
fn attend_packed_kernel<F: Float, S: Float, G: Float>(
    query: &[F],
    keys: &[S],
    key_words: &[i32],
    key_scales: &[G],
    key_lows: &[G],
    values: &[S],
    value_words: &[i32],
    value_scales: &[G],
    value_lows: &[G],
    positions: &[i32],
    next: &[i32],
    free: &[i32],
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
    #[comptime] of_keys: Layout,
    #[comptime] of_values: Layout,
    #[comptime] lanes: u32,
    #[comptime] units: u32,
    #[define(F, S, G)] _dtypes: [ElemType; 3],
) {
    let mut shared = Shared::new_slice(units as usize);
    let mut scaled = Shared::new_slice(head_dim as usize);
    let (head, part, parts) = (CUBE_POS_X, CUBE_POS_Y, CUBE_COUNT_Y);
    let mut decider = head;
    if comptime!(layer_wise) {
        decider = head / kv_heads;
    }
    let now = next[decider as usize];
    let newest = free[decider as usize];
    let whole_keys = whole_from(number_of(now, u32::cast_from(newest), of_keys), of_keys);
    let whole_values = whole_from(number_of(now, u32::cast_from(newest), of_values), of_values);
    let of_positions = decider * slots;
    let of_rows = head * slots;
    let of_key_groups = head * slots.div_ceil(comptime!(of_keys.group));
    let of_value_groups = head * slots.div_ceil(comptime!(of_values.group));
    let begin = part * rows_of_part;
    let end = (begin + rows_of_part).min(rows);
    let (team, lane) = (UNIT_POS / lanes, UNIT_POS % lanes);
    let teams = comptime!(units / lanes);
    let abreast = comptime!(if units > head_dim { units / head_dim } else { 1 });
    let runs = comptime!(8 / of_keys.bits);
    let value_bytes = comptime!(BYTES * of_values.words);

    for member in 0..group {
        let query_head = head * group + member;
        let of_logits = query_head * rows;
        begin_query(query, &mut scaled, query_head * head_dim, scale, head_dim, units);

        let mut highest = HIDDEN.runtime();
        let mut first = begin;
        while first < end {
            let row = first + team;
            let mut seen = false;
            let mut position = (-1i32).runtime();
            if row < end {
                position = positions[(of_positions + row) as usize];
                seen = sees(position, now, window);
            }
            let mut dot = 0.0f32;
            if seen {
                let number_of_row = number_of(position, row, of_keys);
                if number_of_row >= whole_keys {
                    let place = u32::cast_from(number_of_row) % comptime!(of_keys.places);
                    let of_key = (head * comptime!(of_keys.places) + place) * head_dim;
                    let mut channel = lane;
                    while channel < head_dim {
                        dot += scaled[channel as usize] * f32::cast_from(keys[(of_key + channel) as usize]);
                        channel += lanes;
                    }
                } else {
                    let of_row = of_rows + row;
                    let of_group = of_key_groups + row / comptime!(of_keys.group);
                    let mut word = lane;
                    while word < comptime!(of_keys.words) {
                        let codes = key_words[(of_row * comptime!(of_keys.words) + word) as usize];
                        #[unroll]
                        for run in 0..runs {
                            #[unroll]
                            for byte in 0..BYTES {
                                let channel = run * comptime!(BYTES * of_keys.words) + word * BYTES + byte;
                                let shift = byte * 8 + run * comptime!(of_keys.bits);
                                if channel < head_dim {
                                    dot += scaled[channel as usize]
                                        * number(
                                            codes, channel, shift, key_scales, key_lows, of_row, of_group, head_dim,
                                            of_keys,
                                        );
                                }
                            }
                        }
                        word += lanes;
                    }
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
            let shift = channel % BYTES * 8 + channel / value_bytes * comptime!(of_values.bits);
            let mut sum = 0.0f32;
            if first < abreast && channel < head_dim {
                let mut row = begin + first;
                while row < end {
                    let weight = exponential(logits[(of_logits + row) as usize], highest);
                    // A row that is not attended to may be none.
                    if weight != 0.0f32 {
                        let number_of_row = number_of(positions[(of_positions + row) as usize], row, of_values);
                        if number_of_row >= whole_values {
                            let place = u32::cast_from(number_of_row) % comptime!(of_values.places);
                            let of_value = (head * comptime!(of_values.places) + place) * head_dim + channel;
                            sum += weight * f32::cast_from(values[of_value as usize]);
                        } else {
                            let of_row = of_rows + row;
                            let of_group = of_value_groups + row / comptime!(of_values.group);
                            let word = of_row * comptime!(of_values.words) + channel % value_bytes / BYTES;
                            let value = number(
                                value_words[word as usize],
                                channel,
                                shift,
                                value_scales,
                                value_lows,
                                of_row,
                                of_group,
                                head_dim,
                                of_values,
                            );
                            sum += weight * value;
                        }
                    }
                    row += abreast;
                }
            }
            end_channels(sum, &mut shared, sums, of_part * head_dim + channel, first, channel, abreast, head_dim);
            block += units;
        }
    }
}

/// Whether the kernels read rows that are packed so: what is whole follows from how many came, and where they are told by
/// slot, those fill up in order and no step frees one.
pub(super) fn reads(packed: &Packed, state: &MultiState) -> bool {
    Of::BOTH.into_iter().all(|of| {
        let (side, codes) = (packed.side(of), packed.codes(of));
        let came = state.came(side.per).iter().zip(packed.whole_from(of));
        let follows = came.into_iter().all(|(&came, &from)| from == side.packed(came));
        let in_order = side.per == Per::Token || !state.is_strict();
        follows && in_order && is_read(&codes.scales) && codes.words.dtype() == DType::I32
    })
}

/// The codes of a state, opened to be read.
pub(super) struct Opened {
    /// Words, scales and lows of keys, and of values.
    codes: [[CubeTensor; 3]; 2],
    layouts: [Layout; 2],
}

impl Opened {
    pub(super) fn of(packed: &Packed, head_dim: usize) -> Self {
        let codes = Of::BOTH.map(|of| {
            let codes = packed.codes(of).clone();
            [read_int(codes.words), read(codes.scales), read(codes.lows)]
        });
        Self { codes, layouts: Of::BOTH.map(|of| Layout::of(packed, of, head_dim)) }
    }

    /// Writes the new row, `[batch, kv_heads, head_dim]`; `dims`: of the query.
    pub(super) fn append(
        &self,
        [key, value]: [&CubeTensor; 2],
        [batch, _, head_dim]: [usize; 3],
        state: &Rows<'_>,
        kv_heads: usize,
        units: u32,
    ) {
        append_packed_kernel::launch(
            &key.client,
            CubeCount::Static((batch * kv_heads) as u32, 1, 1),
            CubeDim::new_1d(units.min(head_dim.next_power_of_two() as u32)),
            argument(key),
            argument(value),
            argument(state.keys),
            argument(state.values),
            argument(state.positions),
            argument(state.free),
            argument(state.next),
            state.slots,
            kv_heads as u32,
            head_dim as u32,
            state.layer_wise,
            self.layouts[0],
            self.layouts[1],
            [dtype_to_storage_type(key.dtype), dtype_to_storage_type(state.keys.dtype)],
        );
    }

    /// As [`super::attend::attend`].
    pub(super) fn attend(
        &self,
        attention: &Attention,
        query: &CubeTensor,
        dims: [usize; 3],
        state: &Rows<'_>,
    ) -> [CubeTensor; 2] {
        let [batch, heads, head_dim] = dims;
        let split = Split::of(query, dims, attention.kv_heads, state.rows);
        let [[key_words, key_scales, key_lows], [value_words, value_scales, value_lows]] = &self.codes;
        attend_packed_kernel::launch(
            &query.client,
            CubeCount::Static((batch * attention.kv_heads) as u32, split.parts as u32, 1),
            CubeDim::new_1d(split.units),
            argument(query),
            argument(state.keys),
            argument(key_words),
            argument(key_scales),
            argument(key_lows),
            argument(state.values),
            argument(value_words),
            argument(value_scales),
            argument(value_lows),
            argument(state.positions),
            argument(state.next),
            argument(state.free),
            argument(&split.weights),
            argument(&split.of_parts),
            argument(&split.sums),
            attention.scale as f32,
            attention.window.and_then(|window| i32::try_from(window).ok()).unwrap_or(i32::MAX),
            state.slots,
            state.rows as u32,
            state.rows.div_ceil(split.parts) as u32,
            attention.kv_heads as u32,
            (heads / attention.kv_heads) as u32,
            head_dim as u32,
            state.layer_wise,
            self.layouts[0],
            self.layouts[1],
            split.lanes,
            split.units,
            [query.dtype, state.keys.dtype, key_scales.dtype].map(|dtype: DType| dtype_to_storage_type(dtype)),
        );
        join(query, dims, state.rows, split)
    }
}
