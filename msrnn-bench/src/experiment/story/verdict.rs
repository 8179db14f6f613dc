//! Which of two stories is better: both orders, and only what both agree on.

use serde::{Deserialize, Serialize};

/// What a judge chose of (A), (B) and (C) for equal quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The first.
    A,
    /// The second.
    B,
    /// Neither.
    C,
    /// The answer names none of them, or several. Counts as neither.
    Unclear,
}

/// For the bounded state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its story was preferred in both orders.
    Win,
    /// Anything else.
    Tie,
    /// The full state's story was preferred in both orders.
    Loss,
}

impl Outcome {
    /// `win`, `tie` or `loss`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Win => "win",
            Outcome::Tie => "tie",
            Outcome::Loss => "loss",
        }
    }
}

/// What a judge said of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The answers as they came: full state first, bounded state first.
    pub answers: [String; 2],
    /// What they choose.
    pub choices: [Choice; 2],
    /// What follows.
    pub outcome: Outcome,
}

/// The question of the paper's Table 4.
fn question(prompt: &str, first: &str, second: &str) -> String {
    // The prompt's body, without what marks it as an instruction.
    let body = prompt.trim().trim_start_matches("### Instruction:").trim_end_matches("### Response:").trim();
    let line = "\u{2014}".repeat(8);
    format!(
        "Help me decide which response is better given the prompt:\n\n{body}\n\nWhich of the following responses is \
         better (the responses are separated by '{line}'):\n\n- Response (A): {first}\n\n{line}\n\n- Response (B): \
         {second}\n\nComparing these two responses, which response is better (A), (B) or (C) for equal quality? please \
         select one and only one option, be as concisely as you can, using a single phrase."
    )
}

/// Asks about a pair in both orders. None when `ask` gives none.
///
/// # Errors
///
/// When `ask` fails.
pub(crate) fn judge<E>(
    prompt: &str,
    full: &str,
    bounded: &str,
    ask: impl Fn(&str) -> Result<Option<String>, E>,
) -> Result<Option<Judged>, E> {
    let Some(first) = ask(&question(prompt, full, bounded))? else { return Ok(None) };
    let Some(second) = ask(&question(prompt, bounded, full))? else { return Ok(None) };
    let choices = [choice(&first), choice(&second)];
    let outcome = match choices {
        [Choice::B, Choice::A] => Outcome::Win,
        [Choice::A, Choice::B] => Outcome::Loss,
        _ => Outcome::Tie,
    };
    Ok(Some(Judged { answers: [first, second], choices, outcome }))
}

/// What an answer chooses.
pub(crate) fn choice(answer: &str) -> Choice {
    const LETTERS: [(char, Choice); 3] = [('A', Choice::A), ('B', Choice::B), ('C', Choice::C)];
    let named: Vec<Choice> = LETTERS
        .into_iter()
        .filter(|(letter, _)| answer.contains(&format!("({letter})")))
        .map(|(_, choice)| choice)
        .collect();
    match named[..] {
        [one] => return one,
        [] => {}
        _ => return Choice::Unclear,
    }
    // A letter alone, or after a word such as "Response".
    let words: Vec<&str> =
        answer.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).take(2).collect();
    let letter = match words[..] {
        [word] => word,
        [label, word] if ["response", "option", "answer"].contains(&label.to_lowercase().as_str()) => word,
        _ => return Choice::Unclear,
    };
    let letter = LETTERS.into_iter().find(|(known, _)| letter.eq_ignore_ascii_case(&known.to_string()));
    letter.map_or(Choice::Unclear, |(_, choice)| choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_people_would() {
        for (answer, expected) in [
            ("(A)", Choice::A),
            ("Response (B) is better.", Choice::B),
            ("(C) for equal quality", Choice::C),
            ("B", Choice::B),
            ("a.", Choice::A),
            ("Response B", Choice::B),
            ("**A**", Choice::A),
            ("(A) is better than (B)", Choice::Unclear),
            ("A tie", Choice::Unclear),
            ("They are the same", Choice::Unclear),
            ("", Choice::Unclear),
        ] {
            assert_eq!(choice(answer), expected, "{answer}");
        }
    }

    #[test]
    fn only_what_both_orders_agree_on_is_a_win_or_a_loss() {
        let outcome = |answers: [&str; 2]| {
            let order = std::cell::Cell::new(0);
            let ask = |question: &str| {
                let at = question.find("FULL").unwrap() < question.find("BOUNDED").unwrap();
                assert_eq!(at, order.get() == 0, "the order alternates");
                order.set(order.get() + 1);
                Ok::<_, ()>(Some(answers[order.get() - 1].to_owned()))
            };
            judge("### Instruction:\nWrite.\n### Response:\n", "FULL", "BOUNDED", ask).unwrap().unwrap().outcome
        };
        assert_eq!(outcome(["(B)", "(A)"]), Outcome::Win);
        assert_eq!(outcome(["(A)", "(B)"]), Outcome::Loss);
        for tie in [["(A)", "(A)"], ["(B)", "(B)"], ["(C)", "(A)"], ["(B)", "(C)"], ["(B)", "?"], ["(C)", "(C)"]] {
            assert_eq!(outcome(tie), Outcome::Tie, "{tie:?}");
        }
    }
}
