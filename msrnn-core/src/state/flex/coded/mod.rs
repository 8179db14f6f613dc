//! Rows of codes as numbers, and the two sums of an attention step over them, for which they are made numbers in registers.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod registers;

use crate::kernels::flex::tile::{At, Tile};
use crate::kernels::flex::wide;
use crate::packing::Bits;

/// Some rows of a head, packed.
#[derive(Clone, Copy)]
pub(crate) struct Coded<'a, T> {
    /// `[n, bytes of a row]`
    pub(super) codes: &'a [u8],
    pub(super) bits: Bits,
    /// `[n, groups of a row]`, or `[head_dim]` for all rows.
    pub(super) scales: &'a [T],
    /// Of the same shape.
    pub(super) lows: &'a [T],
    /// So many neighbours in a row share a scale; if none do, rows share those of channels.
    pub(super) group: Option<usize>,
    pub(super) head_dim: usize,
}

impl<T> Coded<'_, T> {
    /// Of a row.
    fn bytes(&self) -> usize {
        self.bits.words(self.head_dim) * size_of::<u32>()
    }
}

/// f32 or f64, made of codes.
pub(crate) trait OfCode: Tile {
    fn of_code(code: i32) -> Self;

    /// numbers: `[n, head_dim]`
    fn unpack(rows: &Coded<'_, Self>, numbers: &mut [Self]) {
        plain(rows, numbers);
    }

    /// Whether the processor has instructions to multiply rows of that form as codes.
    fn in_registers(_form: &Coded<'_, Self>) -> bool {
        false
    }

    /// [`Tile::products`] with packed rows, where the processor has instructions for it: else false.
    fn products_of_codes(_query: &[Self], _rows: &Coded<'_, Self>, _weights: &mut [Self], _at: At) -> bool {
        false
    }

    /// [`Tile::add_weighted`] of packed rows, where the processor has instructions for it: else false.
    fn add_codes(_weights: &[Self], _at: At, _rows: &Coded<'_, Self>, _sums: &mut [Self]) -> bool {
        false
    }
}

impl OfCode for f64 {
    #[inline(always)]
    fn of_code(code: i32) -> Self {
        Self::from(code)
    }
}

impl OfCode for f32 {
    #[inline(always)]
    fn of_code(code: i32) -> Self {
        code as Self
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn unpack(rows: &Coded<'_, Self>, numbers: &mut [Self]) {
        if !registers::unpack(rows, numbers) {
            plain(rows, numbers);
        }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn in_registers(form: &Coded<'_, Self>) -> bool {
        registers::kinds(form).next().is_some()
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn products_of_codes(query: &[Self], rows: &Coded<'_, Self>, weights: &mut [Self], at: At) -> bool {
        registers::products(query, rows, weights, at)
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn add_codes(weights: &[Self], at: At, rows: &Coded<'_, Self>, sums: &mut [Self]) -> bool {
        registers::add_weighted(weights, at, rows, sums)
    }
}

/// In instructions that every processor has.
fn plain<T: OfCode>(rows: &Coded<'_, T>, numbers: &mut [T]) {
    let Coded { codes, bits, scales, lows, group, head_dim } = *rows;
    let parts = group.map(|group| head_dim.div_ceil(group));
    wide(
        #[inline(always)]
        || {
            let rows = numbers.chunks_exact_mut(head_dim).zip(codes.chunks_exact(rows.bytes()));
            for (row, (numbers, codes)) in rows.enumerate() {
                match (group, parts) {
                    (Some(group), Some(parts)) => {
                        let own = row * parts..(row + 1) * parts;
                        by_part(codes, bits, numbers, group, &scales[own.clone()], &lows[own]);
                    }
                    _ => by_channel(codes, bits, numbers, scales, lows),
                }
            }
        },
    );
}

/// A row whose groups of neighbouring numbers have a scale and a low each.
#[inline(always)]
fn by_part<T: OfCode>(codes: &[u8], bits: Bits, row: &mut [T], group: usize, scales: &[T], lows: &[T]) {
    let mut i = 0;
    while i < row.len() {
        let (run, byte, part) = (i / codes.len(), i % codes.len(), i / group);
        // To the end of the group, or of the bits of the bytes that the numbers are in.
        let end = row.len().min((run + 1) * codes.len()).min((part + 1) * group);
        for (number, &byte) in row[i..end].iter_mut().zip(&codes[byte..]) {
            *number = T::of_code(code(bits, run, byte)) * scales[part] + lows[part];
        }
        i = end;
    }
}

/// A row whose every number has a scale and a low, shared with its neighbours in other rows.
#[inline(always)]
fn by_channel<T: OfCode>(codes: &[u8], bits: Bits, row: &mut [T], scales: &[T], lows: &[T]) {
    let runs = row.chunks_mut(codes.len()).zip(scales.chunks(codes.len())).zip(lows.chunks(codes.len()));
    for (run, ((numbers, scales), lows)) in runs.enumerate() {
        for (((number, &byte), &scale), &low) in numbers.iter_mut().zip(codes).zip(scales).zip(lows) {
            *number = T::of_code(code(bits, run, byte)) * scale + low;
        }
    }
}

/// That of a byte which is of a run.
#[inline(always)]
fn code(bits: Bits, run: usize, byte: u8) -> i32 {
    (i32::from(byte) >> (run * bits.number())) & bits.highest() as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows with scales, the same in f64 and in f32.
    #[derive(Clone, Debug)]
    struct Rows {
        codes: Vec<u8>,
        bits: Bits,
        group: Option<usize>,
        head_dim: usize,
        scales: Vec<f64>,
        lows: Vec<f64>,
    }

    impl Rows {
        fn n(&self) -> usize {
            self.codes.len() / (self.bits.words(self.head_dim) * 4)
        }

        /// Number by number, by the definition.
        fn numbers(&self) -> Vec<f64> {
            let bytes = self.bits.words(self.head_dim) * 4;
            let number = |row: usize, channel: usize| {
                let byte = u32::from(self.codes[row * bytes + channel % bytes]);
                let code = (byte >> (channel / bytes * self.bits.number())) & ((1 << self.bits.number()) - 1);
                let at = match self.group {
                    Some(group) => row * self.head_dim.div_ceil(group) + channel / group,
                    None => channel,
                };
                f64::from(code) * self.scales[at] + self.lows[at]
            };
            (0..self.n()).flat_map(|row| (0..self.head_dim).map(move |channel| number(row, channel))).collect()
        }

        /// Largest number, about.
        fn largest(&self) -> f64 {
            f64::from(self.bits.highest()) * 0.1 + 3.0
        }
    }

    prop_compose! {
        fn rows()(
            n in 1..14usize, bits in prop::sample::select(vec![Bits::Two, Bits::Four, Bits::Eight]),
            head_dim in prop::sample::select(vec![3usize, 8, 16, 32, 40, 64, 80, 96, 100, 112, 128, 256]),
            group in prop::sample::select(vec![None, Some(5usize), Some(16), Some(32), Some(48), Some(64), Some(1000)]),
        )(
            codes in prop::collection::vec(any::<u8>(), n * bits.words(head_dim) * 4),
            tables in prop::collection::vec((0.01f32..0.1, -3.0f32..3.0), match group {
                Some(group) => n * head_dim.div_ceil(group),
                None => head_dim,
            }),
            bits in Just(bits), head_dim in Just(head_dim), group in Just(group),
        ) -> Rows {
            let (scales, lows) = tables.into_iter().map(|(scale, low)| (f64::from(scale), f64::from(low))).unzip();
            Rows { codes, bits, group, head_dim, scales, lows }
        }
    }

    fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&x| x as f32).collect()
    }

    fn near(found: &[f32], expected: &[f64], bound: f64, of: &str) -> Result<(), TestCaseError> {
        for (found, expected) in found.iter().zip(expected) {
            prop_assert!((f64::from(*found) - expected).abs() <= bound, "{of}: {found} instead of {expected}");
        }
        Ok(())
    }

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn rows_are_multiplied_in_the_registers_that_are_required() {
        let (codes, scales) = (&[0; 64], &[0.0]);
        let row = Coded { codes, bits: Bits::Eight, scales, lows: scales, group: Some(64), head_dim: 64 };
        let kinds: Vec<_> = registers::kinds(&row).map(|(name, _)| name).collect();
        crate::kernels::flex::tests::check_required("packed rows", &kinds);
    }

    proptest! {
        #[test]
        fn rows_are_unpacked_number_by_number(rows in rows()) {
            let (scales, lows) = (narrow(&rows.scales), narrow(&rows.lows));
            let Rows { bits, group, head_dim, .. } = rows;
            let coded = Coded { codes: &rows.codes, bits, scales: &scales, lows: &lows, group, head_dim };
            let expected = rows.numbers();
            // A unit in the last place of what is rounded twice.
            let bound = 2.0f64.powi(-23) * rows.largest();
            let mut found = vec![0.0; expected.len()];
            plain(&coded, &mut found);
            near(&found, &expected, bound, "plain")?;
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            for (kind, functions) in registers::kinds(&coded) {
                found.fill(f32::NAN);
                functions.unpack(&coded, &mut found);
                near(&found, &expected, bound, kind)?;
            }
        }

        #[test]
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        fn sums_over_codes_are_those_over_the_numbers(
            rows in rows(), queries in 1..10usize, before in 0..3usize, after in 0..3usize,
            numbers in prop::collection::vec(-1.0f32..1.0, 97),
        ) {
            let (scales, lows) = (narrow(&rows.scales), narrow(&rows.lows));
            let Rows { bits, group, head_dim: d, .. } = rows;
            let coded = Coded { codes: &rows.codes, bits, scales: &scales, lows: &lows, group, head_dim: d };
            let (n, values) = (rows.n(), rows.numbers());
            let mut next = numbers.iter().cycle().copied();
            let mut take = |n: usize| -> Vec<f32> { next.by_ref().take(n).collect() };
            let at = At { stride: before + n + after, first: before };
            let (query, given, sums) = (take(queries * d), take(queries * at.stride), take(queries * d));
            let mut weights: Vec<f64> = given.iter().map(|&x| f64::from(x)).collect();
            let mut means: Vec<f64> = sums.iter().map(|&x| f64::from(x)).collect();
            for j in 0..queries {
                for row in 0..n {
                    let at = j * at.stride + before + row;
                    let products = (0..d).map(|c| f64::from(query[j * d + c]) * values[row * d + c]);
                    weights[at] = products.sum();
                    (0..d).for_each(|c| means[j * d + c] += f64::from(given[at]) * values[row * d + c]);
                }
            }
            // So many sums of numbers up to the largest, a unit in the last place each.
            let bound = |terms: usize| 2.0f64.powi(-23) * terms as f64 * rows.largest();
            for (kind, functions) in registers::kinds(&coded) {
                let (mut found, mut sums) = (given.clone(), sums.clone());
                functions.products(&query, &coded, &mut found, at);
                near(&found, &weights, bound(d + 1), kind)?;
                functions.add_weighted(&given, at, &coded, &mut sums);
                near(&sums, &means, bound(n + 1), kind)?;
            }
        }
    }
}
