//! One token through the linear maps of a 110 M-parameter Llama: matrix times vector, weights `[out, in]`.
//!
//! `cargo bench -p msrnn-bench --bench linear`. Names are `out x in/step/dtype/device`; throughput is in
//! bytes of the weight, to be compared with the bandwidth that `msrnn bench` measures. `q8_0-int8`: activations in 8 bits;
//! `bf16-bf16`: in bfloat16.

mod common;

use burn::module::Param;
use burn::tensor::{DType, Device, Distribution, Tensor};
use common::{DEVICE, dtype_name};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use msrnn_core::kernels::{Activations, Blocks, Format};
use msrnn_models::linear::Linear;
use msrnn_models::matrix::Matrix;

fn linear(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("linear");
    for [output, input] in [[768, 768], [2048, 768], [768, 2048], [32_000, 768]] {
        let random = |dims: [usize; 2]| Tensor::<2>::random(dims, Distribution::Normal(0.0, 0.02), &device);
        let weight = random([output, input]);
        let floats = [DType::F32, DType::F16, DType::BF16].map(|dtype| (dtype_name(dtype), weight.clone().cast(dtype)));
        let floats = floats.map(|(name, weight)| (name, Matrix::float(Param::from_tensor(weight), Activations::Float)));
        let rounded = Matrix::float(Param::from_tensor(weight.clone().cast(DType::BF16)), Activations::Bf16);
        let values: Vec<f32> = weight.into_data().try_into_vec().expect("numbers");
        let blocks = [
            ("int8", Format::Int8, Activations::Float),
            ("int8-int8", Format::Int8, Activations::Int8),
            ("q8_0", Format::Q8_0, Activations::Float),
            ("q8_0-int8", Format::Q8_0, Activations::Int8),
        ];
        let blocks = blocks.map(|(name, format, activations)| {
            let blocks = Blocks::quantize(&values, [output, input], format, &device);
            (name.to_owned(), Matrix::blocks(blocks, activations, 0))
        });
        for (name, weight) in floats.into_iter().chain([("bf16-bf16".to_owned(), rounded)]).chain(blocks) {
            let x = random([1, input]);
            let id = BenchmarkId::from_parameter(format!("{output}x{input}/step/{name}/{DEVICE}"));
            group.throughput(Throughput::Bytes(weight.bytes() as u64));
            let linear = Linear { weight, bias: None };
            group.bench_function(id, |bencher| bencher.iter(|| linear.forward(x.clone())));
        }
    }
    group.finish();
}

criterion_group!(benches, linear);
criterion_main!(benches);
