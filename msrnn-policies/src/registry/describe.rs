//! Plans in words.

use std::fmt::Write;

use crate::needs::{LAYERS, fewest_states};
use msrnn_core::budget::Budget;
use msrnn_core::merging::{Merging, Threshold, Weight};
use msrnn_core::needs::HEADS;
use msrnn_core::policy::{Cut, Decides, Layer, Plan, Policy, Rule};
use msrnn_core::score::{Expr, Input, Score};

/// k where none is named.
pub(super) const STATES: usize = 512;

/// What a model's sliding window means under every policy.
pub(super) const OWN_WINDOW: &str = "In a model with a sliding window of W tokens, a row that no later query sees, \
     because it is W − 1 tokens old, goes before all others under every policy, protected or not (k ≥ W − 1 states \
     therefore give the full state's results, and sinks last W tokens); the TOVA authors' code leaves such rows to \
     their scores. Where positions are in-state or gap-compressed, the policy alone decides.";

pub(super) const FULL: &str = "\
name          full
idea          The vanilla transformer: a state that grows, g(t) = t.
rule          Omit nothing. Takes no number of states.
citation      Oren et al. 2024, arXiv 2401.06104, section 3.1
";

/// Titles and what belongs to them.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) text: String,
}

impl Lines {
    pub(super) fn line(&mut self, title: &str, value: &str) {
        let _ = writeln!(self.text, "{title:<13} {value}");
    }

    /// What is said of each layer or head, those of which the same is said together.
    fn runs(&mut self, one: &str, said: &[String]) {
        let several = format!("{one}s");
        let mut first = 0;
        for run in said.chunk_by(|a, b| a == b) {
            let last = first + run.len() - 1;
            match (first, last + 1 == said.len()) {
                (0, true) => {}
                (_, true) => self.line(&several, &format!("from {first} on")),
                (_, false) if first == last => self.line(one, &first.to_string()),
                (_, false) => self.line(&several, &format!("{first} to {last}")),
            }
            self.text += &run[0];
            first = last + 1;
        }
    }
}

/// What is known of a row and used in an expression.
fn inputs(expr: &Expr, found: &mut Vec<Input>) {
    match expr {
        Expr::Input(input) => found.push(*input),
        Expr::Number(_) | Expr::Remembered(_) | Expr::Random(_) => {}
        Expr::Unary(_, x) => inputs(x, found),
        Expr::Binary(_, a, b) => [a, b].into_iter().for_each(|expr| inputs(expr, found)),
        Expr::If(condition, yes, no) => [condition, yes, no].into_iter().for_each(|expr| inputs(expr, found)),
    }
}

/// What a rule is shown.
pub(super) fn sees(plan: &Plan) -> String {
    let mut seen = vec!["positions".to_owned()];
    let mut add = |sees: bool, what: &str| {
        if sees {
            seen.push(what.into());
        }
    };
    match &plan.rule {
        Rule::Score(Score { remembers, keep }) => {
            let mut found = Vec::new();
            remembers.iter().map(|channel| &channel.becomes).chain([keep]).for_each(|expr| inputs(expr, &mut found));
            let uses = |inputs: &[Input]| inputs.iter().any(|input| found.contains(input));
            add(uses(&[Input::Weight, Input::MaxWeight]), "the current query's weights");
            add(uses(&[Input::Logit]), "its logits");
            add(uses(&[Input::KeyNorm]), "norms of keys");
            add(uses(&[Input::ValueNorm]), "norms of values");
            add(uses(&[Input::Head]), "which head it is");
        }
        Rule::Tensors(tensors) => {
            let sees = tensors.sees();
            add(sees.weights, "the current query's weights");
            add(sees.logits, "its logits");
            add(sees.queries > 0, &format!("the weights of the latest {} queries", sees.queries));
            add(sees.keys, "keys");
            add(sees.values, "values");
        }
    }
    match seen.len() {
        1 => "positions only".into(),
        _ => seen.join(", "),
    }
}

/// Who decides.
pub(super) fn decides(plan: &Plan) -> &'static str {
    match plan.decides {
        Decides::Layer => "layer",
        Decides::KvHead => "KV head",
    }
}

/// When rows go.
pub(super) fn cuts(plan: &Plan) -> String {
    match plan.cut {
        Cut::Every(1) => "after every token".into(),
        Cut::Every(n) => format!("every {n} tokens once k are held: k + {n} rows, then k"),
        Cut::AfterPrompt => "once, after the prompt; then the state grows".into(),
    }
}

/// What never goes.
fn protects(plan: &Plan) -> String {
    let first = (plan.first > 0).then(|| format!("the first {} tokens", plan.first));
    let newest = (plan.newest > 0).then(|| format!("the newest {} rows", plan.newest));
    match [first, newest].into_iter().flatten().collect::<Vec<_>>()[..] {
        [] => "nothing".into(),
        ref rows => rows.join(", "),
    }
}

/// How rows are chosen.
fn rule(plan: &Plan) -> String {
    match &plan.rule {
        Rule::Score(score) => format!("the row with the lowest score goes, of equal ones the oldest: {score}"),
        Rule::Tensors(_) => "tensor code: the row with the lowest score goes, of equal ones the oldest".into(),
    }
}

/// What is merged.
fn merges(merging: &Merging) -> String {
    let from = match merging.threshold {
        Threshold::Fixed(cosine) => format!("a cosine of {cosine} on"),
        Threshold::Moving(share) => {
            format!("a moving mean of the layer's cosines on, of which each cut's are {share}")
        }
    };
    let weight = match merging.weight {
        Weight::Mean => "",
        Weight::Exp => ", weighed by exp(cosine)",
    };
    format!("what goes into the row of the most similar key, from {from}{weight}")
}

/// Bytes remembered per state and decision.
pub(super) fn bytes_per_state(plan: &Plan, layer: &Layer) -> usize {
    4 * plan.carried(layer)
}

/// The fewest states.
pub(super) fn needs(policy: &dyn Policy) -> String {
    fewest_states(policy).map_or_else(|| "more states than there are".into(), |states| format!("k ≥ {states}"))
}

/// What a budget comes to.
pub(super) fn budget(budget: Budget) -> String {
    let states = match budget {
        Budget::States(states) => format!("k = {states} rows in every layer and KV head"),
        other => format!("{other}: k follows from the context or from the model's shape"),
    };
    let mut text = Lines::default();
    text.line("budget", &states);
    text.text
}

fn of_layer(plan: &Plan, layer: &Layer) -> String {
    let mut text = Lines::default();
    if !plan.heads.is_empty() {
        let one = Layer { kv_heads: 1, ..*layer };
        let said: Vec<String> = plan.heads.iter().map(|head| of_layer(head, &one)).collect();
        text.runs("head", &said);
        if let Some(positions) = plan.positions {
            text.line("positions", &format!("{positions}, in all heads"));
        }
        return text.text;
    }
    if let Some(packing) = &plan.packing {
        text.line("rows", &packing.to_string());
    }
    if plan.states.is_none() {
        text.line("rule", "nothing goes");
        return text.text;
    }
    text.line("rule", &rule(plan));
    text.line("sees", &sees(plan));
    let decides = if layer.kv_heads == 1 { "by itself".into() } else { format!("once per {}", decides(plan)) };
    text.line("decides", &decides);
    if let Some(floor) = plan.pooled {
        text.line("shares", &format!("heads compete for the layer's k · heads rows, each keeps {floor} · k at least"));
    }
    text.line("cuts", &cuts(plan));
    text.line("protects", &protects(plan));
    if let Some(positions) = plan.positions {
        text.line("positions", &positions.to_string());
    }
    for merging in &plan.merging {
        text.line("merges", &merges(merging));
    }
    text.line("memory", &memory(plan, bytes_per_state(plan, layer)));
    text.text
}

/// What a rule keeps beside keys, values and positions.
pub(super) fn memory(plan: &Plan, bytes_per_state: usize) -> String {
    match plan.queries() {
        0 => format!("{bytes_per_state} bytes per state and decision"),
        n => format!("{bytes_per_state} bytes per state and decision, and the latest {n} queries of every head"),
    }
}

/// What follows from the plans of a policy.
pub(super) fn explain(policy: &dyn Policy, budget: Option<Budget>) -> String {
    let states = match budget {
        Some(Budget::States(states)) => states,
        _ => STATES,
    };
    let layer = |index, layers| Layer { index, layers, kv_heads: HEADS, states };
    let of = |index| {
        let layer = layer(index, LAYERS);
        of_layer(&policy.plan(&layer), &layer)
    };
    let mut text = Lines::default();
    text.line("name", &policy.name());
    text.line("needs", &needs(policy));
    // k by layer, of a small stack.
    let shares: Vec<Option<usize>> = (0..8).map(|index| policy.plan(&layer(index, 8)).states).collect();
    let shared = shares.iter().flatten().any(|share| *share != states);
    let shares: Vec<String> =
        shares.iter().map(|share| share.map_or_else(|| "full".into(), |share| share.to_string())).collect();
    if shared {
        text.line("states", &format!("by layer, of 8 with k = {states}: {}", shares.join(", ")));
    }
    text.runs("layer", &(0..LAYERS).map(of).collect::<Vec<_>>());
    text.line("own window", OWN_WINDOW);
    text.line("numbers", &format!("as they are with k = {states}"));
    text.text
}
