//! Activations in 8 bits.

use rayon::prelude::*;

use super::wide;
use crate::kernels::activations::round;
use crate::kernels::blocks::CHUNK;

/// Activations in 8 bits, row after row.
pub(super) struct Rounded {
    pub(super) chunks: Vec<RoundedChunk>,
}

/// In one line of a cache.
#[derive(Clone, Default)]
#[repr(align(64))]
pub(super) struct RoundedChunk {
    pub(super) codes: [i8; CHUNK],
    pub(super) scale: f32,
    /// Of the codes, the first and the last 16.
    pub(super) counts: [i32; 2],
    /// Of the activations that all codes, and the first and the last 16, stand for.
    pub(super) sum: f32,
    pub(super) sums: [f32; 2],
}

/// Chunks of one task that rounds them.
const TASK: usize = 512;

impl Rounded {
    /// `x`: whole chunks.
    pub(super) fn of(x: &[f32]) -> Self {
        let mut chunks = vec![RoundedChunk::default(); x.len() / CHUNK];
        let (x, _) = x.as_chunks();
        match chunks.len() > TASK {
            true => chunks.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(chunks, x)| round_all(chunks, x)),
            false => round_all(&mut chunks, x),
        }
        Self { chunks }
    }
}

fn round_all(chunks: &mut [RoundedChunk], x: &[[f32; CHUNK]]) {
    wide(
        #[inline(always)]
        || {
            for (chunk, x) in chunks.iter_mut().zip(x) {
                let (codes, scale) = round(x);
                let count = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>();
                let counts = [count(&codes[..CHUNK / 2]), count(&codes[CHUNK / 2..])];
                let sum = scale * (counts[0] + counts[1]) as f32;
                let sums = counts.map(|count| scale * count as f32);
                *chunk = RoundedChunk { codes, scale, counts, sum, sums };
            }
        },
    );
}
