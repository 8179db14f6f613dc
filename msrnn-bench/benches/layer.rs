//! A block of tokens through one attention layer: the layer form of every policy against the full state.
//!
//! `cargo bench --workspace --bench layer`. Names are `policy/form/states/dtype/device`, in a group
//! per number of query and KV heads; throughput is in tokens. Every block starts from a state that is
//! full, or that holds as many rows.

mod common;

use burn::tensor::DType;
use common::{DEVICE, HEADS, Layer, POLICIES, dtype_name};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use msrnn_core::compression::Compression;
use msrnn_policies::registry;

const TOKENS: usize = 64;

fn layer(criterion: &mut Criterion) {
    for heads in HEADS {
        let mut group = criterion.benchmark_group(format!("layer {}:{}", heads.0, heads.1));
        group.sample_size(20).throughput(Throughput::Elements(TOKENS as u64));
        for dtype in [DType::F32, DType::F64] {
            let layer = Layer::new(heads, dtype);
            let block = layer.tokens(TOKENS);
            for states in [256, 1024] {
                let mut bench = |policy: &str, compression: Compression| {
                    let state = layer.state_after(states, &compression);
                    let id = format!("{policy}/layer/{states}/{}/{DEVICE}", dtype_name(dtype));
                    group.bench_function(BenchmarkId::from_parameter(id), |bencher| {
                        bencher.iter_batched_ref(
                            || state.clone(),
                            |state| layer.scan(&block, state),
                            BatchSize::LargeInput,
                        );
                    });
                };
                bench("full", Compression::Unbounded);
                for policy in POLICIES {
                    bench(policy, registry::compression(policy, states).expect("a registered policy"));
                }
            }
        }
        group.finish();
    }
}

criterion_group!(benches, layer);
criterion_main!(benches);
