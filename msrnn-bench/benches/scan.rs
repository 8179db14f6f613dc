//! A text through a small decoder: the layer form of every policy, against the full state and
//! against one token at a time.
//!
//! `cargo bench --workspace --bench scan`. Names are `policy/form/states/dtype/device`; throughput
//! is in tokens.

use std::sync::atomic::AtomicBool;

use burn::tensor::{DType, Device};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use msrnn_bench::contexts::Context;
use msrnn_bench::evaluate::{Form, Scoring, evaluate};
use msrnn_bench::speed::shape::Shape;
use msrnn_core::compression::Compression;
use msrnn_policies::registry;

const TOKENS: usize = 1024;
const STATES: usize = 256;

/// Two layers of a 110 M-parameter Llama, with a small vocabulary.
const SHAPE: &str = "2x768x12x2048x1000";

fn scan(criterion: &mut Criterion) {
    let shape: Shape = SHAPE.parse().expect("a shape");
    let model = shape.model(0, DType::F32, &Device::flex());
    let context: Vec<u32> = (0..TOKENS as u32).map(|i| i * 7919 % 1000).collect();
    let context = Context::from(context);
    let mut group = criterion.benchmark_group("scan");
    group.sample_size(10).throughput(Throughput::Elements(TOKENS as u64));
    let mut bench = |name: &str, form: Form, compression: Compression| {
        let states = compression.states().unwrap_or(TOKENS);
        let form_name = if form == Form::Step { "step" } else { "layer" };
        let scoring = Scoring { form, ..Scoring::new(compression) };
        let id = BenchmarkId::from_parameter(format!("{name}/{form_name}/{states}/f32/cpu"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                evaluate(&model, std::slice::from_ref(&context), &scoring, &mut (), &AtomicBool::new(false))
                    .expect("a scoring without observer succeeds")
            });
        });
    };
    bench("full", Form::Layer, Compression::Unbounded);
    for name in ["window", "window+4", "h2o", "h2o-layer", "tova", "tova-head", "tova+4", "random"] {
        bench(name, Form::Layer, registry::compression(name, STATES).expect("a registered policy"));
    }
    bench("tova", Form::Step, registry::compression("tova", STATES).expect("a registered policy"));
    group.finish();
}

criterion_group!(benches, scan);
criterion_main!(benches);
