//! The decision of one token: scores in plain numbers as in the layer form, and the lowest of scores as
//! in the step form.
//!
//! `cargo bench --workspace --bench omission`. Names are `policy/form/states/dtype/device`.

mod common;

use burn::tensor::{Device, Distribution, Int, Tensor};
use common::{DEVICE, POLICIES};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use msrnn_core::omission::lowest;
use msrnn_core::policy::{Layer, Rule};
use msrnn_core::score::Program;
use msrnn_policies::registry;

fn score(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("score on the host");
    for states in [256, 1024, 4096] {
        let rows = states + 1;
        let positions: Vec<i64> = (0..rows as i64).collect();
        // The weights of a softmax, all different.
        let weights: Vec<f64> = (1..=rows).map(|i| i as f64 * 2.0 / (rows * (rows + 1)) as f64).collect();
        let layer = Layer::only(states);
        for name in POLICIES {
            let policy = registry::policy(name).expect("a registered policy");
            let Rule::Score(score) = policy.plan(&layer).rule else { panic!("{name} is a score") };
            let program = Program::new(&score, &layer).expect("a score that can be computed");
            let mut memory = vec![vec![0.0; rows]; program.memory()];
            let mut scores = vec![0.0; rows];
            let id = BenchmarkId::from_parameter(format!("{name}/layer/{states}/f64/{DEVICE}"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| program.score_on_host(&positions, &weights, &mut memory, &mut scores))
            });
        }
    }
    group.finish();
}

fn omit(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("lowest");
    for states in [256, 1024, 4096] {
        let rows = states + 1;
        let scores = Tensor::<3>::random([1, 1, rows], Distribution::Default, &device);
        let positions = Tensor::<1, Int>::arange(0..rows as i64, &device).reshape([1, 1, rows]);
        let id = BenchmarkId::from_parameter(format!("any/step/{states}/f32/{DEVICE}"));
        group.bench_function(id, |bencher| bencher.iter(|| lowest(scores.clone(), positions.clone())));
    }
    group.finish();
}

criterion_group!(benches, score, omit);
criterion_main!(benches);
