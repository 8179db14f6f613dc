//! The hand-worked cases in `testdata/policies/`: what one says, and how it is run and checked.
//!
//! A case says how much every query head attends to every position, as small integers. Keys are
//! one-hot by position and a query is the logarithms of its integers, so that the softmax weight of
//! a row is its integer over the sum of those held; values are one-hot too, so that the output is
//! the weights themselves and can be checked.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use msrnn_core::attention::Attention;
use msrnn_core::state::MultiState;
use msrnn_policies::PolicySpec;
use serde::Deserialize;

/// Tokens of a case, and so channels of a one-hot key.
const TOKENS: usize = 6;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    policy: PolicySpec,
    /// `prefill:N`; strict where absent.
    protocol: Option<String>,
    kv_heads: usize,
    token: Vec<Token>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    /// By query head and position: relative attention, rows included that are gone.
    weights: Vec<Vec<u32>>,
    /// By decision, one for the layer or one for every KV head: positions that go; none if absent.
    #[serde(default)]
    omits: Vec<Vec<i64>>,
    /// By decision: positions held afterwards.
    held: Vec<Vec<i64>>,
}

/// How a case is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Steps,
    Scan,
    ScanInTwos,
}

impl Case {
    fn heads(&self) -> usize {
        self.token[0].weights.len()
    }

    /// Tokens that are prefilled.
    fn prompt(&self) -> usize {
        match self.protocol.as_deref() {
            None | Some("strict") => 0,
            Some(protocol) => protocol
                .strip_prefix("prefill:")
                .and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("{protocol:?} is no protocol; write strict or prefill:4")),
        }
    }

    /// Weights by query head of the rows that token `t` attends to: the expected output.
    fn attended(&self, t: usize) -> Vec<f64> {
        let token = &self.token[t];
        let group = self.heads() / self.kv_heads;
        let mut attended = Vec::new();
        for (head, weights) in token.weights.iter().enumerate() {
            let visible = |position: &usize| {
                let Some(before) = t.checked_sub(1) else { return true };
                let held = &self.token[before].held;
                *position == t || held[head / group * held.len() / self.kv_heads].contains(&(*position as i64))
            };
            let sum: u32 = (0..=t).filter(visible).map(|position| weights[position]).sum();
            let weight = |position| match position <= t && visible(&position) {
                true => f64::from(weights[position]) / f64::from(sum),
                false => 0.0,
            };
            attended.extend((0..TOKENS).map(weight));
        }
        attended
    }

    /// Queries, keys and values of all tokens. The case is the last row of the batch; the others
    /// attend to everything equally.
    fn vectors(&self, batch: usize, dtype: DType, device: &Device) -> [Tensor<4>; 3] {
        let tensor = |heads: usize, of: &dyn Fn(usize, usize, usize, usize) -> f64| {
            let mut values = Vec::new();
            for row in 0..batch {
                for head in 0..heads {
                    for t in 0..TOKENS {
                        values.extend((0..TOKENS).map(|channel| of(row, head, t, channel)));
                    }
                }
            }
            Tensor::from_data(TensorData::new(values, [batch, heads, TOKENS, TOKENS]), (device, dtype))
        };
        let query = |row: usize, head: usize, t: usize, channel: usize| match row + 1 == batch && channel <= t {
            true => f64::from(self.token[t].weights[head][channel]).ln(),
            false => 0.0,
        };
        let one_hot = |_: usize, _: usize, t: usize, channel: usize| f64::from(u8::from(t == channel));
        let key = tensor(self.kv_heads, &one_hot);
        [tensor(self.heads(), &query), key.clone(), key]
    }

    /// Runs the case as the last row of a batch, and checks outputs, omissions and what is held.
    ///
    /// # Panics
    ///
    /// Where it comes out otherwise.
    pub(crate) fn check(&self, name: &str, form: Form, batch: usize, dtype: DType, device: &Device) {
        let told = format!("{name} by {form:?} in a batch of {batch}, {dtype:?}");
        let compression = self.policy.compression(TOKENS, |_| 1).unwrap_or_else(|error| panic!("{name}: {error}"));
        let layer = Attention {
            heads: self.heads(),
            kv_heads: self.kv_heads,
            head_dim: TOKENS,
            scale: 1.0,
            window: None,
            placement: None,
        };
        let mut state = layer.initial_state(batch, 0, 1, &compression, dtype, device);
        state.record_omissions();
        let vectors = self.vectors(batch, dtype, device);

        let mut done = 0;
        while done < TOKENS {
            let (n, output) = match (done, form) {
                (0, _) if self.prompt() > 0 => {
                    let [query, key, value] = part(&vectors, 0, self.prompt());
                    let output = layer.prefill(query, key, value, &mut state);
                    (self.prompt(), output.expect("the state is empty"))
                }
                (_, Form::Steps) => (1, step(&layer, part(&vectors, done, 1), &mut state)),
                (_, Form::Scan | Form::ScanInTwos) => {
                    let most = if matches!(form, Form::Scan) { TOKENS } else { 2 };
                    let n = most.min(TOKENS - done);
                    let [query, key, value] = part(&vectors, done, n);
                    (n, layer.scan(query, key, value, &mut state))
                }
            };
            for (i, omitted) in state.take_omitted().into_iter().enumerate() {
                let t = done + i;
                let output = output.clone().narrow(0, batch - 1, 1).narrow(2, i, 1).into_data().convert::<f64>();
                let output: &[f64] = output.as_slice().expect("outputs are numbers");
                let off = output.iter().zip(self.attended(t)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let bound = match dtype {
                    DType::F64 => 1e-12,
                    // Weights of at most one, with logarithms as queries: a few roundings of each.
                    DType::F16 => 4e-3,
                    DType::BF16 => 4e-2,
                    _ => 2e-6,
                };
                assert!(off <= bound, "{told}: token {t} attends {output:?}, not {:?}", self.attended(t));

                let omitted = omitted.map_or(vec![], |positions| {
                    let data = positions.narrow(0, batch - 1, 1).into_data().convert::<i64>();
                    let each = data.shape()[2];
                    let positions: &[i64] = data.as_slice().expect("positions are integers");
                    positions.chunks(each).map(<[_]>::to_vec).collect()
                });
                assert_eq!(omitted, self.token[t].omits, "{told}: what token {t} omits");
            }
            done += n;
            assert_eq!(state.held()[batch - 1], self.token[done - 1].held, "{told}: held after token {}", done - 1);
        }
    }
}

/// Some of the tokens.
fn part(vectors: &[Tensor<4>; 3], first: usize, n: usize) -> [Tensor<4>; 3] {
    vectors.each_ref().map(|x| x.clone().narrow(2, first, n))
}

fn step(layer: &Attention, token: [Tensor<4>; 3], state: &mut MultiState) -> Tensor<4> {
    let dims = token[0].dims();
    let [query, key, value] = token.map(|x| x.squeeze_dim(2));
    layer.step(query, key, value, state).reshape(dims)
}

/// All cases, by name. `MSRNN_TESTDATA` is where they are for a program that runs elsewhere than it was built.
pub(crate) fn cases() -> Vec<(String, Case)> {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let folder = std::env::var_os("MSRNN_TESTDATA").map_or_else(here, PathBuf::from).join("policies");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("the folder can be listed").path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let case: Case = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(case.token.len(), TOKENS, "{name} has another number of tokens");
        (name, case)
    };
    files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "toml")).map(read).collect()
}
