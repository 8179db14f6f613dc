//! Numbers per policy and number of states, with their errors.

use msrnn_policies::PolicySpec;
use serde::{Deserialize, Serialize};

use super::arms::ArmScores;
use super::{Lm, LmModel, draws};
use crate::evaluate::{Observed, bits_per_byte};
use crate::experiment::Arm;
use crate::plan::Kind;
use crate::statistics::{BEYOND, Interval, Mean, by_text, interval, ratio};
use crate::text_ids;
use crate::wording::counted;

/// What was found of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// As in `--model`.
    pub model: String,
    /// Tokens of a context.
    pub context: usize,
    /// Ids that every context begins with.
    pub prefix: Vec<u32>,
    /// Whether the paper's numbers belong beside it.
    pub llama_2_7b: bool,
    /// What errors are taken over: `texts`, or `contexts` where there is a single text.
    pub error_over: String,
    /// How many of them.
    pub n: usize,
    /// Contexts.
    pub contexts: usize,
    /// Predicted tokens.
    pub tokens: usize,
    /// Full state, baselines by length, policies as asked for.
    pub arms: Vec<ArmSummary>,
    /// Every two policies with as many states.
    #[serde(default)]
    pub pairs: Vec<Pair>,
}

/// Two policies on the same tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// One.
    pub policy: String,
    /// The other.
    pub against: String,
    /// k of both.
    pub states: usize,
    /// Nats per token of the first above the second, paired.
    pub above: Interval,
}

/// What was found of one policy and number of states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// Which kind of run it is.
    pub kind: Kind,
    /// `tova`, `full` or `baseline`.
    pub policy: String,
    /// k, or the baseline's context; none for the full state.
    pub states: Option<usize>,
    /// Seeds, 1 for what does not draw.
    pub seeds: usize,
    /// Tokens that it predicted: fewer of a baseline, which forgets all at times.
    pub tokens: usize,
    /// Mean negative log-likelihood in nats per token.
    pub nll: Mean,
    /// exp of that; none where it is beyond a 64-bit number.
    pub perplexity: Option<Mean>,
    /// Bits of the predicted tokens over the UTF-8 bytes of the text that they stand for; none where they are not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Nats per token above the full state.
    pub above_full: Option<Interval>,
    /// Nats per token above random omission with as many states.
    pub above_random: Option<Interval>,
    /// KL(full‖policy) in nats per token.
    pub kl: Option<Mean>,
    /// Share of tokens whose most probable next token is that of the full state.
    pub agreement: Option<Mean>,
    /// What the states were seen to hold.
    #[serde(flatten)]
    pub observed: Observed,
}

impl ModelSummary {
    /// The numbers of a model's arms, which are all on the same contexts, each begun with `prefix`.
    pub fn new(model: &LmModel, prefix: &[u32], arms: Vec<ArmScores>) -> Self {
        let texts: Vec<usize> =
            arms.first().map_or_else(Vec::new, |arm| arm.contexts.iter().map(|id| id.text).collect());
        let several = texts.iter().any(|text| *text != texts[0]);
        // Without several texts, every context is a unit of its own.
        let units: Vec<usize> = if several { texts } else { (0..texts.len()).collect() };
        let find = |kind: Kind, policy: &str, states: Option<usize>| {
            arms.iter().find(|arm| (arm.kind, arm.states) == (kind, states) && arm.policy == policy)
        };
        let full = find(Kind::Full, "full", None);
        let summary = |arm: &ArmScores| {
            let per_token = |values: &[f64]| mean(&units, values, arm);
            let nll = per_token(&nlls(arm));
            let bounded = arm.kind == Kind::Policy && arm.policy != "random";
            let random = bounded.then(|| find(Kind::Policy, "random", arm.states)).flatten();
            ArmSummary {
                kind: arm.kind,
                policy: arm.policy.clone(),
                states: arm.states,
                seeds: arm.seeds,
                tokens: arm.scores.iter().map(|score| score.tokens).sum(),
                nll,
                perplexity: nll.exp(),
                bits_per_byte: bits_per_byte(&arm.scores),
                above_full: full.filter(|_| arm.kind != Kind::Full).and_then(|full| difference(&units, arm, full)),
                above_random: random.and_then(|random| difference(&units, arm, random)),
                kl: arm.kl.as_deref().map(per_token),
                agreement: arm.agreed.as_deref().map(per_token),
                observed: arm.observed,
            }
        };
        let policies: Vec<&ArmScores> =
            arms.iter().filter(|arm| arm.kind == Kind::Policy && arm.states.is_some()).collect();
        let after = |index: usize| policies[index + 1..].iter().copied();
        let pair = |(one, other): (&ArmScores, &ArmScores)| {
            let states = one.states.filter(|_| one.states == other.states)?;
            let above = difference(&units, one, other)?;
            Some(Pair { policy: one.policy.clone(), against: other.policy.clone(), states, above })
        };
        let pairs_of =
            policies.iter().enumerate().flat_map(|(index, one)| after(index).map(move |other| (*one, other)));
        let pairs_of = pairs_of.filter_map(pair).collect();
        let scores = full.or(arms.first()).map_or(&[][..], |arm| &arm.scores);
        let pairs: Vec<(f64, usize)> = scores.iter().map(|score| (score.nll, score.tokens)).collect();
        Self {
            model: model.name.clone(),
            context: model.context,
            prefix: prefix.to_vec(),
            llama_2_7b: model.llama_2_7b,
            error_over: if several { "texts" } else { "contexts" }.into(),
            n: by_text(&units, &pairs).len(),
            contexts: scores.len(),
            tokens: scores.iter().map(|score| score.tokens).sum(),
            arms: arms.iter().map(summary).collect(),
            pairs: pairs_of,
        }
    }

    /// What the states were seen to hold.
    pub fn arms(&self) -> Vec<Arm> {
        let policies = self.arms.iter().filter(|arm| arm.kind != Kind::Baseline);
        policies
            .map(|arm| Arm {
                model: self.model.clone(),
                policy: arm.states.map_or_else(|| arm.policy.clone(), |states| format!("{}@{states}", arm.policy)),
                states: arm.states,
                observed: arm.observed,
            })
            .collect()
    }

    /// The distinct numbers of states, ascending.
    pub fn states(&self) -> Vec<usize> {
        let mut states: Vec<usize> = self.arms.iter().filter_map(|arm| arm.states).collect();
        states.sort_unstable();
        states.dedup();
        states
    }

    /// The policy that is better than every other with as many states, as far as the intervals of paired differences
    /// tell; none where they do not. A ceiling is no policy.
    pub fn best(&self, states: usize) -> Option<&str> {
        let is_ceiling = |name: &str| name.parse::<PolicySpec>().is_ok_and(|spec| spec.is_ceiling());
        let is_rival =
            |arm: &&ArmSummary| arm.kind == Kind::Policy && arm.states == Some(states) && !is_ceiling(&arm.policy);
        let rivals: Vec<&str> = self.arms.iter().filter(is_rival).map(|arm| arm.policy.as_str()).collect();
        let beats = |name: &str, other: &str| {
            self.pairs.iter().filter(|pair| pair.states == states).any(|pair| match pair.above.ends {
                Some((_, high)) if (&pair.policy[..], &pair.against[..]) == (name, other) => high < 0.0,
                Some((low, _)) if (&pair.policy[..], &pair.against[..]) == (other, name) => low > 0.0,
                _ => false,
            })
        };
        let beats_all = |name: &&str| rivals.iter().filter(|other| *other != name).all(|other| beats(name, other));
        rivals.iter().copied().filter(|_| rivals.len() > 1).find(beats_all)
    }

    /// Baseline and policies, in the order of the arms.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for arm in self.arms.iter().filter(|arm| arm.kind != Kind::Full) {
            if !names.contains(&arm.policy.as_str()) {
                names.push(&arm.policy);
            }
        }
        names
    }

    /// The full state.
    pub fn full(&self) -> Option<&ArmSummary> {
        self.arms.iter().find(|arm| arm.kind == Kind::Full)
    }

    /// The arm of a name and number of states; one that keeps all is that of every number.
    pub fn arm(&self, name: &str, states: usize) -> Option<&ArmSummary> {
        self.arms.iter().find(|arm| arm.policy == name && arm.states.is_none_or(|own| own == states))
    }
}

fn nlls(arm: &ArmScores) -> Vec<f64> {
    arm.scores.iter().map(|score| score.nll).collect()
}

/// Mean per token of sums per context, over units.
fn mean(units: &[usize], values: &[f64], arm: &ArmScores) -> Mean {
    let pairs: Vec<(f64, usize)> =
        values.iter().zip(&arm.scores).map(|(&value, score)| (value, score.tokens)).collect();
    ratio(&by_text(units, &pairs))
}

/// Nats per token above another arm, paired by unit. None where they did not predict the same tokens.
fn difference(units: &[usize], arm: &ArmScores, other: &ArmScores) -> Option<Interval> {
    let alike =
        arm.contexts == other.contexts && arm.scores.iter().zip(&other.scores).all(|(a, b)| a.tokens == b.tokens);
    alike.then(|| {
        let differences: Vec<f64> = nlls(arm).iter().zip(nlls(other)).map(|(a, b)| a - b).collect();
        let pairs: Vec<(f64, usize)> =
            differences.into_iter().zip(&arm.scores).map(|(difference, score)| (difference, score.tokens)).collect();
        let pairs = by_text(units, &pairs);
        interval(&ratio(&pairs), pairs.len())
    })
}

/// What a reader must know.
pub(super) fn notes(lm: &Lm, summaries: &[ModelSummary]) -> Vec<String> {
    let mut notes = Vec::new();
    for summary in summaries {
        notes.push(format!(
            "{}: {} of at most {} tokens from {}, from an empty state each, {} (bos: {}); a short last \
             context of a text is kept. {} predicted tokens, each of the same weight, in whichever context it is. \
             Errors and intervals are over {} {}.",
            summary.model,
            counted(summary.contexts, "context"),
            summary.context,
            counted(lm.texts.len(), "text"),
            text_ids::begun(&summary.prefix),
            lm.reading.bos,
            summary.tokens,
            summary.n,
            summary.error_over,
        ));
    }
    if !lm.skipped.is_nothing() {
        notes.push(format!("Passed over among the texts: {}.", lm.skipped));
    }
    notes.push(
        "Bits per byte: Σ −log2 p of the predicted tokens over the UTF-8 bytes of the text that they stand for, so \
         that models with different tokenizers can be compared; what is not predicted counts on neither side."
            .into(),
    );
    notes.push(
        "± is one standard error, √(n/(n−1) Σ(value − mean · tokens)²) / Σ tokens over texts, or over contexts where \
         there is a single text; contexts of one text are not independent, so that error is too small. Intervals are \
         of 95 %, mean ± t · standard error of the paired differences, with Student's t of n − 1 degrees of freedom; \
         they are not corrected for the number of comparisons."
            .into(),
    );
    notes.push(
        "baseline: the same model on contexts of that many tokens, prefix included, without compression; every context \
         is cut on its own, so that the same tokens are predicted, but for the first of each where nothing is put before \
         them, and then there is no paired difference to it. KL is KL(full‖policy) of the next-token \
         distributions; agreement is the share of tokens whose most probable next token is that of the full state. \
         Neither is computed for the baseline."
            .into(),
    );
    if lm.policies.iter().any(draws) && lm.seeds.len() > 1 {
        notes.push(format!(
            "random: negative log-likelihood, KL and agreement are means over the seeds {:?}; omissions are the sum. \
             The other policies draw nothing and were run once.",
            lm.seeds
        ));
    }
    if !summaries.iter().any(|summary| summary.names().contains(&"random")) {
        notes.push("random is not among the policies, so that there are no differences to it.".into());
    }
    if summaries.iter().any(|summary| summary.llama_2_7b) {
        notes.push(
            "Published: Table 3 of the paper, LLaMA-2-7B in bf16 on PG-19's test split, contexts of 4,096 tokens. BOS, \
             short last contexts and weighting are not stated there. The model is known by its configuration; one tuned \
             from it has the same."
                .into(),
        );
    }
    if summaries.iter().flat_map(|summary| &summary.arms).any(|arm| arm.perplexity.is_none()) {
        notes.push(BEYOND.into());
    }
    let said =
        if lm.policies.iter().any(PolicySpec::says_positions) { " where the policy does not say it" } else { "" };
    notes.push(format!("Protocol {}; positions {}{said}.", lm.protocol, lm.positions));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::ContextScore;
    use crate::experiment::lm::ContextId;

    fn arm(kind: Kind, policy: &str, states: Option<usize>, scores: &[(usize, f64, usize)]) -> ArmScores {
        ArmScores {
            kind,
            policy: policy.into(),
            states,
            seeds: 1,
            contexts: scores
                .iter()
                .enumerate()
                .map(|(context, s)| ContextId { text: s.0, context, ..ContextId::default() })
                .collect(),
            scores: scores
                .iter()
                .map(|s| ContextScore { nll: s.1, tokens: s.2, bytes: Some(2 * s.2 as u64) })
                .collect(),
            kl: (kind == Kind::Policy).then(|| scores.iter().map(|s| s.1 / 10.0).collect()),
            agreed: (kind == Kind::Policy).then(|| scores.iter().map(|s| s.2 as f64 / 2.0).collect()),
            observed: Observed::default(),
        }
    }

    fn summary(arms: Vec<ArmScores>) -> ModelSummary {
        ModelSummary::new(&LmModel { name: "m".into(), context: 8, llama_2_7b: false }, &[1], arms)
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} should be {expected}");
    }

    #[test]
    fn numbers_are_those_worked_out_by_hand() {
        // Two texts of two contexts and one: 20 and 10 tokens.
        let summary = summary(vec![
            arm(Kind::Full, "full", None, &[(0, 10.0, 10), (0, 10.0, 10), (1, 13.0, 10)]),
            arm(Kind::Policy, "tova", Some(4), &[(0, 12.0, 10), (0, 14.0, 10), (1, 16.0, 10)]),
            arm(Kind::Policy, "random", Some(4), &[(0, 15.0, 10), (0, 15.0, 10), (1, 15.0, 10)]),
        ]);
        assert_eq!((summary.error_over.as_str(), summary.n, summary.contexts, summary.tokens), ("texts", 2, 3, 30));
        let tova = summary.arm("tova", 4).unwrap();
        // 42 nats of 30 tokens. By text: 26 of 20 (expected 28) and 16 of 10 (expected 14).
        close(tova.nll.mean, 1.4);
        close(tova.nll.standard_error.unwrap(), (2.0 * (4.0 + 4.0f64)).sqrt() / 30.0);
        close(tova.perplexity.unwrap().mean, 1.4f64.exp());
        // 42 nats of 60 bytes, two for every token.
        close(tova.bits_per_byte.unwrap(), 42.0 / 60.0 / std::f64::consts::LN_2);
        // Above full: 6 of 20 and 3 of 10 tokens, so 0.3 without any spread.
        let above = tova.above_full.unwrap();
        close(above.mean, 0.3);
        close(above.ends.unwrap().1 - above.ends.unwrap().0, 0.0);
        // Above random: −4 of 20 and 1 of 10: −0.1, residuals −2 and 2; t of one degree is 12.7062.
        let above = tova.above_random.unwrap();
        close(above.mean, -0.1);
        close(above.ends.unwrap().1, -0.1 + 12.706_204_7 * 4.0 / 30.0);
        close(tova.kl.unwrap().mean, 0.14);
        close(tova.agreement.unwrap().mean, 0.5);
        assert_eq!(summary.arm("random", 4).unwrap().above_random, None);
        assert_eq!(summary.full().unwrap().above_full, None);
    }

    /// Means of 1.0 and 1.3 and of 1.0 and 1.1: the first differ by as much in every context, the others do not.
    #[test]
    fn the_best_policy_is_told_only_where_the_intervals_tell() {
        let scores =
            |extra: [f64; 3]| [10.0, 20.0, 15.0].iter().zip(extra).map(|(nll, more)| (0, nll + more, 10)).collect();
        let of = |policy: &str, extra| -> ArmScores {
            let scores: Vec<_> = scores(extra);
            arm(Kind::Policy, policy, Some(4), &scores)
        };
        let (tova, window, h2o) = (of("tova", [0.0; 3]), of("window", [3.0, 3.1, 2.9]), of("h2o", [3.0, -2.0, 2.0]));
        assert_eq!(summary(vec![window.clone(), tova.clone()]).best(4), Some("tova"));
        assert_eq!(summary(vec![window.clone(), tova.clone()]).best(8), None);
        assert_eq!(summary(vec![tova.clone(), window.clone(), h2o]).best(4), None);
        // What is told the future is no rival, and nobody is best alone.
        let oracle = of("oracle", [-3.0, -3.1, -2.9]);
        assert_eq!(summary(vec![oracle.clone(), window, tova.clone()]).best(4), Some("tova"));
        assert_eq!(summary(vec![tova, oracle]).best(4), None);
    }

    #[test]
    fn one_text_has_its_contexts_as_units() {
        let one = summary(vec![arm(Kind::Full, "full", None, &[(3, 10.0, 10), (3, 20.0, 10), (3, 30.0, 10)])]);
        assert_eq!((one.error_over.as_str(), one.n), ("contexts", 3));
        close(one.full().unwrap().nll.standard_error.unwrap(), 1.0 / 3.0f64.sqrt());
    }

    #[test]
    fn runs_that_predict_other_tokens_are_not_paired() {
        let summary = summary(vec![
            arm(Kind::Full, "full", None, &[(0, 10.0, 10)]),
            arm(Kind::Baseline, "baseline", Some(4), &[(0, 10.0, 8)]),
        ]);
        assert_eq!(summary.arm("baseline", 4).unwrap().above_full, None);
    }
}
