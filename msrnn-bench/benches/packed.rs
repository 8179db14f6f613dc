//! One token of one attention layer over 4,096 rows: as computed, in 16 bits, and packed in 8, 4 and 2.
//!
//! `cargo bench --workspace --bench packed`. Names are `rows/dtype`, in a group per shape of heads: those of SmolLM2-135M
//! and of Llama 3 8B. A row goes at every token, so that every step is alike but for the one in 32 that packs rows.

use std::sync::Arc;

use burn::tensor::{DType, Device, Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use msrnn_core::attention::Attention;
use msrnn_core::compression::Compression;
use msrnn_policies::registry;

/// k, and a row more.
const STATES: usize = 4_095;

/// Query heads, KV heads and channels.
const SHAPES: [[usize; 3]; 2] = [[9, 3, 64], [32, 8, 128]];

fn packed(criterion: &mut Criterion) {
    let device = Device::flex();
    for [heads, kv_heads, head_dim] in SHAPES {
        let mut group = criterion.benchmark_group(format!("step over 4096 rows, {heads}:{kv_heads}x{head_dim}"));
        let scale = 1.0 / (head_dim as f64).sqrt();
        let attention = Attention { heads, kv_heads, head_dim, scale, window: None, placement: None };
        let random = |heads: usize, n: usize| {
            Tensor::<4>::random([1, heads, n, head_dim], Distribution::Normal(0.0, 1.0), (&device, DType::F32))
        };
        for (policy, dtype) in [
            ("window", DType::F32),
            ("window", DType::F16),
            ("window", DType::BF16),
            ("int8(window)", DType::F16),
            ("int4(window)", DType::F16),
            ("int2(window)", DType::F16),
            ("int8(window)", DType::F32),
            ("int4(window)", DType::F32),
        ] {
            let policy_of = registry::policy(policy).expect("a policy");
            let compression = Compression::bounded(Arc::clone(&policy_of), STATES).expect("enough states");
            let mut state = attention.initial_state(1, 0, 1, &compression, dtype, &device);
            let n = STATES + 40;
            attention
                .prefill(random(heads, n), random(kv_heads, n), random(kv_heads, n), &mut state)
                .expect("a prompt");
            let [query, key, value] =
                [random(heads, 1), random(kv_heads, 1), random(kv_heads, 1)].map(|x| x.squeeze_dim::<3>(2));
            let id = BenchmarkId::from_parameter(format!("{policy}/{dtype:?}"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| attention.step(query.clone(), key.clone(), value.clone(), &mut state));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, packed);
criterion_main!(benches);
