//! A text through a small decoder: the layer form of every policy, against the full state and
//! against one token at a time.
//!
//! `cargo bench -p msrnn-bench --bench scan`. Names are `policy/form/states/dtype/device`; throughput
//! is in tokens.

use std::sync::atomic::AtomicBool;

use burn::tensor::{DType, Device};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use msrnn_bench::evaluate::{Form, Scoring, evaluate};
use msrnn_core::policy::Compression;
use msrnn_models::Model;
use msrnn_models::config::{Architecture, ModelConfig, RopeScaling};
use msrnn_models::weights;
use msrnn_policies::registry;

const TOKENS: usize = 1024;
const STATES: usize = 256;

/// Two layers of a 110 M-parameter Llama, with a small vocabulary.
fn model() -> Model {
    let config = ModelConfig {
        architecture: Architecture::LlamaForCausalLM,
        hidden_size: 768,
        intermediate_size: 2048,
        layers: 2,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        vocab_size: 1000,
        max_position_embeddings: TOKENS,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tie_word_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        sliding_window: None,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    };
    let decoder = weights::random(&config, 0, DType::F32, &Device::flex());
    Model { decoder, tokenizer: None, eos_token_ids: Vec::new(), unused: Vec::new() }
}

fn scan(criterion: &mut Criterion) {
    let model = model();
    let context: Vec<u32> = (0..TOKENS as u32).map(|i| i * 7919 % 1000).collect();
    let mut group = criterion.benchmark_group("scan");
    group.sample_size(10).throughput(Throughput::Elements(TOKENS as u64));
    let mut bench = |name: &str, form: Form, compression: Compression| {
        let states = compression.states().unwrap_or(TOKENS);
        let form_name = if form == Form::Step { "step" } else { "layer" };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let scoring = Scoring { form, threads, ..Scoring::new(compression) };
        let id = BenchmarkId::from_parameter(format!("{name}/{form_name}/{states}/f32/cpu"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                evaluate(&model, std::slice::from_ref(&context), &scoring, &mut (), &AtomicBool::new(false))
                    .expect("a scoring without observer succeeds")
            });
        });
    };
    bench("full", Form::Layer, Compression::Unbounded);
    for name in ["window", "window+4", "h2o", "h2o-layer", "tova", "tova-head", "random"] {
        bench(name, Form::Layer, registry::compression(name, STATES).expect("a registered policy"));
    }
    bench("tova", Form::Step, registry::compression("tova", STATES).expect("a registered policy"));
    group.finish();
}

criterion_group!(benches, scan);
criterion_main!(benches);
