//! Reductions over the units of a cube, in shared memory.
//!
//! A *team* is `lanes` neighbouring units, a power of two. Every unit of the cube must call.

use cubecl::prelude::*;

/// What a logit is where nothing is attended; WGSL knows no infinity.
pub(crate) const HIDDEN: f32 = -3.0e38;

/// The score of a row that no later query sees: below all others.
pub(crate) const DEAD: f32 = -3.2e38;

/// The score of a protected row.
pub(crate) const PROTECTED: f32 = 3.0e38;

/// The highest value of each team, to all of its units.
#[cube]
pub(crate) fn team_max(value: f32, shared: &mut [f32], #[comptime] lanes: u32) -> f32 {
    let unit = UNIT_POS as usize;
    let lane = UNIT_POS % lanes;
    shared[unit] = value;
    sync_cube();
    let mut stride = (lanes / 2).runtime();
    while stride > 0 {
        if lane < stride {
            let other = shared[unit + stride as usize];
            if other > shared[unit] {
                shared[unit] = other;
            }
        }
        sync_cube();
        stride /= 2;
    }
    let result = shared[unit - lane as usize];
    sync_cube();
    result
}

/// The sum of each team's values, to all of its units.
#[cube]
pub(crate) fn team_sum(value: f32, shared: &mut [f32], #[comptime] lanes: u32) -> f32 {
    let unit = UNIT_POS as usize;
    let lane = UNIT_POS % lanes;
    shared[unit] = value;
    sync_cube();
    let mut stride = (lanes / 2).runtime();
    while stride > 0 {
        if lane < stride {
            let sum = shared[unit] + shared[unit + stride as usize];
            shared[unit] = sum;
        }
        sync_cube();
        stride /= 2;
    }
    let result = shared[unit - lane as usize];
    sync_cube();
    result
}

/// Which of all units has the lowest score, on equal scores the lowest position: its `index`, to
/// all units.
#[cube]
pub(crate) fn lowest(
    score: f32,
    position: i32,
    index: u32,
    scores: &mut [f32],
    positions: &mut [i32],
    indices: &mut [u32],
    #[comptime] units: u32,
) -> u32 {
    let unit = UNIT_POS as usize;
    scores[unit] = score;
    positions[unit] = position;
    indices[unit] = index;
    sync_cube();
    let mut stride = (units / 2).runtime();
    while stride > 0 {
        if UNIT_POS < stride {
            let other = unit + stride as usize;
            let (score, position) = (scores[other], positions[other]);
            if score < scores[unit] || (score == scores[unit] && position < positions[unit]) {
                scores[unit] = score;
                positions[unit] = position;
                let index = indices[other];
                indices[unit] = index;
            }
        }
        sync_cube();
        stride /= 2;
    }
    let result = indices[0];
    sync_cube();
    result
}
