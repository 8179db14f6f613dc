//! The policies of the field against an independent implementation, on random problems of one layer:
//! `docs/policies-of-the-field.md` has the rules, `testdata/README.md` says how the numbers were made.

mod field_goldens;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use field_goldens::{Goldens, Grid, InState, Parameters, Problem, Run, goldens, uniform};
use msrnn_core::attention::Attention;
use msrnn_core::compression::Compression;
use msrnn_core::placement::Placement;
use msrnn_core::state::MultiState;
use msrnn_policies::{PolicySpec, registry};

/// Outputs have twelve digits.
const TOLERANCE: f64 = 1e-9;

/// Runs of what is not built, by kind. A kind or a run more in the goldens fails
/// [`what_is_not_built_is_known_by_kind_and_number`].
const NOT_BUILT: [(&str, usize); 1] = [(POOLED_EVERY_TOKEN, 11)];

/// Heads that compete are cut more rarely.
const POOLED_EVERY_TOKEN: &str = "adakv, every token";

/// So many of the others are refused: their k is below the rows that never go.
const BELOW_THE_WINDOW: usize = 3;

/// How a run's policy is written here, when rows go included; else its kind, which is not built.
fn written(run: &Run) -> Result<String, String> {
    let Parameters { sinks, window, kernel, pool, last, lambda, similar, lag, when, how, threshold, share, safeguard } =
        &run.parameters;
    let said = |number: &Option<usize>| number.expect("the run has the parameter");
    let rule = match run.policy.as_str() {
        "knorm" | "keydiff" | "oracle" => run.policy.clone(),
        "streaming" if said(sinks) == 0 => "window".into(),
        "streaming" => format!("window+{}", said(sinks)),
        "adakv" if run.every == Some(1) => return Err(POOLED_EVERY_TOKEN.into()),
        "snapkv" | "adakv" => {
            let pool = pool.as_ref().expect("the run has a pool");
            let snapkv = format!("snapkv(window={}, pool={pool}{})", said(window), said(kernel));
            safeguard.map_or(snapkv.clone(), |floor| format!("pooled({snapkv}, floor={floor})"))
        }
        "rkv" => {
            assert_eq!(*similar, Some(0.5), "the threshold is fixed here");
            let lambda = lambda.expect("the run has a share");
            format!("rkv(window={}, kernel={}, lambda={lambda})", said(last), said(kernel))
        }
        "lagkv" => format!("lagkv(first={}, lag={})", said(sinks), said(lag)),
        "h2o-merge" => {
            let threshold = match (when.as_deref(), threshold, share) {
                (Some("nearest"), Some(threshold), None) => threshold.to_string(),
                (Some("d2o"), None, share) => format!("ema{}", share.unwrap_or(0.5)),
                other => panic!("a merge says when: {other:?}"),
            };
            format!("merge(h2o, threshold={threshold}, weight={})", how.as_deref().expect("a merge says how"))
        }
        kind => return Err(kind.into()),
    };
    Ok(match run.every {
        Some(n) => format!("every({n}, {rule})"),
        None => format!("after-prompt({rule})"),
    })
}

/// Whether fewer rows may be held than never go.
fn is_below_the_window(run: &Run) -> bool {
    run.parameters.window.is_some_and(|window| run.k < window)
}

/// Those that can be run, as they are written here.
fn built(goldens: &Goldens) -> impl Iterator<Item = (&Run, String)> {
    let runs = goldens.runs.iter().filter(|run| !is_below_the_window(run));
    runs.filter_map(|run| Some((run, written(run).ok()?)))
}

/// How tokens behind the prompt are fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Steps,
    /// In chunks of so many.
    Scans(usize),
}

/// What came of a run.
struct Outcome {
    /// As in the goldens.
    omitted: Vec<(usize, Option<usize>, i64)>,
    /// By token: all query heads' outputs.
    outputs: Vec<Vec<f64>>,
    state: MultiState,
}

fn outcome(run: &Run, name: &str, form: Form) -> Outcome {
    let mut compression =
        registry::compression(name, run.k).unwrap_or_else(|error| panic!("{name}@{}: {error}", run.k));
    if let Some(told) = compression.policy().and_then(|policy| policy.foresight()) {
        // The first pass sees the whole text, in whatever form.
        attended(&run.problem, &compression.by(told.first), 0, form);
        compression = compression.by(told.then);
    }
    let (outputs, mut state) = attended(&run.problem, &compression, run.prompt, form);
    Outcome { omitted: omitted(run, &mut state), outputs, state }
}

/// A layer over a problem, after `prompt` tokens at once: outputs by token, and the state.
fn attended(problem: &Problem, compression: &Compression, prompt: usize, form: Form) -> (Vec<Vec<f64>>, MultiState) {
    let device = Device::default();
    let place = |theta| Arc::new(InState { theta }) as Arc<dyn Placement>;
    let layer = Attention {
        heads: problem.heads,
        kv_heads: problem.kv_heads,
        head_dim: problem.head_dim,
        scale: 1.0 / (problem.head_dim as f64).sqrt(),
        window: None,
        placement: problem.theta.map(place),
    };
    let mut state = layer.initial_state(1, 0, 1, compression, burn::tensor::DType::F64, &device);
    state.record_omissions();
    let vectors = problem.vectors().map(|x| x.tensor(&device));
    let part = |first: usize, n: usize| vectors.each_ref().map(|x| x.clone().narrow(2, first, n));
    let mut outputs: Vec<Tensor<4>> = Vec::new();
    if prompt > 0 {
        let [query, key, value] = part(0, prompt);
        outputs.push(layer.prefill(query, key, value, &mut state).expect("a prompt comes first"));
    }
    let mut done = prompt;
    while done < problem.tokens {
        let n = if let Form::Scans(n) = form { n.min(problem.tokens - done) } else { 1 };
        let [query, key, value] = part(done, n);
        outputs.push(match form {
            Form::Scans(_) => layer.scan(query, key, value, &mut state),
            Form::Steps => {
                let dims = query.dims();
                let [query, key, value] = [query, key, value].map(|x| x.squeeze_dim::<3>(2));
                layer.step(query, key, value, &mut state).reshape(dims)
            }
        });
        done += n;
    }
    let outputs = Tensor::cat(outputs, 2).swap_dims(1, 2).into_data().convert::<f64>();
    let outputs = outputs.as_slice::<f64>().unwrap().chunks(problem.heads * problem.head_dim);
    (outputs.map(<[f64]>::to_vec).collect(), state)
}

/// What went at every step, in the order of the goldens.
fn omitted(run: &Run, state: &mut MultiState) -> Vec<(usize, Option<usize>, i64)> {
    let one_for_all = run.omitted.first().is_some_and(|(_, head, _)| head.is_none());
    assert_eq!(state.groups(), if one_for_all { 1 } else { run.problem.kv_heads }, "{}", run.policy);
    let mut omitted = Vec::new();
    for (step, gone) in state.take_omitted().into_iter().enumerate() {
        let Some(gone) = gone else { continue };
        let each = gone.dims()[2];
        let positions = gone.into_data().convert::<i64>();
        // Of some heads fewer may go than of others.
        for (i, &position) in positions.as_slice::<i64>().unwrap().iter().enumerate().filter(|(_, p)| **p >= 0) {
            omitted.push((step, (!one_for_all).then_some(i / each), position));
        }
    }
    omitted.sort_unstable();
    omitted
}

/// The largest difference, relative to the largest number.
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // A difference that is no number is one.
    off.fold(0.0, |most: f64, off| if off.is_nan() { f64::INFINITY } else { most.max(off) }) / largest
}

/// Every run of a policy, in every form.
fn agrees(policy: &str) {
    let goldens = goldens();
    let mut runs = 0;
    for (run, name) in built(&goldens).filter(|(run, _)| run.policy == policy) {
        runs += 1;
        for form in [Form::Steps, Form::Scans(7), Form::Scans(run.problem.tokens)] {
            let told = format!("{name}@{}, prompt of {}, {:?}, {form:?}", run.k, run.prompt, run.problem);
            let outcome = outcome(run, &name, form);
            let mut expected = run.omitted.clone();
            expected.sort_unstable();
            if let Some(i) = (0..expected.len()).find(|&i| outcome.omitted.get(i) != Some(&expected[i])) {
                panic!("{told}: {:?} goes instead of {:?}", outcome.omitted.get(i), expected[i]);
            }
            assert_eq!(outcome.omitted.len(), expected.len(), "{told}: more goes");
            for (&step, expected) in run.output_steps.iter().zip(&run.outputs) {
                let off = difference(&outcome.outputs[step], expected);
                assert!(off < TOLERANCE, "{told}: outputs of step {step} differ by {off:e}");
            }
            if run.policy == "h2o-merge" {
                rows_are_merged(run, &outcome.state, &told);
            }
        }
    }
    assert!(runs > 0, "no run of {policy} is left");
}

/// Rows held are what the golden's merges, one after the other, make of the problem's keys and values.
fn rows_are_merged(run: &Run, state: &MultiState, told: &str) {
    assert!(run.merged.iter().any(|(_, _, _, partner)| partner.is_some()), "{told}: nothing is merged");
    let [_, mut keys, mut values] = run.problem.vectors();
    let steps: BTreeMap<usize, Vec<_>> = run.merged.iter().fold(BTreeMap::new(), |mut steps, merge| {
        steps.entry(merge.0).or_insert_with(Vec::new).push(merge);
        steps
    });
    for merges in steps.values() {
        let (before, was) = (keys.clone(), values.clone());
        let mut into: BTreeMap<(usize, usize), Vec<(usize, f64)>> = BTreeMap::new();
        for &&(_, head, gone, partner) in merges {
            let Some(partner) = partner else { continue };
            let similarity = cosine(before.of(gone, head), before.of(partner, head));
            into.entry((partner, head)).or_default().push((gone, similarity));
        }
        for ((partner, head), parts) in into {
            for (rows, was) in [(&mut keys, &before), (&mut values, &was)] {
                let d = run.problem.head_dim;
                let at = (partner * run.problem.kv_heads + head) * d;
                let is_exp = run.parameters.how.as_deref() == Some("exp");
                let of = |u: f64| if is_exp { [u.exp(); 2] } else { [u, 1.0] };
                let own = if is_exp { 1f64.exp() } else { 1.0 };
                let total = own + parts.iter().map(|&(_, u)| of(u)[1]).sum::<f64>();
                for channel in 0..d {
                    let sum: f64 = parts.iter().map(|&(gone, u)| of(u)[0] * was.of(gone, head)[channel]).sum();
                    rows.numbers[at + channel] = (own * was.of(partner, head)[channel] + sum) / total;
                }
            }
        }
    }
    let positions = state.positions().into_data().convert::<i64>();
    let positions = positions.as_slice::<i64>().unwrap();
    for (what, held, expected) in [("key", state.keys(), &keys), ("value", state.values(), &values)] {
        let held = held.into_data().convert::<f64>();
        let held: Vec<&[f64]> = held.as_slice::<f64>().unwrap().chunks(run.problem.head_dim).collect();
        for (i, (row, &position)) in held.iter().zip(positions).enumerate().filter(|(_, (_, p))| **p >= 0) {
            let head = i / state.slots();
            let off = difference(row, expected.of(position as usize, head));
            assert!(off < TOLERANCE, "{told}: the {what} of position {position} in KV head {head} differs by {off:e}");
        }
    }
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

#[test]
fn problems_begin_with_the_generators_numbers() {
    let of = goldens().uniform;
    let found: Vec<f64> = uniform(of.seed).take(of.first.len()).collect();
    assert!(difference(&found, &of.first) < 1e-11, "{found:?}");
}

#[test]
fn knorm_omits_and_attends_as_the_reference() {
    agrees("knorm");
}

#[test]
fn keydiff_omits_and_attends_as_the_reference() {
    agrees("keydiff");
}

#[test]
fn a_window_with_sinks_counted_in_the_state_omits_and_attends_as_streaming_llm_in_the_reference() {
    agrees("streaming");
}

#[test]
fn snapkv_omits_and_attends_as_the_reference() {
    agrees("snapkv");
}

#[test]
fn pooled_snapkv_omits_and_attends_as_adakv_in_the_reference() {
    agrees("adakv");
}

#[test]
fn rkv_omits_and_attends_as_the_reference() {
    agrees("rkv");
}

#[test]
fn lagkv_omits_and_attends_as_the_reference() {
    agrees("lagkv");
}

#[test]
fn h2o_with_merging_omits_attends_and_merges_as_the_reference() {
    agrees("h2o-merge");
}

#[test]
fn the_oracle_omits_and_attends_as_the_reference() {
    agrees("oracle");
}

#[test]
fn kivi_rounds_and_attends_as_the_reference() {
    let goldens = goldens();
    assert!(goldens.kivi.iter().any(|golden| golden.prompt % golden.parameters.residual > 0), "prompts are even");
    for golden in &goldens.kivi {
        let Grid { bits, group, residual } = golden.parameters;
        let name = format!("kivi(bits={bits}, group={group}, recent={residual})");
        let compression = name.parse::<PolicySpec>().unwrap().compression(100, |_| 1).unwrap();
        for form in [Form::Steps, Form::Scans(7), Form::Scans(golden.problem.tokens)] {
            let told = format!("{name}, prompt of {}, {:?}, {form:?}", golden.prompt, golden.problem);
            let (outputs, state) = attended(&golden.problem, &compression, golden.prompt, form);
            for (&step, expected) in golden.output_steps.iter().zip(&golden.outputs) {
                let off = difference(&outputs[step], expected);
                assert!(off < TOLERANCE, "{told}: outputs of step {step} differ by {off:e}");
            }
            let [_, keys, values] = golden.problem.vectors();
            let sides = [
                ("key", state.keys(), &golden.keys, &keys, &golden.key_codes, golden.key_rows),
                ("value", state.values(), &golden.values, &values, &golden.value_codes, golden.value_rows),
            ];
            for (what, held, expected, was, codes, rounded) in sides {
                let held = held.into_data().convert::<f64>();
                let held: Vec<&[f64]> = held.as_slice::<f64>().unwrap().chunks(golden.problem.head_dim).collect();
                for (token, expected) in expected.iter().enumerate() {
                    for (head, expected) in expected.iter().enumerate() {
                        let row = held[head * state.slots() + token];
                        let off = difference(row, expected);
                        assert!(off < TOLERANCE, "{told}: the {what} of {token} in KV head {head} differs by {off:e}");
                        assert!(token < rounded || row == was.of(token, head), "{told}: {what} {token} is not whole");
                    }
                }
                assert!(codes.iter().all(|codes| codes.len() == rounded), "{told}: as many codes as rounded {what}s");
            }
        }
    }
}

/// Where fewer rows may be held than never go, the reference lets the oldest of those go; here it is an error.
#[test]
fn a_budget_below_the_window_is_refused() {
    let goldens = goldens();
    let below = goldens.runs.iter().filter(|run| is_below_the_window(run));
    let below: Vec<_> = below.filter_map(|run| Some((run, written(run).ok()?))).collect();
    assert_eq!(below.len(), BELOW_THE_WINDOW);
    for (run, name) in below {
        let error = registry::compression(&name, run.k).expect_err(&name).to_string();
        assert!(error.contains(&run.parameters.window.unwrap().to_string()), "{name}: {error}");
    }
}

#[test]
fn what_is_not_built_is_known_by_kind_and_number() {
    let goldens = goldens();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let unbuilt = goldens.runs.iter().filter_map(|run| written(run).err());
    for kind in unbuilt {
        *kinds.entry(kind).or_default() += 1;
    }
    let told: Vec<String> = kinds.iter().map(|(kind, runs)| format!("{kind}: {runs}")).collect();
    let built = built(&goldens).count();
    eprintln!("{built} runs of field.json are compared; not built yet: {}", told.join("; "));
    let kinds: Vec<(&str, usize)> = kinds.iter().map(|(kind, runs)| (kind.as_str(), *runs)).collect();
    assert_eq!(kinds, NOT_BUILT);
    let unbuilt: usize = NOT_BUILT.iter().map(|(_, runs)| runs).sum();
    assert_eq!(built + BELOW_THE_WINDOW + unbuilt, goldens.runs.len());
}
