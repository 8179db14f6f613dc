//! Every kernel against its plain twin, on random shapes.
//!
//! Bounds are those of rounding: a sum of n products taken in another order differs by at most
//! 2 n ε Σ |a b|, and what is computed from few values by a few ε of their size. They hold for any
//! input, so a kernel that reads a wrong value or leaves one out breaks them.

use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::product::{Columns, Rows};
use crate::kernels::{Activations, Blocks, Format, Map, Values, Weight, flex, plain};

pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(2024), failure_persistence: None, ..ProptestConfig::default() }
}

/// Dtypes of activations with those that weights and states can then have.
pub(crate) fn dtypes() -> impl Strategy<Value = (DType, DType)> {
    prop_oneof![
        Just((DType::F64, DType::F64)),
        Just((DType::F32, DType::F32)),
        Just((DType::F32, DType::F16)),
        Just((DType::F32, DType::BF16)),
    ]
}

pub(crate) fn epsilon(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) }
}

pub(crate) fn random<const D: usize>(dims: [usize; D], dtype: DType) -> Tensor<D> {
    Tensor::<D>::random(dims, Distribution::Normal(0.0, 1.0), (&Device::default(), DType::F64)).cast(dtype)
}

pub(crate) fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_into_vec().expect("numbers")
}

/// Fails where two tensors differ by more than `bound` says, value by value.
pub(crate) fn agree<const D: usize>(found: Tensor<D>, expected: Tensor<D>, bound: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.dims(), expected.dims());
    prop_assert_eq!(found.dtype(), expected.dtype());
    for (i, ((found, expected), bound)) in values(found).into_iter().zip(values(expected)).zip(bound).enumerate() {
        let same = (found - expected).abs() <= *bound;
        prop_assert!(same, "value {}: {} instead of {}, bound {:e}", i, found, expected, bound);
    }
    Ok(())
}

/// Formats of blocks, and where in one of their blocks half floats are.
const FORMATS: [(Format, &[usize]); 12] = [
    (Format::Q4_0, &[0]),
    (Format::Q4_1, &[0, 2]),
    (Format::Q5_0, &[0]),
    (Format::Q5_1, &[0, 2]),
    (Format::Q8_0, &[0]),
    (Format::Q2_K, &[80, 82]),
    (Format::Q3_K, &[108]),
    (Format::Q4_K, &[0, 2]),
    (Format::Q5_K, &[0, 2]),
    (Format::Q6_K, &[208]),
    (Format::IQ4_NL, &[0]),
    // A float of 32 bits, whose upper half is one of 16 with a longer exponent.
    (Format::Int8, &[2]),
];

/// A matrix of blocks of random bytes, their scales between 1/16 and 2.
fn random_blocks(format: Format, [output, input]: [usize; 2], seed: u64) -> Blocks {
    let size = format.bytes(format.block()).expect("a block");
    let of_row = format.bytes(input).expect("a row");
    let mut state = seed;
    let mut random = || {
        // splitmix64 (Steele et al. 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as u8
    };
    let mut bytes: Vec<u8> = (0..output * of_row).map(|_| random()).collect();
    let (_, halves) = FORMATS.iter().find(|(known, _)| *known == format).expect("a format of blocks");
    for block in bytes.chunks_exact_mut(size) {
        for &at in *halves {
            // Exponents of half floats are 15 above, those of wider ones 127.
            let exponent = random() % 5;
            block[at + 1] = match format {
                Format::Int8 => block[at + 1] & 0x80 | (123 + exponent) >> 1,
                _ => block[at + 1] & 0x83 | (11 + exponent) << 2,
            };
        }
    }
    let bytes = Tensor::from_data(TensorData::new(bytes, [output, of_row]), (&Device::default(), DType::U8));
    Blocks { bytes, format }
}

/// What values are at most sums of: |scale| · (code + zero) + |shift|, `[out, in]` in f64.
fn terms(weight: &Blocks) -> Tensor<2> {
    let bytes = weight.bytes.clone().into_data().try_into_vec::<u8>().expect("bytes");
    let terms = flex::blocks::terms(weight.format, &bytes);
    Tensor::from_data(TensorData::new(terms, weight.dims()), (&Device::default(), DType::F64))
}

/// Σ |a b| by output of x Wᵀ, in f64.
fn magnitude(x: &Tensor<2>, weight: &Tensor<2>) -> Vec<f64> {
    values(x.clone().cast(DType::F64).abs().matmul(weight.clone().cast(DType::F64).abs().transpose()))
}

fn linear_agrees(
    rows: usize,
    input: usize,
    outputs: [usize; 2],
    dtypes: (DType, DType),
    activations: Activations,
) -> Result<(), TestCaseError> {
    let (dtype, stored) = dtypes;
    let x = random([rows, input], dtype);
    let maps = outputs.map(|output| Map {
        weight: Weight { values: Values::Float(random([output, input], stored)), activations },
        bias: (output % 2 == 0).then(|| random([output], stored)),
    });
    linear_maps_agree(x, maps)
}

fn linear_maps_agree(x: Tensor<2>, maps: [Map; 2]) -> Result<(), TestCaseError> {
    let (dtype, [_, input]) = (x.dtype(), x.dims());
    let found = flex::linear(x.clone(), maps.clone());
    let expected = plain::linear(x.clone(), maps.clone());
    for ((found, expected), map) in found.into_iter().zip(expected).zip(&maps) {
        let bound = magnitude(&x, &map.weight.clone().float());
        // The bias adds one more term, of the size of a few of them.
        let bound: Vec<f64> = bound.iter().map(|sum| 2.0 * (input + 1) as f64 * epsilon(dtype) * (sum + 8.0)).collect();
        agree(found, expected, &bound)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn linear_equals_its_plain_twin(
        rows in 1..=30usize, input in 1..=200usize, outputs in [1..=100usize, 1..=40usize], dtypes in dtypes(),
        rounded in any::<bool>(),
    ) {
        // Weights that are no bfloat16 take no notice.
        let activations = if rounded { Activations::Bf16 } else { Activations::Float };
        linear_agrees(rows, input, outputs, dtypes, activations)?;
    }

    #[test]
    fn linear_in_blocks_equals_its_plain_twin(
        format in prop::sample::select(FORMATS.map(|(format, _)| format).to_vec()), rows in 1..=30usize, blocks in 1..=4usize,
        outputs in [1..=100usize, 1..=40usize], half in any::<bool>(), rounded in any::<bool>(), seed in any::<u64>(),
    ) {
        let input = blocks * format.block();
        let x = random([rows, input], DType::F32);
        let [first, second] = outputs;
        let activations = if rounded { Activations::Int8 } else { Activations::Float };
        let weight = random_blocks(format, [first, input], seed);
        // Beside another dtype, as the maps of one call may be.
        let other = random([second, input], if half { DType::F16 } else { DType::F32 });
        let bias = (first % 2 == 0).then(|| random([first], DType::F32));
        let maps = [Map { weight: Weight { values: Values::Blocks(weight.clone()), activations }, bias }, Map { weight: other.into(), bias: None }];
        let [found, _] = flex::linear(x.clone(), maps.clone());
        let [expected, _] = plain::linear(x.clone(), maps);
        let terms = terms(&weight);
        let bound = values(x.abs().cast(DType::F64).matmul(terms.transpose()));
        let bound: Vec<f64> = bound.iter().map(|sum| 2.0 * (input + 4) as f64 * epsilon(DType::F32) * (sum + 8.0)).collect();
        agree(found, expected, &bound)?;
    }

    #[test]
    fn likelihood_equals_its_plain_twin(
        rows in 1..=5usize, vocab in 1..=200usize, scale in -3..=2i32, wide in any::<bool>(),
    ) {
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let logits = random([rows, vocab], dtype).mul_scalar(10f64.powi(scale));
        let tokens: Vec<i64> = (0..rows).map(|row| (row * 7919 % vocab) as i64).collect();
        let tokens = Tensor::<1, Int>::from_data(TensorData::new(tokens, [rows]), &logits.device());
        let expected = plain::log_likelihood(logits.clone(), tokens.clone());
        // A sum of positive terms, its logarithm, and a difference of values as large as the logits.
        let largest = values(logits.clone()).into_iter().map(f64::abs).fold(1.0, f64::max);
        let bound = vec![(vocab + 16) as f64 * epsilon(dtype) + 4.0 * epsilon(dtype) * largest; rows];
        agree(flex::log_likelihood(logits, tokens), expected, &bound)?;
    }

    #[test]
    fn norm_equals_its_plain_twin(rows in 1..=5usize, d in 1..=200usize, dtypes in dtypes(), scale in -3..=3i32) {
        let (dtype, stored) = dtypes;
        let x = random([1, rows, d], dtype).mul_scalar(10f64.powi(scale));
        let weight = random([d], stored);
        let expected = plain::rms_norm(x.clone(), weight.clone(), 1e-5);
        let bound: Vec<f64> =
            values(expected.clone()).iter().map(|y| (d + 8) as f64 * epsilon(dtype) * y.abs()).collect();
        agree(flex::rms_norm(x, weight, 1e-5), expected, &bound)?;
    }

    #[test]
    fn gate_equals_its_plain_twin(n in 1..=100usize, scale in -3..=2i32, wide in any::<bool>()) {
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let (gate, up) = (random([2, n], dtype).mul_scalar(10f64.powi(scale)), random([2, n], dtype));
        let expected = plain::swiglu(gate.clone(), up.clone());
        // exp below −87 is zero here and a subnormal number there.
        let bound: Vec<f64> = values(expected.clone()).iter().map(|y| 16.0 * epsilon(dtype) * y.abs() + 1e-34).collect();
        agree(flex::swiglu(gate, up), expected, &bound)?;
    }

    #[test]
    fn rotation_equals_its_plain_twin(
        dims in [1..=2usize, 1..=3usize, 1..=4usize, 1..=40usize], swapped in any::<bool>(), wide in any::<bool>(),
    ) {
        let [batch, heads, rows, half] = dims;
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let x = match swapped {
            true => random([batch, rows, heads, 2 * half], dtype).swap_dims(1, 2),
            false => random([batch, heads, rows, 2 * half], dtype),
        };
        let angle = random([batch, rows, half], dtype);
        let (cos, sin) = (angle.clone().cos(), angle.sin());
        let expected = plain::rotate(x.clone(), cos.clone(), sin.clone());
        let bound = vec![16.0 * epsilon(dtype); batch * heads * rows * 2 * half];
        agree(flex::rotate(x, cos, sin), expected, &bound)?;
    }

    #[test]
    fn widened_16_bit_values_are_the_same(n in 1..=100usize, half in any::<bool>()) {
        let x = random([n], if half { DType::F16 } else { DType::BF16 });
        agree(flex::widen(x.clone()), crate::precision::widen(x), &vec![0.0; n])?;
    }
}

/// Enough weights that several cores take part, with parts that do not divide them evenly.
#[test]
fn linear_on_all_cores_equals_its_plain_twin() {
    for dtypes in [(DType::F32, DType::F32), (DType::F32, DType::BF16), (DType::F64, DType::F64)] {
        for (rows, activations) in [(1, Activations::Float), (3, Activations::Bf16), (40, Activations::Bf16)] {
            rayon::scope(|_| linear_agrees(rows, 517, [1201, 333], dtypes, activations)).unwrap();
            super::team::surely_together(|| linear_agrees(rows, 517, [1201, 333], dtypes, activations)).unwrap();
        }
    }
}

/// Rows that end within a register, where one begins, and right before its end.
#[test]
fn linear_in_bfloat16_of_rows_of_any_length_equals_its_plain_twin() {
    for input in
        (1..=3).flat_map(|registers| [32 * registers - 2, 32 * registers - 1, 32 * registers, 32 * registers + 1])
    {
        for rows in [1, 8, 9] {
            linear_agrees(rows, input, [5, 3], (DType::F32, DType::BF16), Activations::Bf16).unwrap();
        }
    }
}

/// All the instructions that this processor has, not only those that are chosen, against those that all have.
#[test]
fn products_with_blocks_by_every_instruction_set_equal_their_plain_twin() {
    for (format, _) in FORMATS {
        for (rows, outputs) in [(1, 9), (7, 81), (4, 64)] {
            let input = 3 * format.block();
            let weight = random_blocks(format, [outputs, input], 7);
            let x: Vec<f32> = random([rows, input], DType::F32).into_data().try_into_vec().expect("numbers");
            let bytes = weight.bytes.clone().into_data().try_into_vec::<u8>().expect("bytes");
            let terms = values(terms(&weight));
            for (name, expected, found) in flex::blocks::every_product(format, &bytes, &x, [rows, outputs]) {
                for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                    let (row, output) = (at / outputs, at % outputs);
                    let terms = terms[output * input..].iter().zip(&x[row * input..(row + 1) * input]);
                    let bound: f64 = terms.map(|(term, x)| term * f64::from(x.abs())).sum();
                    let off = f64::from((found - expected).abs());
                    assert!(
                        off <= 2.0 * input as f64 * epsilon(DType::F32) * bound,
                        "{format:?} by {name}, row {row}, output {output}: {found} instead of {expected}"
                    );
                }
            }
        }
    }
}

/// Shapes that end within a tile, a slab, a register and what is taken at once, or beyond them.
#[test]
fn products_of_floats_by_every_instruction_set_are_those_of_f64() {
    for [m, k, n] in [[1, 1, 1], [7, 65, 81], [6, 1030, 64], [13, 9, 16], [3, 2049, 5]] {
        let (x, rows) = (values(random([m, k], DType::F32)), values(random([n, k], DType::F32)));
        let transposed: Vec<f64> = (0..k * n).map(|at| rows[at % n * k + at / n]).collect();
        let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
        let (narrow_x, narrow_rows, as_they_are) = (narrow(&x), narrow(&rows), narrow(&transposed));
        for (side, right) in
            [("transposed", Rows::Transposed(&narrow_rows)), ("as it is", Rows::AsTheyAre(&as_they_are))]
        {
            for (name, product) in flex::slabs::products() {
                let mut found = vec![0.0; m * n];
                // SAFETY: the processor has the registers.
                unsafe { product(&mut Columns::over(&mut found, n), &narrow_x, right, 0.5) };
                for (at, found) in found.into_iter().enumerate() {
                    let (row, column) = (&x[at / n * k..][..k], &rows[at % n * k..][..k]);
                    let terms = row.iter().zip(column).map(|(a, b)| 0.5 * a * b);
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    let off = (f64::from(found) - sum).abs();
                    assert!(
                        off <= 2.0 * (k + 1) as f64 * epsilon(DType::F32) * size,
                        "{name}, {side}, {m} x {k} x {n}, value {at}: {found} instead of {sum}"
                    );
                }
            }
        }
    }
}

/// Rows that end within a slab, and more blocks than are unpacked at once.
#[test]
fn blocks_are_unpacked_to_the_bit_by_every_instruction_set() {
    for (format, _) in FORMATS {
        for (outputs, blocks) in [(1, 1), (70, 3), (16, 1024 / format.block() + 1)] {
            let weight = random_blocks(format, [outputs, blocks * format.block()], 11);
            let bytes = weight.bytes.into_data().try_into_vec::<u8>().expect("bytes");
            let mut expected = vec![0.0; outputs * blocks * format.block()];
            format.dequantize(&bytes, &mut expected);
            for (name, found) in flex::blocks::every_unpacking(format, &bytes, outputs) {
                for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    // A zero may lose its sign where zeros are added to it.
                    let same = found.to_bits() == expected.to_bits() || (*found == 0.0 && *expected == 0.0);
                    assert!(same, "{format:?} in {name}, value {at} of {outputs} rows: {found} instead of {expected}");
                }
            }
        }
    }
}

/// Tests by every instruction set pass where there is none. Where `MSRNN_REQUIRE_REGISTERS` names a kind of registers while this
/// is compiled, the kernel must be here in it.
pub(crate) fn check_required(kernel: &str, kinds: &[&str]) {
    if let Some(required) = option_env!("MSRNN_REQUIRE_REGISTERS") {
        assert!(kinds.contains(&required), "{kernel} in {required}: {kinds:?}");
    }
}

#[test]
fn every_kernel_is_here_in_the_registers_that_are_required() {
    use crate::kernels::blocks::Q8_0;

    for (kernel, kinds) in [
        ("products", flex::slabs::products().map(|(name, _)| name).collect::<Vec<_>>()),
        ("a row with blocks", flex::row::kinds::<34, Q8_0>().map(|(name, _)| name).collect()),
        ("integers", flex::quads::products::<34, Q8_0>().map(|(name, _)| name).collect()),
        ("bfloat16", flex::pairs::products().map(|(name, _)| name).into_iter().collect()),
    ] {
        check_required(kernel, &kinds);
    }
}

/// What features of a crate decide that none of ours may name, and what no result shows.
#[test]
#[cfg(target_arch = "x86_64")]
fn loops_are_compiled_for_the_widest_registers_that_the_processor_has() {
    let has_avx2 = [
        is_x86_feature_detected!("avx2"),
        is_x86_feature_detected!("fma"),
        is_x86_feature_detected!("bmi1"),
        is_x86_feature_detected!("bmi2"),
        is_x86_feature_detected!("lzcnt"),
    ];
    let has_avx2 = !has_avx2.contains(&false);
    let found = format!("{:?}", pulp::Arch::new());
    assert_eq!(found.starts_with("Scalar"), !has_avx2, "{found}");
}
