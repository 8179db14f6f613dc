//! The bundled model must need its memory, or comparing policies on it would measure nothing.

use burn::tensor::{DType, Device};
use msrnn_bench::bundled;
use msrnn_bench::contexts::Contexts;
use msrnn_bench::evaluate::{Form, Scoring, evaluate};
use msrnn_core::compression::Compression;

#[test]
fn a_context_of_1024_lowers_perplexity_by_at_least_15_percent_against_contexts_of_64() {
    let model = bundled::load(DType::F32, &Device::default()).unwrap();
    let long = Contexts::of_stories(0, 8, 1024, &model).unwrap();
    let short = long.shorter(64);
    assert!(long.contexts.iter().all(|ids| ids.len() == 1024));
    assert_eq!(long.predicted(), short.predicted());
    let perplexity = |contexts: &Contexts| {
        let scoring = Scoring { batch: 8, ..Scoring::new(Compression::Unbounded) };
        evaluate(&model, &contexts.contexts, &scoring, &mut (), &false.into()).unwrap().perplexity().unwrap()
    };
    let (long, short) = (perplexity(&long), perplexity(&short));
    assert!(long < 0.85 * short, "{long} with 1,024 tokens, {short} with 64");
}

#[test]
fn step_and_layer_form_give_the_same_likelihood() {
    let model = bundled::load(DType::F64, &Device::default()).unwrap();
    let contexts = Contexts::of_stories(3, 2, 300, &model).unwrap();
    for name in ["full", "window+4@32", "h2o@32", "tova@32", "random@32"] {
        let spec: msrnn_policies::PolicySpec = name.parse().unwrap();
        let nll = |form, batch| {
            let compression = spec.compression(300, |_| 1).unwrap();
            let scoring = Scoring { form, batch, ..Scoring::new(compression) };
            evaluate(&model, &contexts.contexts, &scoring, &mut (), &false.into()).unwrap().nll()
        };
        let step = nll(Form::Step, 1);
        for (form, batch) in [(Form::Layer, 1), (Form::Layer, 2), (Form::Step, 2)] {
            let other = nll(form, batch);
            assert!((step - other).abs() < 1e-9 * step, "{name}: {step} step by step, {other} as {form:?} × {batch}");
        }
    }
}
