//! One token of one attention layer: bounded states against the unbounded one.
//!
//! `cargo bench -p msrnn-bench --bench step`. Names are `policy/form/states/dtype/device`. The
//! baseline `full` holds as many rows as the bounded states, so that the difference is the policy.
//! `depth` shows that a step costs the same at the 100,000th token as at the 1,000th.

use burn::tensor::{DType, Device, Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use msrnn_core::attention::Attention;
use msrnn_core::policy::Compression;
use msrnn_core::state::MultiState;
use msrnn_policies::registry;

const HEADS: usize = 12;
const HEAD_DIM: usize = 64;

fn attention() -> Attention {
    Attention { heads: HEADS, kv_heads: HEADS, head_dim: HEAD_DIM, scale: 0.125, window: None, placement: None }
}

struct Tokens {
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
}

impl Tokens {
    fn random(device: &Device) -> Self {
        let random = || Tensor::random([1, HEADS, HEAD_DIM], Distribution::Normal(0.0, 1.0), device);
        Self { query: random(), key: random(), value: random() }
    }

    fn step(&self, state: &mut MultiState, compression: &Compression) -> Tensor<3> {
        attention().step(self.query.clone(), self.key.clone(), self.value.clone(), state, compression)
    }
}

/// A state that has seen `n` tokens.
fn state_after(n: usize, compression: &Compression, device: &Device) -> MultiState {
    let random = || Tensor::random([1, HEADS, n, HEAD_DIM], Distribution::Normal(0.0, 1.0), device);
    let mut state = attention().initial_state(1, 0, compression, DType::F32, device);
    attention().scan(random(), random(), random(), &mut state, compression);
    state
}

fn step(criterion: &mut Criterion) {
    let device = Device::flex();
    let tokens = Tokens::random(&device);
    let mut group = criterion.benchmark_group("step");
    for states in [256, 1024] {
        // A fork per measurement keeps the unbounded state at that many rows.
        let full = state_after(states, &Compression::Unbounded, &device);
        let id = BenchmarkId::from_parameter(format!("full/step/{states}/f32/cpu"));
        group.bench_function(id, |bencher| {
            let mut state = full.clone();
            let mut taken = 0;
            bencher.iter(|| {
                // Back to the same number of rows every few steps; the copy is amortised.
                if taken == 64 {
                    (state, taken) = (full.clone(), 0);
                }
                taken += 1;
                tokens.step(&mut state, &Compression::Unbounded)
            });
        });
        for name in ["window", "window+4", "h2o", "h2o-layer", "tova", "tova-head", "random"] {
            let compression = registry::compression(name, states).expect("a registered policy");
            let mut state = state_after(states + 2, &compression, &device);
            let id = BenchmarkId::from_parameter(format!("{name}/step/{states}/f32/cpu"));
            group.bench_function(id, |bencher| bencher.iter(|| tokens.step(&mut state, &compression)));
        }
    }
    group.finish();
}

fn depth(criterion: &mut Criterion) {
    let device = Device::flex();
    let tokens = Tokens::random(&device);
    let compression = registry::compression("tova", 64).expect("a registered policy");
    let mut group = criterion.benchmark_group("depth");
    let mut state = state_after(1_000, &compression, &device);
    for seen in [1_000, 100_000] {
        while state.seen()[0] < seen {
            tokens.step(&mut state, &compression);
        }
        let id = BenchmarkId::from_parameter(format!("tova/step/64/f32/cpu/after-{seen}"));
        group.bench_function(id, |bencher| bencher.iter(|| tokens.step(&mut state, &compression)));
    }
    group.finish();
}

criterion_group!(benches, step, depth);
criterion_main!(benches);
