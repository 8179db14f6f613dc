//! One token through the linear maps of a 110 M-parameter Llama: matrix times vector, weights `[out, in]`.
//!
//! `cargo bench -p msrnn-bench --bench linear`. Names are `out x in/step/dtype/device`; throughput is in
//! bytes of the weight, to be compared with the bandwidth that `msrnn bench` measures.

mod common;

use burn::module::Param;
use burn::tensor::{DType, Device, Distribution, Tensor};
use common::{DEVICE, dtype_name};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use msrnn_models::linear::Linear;
use msrnn_models::matrix::Matrix;

fn linear(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("linear");
    for [output, input] in [[768, 768], [2048, 768], [768, 2048], [32_000, 768]] {
        let random = |dims: [usize; 2]| Tensor::<2>::random(dims, Distribution::Normal(0.0, 0.02), &device);
        let weight = random([output, input]);
        let floats = [DType::F32, DType::F16, DType::BF16].map(|dtype| (dtype_name(dtype), weight.clone().cast(dtype)));
        let floats = floats.map(|(name, weight)| (name, Matrix::Float(Param::from_tensor(weight))));
        let int8 = ("int8".to_owned(), Matrix::int8(weight.into_data(), 0, &device));
        for (name, weight) in floats.into_iter().chain([int8]) {
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
