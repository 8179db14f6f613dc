//! Values in blocks that share scales, and plain ones, as GGUF files hold them. One file per family of formats.
//!
//! Every format of blocks is written once, as what 32 of its values consist of; values, and products with
//! activations in floats and in integers, follow from that.

mod codes;
mod int8;
mod iq;
mod k;
mod legacy;

use burn::tensor::{bf16, f16};

pub(crate) use codes::Codes;
pub(crate) use int8::Int8;
pub(crate) use iq::Iq4Nl;
pub(crate) use k::{Q2K, Q3K, Q4K, Q5K, Q6K};
pub(crate) use legacy::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

/// Values of a chunk.
pub(crate) const CHUNK: usize = 32;

/// Most groups of a block that share a scale.
pub(crate) const GROUPS: usize = 16;

/// What codes of a block are multiplied with, and what is added, group by group: scale · (code − [`Packed::ZERO`]) + shift.
/// A block has [`Packed::VALUES`] / [`Packed::GROUP`] groups; what is behind those means nothing.
pub(crate) struct Scales {
    pub(crate) scales: [f32; GROUPS],
    /// Zeros unless [`Packed::SHIFTED`].
    pub(crate) shifts: [f32; GROUPS],
}

impl Scales {
    /// Of eight groups: d · scale and −m · least value, each a byte.
    #[inline(always)]
    fn eight<U: Unpacks>([d, m]: [f32; 2], scales: u64, least: u64) -> Self {
        Self::sixteen::<U>([d, m], [scales, 0], 0.0, [least, 0])
    }

    /// Of sixteen groups: d · (scale − zero) and −m · least value, each a byte.
    #[inline(always)]
    fn sixteen<U: Unpacks>([d, m]: [f32; 2], scales: [u64; 2], zero: f32, least: [u64; 2]) -> Self {
        let mut all = Self { scales: [0.0; GROUPS], shifts: [0.0; GROUPS] };
        for half in 0..2 {
            all.scales[half * 8..][..8].copy_from_slice(&U::scaled(d, scales[half], zero));
            all.shifts[half * 8..][..8].copy_from_slice(&U::scaled(-m, least[half], 0.0));
        }
        all
    }

    /// Of a block that is one group.
    #[inline(always)]
    pub(crate) fn one(scale: f32, shift: f32) -> Self {
        Self { scales: [scale; GROUPS], shifts: [shift; GROUPS] }
    }
}

/// A format of blocks of so many bytes.
#[cfg_attr(not(feature = "flex"), allow(dead_code))] // Products with blocks are the CPU's.
pub(crate) trait Packed<const BYTES: usize> {
    /// Values of a block: whole chunks.
    const VALUES: usize;
    /// The code that is subtracted from all.
    const ZERO: u8 = 0;
    /// Values that share a scale, 16 or 32.
    const GROUP: usize = 32;
    /// Whether there are shifts.
    const SHIFTED: bool = false;
    /// Where a block's half floats are.
    const HALVES: &'static [usize];

    /// The codes of the `index`-th chunk of a block.
    fn codes<U: Unpacks>(block: &[u8; BYTES], index: usize) -> Codes;

    /// The scales of a block.
    fn scales<H: Unpacks>(block: &[u8; BYTES]) -> Scales;
}

/// A block to its values.
#[inline(always)]
pub(crate) fn dequantize<const BYTES: usize, F: Packed<BYTES>>(block: &[u8], values: &mut [f32]) {
    let block = block.as_array().expect("a block of the format");
    let Scales { scales, shifts } = F::scales::<Plain>(block);
    for (index, values) in values.chunks_exact_mut(CHUNK).enumerate() {
        let codes = F::codes::<Plain>(block, index).bytes();
        for (i, (value, code)) in values.iter_mut().zip(codes).enumerate() {
            let group = (index * CHUNK + i) / F::GROUP;
            let value_of_code = scales[group] * (f32::from(code) - f32::from(F::ZERO));
            *value = if F::SHIFTED { value_of_code + shifts[group] } else { value_of_code };
        }
    }
    // Infinities and NaNs, which chunks do not know.
    if !finite(block, F::HALVES) {
        values.fill(f32::NAN);
    }
}

/// Whether no half float of a block, at these places, is infinite or NaN. No value is then: such scales are of a few bits each.
#[inline(always)]
fn finite<const BYTES: usize>(block: &[u8; BYTES], halves: &[usize]) -> bool {
    !halves.iter().fold(false, |found, at| found | (block[at + 1] & 0x7c == 0x7c))
}

/// Of whole blocks.
fn all_finite<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8]) -> bool {
    let (blocks, _) = blocks.as_chunks::<BYTES>();
    blocks.iter().fold(true, |all, block| all & finite(block, F::HALVES))
}

/// In which form the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// The upper half of 32-bit floats.
    BF16,
    /// 32 values of 4 bits, a scale.
    Q4_0,
    /// 32 values of 4 bits, a scale and a least value.
    Q4_1,
    /// 32 values of 5 bits, a scale.
    Q5_0,
    /// 32 values of 5 bits, a scale and a least value.
    Q5_1,
    /// 32 values of 8 bits, a scale.
    Q8_0,
    /// 256 values of 2 bits, scales and least values of 4 bits for every 16.
    Q2_K,
    /// 256 values of 3 bits, scales of 6 bits for every 16.
    Q3_K,
    /// 256 values of 4 bits, scales and least values of 6 bits for every 32.
    Q4_K,
    /// 256 values of 5 bits, scales and least values of 6 bits for every 32.
    Q5_K,
    /// 256 values of 6 bits, scales of 8 bits for every 16.
    Q6_K,
    /// 32 values of 4 bits, which name one of 16 levels, a scale.
    IQ4_NL,
    /// 64 values of 8 bits from −127 to 127, a scale in 32 bits: msrnn's own.
    Int8,
}

/// What there is to know about a format.
struct Traits {
    format: Format,
    /// By which number GGUF files name it; none where they have no such.
    id: Option<u32>,
    name: &'static str,
    /// Values of a block.
    values: usize,
    /// Bytes of a block.
    bytes: usize,
    /// A block to its values.
    dequantize: fn(&[u8], &mut [f32]),
    /// Whether all values of whole blocks are finite, where that can be told without them.
    finite: Option<fn(&[u8]) -> bool>,
}

/// Of a format of a GGUF file.
const fn floats(
    format: Format,
    id: u32,
    name: &'static str,
    bytes: usize,
    dequantize: fn(&[u8], &mut [f32]),
) -> Traits {
    Traits { format, id: Some(id), name, values: 1, bytes, dequantize, finite: None }
}

/// Of a format of a GGUF file.
const fn blocks<const BYTES: usize, F: Packed<BYTES>>(format: Format, id: u32, name: &'static str) -> Traits {
    let finite: fn(&[u8]) -> bool = all_finite::<BYTES, F>;
    let dequantize = dequantize::<BYTES, F>;
    Traits { format, id: Some(id), name, values: F::VALUES, bytes: BYTES, dequantize, finite: Some(finite) }
}

/// In the order of [`Format`].
const ALL: [Traits; 15] = [
    floats(Format::F32, 0, "F32", 4, |block, values| values[0] = f32::from_le_bytes(array(block))),
    floats(Format::F16, 1, "F16", 2, |block, values| values[0] = f16::from_le_bytes(array(block)).to_f32()),
    floats(Format::BF16, 30, "BF16", 2, |block, values| values[0] = bf16::from_le_bytes(array(block)).to_f32()),
    blocks::<18, Q4_0>(Format::Q4_0, 2, "Q4_0"),
    blocks::<20, Q4_1>(Format::Q4_1, 3, "Q4_1"),
    blocks::<22, Q5_0>(Format::Q5_0, 6, "Q5_0"),
    blocks::<24, Q5_1>(Format::Q5_1, 7, "Q5_1"),
    blocks::<34, Q8_0>(Format::Q8_0, 8, "Q8_0"),
    blocks::<84, Q2K>(Format::Q2_K, 10, "Q2_K"),
    blocks::<110, Q3K>(Format::Q3_K, 11, "Q3_K"),
    blocks::<144, Q4K>(Format::Q4_K, 12, "Q4_K"),
    blocks::<176, Q5K>(Format::Q5_K, 13, "Q5_K"),
    blocks::<210, Q6K>(Format::Q6_K, 14, "Q6_K"),
    blocks::<18, Iq4Nl>(Format::IQ4_NL, 20, "IQ4_NL"),
    Traits {
        format: Format::Int8,
        id: None,
        name: "int8",
        values: Int8::VALUES,
        bytes: 68,
        dequantize: dequantize::<68, Int8>,
        // Scales in 32 bits, with which a value can overflow.
        finite: None,
    },
];

/// Names of numbers that are not read, for messages.
const OTHERS: [(u32, &str); 19] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl Format {
    /// The format of that number in a file.
    ///
    /// # Errors
    ///
    /// What the number stands for, where that is none of these.
    pub fn of_id(id: u32) -> Result<Self, String> {
        match ALL.iter().find(|traits| traits.id == Some(id)) {
            Some(traits) => Ok(traits.format),
            None => {
                let other = OTHERS.iter().find(|(other, _)| *other == id);
                Err(other.map_or_else(|| format!("number {id}"), |(_, name)| (*name).to_owned()))
            }
        }
    }

    fn traits(self) -> &'static Traits {
        &ALL[self as usize]
    }

    /// The number that GGUF files have for it, if they have one.
    pub fn id(self) -> Option<u32> {
        self.traits().id
    }

    /// `Q4_K`
    pub fn name(self) -> &'static str {
        self.traits().name
    }

    /// The names of those that GGUF files have, for messages.
    pub fn names() -> String {
        ALL.iter().filter(|traits| traits.id.is_some()).map(|traits| traits.name).collect::<Vec<_>>().join(", ")
    }

    /// Values of a block; 1 for floats.
    pub fn block(self) -> usize {
        self.traits().values
    }

    /// Bytes of so many values, which are whole blocks; none where that is no number.
    pub fn bytes(self, values: usize) -> Option<usize> {
        (values / self.block()).checked_mul(self.traits().bytes)
    }

    /// Values of so many bytes of whole blocks.
    pub fn values(self, bytes: usize) -> usize {
        bytes / self.traits().bytes * self.block()
    }

    /// Whole blocks to their values. This is what a format means; whatever is faster is tested against it.
    ///
    /// # Panics
    ///
    /// When there are not as many values as the blocks have.
    pub fn dequantize(self, blocks: &[u8], values: &mut [f32]) {
        let traits = self.traits();
        assert_eq!(blocks.len() / traits.bytes * traits.values, values.len(), "values of {}", traits.name);
        for (block, values) in blocks.chunks_exact(traits.bytes).zip(values.chunks_exact_mut(traits.values)) {
            (traits.dequantize)(block, values);
        }
    }

    /// Whether all values of whole blocks are finite, which is told from their scales where these are half floats.
    pub fn finite(self, blocks: &[u8]) -> bool {
        match self.traits().finite {
            Some(finite) => finite(blocks),
            None => blocks.chunks(self.traits().bytes * CHUNK).all(|few| {
                let mut values = vec![0.0; self.values(few.len())];
                self.dequantize(few, &mut values);
                values.iter().all(|value: &f32| value.is_finite())
            }),
        }
    }

    /// The inverse, for the formats that are written: every value rounded to the nearest of the format, with the
    /// scale of a block of [`Format::Q8_0`] as llama.cpp chooses it. None for the other formats.
    ///
    /// # Panics
    ///
    /// When the values are no whole blocks.
    pub fn quantize(self, values: &[f32]) -> Option<Vec<u8>> {
        assert_eq!(values.len() % self.block(), 0, "whole blocks of {}", self.name());
        Some(match self {
            Format::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Format::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Format::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            Format::Q8_0 => values.chunks_exact(32).flat_map(legacy::to_q8_0).collect(),
            Format::Int8 => values.as_chunks().0.iter().flat_map(int8::quantize).collect(),
            _ => return None,
        })
    }
}

#[inline(always)]
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("N bytes")
}

/// By which instructions blocks are taken apart, where loops do not become them.
pub(crate) trait Unpacks {
    /// The finite half floats of four bytes, the first in the lower ones.
    fn halves(word: u32) -> [f32; 2];

    /// factor · (number − zero) of eight numbers without a sign, the first in the lowest byte.
    fn scaled(factor: f32, bytes: u64, zero: f32) -> [f32; 8];

    /// A bit each, the first the lowest.
    fn bits(word: u32) -> Codes;

    /// What codes below 16 stand for.
    fn levels(codes: Codes, levels: &[u8; 16]) -> Codes;
}

/// By a few instructions that any processor has.
pub(crate) struct Plain;

impl Unpacks for Plain {
    #[inline(always)]
    fn halves(word: u32) -> [f32; 2] {
        let mut halves = [0.0; 2];
        for (half, bits) in halves.iter_mut().zip([word << 16, word]) {
            // Sign and magnitude of a wider float whose exponent is 112 too low, whether the number is normal or not.
            let magnitude = (bits.cast_signed() >> 3).cast_unsigned() & 0x8fff_e000;
            *half = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
        }
        halves
    }

    #[inline(always)]
    fn scaled(factor: f32, bytes: u64, zero: f32) -> [f32; 8] {
        let mut scaled = [0.0; 8];
        for (scaled, byte) in scaled.iter_mut().zip(bytes.to_le_bytes()) {
            *scaled = factor * (f32::from(byte) - zero);
        }
        scaled
    }

    #[inline(always)]
    fn bits(word: u32) -> Codes {
        let mut bytes = [0; CHUNK];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (word >> at & 1) as u8;
        }
        Codes::of(&bytes)
    }

    #[inline(always)]
    fn levels(codes: Codes, levels: &[u8; 16]) -> Codes {
        let mut bytes = codes.bytes();
        for byte in &mut bytes {
            *byte = levels[usize::from(*byte & 15)];
        }
        Codes::of(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_formats_and_numbers_are_of_one_each() {
        for (index, traits) in ALL.iter().enumerate() {
            assert_eq!(traits.format as usize, index, "{}", traits.name);
            let Some(number) = traits.id else { continue };
            assert_eq!(Format::of_id(number), Ok(traits.format));
            assert!(OTHERS.iter().all(|(id, name)| *id != number && *name != traits.name));
        }
        assert_eq!(Format::of_id(23).unwrap_err(), "IQ4_XS");
        assert_eq!(Format::of_id(4096).unwrap_err(), "number 4096");
    }

    #[test]
    fn all_half_floats_are_read_as_what_they_are() {
        for number in (0..=u16::MAX).map(f16::from_bits) {
            if number.is_finite() {
                let bits = u32::from(number.to_bits());
                for half in [Plain::halves(bits)[0], Plain::halves(bits << 16 | 0x7e00)[1]] {
                    assert_eq!(half.to_bits(), number.to_f32().to_bits(), "{number}");
                }
            }
            let mut value = [0.0];
            Format::F16.dequantize(&number.to_le_bytes(), &mut value);
            assert!(value[0] == number.to_f32() || value[0].is_nan() && number.is_nan());
        }
    }

    #[test]
    fn blocks_whose_scales_are_no_numbers_are_none() {
        for format in ALL.iter().filter(|traits| traits.values > 1).map(|traits| traits.format) {
            let size = format.bytes(format.block()).unwrap();
            let mut values = vec![0.0; format.block()];
            let mut found = 0;
            for at in 0..size - 1 {
                let mut block = vec![0; size];
                block[at + 1] = 0x7c;
                format.dequantize(&block, &mut values);
                found += usize::from(values.iter().all(|value| value.is_nan()));
            }
            let halves = match format {
                Format::Int8 => 0,
                Format::Q4_1 | Format::Q5_1 | Format::Q2_K | Format::Q4_K | Format::Q5_K => 2,
                _ => 1,
            };
            assert_eq!(found, halves, "{format:?}");
        }
    }

    #[test]
    fn scales_tell_whether_all_values_are_finite() {
        let mut state = 1u64;
        for format in ALL.iter().map(|traits| traits.format) {
            let mut found = [0; 2];
            for case in 0..500 {
                let mut blocks = vec![0; format.bytes(3 * format.block()).unwrap()];
                for byte in &mut blocks {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    *byte = match case % 4 {
                        // The largest finite half floats, times the largest codes, and those after them.
                        0 => [0xff, 0x7b, 0xfb][(state >> 60) as usize % 3],
                        1 => [0xff, 0x7b, 0x7c][(state >> 60) as usize % 3],
                        2 => (state >> 56) as u8 & 0x3f,
                        _ => (state >> 56) as u8,
                    };
                }
                let mut values = vec![0.0; format.values(blocks.len())];
                format.dequantize(&blocks, &mut values);
                let finite = values.iter().all(|value| value.is_finite());
                assert_eq!(format.finite(&blocks), finite, "{format:?} {blocks:?}");
                found[usize::from(finite)] += 1;
            }
            assert!(found.into_iter().all(|cases| cases > 10), "{format:?}: {found:?}");
        }
    }

    #[test]
    fn what_is_written_in_floats_is_read_as_it_was_and_eight_bits_are_off_by_half_a_step_at_most() {
        let values: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.5) * 0.03125).collect();
        for format in [Format::F32, Format::F16, Format::BF16, Format::Q8_0] {
            let blocks = format.quantize(&values).unwrap();
            assert_eq!(Some(blocks.len()), format.bytes(values.len()));
            let mut found = vec![0.0; values.len()];
            format.dequantize(&blocks, &mut found);
            for (found, value) in found.iter().zip(&values) {
                let off = (found - value).abs();
                // A step is a 127th of the largest; its scale is rounded to a half float.
                let most =
                    if format == Format::Q8_0 { 31.5 * 0.03125 / 127.0 * 0.5 + 31.5 * 0.03125 / 2048.0 } else { 0.0 };
                assert!(off <= most, "{format:?}: {value} is {found}");
            }
        }
        assert_eq!(Format::Q4_K.quantize(&[0.0; 256]), None);
    }
}
