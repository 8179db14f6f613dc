//! Numbers rounded to the grid of their group, and back: the plain twin of what kernels do.

use burn::tensor::{Bool, DType, Int, IntDType, Tensor};

use crate::packing::{Bits, Packing, Per, Side};
use crate::precision::{accumulation, narrow};

/// Of a word.
const BYTES: usize = 4;

/// Rows as they are packed: of keys or of values, of `rows` heads with equally many slots each.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    /// `[rows · slots, words]` in I32, whose bytes, lowest first, hold in their lowest bits as many numbers as there are bytes,
    /// in the next bits as many more: so a run of bytes is read as runs of numbers.
    pub(crate) words: Tensor<2, Int>,
    /// Per token `[rows · slots, groups of a row]`, per channel `[rows · groups of slots, head_dim]`.
    pub(crate) scales: Tensor<2>,
    /// Of the same shape.
    pub(crate) lows: Tensor<2>,
}

/// What codes are of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) bits: Bits,
    pub(crate) group: usize,
    pub(crate) per: Per,
    pub(crate) head_dim: usize,
}

impl Grid {
    pub(crate) fn of(packing: &Packing, side: &Side, head_dim: usize) -> Self {
        Self { bits: packing.bits, group: packing.group, per: side.per, head_dim }
    }

    /// Groups of a row.
    pub(crate) fn parts(&self) -> usize {
        self.head_dim.div_ceil(self.group)
    }

    /// Lines of scales of a head with so many slots, and how many each has.
    pub(crate) fn scales(&self, slots: usize) -> [usize; 2] {
        match self.per {
            Per::Token => [slots, self.parts()],
            Per::Channel => [slots.div_ceil(self.group), self.head_dim],
        }
    }

    /// Codes of zeros, of `rows` heads.
    pub(crate) fn zeros(&self, rows: usize, slots: usize, dtype: DType, device: &burn::tensor::Device) -> Codes {
        let [lines, each] = self.scales(slots);
        let scales = || Tensor::zeros([rows * lines, each], (device, Packing::scales(dtype)));
        let words = [rows * slots, self.bits.words(self.head_dim)];
        Codes { words: Tensor::zeros(words, (device, DType::I32)), scales: scales(), lows: scales() }
    }

    /// Scales for another number of slots.
    pub(crate) fn with_slots(&self, scales: Tensor<2>, [old, new]: [usize; 2]) -> Tensor<2> {
        let ([before, each], [after, _]) = (self.scales(old), self.scales(new));
        let heads = scales.dims()[0] / before;
        let by_head = scales.reshape([heads, before, each]);
        let by_head = match after > before {
            false => by_head.narrow(1, 0, after),
            true => {
                let more = Tensor::zeros([heads, after - before, each], (&by_head.device(), by_head.dtype()));
                Tensor::cat(vec![by_head, more], 1)
            }
        };
        by_head.reshape([heads * after, each])
    }

    /// Rounds the rows of all slots. x: `[rows, slots, head_dim]`
    pub(crate) fn round(&self, x: Tensor<3>, dtype: DType) -> Codes {
        let [rows, slots, d] = x.dims();
        let [lines, each] = self.scales(slots);
        let grouped = match self.per {
            // What fills up a group is one of its own numbers.
            Per::Token => {
                let padded = padded(x, 2, self.parts() * self.group);
                padded.reshape([rows * slots * self.parts(), self.group, 1])
            }
            Per::Channel => padded(x, 1, lines * self.group).reshape([rows * lines, self.group, d]),
        };
        let dims = grouped.dims();
        // NaN where a number of the group is none.
        let finite = grouped.clone().mul_scalar(0.0).sum_dim(1);
        let (low, high) = (grouped.clone().min_dim(1), grouped.clone().max_dim(1));
        let highest = f64::from(self.bits.highest());
        let stored = Packing::scales(dtype);
        let scales = narrow((high - low.clone()).div_scalar(highest) + finite.clone(), stored);
        let lows = narrow(low + finite, stored);
        let wide: DType = accumulation(dtype).into();
        let scale = narrow(scales.clone(), wide).expand(dims);
        let steps = (grouped - narrow(lows.clone(), wide).expand(dims)) / scale.clone();
        let nothing: Tensor<3, Bool> = steps.clone().is_nan().bool_or(scale.equal_elem(0.0));
        let codes = steps.mask_fill(nothing, 0.0).clamp(0.0, highest).round();
        let codes = match self.per {
            Per::Token => codes.reshape([rows * slots, self.parts() * self.group]).narrow(1, 0, d),
            Per::Channel => codes.reshape([rows, lines * self.group, d]).narrow(1, 0, slots).reshape([rows * slots, d]),
        };
        let table = |x: Tensor<3>| x.reshape([rows * lines, each]);
        Codes { words: self.words(codes.int()), scales: table(scales), lows: table(lows) }
    }

    /// Integers, `[n, head_dim]`, in as few words as hold them.
    fn words(&self, codes: Tensor<2, Int>) -> Tensor<2, Int> {
        let [n, d] = codes.dims();
        let (words, per_word) = (self.bits.words(d), self.bits.per_word());
        let codes = codes.cast::<IntDType>(IntDType::I32);
        let missing = words * per_word - d;
        let codes = match missing {
            0 => codes,
            _ => Tensor::cat(vec![codes.clone(), Tensor::zeros([n, missing], (&codes.device(), DType::I32))], 1),
        };
        // [n, numbers of a byte, words, bytes of a word]
        let in_byte = per_word / BYTES;
        let codes = codes.reshape([n, in_byte, words, BYTES]);
        let shifted = |i: usize| {
            let (number, byte) = (i / BYTES, i % BYTES);
            let code = codes.clone().narrow(1, number, 1).narrow(3, byte, 1).reshape([n, words]);
            let by = 8 * byte + number * self.bits.number();
            if by == 0 { code } else { code.bitwise_left_shift_scalar(by as i32) }
        };
        (1..per_word).fold(shifted(0), |word, i| word.bitwise_or(shifted(i)))
    }

    /// What the codes of `rows` heads stand for, `[rows, slots, head_dim]` in the accumulation dtype.
    pub(crate) fn read(&self, codes: &Codes, rows: usize, dtype: DType) -> Tensor<3> {
        let (n, words) = (codes.words.dims()[0], codes.words.dims()[1]);
        let (slots, d) = (n / rows.max(1), self.head_dim);
        let wide: DType = accumulation(dtype).into();
        let of = |number: usize| {
            let of_byte = |byte: usize| {
                let by = 8 * byte + number * self.bits.number();
                let word = codes.words.clone();
                let shifted = if by == 0 { word } else { word.bitwise_right_shift_scalar(by as i32) };
                shifted.bitwise_and_scalar(self.bits.highest() as i32).reshape([n, words, 1])
            };
            Tensor::cat((0..BYTES).map(of_byte).collect(), 2).reshape([n, words * BYTES])
        };
        let numbers = Tensor::cat((0..self.bits.per_word() / BYTES).map(of).collect(), 1).narrow(1, 0, d);
        let numbers = numbers.float().cast(accumulation(dtype)).reshape([rows, slots, d]);
        let [lines, _] = self.scales(slots);
        let along = |table: &Tensor<2>| -> Tensor<3> {
            let table = narrow(table.clone(), wide);
            match self.per {
                Per::Token => {
                    let parts = self.parts();
                    let each = table.reshape([n, parts, 1]).expand([n, parts, self.group]);
                    each.reshape([n, parts * self.group]).narrow(1, 0, d).reshape([rows, slots, d])
                }
                Per::Channel => {
                    let each = table.reshape([rows, lines, 1, d]).expand([rows, lines, self.group, d]);
                    each.reshape([rows, lines * self.group, d]).narrow(1, 0, slots)
                }
            }
        };
        numbers * along(&codes.scales) + along(&codes.lows)
    }
}

/// As long as `n` along a dimension, by the last of it again.
fn padded(x: Tensor<3>, dim: usize, n: usize) -> Tensor<3> {
    let mut dims = x.dims();
    let missing = n - dims[dim];
    if missing == 0 {
        return x;
    }
    let last = x.clone().narrow(dim, dims[dim] - 1, 1);
    dims[dim] = missing;
    Tensor::cat(vec![x, last.expand(dims)], dim)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;

    fn grid(bits: Bits, per: Per, group: usize, head_dim: usize) -> Grid {
        Grid { bits, group, per, head_dim }
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().convert::<f64>().try_into_vec().expect("numbers")
    }

    proptest! {
        #[test]
        fn no_number_is_off_by_more_than_half_a_step_and_rounded_ones_stay_as_they_are(
            numbers in prop::collection::vec(-3.0f64..3.0, 6 * 7), bits in 0..3usize, group in 1..9usize,
            channel in any::<bool>(),
        ) {
            let bits = [Bits::Two, Bits::Four, Bits::Eight][bits];
            let per = if channel { Per::Channel } else { Per::Token };
            let grid = grid(bits, per, group, 7);
            let device = Device::default();
            for dtype in [DType::F64, DType::F32] {
                let x = Tensor::<3>::from_data(TensorData::new(numbers.clone(), [2, 3, 7]), (&device, dtype));
                let codes = grid.round(x.clone(), dtype);
                let read = grid.read(&codes, 2, dtype);
                let (read, x) = (values(read.clone()), values(x));
                // 16 bits of a scale and a low of up to 6 and 3, over all steps.
                let rounding = if dtype == DType::F64 { 1e-12 } else { 0.01 };
                let step = 6.0 / f64::from(bits.highest());
                for (read, x) in read.iter().zip(&x) {
                    prop_assert!((read - x).abs() <= 0.5 * step + rounding, "{x} became {read}");
                }
                let again = Tensor::<3>::from_data(TensorData::new(read.clone(), [2, 3, 7]), (&device, dtype));
                let again = values(grid.read(&grid.round(again, dtype), 2, dtype));
                for (again, read) in again.iter().zip(&read) {
                    prop_assert!((again - read).abs() <= 2.0 * rounding, "{read} became {again}");
                }
            }
        }
    }

    /// By hand: low 1, high 4, two bits: a step is 1; 1.5 and 2.5 are as near to two points, and go to the even one.
    #[test]
    fn halves_go_to_the_even_code_and_equal_numbers_stay_what_they_are() {
        let x = [1.0, 1.5, 2.5, 4.0, 7.0, 7.0, 7.0, 7.0];
        let x = Tensor::<3>::from_data(TensorData::new(x.to_vec(), [1, 2, 4]), (&Device::default(), DType::F64));
        let grid = grid(Bits::Two, Per::Token, 4, 4);
        let codes = grid.round(x, DType::F64);
        assert_eq!(codes.words.clone().into_data().convert::<i32>().try_into_vec::<i32>().unwrap(), [0x0302_0000, 0]);
        assert_eq!(values(grid.read(&codes, 1, DType::F64)), [1.0, 1.0, 3.0, 4.0, 7.0, 7.0, 7.0, 7.0]);
    }

    #[test]
    fn what_is_not_a_number_makes_its_group_nan_and_no_other() {
        for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut x = [0.5; 12];
            x[5] = broken;
            for (per, of_group) in [(Per::Token, [4, 5]), (Per::Channel, [1, 5])] {
                let x =
                    Tensor::<3>::from_data(TensorData::new(x.to_vec(), [1, 3, 4]), (&Device::default(), DType::F32));
                let grid = grid(Bits::Eight, per, 2, 4);
                let nan: Vec<usize> = values(grid.read(&grid.round(x, DType::F32), 1, DType::F32))
                    .iter()
                    .enumerate()
                    .filter_map(|(i, x)| x.is_nan().then_some(i))
                    .collect();
                assert_eq!(nan, of_group, "{broken}");
            }
        }
    }
}
