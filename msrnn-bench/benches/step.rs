//! One token of one attention layer: bounded states against the unbounded one.
//!
//! `cargo bench --workspace --bench step`. Names are `policy/form/states/dtype/device`, in a group
//! per number of query and KV heads. The baseline `full` holds as many rows as the bounded states, so
//! that the difference is the policy. `depth` shows that a step costs the same at the 100,000th token as
//! at the 1,000th.

mod common;

use burn::tensor::DType;
use common::{DEVICE, HEADS, Layer, POLICIES, dtype_name};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use msrnn_core::compression::Compression;
use msrnn_policies::registry;

fn step(criterion: &mut Criterion) {
    for heads in HEADS {
        let mut group = criterion.benchmark_group(format!("step {}:{}", heads.0, heads.1));
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let layer = Layer::new(heads, dtype);
            let token = layer.tokens(1);
            for states in [256, 1024] {
                let id = |policy: &str| {
                    BenchmarkId::from_parameter(format!("{policy}/step/{states}/{}/{DEVICE}", dtype_name(dtype)))
                };
                let full = layer.state_after(states, &Compression::Unbounded);
                group.bench_function(id("full"), |bencher| {
                    let mut state = full.clone();
                    let mut taken = 0;
                    bencher.iter(|| {
                        // Back to the same number of rows every few steps; the copy is amortised.
                        if taken == 64 {
                            (state, taken) = (full.clone(), 0);
                        }
                        taken += 1;
                        layer.step(&token, &mut state)
                    });
                });
                for policy in POLICIES {
                    let compression = registry::compression(policy, states).expect("a registered policy");
                    let mut state = layer.state_after(states + 2, &compression);
                    group.bench_function(id(policy), |bencher| {
                        bencher.iter(|| layer.step(&token, &mut state));
                    });
                }
            }
        }
        group.finish();
    }
}

fn depth(criterion: &mut Criterion) {
    let layer = Layer::new(HEADS[0], DType::F32);
    let token = layer.tokens(1);
    let compression = registry::compression("tova", 64).expect("a registered policy");
    let mut group = criterion.benchmark_group("depth");
    for seen in [1_000, 100_000] {
        let mut state = layer.state_after(1_000, &compression);
        let block = layer.tokens(1_000);
        while state.seen()[0] < seen {
            layer.scan(&block, &mut state);
        }
        let id = BenchmarkId::from_parameter(format!("tova/step/64/f32/{DEVICE}/after-{seen}"));
        group.bench_function(id, |bencher| bencher.iter(|| layer.step(&token, &mut state)));
    }
    group.finish();
}

criterion_group!(benches, step, depth);
criterion_main!(benches);
