//! After a block: the new rows that are left go into the slots of old ones that are not.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::kernels::cube::access::{argument, close, close_int, empty, own, own_int, read, units};
use crate::policy::Decides;
use crate::state::MultiState;

/// Positions, memory, free slot and counter of every slot after the block, and where each new row goes
/// (−1 for one that is not left). One cube per decision. The j-th new row that is left goes into the
/// j-th slot that holds nothing.
///
/// candidates: `[deciders, used + n]`; remembered: `[channels, deciders, used + n]`; positions: `[deciders, slots]`;
/// memory: `[channels, deciders, slots]`; sources,
/// places: `[deciders, n]`.
#[cube(launch)]
fn place_kernel(
    candidates: &[i32],
    remembered: &[f32],
    positions: &mut [i32],
    memory: &mut [f32],
    free: &mut [i32],
    next: &mut [i32],
    sources: &mut [i32],
    places: &mut [i32],
    used: u32,
    n: u32,
    slots: u32,
    deciders: u32,
    #[comptime] channels: u32,
    #[comptime] units: u32,
) {
    let decider = CUBE_POS_X;
    let of_candidates = decider * (used + n);
    let of_new = of_candidates + used;

    // How many new rows are left, and which is the j-th.
    let mut left = 0u32;
    for i in 0..n {
        if candidates[(of_new + i) as usize] >= 0 {
            left += 1;
        }
    }
    let mut i = UNIT_POS;
    while i < n {
        if candidates[(of_new + i) as usize] >= 0 {
            let mut rank = 0u32;
            for earlier in 0..i {
                if candidates[(of_new + earlier) as usize] >= 0 {
                    rank += 1;
                }
            }
            sources[(decider * n + rank) as usize] = i32::cast_from(i);
        } else {
            places[(decider * n + i) as usize] = (-1i32).runtime();
        }
        i += units;
    }
    if UNIT_POS == 0 {
        next[decider as usize] += i32::cast_from(n);
        free[decider as usize] = i32::cast_from(slots);
    }
    sync_storage();

    let mut slot = UNIT_POS;
    while slot < slots {
        let mut candidate = used + n;
        if slot < used && candidates[(of_candidates + slot) as usize] >= 0 {
            candidate = slot;
        } else {
            let mut rank = slot;
            for earlier in 0..slot {
                if earlier < used && candidates[(of_candidates + earlier) as usize] >= 0 {
                    rank -= 1;
                }
            }
            if rank < left {
                let source = sources[(decider * n + rank) as usize];
                places[(decider * n) as usize + source as usize] = i32::cast_from(slot);
                candidate = used + u32::cast_from(source);
            } else if rank == left {
                free[decider as usize] = i32::cast_from(slot);
            }
        }
        let place = (decider * slots + slot) as usize;
        if candidate < used + n {
            positions[place] = candidates[(of_candidates + candidate) as usize];
            for channel in 0..channels {
                let from = channel * deciders * (used + n) + of_candidates + candidate;
                memory[(channel * deciders * slots) as usize + place] = remembered[from as usize];
            }
        } else {
            positions[place] = (-1i32).runtime();
            for channel in 0..channels {
                memory[(channel * deciders * slots) as usize + place] = 0.0f32;
            }
        }
        slot += units;
    }
}

/// Writes new rows where they go. One cube per row, batch row and KV head.
#[cube(launch)]
fn move_kernel<F: Float, S: Float>(
    key: &[F],
    value: &[F],
    places: &[i32],
    keys: &mut [S],
    values: &mut [S],
    n: u32,
    slots: u32,
    kv_heads: u32,
    #[comptime] head_dim: u32,
    #[comptime] layer_wise: bool,
    #[define(F, S)] _dtypes: [ElemType; 2],
) {
    let (i, head) = (CUBE_POS_X, CUBE_POS_Y);
    let mut decider = head;
    if comptime!(layer_wise) {
        decider = head / kv_heads;
    }
    let place = places[(decider * n + i) as usize];
    if place >= 0 {
        let from = ((head * n + i) * head_dim) as usize;
        let to = ((head * slots + u32::cast_from(place)) * head_dim) as usize;
        let mut channel = UNIT_POS;
        while channel < head_dim {
            keys[to + channel as usize] = S::cast_from(key[from + channel as usize]);
            values[to + channel as usize] = S::cast_from(value[from + channel as usize]);
            channel += CUBE_DIM_X;
        }
    }
}

/// Takes over what a block left: `candidates` and `remembered` are the pass's, of `used` slots and
/// then the new rows; key and value `[batch, kv_heads, n, head_dim]`.
pub(crate) fn take_in(
    state: &mut MultiState,
    rows: [Tensor<4>; 2],
    candidates: CubeTensor,
    remembered: CubeTensor,
    used: usize,
) {
    let [batch, kv_heads, n, head_dim] = rows[0].dims();
    let (deciders, slots) = (batch * state.groups(), state.slots as u32);
    let client = candidates.client.clone();
    let units = units(&client);
    let positions = own_int(state.positions.extract());
    let (free, next) = (own_int(state.free.extract()), own_int(state.next.extract()));
    let channels = state.channels().len() as u32;
    let memory = match &mut state.memory {
        Some(memory) => own(memory.extract()),
        None => empty(&candidates, [1], DType::F32),
    };
    let sources = empty(&candidates, [deciders, n], candidates.dtype);
    let places = empty(&candidates, [deciders, n], candidates.dtype);
    place_kernel::launch(
        &client,
        CubeCount::Static(deciders as u32, 1, 1),
        CubeDim::new_1d(units),
        argument(&candidates),
        argument(&remembered),
        argument(&positions),
        argument(&memory),
        argument(&free),
        argument(&next),
        argument(&sources),
        argument(&places),
        used as u32,
        n as u32,
        slots,
        deciders as u32,
        channels,
        units,
    );
    let [key, value] = rows.map(read);
    let (keys, values) = (own(state.keys.extract()), own(state.values.extract()));
    let dtypes = [dtype_to_storage_type(key.dtype), dtype_to_storage_type(keys.dtype)];
    move_kernel::launch(
        &client,
        CubeCount::Static(n as u32, (batch * kv_heads) as u32, 1),
        CubeDim::new_1d(units.min(head_dim.next_power_of_two() as u32)),
        argument(&key),
        argument(&value),
        argument(&places),
        argument(&keys),
        argument(&values),
        n as u32,
        slots,
        kv_heads as u32,
        head_dim as u32,
        state.decides() == Decides::Layer,
        dtypes,
    );
    if let Some(own) = &mut state.memory {
        *own = close(memory);
    }
    state.keys = close(keys);
    state.values = close(values);
    state.positions = close_int(positions);
    state.free = close_int(free);
    state.next = close_int(next);
}
