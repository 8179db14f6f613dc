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
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let random =
                |dims: [usize; 2]| Tensor::<2>::random(dims, Distribution::Normal(0.0, 0.02), &device).cast(dtype);
            let linear = Linear { weight: Matrix::Float(Param::from_tensor(random([output, input]))), bias: None };
            let x = random([1, input]);
            let id = BenchmarkId::from_parameter(format!("{output}x{input}/step/{}/{DEVICE}", dtype_name(dtype)));
            group.throughput(Throughput::Bytes((output * input * dtype.size()) as u64));
            group.bench_function(id, |bencher| bencher.iter(|| linear.forward(x.clone())));
        }
    }
    group.finish();
}

criterion_group!(benches, linear);
criterion_main!(benches);
