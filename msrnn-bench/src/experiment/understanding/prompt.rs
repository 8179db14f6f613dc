//! The prompts of the paper, and how a document that is too long is cut.

use super::Task;

/// Table 4 of the paper. Where it breaks lines cannot be seen in print; here a label has a line of its own.
const SQUALITY: &str = "Answer the question in a paragraph.";
const QASPER: &str = "Answer the question as concisely as you can, using a single phrase or sentence if possible. If \
                      the question cannot be answered based on the information in the article, write \
                      \"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or \
                      \"unanswerable\".";

/// What follows the document in a task's prompt.
pub(super) fn rest(task: Task, question: &str) -> String {
    let instruction = match task {
        Task::Squality => SQUALITY,
        Task::Qasper => QASPER,
        Task::Jsonl | Task::Stories => return question.to_owned(),
    };
    format!("\n\n{instruction}\n\nQuestion:\n{question}\n\nAnswer:")
}

/// A prompt that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// What the tokenizer puts before a text, document, question.
    pub ids: Vec<u32>,
    /// How many of the last ids are the question, where it is apart from what comes before.
    pub asked: usize,
    /// Bytes of the document that are in it.
    pub kept: usize,
}

/// A prompt in at most `room` tokens: its document cut at its end as far as needed. None where not even the question
/// fits.
///
/// `prompt`: the ids of as much of the document with what stands around it, and how many of the last ones are the
/// question by itself; 0 where both are one text.
///
/// # Errors
///
/// When `prompt` fails.
pub(crate) fn fit<E>(
    document: &str,
    room: usize,
    prompt: impl Fn(&str) -> Result<(Vec<u32>, usize), E>,
) -> Result<Option<Prompt>, E> {
    let cut_at = |kept: usize| {
        let (ids, asked) = prompt(&document[..kept])?;
        Ok(Prompt { ids, asked, kept })
    };
    let whole = cut_at(document.len())?;
    if whole.ids.len() <= room {
        return Ok(Some(whole));
    }
    let (mut fits, mut over) = (cut_at(0)?, whole);
    if fits.ids.len() > room {
        return Ok(None);
    }
    // Tokens grow about in proportion to bytes, so that interpolation takes few encodings.
    while fits.ids.len() < room {
        let share = (room - fits.ids.len()) as f64 / (over.ids.len() - fits.ids.len()) as f64;
        let guess = fits.kept + ((over.kept - fits.kept) as f64 * share) as usize;
        // At a word's end, between the two; else nothing is left to try.
        let word = |at: usize| document[..at].trim_end_matches(|c: char| !c.is_whitespace()).trim_end().len();
        let guess = document.floor_char_boundary(guess);
        let Some(kept) = [word(guess), guess].into_iter().find(|&at| at > fits.kept && at < over.kept) else { break };
        let tried = cut_at(kept)?;
        if tried.ids.len() <= room { fits = tried } else { over = tried }
    }
    Ok(Some(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A first token, one per word, and one per character of long words.
    #[allow(clippy::unnecessary_wraps)]
    fn encode(document: &str) -> Result<(Vec<u32>, usize), ()> {
        let tokens = |word: &str| if word.len() > 8 { word.chars().count() } else { 1 };
        let text = format!("{document}\n\nWhy is it so?");
        Ok((vec![7; 1 + text.split_whitespace().map(tokens).sum::<usize>()], 0))
    }

    #[test]
    fn a_document_that_fits_is_left_whole() {
        let prompt = fit("one two three", 8, encode).unwrap().unwrap();
        assert_eq!((prompt.ids.len(), prompt.kept), (8, 13));
    }

    #[test]
    fn cutting_leaves_as_much_as_fits_and_never_the_question() {
        for words in [20, 300] {
            let document: String = (0..words).map(|n| format!("w{n} éxtraordinarily ")).collect();
            for room in 5..120 {
                let prompt = fit(&document, room, encode).unwrap().unwrap();
                assert!(prompt.ids.len() <= room);
                // The next pair of words would not have fitted.
                assert!(prompt.kept == document.len() || prompt.ids.len() + 17 > room, "{room}: {}", prompt.ids.len());
            }
        }
        assert_eq!(fit("one two", 4, encode).unwrap(), None);
    }
}
