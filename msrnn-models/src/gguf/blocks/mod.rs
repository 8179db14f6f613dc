//! How GGUF files hold values: plain, or in blocks that share scales. One file per family of formats.

mod iq;
mod k;
mod legacy;

use half::{bf16, f16};

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
}

/// What there is to know about a format.
struct Traits {
    format: Format,
    /// By which number files name it.
    id: u32,
    name: &'static str,
    /// Values of a block.
    values: usize,
    /// Bytes of a block.
    bytes: usize,
    /// A block to its values.
    dequantize: fn(&[u8], &mut [f32]),
}

const fn of(
    format: Format,
    id: u32,
    name: &'static str,
    (values, bytes): (usize, usize),
    dequantize: fn(&[u8], &mut [f32]),
) -> Traits {
    Traits { format, id, name, values, bytes, dequantize }
}

/// In the order of [`Format`].
const ALL: [Traits; 14] = [
    of(Format::F32, 0, "F32", (1, 4), |block, values| values[0] = f32::from_le_bytes(array(block))),
    of(Format::F16, 1, "F16", (1, 2), |block, values| values[0] = half(block)),
    of(Format::BF16, 30, "BF16", (1, 2), |block, values| values[0] = bf16::from_le_bytes(array(block)).to_f32()),
    of(Format::Q4_0, 2, "Q4_0", (32, 18), legacy::q4_0),
    of(Format::Q4_1, 3, "Q4_1", (32, 20), legacy::q4_1),
    of(Format::Q5_0, 6, "Q5_0", (32, 22), legacy::q5_0),
    of(Format::Q5_1, 7, "Q5_1", (32, 24), legacy::q5_1),
    of(Format::Q8_0, 8, "Q8_0", (32, 34), legacy::q8_0),
    of(Format::Q2_K, 10, "Q2_K", (256, 84), k::q2),
    of(Format::Q3_K, 11, "Q3_K", (256, 110), k::q3),
    of(Format::Q4_K, 12, "Q4_K", (256, 144), k::q4),
    of(Format::Q5_K, 13, "Q5_K", (256, 176), k::q5),
    of(Format::Q6_K, 14, "Q6_K", (256, 210), k::q6),
    of(Format::IQ4_NL, 20, "IQ4_NL", (32, 18), iq::iq4_nl),
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
        match ALL.iter().find(|traits| traits.id == id) {
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

    /// The number that files have for it.
    pub fn id(self) -> u32 {
        self.traits().id
    }

    /// `Q4_K`
    pub fn name(self) -> &'static str {
        self.traits().name
    }

    /// The names of all, for messages.
    pub fn names() -> String {
        ALL.iter().map(|traits| traits.name).collect::<Vec<_>>().join(", ")
    }

    /// Values of a block; 1 for floats.
    pub fn block(self) -> usize {
        self.traits().values
    }

    /// Bytes of so many values, which are whole blocks; none where that is no number.
    pub fn bytes(self, values: usize) -> Option<usize> {
        (values / self.block()).checked_mul(self.traits().bytes)
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
            _ => return None,
        })
    }
}

/// A matrix as blocks, row by row.
#[derive(Clone, Debug)]
pub struct BlockTensor {
    /// In which form.
    pub format: Format,
    /// Values of a row: whole blocks.
    pub columns: usize,
    /// The rows, one behind the other.
    pub blocks: Vec<u8>,
}

impl BlockTensor {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.format.bytes(self.columns).expect("a row that is in memory")
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.blocks.len() / self.row_bytes()
    }

    /// The values of a row, `[columns]`, into `values`.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    pub fn dequantize_row(&self, row: usize, values: &mut [f32]) {
        let bytes = self.row_bytes();
        self.format.dequantize(&self.blocks[row * bytes..(row + 1) * bytes], values);
    }

    /// All values, `[rows, columns]`.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows() * self.columns];
        self.format.dequantize(&self.blocks, &mut values);
        values
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("N bytes")
}

/// The half float that some bytes begin with.
fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes(array(bytes)).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_formats_and_numbers_are_of_one_each() {
        for (index, traits) in ALL.iter().enumerate() {
            assert_eq!(traits.format as usize, index, "{}", traits.name);
            assert_eq!(Format::of_id(traits.id), Ok(traits.format));
            assert!(OTHERS.iter().all(|(id, name)| *id != traits.id && *name != traits.name));
        }
        assert_eq!(Format::of_id(23).unwrap_err(), "IQ4_XS");
        assert_eq!(Format::of_id(4096).unwrap_err(), "number 4096");
    }

    #[test]
    fn what_is_written_in_floats_is_read_as_it_was_and_eight_bits_are_off_by_half_a_step_at_most() {
        let values: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.5) * 0.03125).collect();
        for format in [Format::F32, Format::F16, Format::BF16, Format::Q8_0] {
            let blocks = format.quantize(&values).unwrap();
            assert_eq!(Some(blocks.len()), format.bytes(values.len()));
            let tensor = BlockTensor { format, columns: 32, blocks };
            let (found, mut row) = (tensor.dequantize(), vec![0.0; 32]);
            tensor.dequantize_row(1, &mut row);
            assert_eq!((tensor.rows(), &found[32..]), (2, row.as_slice()));
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
