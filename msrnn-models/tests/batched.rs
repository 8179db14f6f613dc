//! Law of batched generation: every request ends in the tokens that it would end in alone.

use burn::module::Param;
use burn::tensor::{DType, Device};
use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::batched::{BatchedGeneration, Completion, Request};
use msrnn_models::config::ModelConfig;
use msrnn_models::generate::{Stop, generate};
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::Sampling;
use msrnn_models::weights;
use msrnn_policies::registry;

/// Small, with grouped queries and random weights, in f64: no two logits are within rounding.
fn model() -> Model {
    let config = r#"{
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 24,
        "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 31, "max_position_embeddings": 128, "rms_norm_eps": 1e-6
    }"#;
    let config = ModelConfig::parse(config).unwrap();
    let decoder = weights::random(&config, 3, DType::F64, &Device::flex());
    Model { eos_token_ids: vec![7, 19], ..Model::of(decoder) }
}

/// Prompts of 1 to 20 tokens and up to 16 new ones, greedy and drawn.
fn requests() -> Vec<Request> {
    let request = |i: u32| Request {
        prompt: (0..1 + i * 7 % 20).map(|t| (t * t + 5 * i + 1) % 31).collect(),
        sampling: match i % 3 {
            0 => Sampling::default(),
            _ => Sampling { temperature: 1.5, seed: u64::from(i), ..Sampling::default() },
        },
        max_new_tokens: 1 + (i * 5 % 16) as usize,
    };
    (0..11).map(request).collect()
}

fn alone(model: &Model, recurrent: &Recurrent<'_>, request: &Request) -> (Vec<u32>, Stop) {
    let Request { prompt, sampling, max_new_tokens } = request;
    let done = generate(model, recurrent, prompt, Protocol::Strict, *sampling, *max_new_tokens, |_| true).unwrap();
    (done.tokens, done.stop)
}

fn compressions() -> Vec<Compression> {
    let bounded = |name| registry::compression(name, 6).unwrap();
    let mut all = vec![Compression::Unbounded];
    all.extend(["window", "window+2", "h2o", "tova", "tova-head", "random"].map(bounded));
    all
}

#[test]
fn every_request_ends_in_the_tokens_that_it_ends_in_alone() {
    let model = model();
    let (mut stopped, mut cut) = (0, 0);
    for compression in compressions() {
        let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
        for greedy in [true, false] {
            let mut requests = requests();
            if greedy {
                requests.iter_mut().for_each(|request| request.sampling = Sampling::default());
            }
            for batch in [1, 3, 11, 13] {
                let mut generation = BatchedGeneration::new(&model, recurrent.clone(), batch).unwrap();
                for request in &requests {
                    generation.push(request.clone()).unwrap();
                }
                let mut emitted = vec![Vec::new(); requests.len()];
                let mut done = generation
                    .run(|request, token| {
                        emitted[request].push(token);
                        true
                    })
                    .unwrap();
                assert_eq!(generation.unfinished(), 0);
                done.sort_by_key(|completion| completion.request);
                assert_eq!(done.len(), requests.len());
                for (request, Completion { request: number, tokens, stop }) in requests.iter().zip(done) {
                    let told = format!("request {number} in a batch of {batch} under {:?}", recurrent.compression());
                    assert_eq!((tokens.clone(), stop), alone(&model, &recurrent, request), "{told}");
                    assert_eq!(emitted[number], tokens, "{told}");
                    match stop {
                        Stop::Eos => stopped += 1,
                        _ => cut += 1,
                    }
                }
            }
        }
    }
    assert!(stopped > 0 && cut > 0, "both ways to end are tried: {stopped} and {cut}");
}

#[test]
fn a_request_that_is_broken_off_leaves_the_others_alone() {
    let model = model();
    let recurrent = Recurrent::new(&model.decoder, registry::compression("tova", 6).unwrap(), Positions::Original);
    let mut generation = BatchedGeneration::new(&model, recurrent.clone(), 2).unwrap();
    let requests: Vec<Request> = requests().into_iter().map(|r| Request { max_new_tokens: 9, ..r }).collect();
    for request in &requests {
        generation.push(request.clone()).unwrap();
    }
    let done = generation.run(|request, _| request != 1).unwrap();
    for Completion { request, tokens, stop } in done {
        let (expected, ended) = alone(&model, &recurrent, &requests[request]);
        match request {
            1 => assert_eq!((&tokens[..], stop), (&expected[..1], Stop::Interrupted)),
            _ => assert_eq!((tokens, stop), (expected, ended), "request {request}"),
        }
    }
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let model = model();
    let recurrent = Recurrent::new(&model.decoder, Compression::Unbounded, Positions::Original);
    assert!(BatchedGeneration::new(&model, recurrent.clone(), 0).is_err());
    let mut generation = BatchedGeneration::new(&model, recurrent, 2).unwrap();
    let good = Request { prompt: vec![1], sampling: Sampling::default(), max_new_tokens: 1 };
    for bad in [
        Request { prompt: vec![], ..good.clone() },
        Request { prompt: vec![31], ..good.clone() },
        Request { max_new_tokens: 0, ..good.clone() },
        Request { sampling: Sampling { temperature: -1.0, ..Sampling::default() }, ..good.clone() },
    ] {
        assert!(generation.push(bad).is_err());
    }
    assert_eq!(generation.run(|_, _| true).unwrap(), []);
    assert_eq!(generation.push(good).unwrap(), 0);
}

#[test]
fn logits_that_are_not_numbers_end_generation_whoever_draws() {
    let mut model = model();
    let requests = requests();
    let nan = model.decoder.norm.weight.val().mul_scalar(f64::NAN);
    model.decoder.norm.weight = Param::from_tensor(nan);
    for compression in compressions() {
        let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
        // Greedy and drawn.
        for request in &requests[..2] {
            let Request { prompt, sampling, max_new_tokens } = request;
            let drawn = generate(&model, &recurrent, prompt, Protocol::Strict, *sampling, *max_new_tokens, |_| true);
            let error = drawn.unwrap_err().to_string();
            assert!(error.contains("new token 0") && error.contains("not a number"), "{error}");
            let mut generation = BatchedGeneration::new(&model, recurrent.clone(), 2).unwrap();
            generation.push(request.clone()).unwrap();
            let mut emitted = 0;
            let ended = generation.run(|_, _| {
                emitted += 1;
                true
            });
            let error = ended.unwrap_err().to_string();
            assert!(error.contains("request 0, new token 0") && error.contains("all 2 layers are numbers"), "{error}");
            assert_eq!(emitted, 0, "no token stands for what is no number");
        }
    }
}
