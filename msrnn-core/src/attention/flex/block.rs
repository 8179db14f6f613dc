//! A block of tokens of which every row stays: causal attention, tile by tile.
//!
//! A tile is some queries of one head against all rows that they see: its logits are as many as stay
//! in the cache of the core that computes them, become weights there, and are multiplied with the
//! values before the next tile.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor, bf16, f16};
use rayon::prelude::*;

use crate::attention::Attention;
use crate::kernels::flex::access::{Dense, Heads, is_here, tensor};
use crate::kernels::flex::number::{Index, Stored, load_all};
use crate::kernels::flex::product::{Columns, Product, Rows};
use crate::precision::{accumulation, narrow};
use crate::simd::{Buffer, Real};
use crate::state::MultiState;
use crate::state::flex::{Opened, has_known_integers};

/// Queries of a tile: at 4,096 rows, logits of a megabyte in f32.
const TILE: usize = 64;

/// Whether [`block`] can be taken by a block of tokens none of which makes a row go.
pub(crate) fn takes_block(attention: &Attention, query: &Tensor<4>, state: &MultiState) -> bool {
    // What a sliding window hides is told by slots, which are positions while every row is held.
    let suits = attention.placement.is_none() && (attention.window.is_none() || state.is_whole());
    let carries = state.memory.is_none() || (state.is_level() && !state.remembers());
    suits && carries && state.packed.is_none() && is_here(query) && is_here(&state.keys) && has_known_integers(state)
}

/// `n` tokens of every batch row, none of which makes a row go. Shapes as in [`Attention::scan`].
pub(crate) fn block(
    attention: &Attention,
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    state: &mut MultiState,
) -> Tensor<4> {
    let dtype = query.dtype();
    if let Some(initial) = state.initial(&key, &value) {
        let ([channels, groups, n], first) = (initial.dims(), state.held[0]);
        let memory = state.memory.as_mut().expect("channels have memory");
        memory.inplace(|memory| memory.slice_assign([0..channels, 0..groups, first..first + n], initial));
    }
    let block = match (state.shape.dtype, state.positions.dtype()) {
        (DType::F64, DType::I64) => block_as::<f64, f64, i64>,
        (DType::F16, DType::I64) => block_as::<f32, f16, i64>,
        (DType::BF16, DType::I64) => block_as::<f32, bf16, i64>,
        (_, DType::I64) => block_as::<f32, f32, i64>,
        (DType::F64, _) => block_as::<f64, f64, i32>,
        (DType::F16, _) => block_as::<f32, f16, i32>,
        (DType::BF16, _) => block_as::<f32, bf16, i32>,
        _ => block_as::<f32, f32, i32>,
    };
    narrow(block(attention, [query, key, value], state), dtype)
}

fn block_as<T: Product + Stored<T>, S: Stored<T>, I: Index>(
    attention: &Attention,
    block: [Tensor<4>; 3],
    state: &mut MultiState,
) -> Tensor<4> {
    let dims @ [_, heads, n, d] = block[0].dims();
    let (kv_heads, groups, slots) = (attention.kv_heads, state.groups(), state.slots);
    let accumulated: DType = accumulation(state.shape.dtype).into();
    let [query, key, value] = block.map(|x| narrow(x, accumulated));
    let (query, new) = (Dense::of(query), [key, value].map(Heads::of));
    let query: &[T] = query.values();
    let mut opened = Opened::take(state);

    // Slots fill up in order.
    let (keys, values) = (S::of_mut(&mut opened.keys), S::of_mut(&mut opened.values));
    for (rows, new) in [keys, values].into_iter().zip(&new) {
        for index in 0..dims[0] * kv_heads {
            let (row, head) = (index / kv_heads, index % kv_heads);
            let first = (index * slots + state.held[row]) * d;
            for (token, rows) in rows[first..first + n * d].chunks_exact_mut(d).enumerate() {
                rows.iter_mut().zip(new.row::<T>(row, head, token)).for_each(|(value, &x)| *value = S::store(x));
            }
        }
    }
    let positions = I::of_mut(&mut opened.positions);
    for (index, slots) in positions.chunks_exact_mut(slots).enumerate() {
        let (seen, held) = (state.seen[index / groups], state.held[index / groups]);
        slots[held..held + n].iter_mut().zip(seen..).for_each(|(slot, position)| *slot = I::new(position as i64));
    }
    for (counter, counts) in [(&mut opened.next, &state.seen), (&mut opened.free, &state.held)] {
        let counter = I::of_mut(counter).iter_mut().enumerate();
        counter.for_each(|(index, x)| *x = I::new((counts[index / groups] + n) as i64));
    }

    let most = state.held.iter().max().map_or(n, |held| held + n);
    let widened = (S::dtype() != T::dtype()).then(|| {
        let wide = |rows: &FlexTensor| widened::<T, S>(S::of(rows), slots * d, most * d);
        (wide(&opened.keys), wide(&opened.values))
    });
    let (keys, values, stride) = match &widened {
        None => (T::of(&opened.keys), T::of(&opened.values), slots * d),
        Some((keys, values)) => (&keys[..], &values[..], most * d),
    };

    // Heads side by side, as what reads them wants it.
    let count = dims.iter().product();
    let mut attended = Vec::with_capacity(count);
    let places = attended.spare_capacity_mut()[..count].chunks_exact_mut(n * heads * d);
    let places = places.flat_map(|attended| Columns::all(attended, heads * d).split(d));
    let mut tiles = Vec::new();
    for (index, (query, attended)) in query.chunks_exact(n * d).zip(places).enumerate() {
        let (row, head) = (index / heads, index % heads / (heads / kv_heads));
        let rows = (row * kv_heads + head) * stride;
        let parts = query.chunks(TILE * d).zip(attended.by_rows(TILE)).enumerate();
        tiles.extend(parts.map(|(tile, (query, attended))| Tile {
            query,
            attended,
            first: state.held[row] + tile * TILE,
            keys: &keys[rows..],
            values: &values[rows..],
        }));
    }
    let (scale, unbiased) = (T::from_f64(attention.scale), vec![T::ZERO; most]);
    tiles.into_par_iter().for_each(|tile| tile.attend(d, attention.window, scale, &unbiased));
    // SAFETY: there is room for these, and all queries of all heads were attended.
    unsafe { attended.set_len(count) };
    let attended = tensor(attended, [dims[0], n, heads, d]).swap_dims(1, 2);
    opened.put_back(state);
    if let Some(log) = &mut state.omitted {
        log.extend(std::iter::repeat_n(None, n));
    }
    state.count_held(n);
    attended
}

/// The first `used` values of every `stride`, in the accumulation dtype.
fn widened<T: Real, S: Stored<T>>(rows: &[S], stride: usize, used: usize) -> Vec<T> {
    let mut wide = vec![T::ZERO; rows.len() / stride * used];
    let heads = wide.par_chunks_exact_mut(used).zip(rows.par_chunks_exact(stride));
    heads.for_each(|(wide, rows)| load_all(rows, wide));
    wide
}

/// Some queries of one head.
struct Tile<'a, T> {
    /// `[queries, head_dim]`
    query: &'a [T],
    /// Of the same shape, beside those of other heads.
    attended: Columns<'a, T>,
    /// Slot of the first query's own row.
    first: usize,
    /// The head's rows by slot.
    keys: &'a [T],
    values: &'a [T],
}

impl<T: Product> Tile<'_, T> {
    fn attend(self, d: usize, window: Option<usize>, scale: T, unbiased: &[T]) {
        let Self { query, mut attended, first, keys, values } = self;
        let n = query.len() / d;
        let oldest = |position: usize| window.map_or(0, |window| (position + 1).saturating_sub(window));
        let (start, end) = (oldest(first), first + n);
        let seen = start * d..end * d;
        let mut weights = T::buffer(Buffer::Tile).take();
        weights.resize(n * (end - start), T::ZERO);
        let logits = &mut Columns::over(&mut weights, end - start);
        T::product(logits, query, Rows::Transposed(&keys[seen.clone()]), scale);
        for (position, weights) in (first..).zip(weights.chunks_exact_mut(end - start)) {
            let (older, rest) = weights.split_at_mut(oldest(position) - start);
            let (seen, later) = rest.split_at_mut(position + 1 - oldest(position));
            older.fill(T::ZERO);
            T::softmax(seen, &mut [], &unbiased[..position + 1 - oldest(position)]);
            later.fill(T::ZERO);
        }
        T::product(&mut attended, &weights, Rows::AsTheyAre(&values[seen]), T::from_f64(1.0));
        T::buffer(Buffer::Tile).set(weights);
    }
}
