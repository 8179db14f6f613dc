//! Rows are packed where they lie, number by number, as the plain twin rounds them.

use burn::tensor::{DType, Tensor, bf16, f16};
use pulp::bytemuck;

use super::packed::whole;
use crate::kernels::flex::access::{close, close_int, is_here, open, open_int};
use crate::kernels::flex::number::{Index, Stored};
use crate::packing::{Bits, Per};
use crate::simd::Real;
use crate::state::MultiState;
use crate::state::packed::{Of, Packed};

/// Whether [`pack`] can be taken.
pub(crate) fn packs(state: &MultiState) -> bool {
    is_here(&state.keys) && matches!(state.positions.dtype(), DType::I32 | DType::I64)
}

/// Rounds the rows of numbers below `due` that are whole: what is to be of codes and scales follows from the plain
/// twin, number by number.
pub(crate) fn pack(state: &MultiState, packed: &mut Packed, of: Of, due: &[usize]) {
    let pack = match (state.shape.dtype, state.positions.dtype()) {
        (DType::F64, DType::I64) => pack_as::<f64, f64, f64, i64>,
        (DType::F16, DType::I64) => pack_as::<f32, f16, f16, i64>,
        (DType::BF16, DType::I64) => pack_as::<f32, bf16, f16, i64>,
        (_, DType::I64) => pack_as::<f32, f32, f16, i64>,
        (DType::F64, _) => pack_as::<f64, f64, f64, i32>,
        (DType::F16, _) => pack_as::<f32, f16, f16, i32>,
        (DType::BF16, _) => pack_as::<f32, bf16, f16, i32>,
        _ => pack_as::<f32, f32, f16, i32>,
    };
    pack(state, packed, of, due);
}

fn pack_as<T: Real + Nearest, S: Stored<T>, G: Stored<T>, I: Index>(
    state: &MultiState,
    packed: &mut Packed,
    of: Of,
    due: &[usize],
) {
    let (kv_heads, slots, groups, d) = (state.shape.kv_heads, state.slots, state.groups(), state.shape.head_dim);
    let (grid, places, per) = (packed.grid(of, d), packed.side(of).whole(), packed.side(of).per);
    let from = packed.whole_from(of).to_vec();
    let rows: &Tensor<2> = if of == Of::Keys { &state.keys } else { &state.values };
    let (rows, positions) = (whole(open(rows.clone())), whole(open_int(state.positions.clone())));
    let (rows, positions): (&[S], &[I]) = (S::of(&rows), I::of(&positions));
    let codes = packed.codes_mut(of);
    let mut opened = [whole(open(codes.scales.extract())), whole(open(codes.lows.extract()))];
    let mut words = whole(open_int(codes.words.extract()));
    {
        let [scales, lows] = opened.each_mut().map(G::of_mut);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(words.storage_mut::<i32>());
        let of_row = grid.bits.words(d) * size_of::<u32>();
        let [lines, each] = grid.scales(slots);
        let mut numbers: Vec<T> = Vec::new();
        let mut put = |slot: usize, channel: usize, code: u8| {
            let byte = &mut bytes[slot * of_row + channel % of_row];
            let by = (channel / of_row * grid.bits.number()) as u32;
            *byte = (*byte & !((grid.bits.highest() as u8) << by)) | (code << by);
        };
        for index in 0..rows.len() / (places * d) {
            let row = index / kv_heads;
            let whole = &rows[index * places * d..][..places * d];
            match per {
                Per::Token => {
                    let group = row * groups + index % kv_heads * groups / kv_heads;
                    let now = from[row] as i64..due[row] as i64;
                    let slots_now = positions[group * slots..][..slots].iter().enumerate();
                    for (slot, position) in slots_now.filter(|(_, position)| now.contains(&position.get())) {
                        let whole = &whole[position.get() as usize % places * d..][..d];
                        for (part, whole) in whole.chunks(grid.group).enumerate() {
                            numbers.clear();
                            numbers.extend(whole.iter().map(|x| x.load()));
                            let line = (index * lines + slot) * each + part;
                            let (scale, low) = rounded::<T, G>(&numbers, grid.bits);
                            (scales[line], lows[line]) = (scale, low);
                            for (i, &x) in numbers.iter().enumerate() {
                                let code = T::nearest(x, low.load(), scale.load(), grid.bits);
                                put(index * slots + slot, part * grid.group + i, code);
                            }
                        }
                    }
                }
                Per::Channel => {
                    for first in (from[row]..due[row]).step_by(grid.group) {
                        for channel in 0..d {
                            numbers.clear();
                            let of_channel = first..first + grid.group;
                            numbers.extend(of_channel.clone().map(|slot| whole[slot % places * d + channel].load()));
                            let line = (index * lines + first / grid.group) * each + channel;
                            let (scale, low) = rounded::<T, G>(&numbers, grid.bits);
                            (scales[line], lows[line]) = (scale, low);
                            for (slot, &x) in of_channel.zip(&numbers) {
                                let code = T::nearest(x, low.load(), scale.load(), grid.bits);
                                put(index * slots + slot, channel, code);
                            }
                        }
                    }
                }
            }
        }
    }
    let [scales, lows] = opened;
    (codes.scales, codes.lows) = (close(scales), close(lows));
    codes.words = close_int(words);
}

/// Scale and low of numbers that share them, as they are held.
fn rounded<T: Real + Nearest, G: Stored<T>>(numbers: &[T], bits: Bits) -> (G, G) {
    let (mut low, mut high, mut finite) = (numbers[0], numbers[0], T::ZERO);
    for &x in numbers {
        low = if x < low { x } else { low };
        high = if x > high { x } else { high };
        finite += x * T::ZERO;
    }
    let scale = T::quotient(high - low, T::from_f64(f64::from(bits.highest())));
    (G::store(scale + finite), G::store(low + finite))
}

/// f32 or f64, rounded.
trait Nearest: Sized {
    fn quotient(a: Self, b: Self) -> Self;

    /// The code of x.
    fn nearest(x: Self, low: Self, scale: Self, bits: Bits) -> u8;
}

macro_rules! nearest {
    ($($real:ident),*) => {
        $(impl Nearest for $real {
            fn quotient(a: Self, b: Self) -> Self {
                a / b
            }

            fn nearest(x: Self, low: Self, scale: Self, bits: Bits) -> u8 {
                let step = (x - low) / scale;
                // A code of a group that is NaN does not matter.
                if scale == 0.0 || step.is_nan() { 0 } else { step.clamp(0.0, bits.highest() as $real).round_ties_even() as u8 }
            }
        })*
    };
}

nearest!(f32, f64);
