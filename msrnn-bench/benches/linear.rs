//! One token, and a prompt, through the linear maps of a 110 M-parameter Llama, weights `[out, in]`.
//!
//! `cargo bench -p msrnn-bench --bench linear`. Names are `out x in/step/dtype/device` for one token, whose throughput is in
//! bytes of the weight, to be compared with the bandwidth that `msrnn bench` measures, and `out x in/prompt/dtype/device`
//! for 512, whose throughput is in products of two numbers. `q4_k-int8`: activations in 8 bits; `bf16-bf16`: in bfloat16.
//! Blocks of random bytes take as long as others.

mod common;

use burn::module::Param;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use common::{DEVICE, dtype_name};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use msrnn_core::kernels::{Activations, Blocks, Format};
use msrnn_models::linear::Linear;
use msrnn_models::matrix::Matrix;

const FORMATS: [Format; 12] = [
    Format::Int8,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::Q2_K,
    Format::Q3_K,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
    Format::IQ4_NL,
];

/// Bytes below 64: half floats of those are finite.
fn random_blocks(format: Format, [output, input]: [usize; 2], device: &Device) -> Blocks {
    let of_row = format.bytes(input).expect("a row in memory");
    let bytes: Vec<u8> = (0..output * of_row).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8 & 0x3f).collect();
    Blocks { bytes: Tensor::from_data(TensorData::new(bytes, [output, of_row]), (device, DType::U8)), format }
}

/// Tokens of a prompt.
const PROMPT: usize = 512;

/// A matrix in everything that it can be held in and multiplied with, by name.
fn matrices([output, input]: [usize; 2], device: &Device) -> Vec<(String, Matrix)> {
    let weight = Tensor::<2>::random([output, input], Distribution::Normal(0.0, 0.02), device);
    let floats = [DType::F32, DType::F16, DType::BF16].map(|dtype| {
        let weight = Param::from_tensor(weight.clone().cast(dtype));
        (dtype_name(dtype), Matrix::float(weight, Activations::Float))
    });
    let rounded = Matrix::float(Param::from_tensor(weight.clone().cast(DType::BF16)), Activations::Bf16);
    let blocks = FORMATS.into_iter().filter(|format| input.is_multiple_of(format.block()));
    let blocks = blocks.flat_map(|format| {
        let weight = random_blocks(format, [output, input], device);
        let name = format.name().to_lowercase();
        [(name.clone(), Activations::Float), (format!("{name}-int8"), Activations::Int8)]
            .map(|(name, activations)| (name, Matrix::blocks(weight.clone(), activations, 0)))
    });
    floats.into_iter().chain([("bf16-bf16".to_owned(), rounded)]).chain(blocks).collect()
}

fn linear(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("linear");
    for (rows, name, shapes) in [
        (1, "step", &[[768, 768], [2048, 768], [768, 2048], [32_000, 768]][..]),
        (PROMPT, "prompt", &[[768, 768], [768, 2048]]),
    ] {
        for &[output, input] in shapes {
            for (dtype, weight) in matrices([output, input], &device) {
                let x = Tensor::<2>::random([rows, input], Distribution::Normal(0.0, 0.02), &device);
                let id = BenchmarkId::from_parameter(format!("{output}x{input}/{name}/{dtype}/{DEVICE}"));
                group.throughput(match rows {
                    1 => Throughput::Bytes(weight.bytes() as u64),
                    _ => Throughput::Elements((rows * input * output) as u64),
                });
                let linear = Linear { weight, bias: None };
                group.bench_function(id, |bencher| bencher.iter(|| linear.forward(x.clone())));
            }
        }
    }
    group.finish();
}

criterion_group!(benches, linear);
criterion_main!(benches);
