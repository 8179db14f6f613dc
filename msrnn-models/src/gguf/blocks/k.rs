//! Blocks of 256 values in groups of 16 or 32, each with a scale, and in some formats a least value, of few bits,
//! which a scale of the whole block, a half float, spreads out.

use super::half;

/// x = d · s · q − m · l, of 2 bits, in 16 groups. Scale and least value of a group share a byte.
pub(super) fn q2(block: &[u8], values: &mut [f32]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, m) = (half(&block[80..]), half(&block[82..]));
    for (group, (values, scale)) in values.chunks_exact_mut(16).zip(scales).enumerate() {
        let (scale, least) = (d * f32::from(scale & 15), m * f32::from(scale >> 4));
        for (i, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(two_bits(qs, group, i)) - least;
        }
    }
}

/// x = d · (s − 32) · (q − 4), of 3 bits, in 16 groups. The third bits lie apart: 256 of them in 32 bytes.
pub(super) fn q3(block: &[u8], values: &mut [f32]) {
    let (thirds, qs, scales, d) = (&block[..32], &block[32..96], &block[96..108], half(&block[108..]));
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        // Four bits of a scale are in the first eight bytes, two in the last four.
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let high = scales[8 + group % 4] >> (group / 4 * 2) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        for (i, value) in values.iter_mut().enumerate() {
            let third = thirds[group % 2 * 16 + i] >> (group / 2) & 1;
            *value = scale * (f32::from(two_bits(qs, group, i) | third << 2) - 4.0);
        }
    }
}

/// x = d · s · q − m · l, of 4 bits, in 8 groups.
pub(super) fn q4(block: &[u8], values: &mut [f32]) {
    let (d, m, scales, qs) = (half(block), half(&block[2..]), &block[4..16], &block[16..144]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (scale, least) = six_bits(scales, group);
        let (scale, least) = (d * f32::from(scale), m * f32::from(least));
        for (i, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(four_bits(qs, group, i)) - least;
        }
    }
}

/// As [`q4`], of 5 bits. The fifth bits lie apart.
pub(super) fn q5(block: &[u8], values: &mut [f32]) {
    let (d, m, scales) = (half(block), half(&block[2..]), &block[4..16]);
    let (fifths, qs) = (&block[16..48], &block[48..176]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (scale, least) = six_bits(scales, group);
        let (scale, least) = (d * f32::from(scale), m * f32::from(least));
        for (i, value) in values.iter_mut().enumerate() {
            let q = four_bits(qs, group, i) | (fifths[i] >> group & 1) << 4;
            *value = scale * f32::from(q) - least;
        }
    }
}

/// x = d · s · (q − 32), of 6 bits, in 16 groups. The upper two bits lie apart.
pub(super) fn q6(block: &[u8], values: &mut [f32]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(&block[208..]));
    for (group, (values, scale)) in values.chunks_exact_mut(16).zip(scales).enumerate() {
        let scale = d * f32::from(scale.cast_signed());
        // Two halves of 128 values, in four rows of 32.
        let (side, row) = (group / 8, group % 8 / 2);
        for (i, value) in values.iter_mut().enumerate() {
            let column = group % 2 * 16 + i;
            let four = low[side * 64 + row % 2 * 32 + column] >> (row / 2 * 4) & 15;
            let two = high[side * 32 + column] >> (row * 2) & 3;
            *value = scale * (f32::from(four | two << 4) - 32.0);
        }
    }
}

/// Value `i` of a group of 16: two halves of 128 values, in four rows of 32, which are the two bits of 32 bytes.
fn two_bits(qs: &[u8], group: usize, i: usize) -> u8 {
    let (side, row, column) = (group / 8, group % 8 / 2, group % 2 * 16 + i);
    qs[side * 32 + column] >> (row * 2) & 3
}

/// Value `i` of a group of 32: groups in pairs, which are the low and the high halves of 32 bytes.
fn four_bits(qs: &[u8], group: usize, i: usize) -> u8 {
    qs[group / 2 * 32 + i] >> (group % 2 * 4) & 15
}

/// Scale and least value of one of eight groups, in 12 bytes.
fn six_bits(scales: &[u8], group: usize) -> (u8, u8) {
    match group {
        0..4 => (scales[group] & 63, scales[group + 4] & 63),
        _ => {
            let (both, scale, least) = (scales[group + 4], scales[group - 4], scales[group]);
            (both & 15 | (scale >> 6) << 4, both >> 4 | (least >> 6) << 4)
        }
    }
}
