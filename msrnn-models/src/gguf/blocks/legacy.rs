//! Blocks of 32 values with one scale, and in the `_1` formats a least value, as half floats.
//!
//! A block is scale, least value, fifth bits, and values, as far as the format has them. Of 4 bits the first 16 values
//! are the low halves of the bytes, the others the high halves.

use half::f16;

use super::half;

/// x = d · (q − 8)
pub(super) fn q4_0(block: &[u8], values: &mut [f32]) {
    let d = half(block);
    nibbles(&block[2..18], |i, q| values[i] = d * (f32::from(q) - 8.0));
}

/// x = d · q + m
pub(super) fn q4_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (half(block), half(&block[2..]));
    nibbles(&block[4..20], |i, q| values[i] = d * f32::from(q) + m);
}

/// x = d · (q − 16)
pub(super) fn q5_0(block: &[u8], values: &mut [f32]) {
    let d = half(block);
    fives(&block[2..22], |i, q| values[i] = d * (f32::from(q) - 16.0));
}

/// x = d · q + m
pub(super) fn q5_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (half(block), half(&block[2..]));
    fives(&block[4..24], |i, q| values[i] = d * f32::from(q) + m);
}

/// x = d · q, with q from −128 on
pub(super) fn q8_0(block: &[u8], values: &mut [f32]) {
    let d = half(block);
    for (value, q) in values.iter_mut().zip(&block[2..34]) {
        *value = f32::from(q.cast_signed()) * d;
    }
}

/// 32 values as a block of Q8_0: the largest magnitude is 127, halves are rounded away from zero.
pub(super) fn to_q8_0(values: &[f32]) -> [u8; 34] {
    let d = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, value) in block[2..].iter_mut().zip(values) {
        *q = ((value * inverse).round() as i8).cast_unsigned();
    }
    block
}

/// The 32 values of 16 bytes, by place.
pub(super) fn nibbles(bytes: &[u8], mut each: impl FnMut(usize, u8)) {
    for (i, byte) in bytes.iter().enumerate() {
        each(i, byte & 15);
        each(i + 16, byte >> 4);
    }
}

/// The same with a fifth bit each, which stand before them.
fn fives(bytes: &[u8], mut each: impl FnMut(usize, u8)) {
    let fifths = u32::from_le_bytes(super::array(bytes));
    nibbles(&bytes[4..], |i, q| each(i, q | ((fifths >> i & 1) as u8) << 4));
}
