//! Questions about stories of the bundled generator, as its own scenes ask them.
//!
//! A story without its ending is the document; a scene of the kind that the bundled model was trained on comes to a fact
//! that the story stated early, says its first word, and breaks off. No other fact of the story has that
//! word, so that whoever remembers can go on.

use crate::stories::{Fact, Relation, Split, Stories, Story};

use super::question::Question;

/// Words of a story: with question and answer it fits the bundled model's context.
const WORDS: usize = 450;

/// Facts that are asked for, one of each kind and story.
const ASKED: [Relation; 5] = [Relation::Epithet, Relation::Owns, Relation::LivesIn, Relation::Hoards, Relation::Pet];

/// One question per kind of fact about each of the first held-out stories of a seed: about the fact
/// whose last mention lies farthest back.
pub(crate) fn questions(seed: u64, stories: usize) -> Vec<Question> {
    let stories = Stories::new(Split::Test, seed).with_words(WORDS).take(stories).enumerate();
    stories.flat_map(|(number, story)| about(&story, number)).collect()
}

fn about(story: &Story, number: usize) -> Vec<Question> {
    // Without its ending, after which another story would begin.
    let body = &story.text[..story.text.rfind("\n\n").unwrap_or(story.text.len())];
    let mentions = |fact: &Fact| fact.asked_at.iter().chain([&fact.stated_at]).map(|span| span.end).collect::<Vec<_>>();
    let last = |fact: &Fact| mentions(fact).into_iter().filter(|&end| end <= body.len()).max();
    let document = format!("story {number}");
    let question = |relation| {
        let facts = story.facts.iter().filter(|fact| fact.relation == relation);
        let fact = facts.min_by_key(|fact| last(fact))?;
        let (scene, answer) = scene(story, fact)?;
        Some(Question {
            id: format!("{document}, {relation:?} of {}", fact.subject),
            document_id: document.clone(),
            document: body.into(),
            rest: format!("\n\n{scene}"),
            references: vec![answer],
            stop: ["?", ",", "\"", "\n"].map(str::to_owned).into(),
        })
    };
    ASKED.into_iter().filter_map(question).collect()
}

/// The scene up to the answer's second word, and the rest of the answer.
fn scene(story: &Story, fact: &Fact) -> Option<(String, String)> {
    // Name and epithet.
    let full = |name: &str| {
        let mut epithets = story.facts.iter().filter(|fact| fact.relation == Relation::Epithet);
        epithets.find(|fact| fact.subject == name).map(|fact| format!("{name} {}", fact.answer))
    };
    let subject = fact.subject.as_str();
    let other = || {
        let mut others = story.facts.iter().filter(|fact| fact.relation == Relation::Epithet);
        others.find(|fact| fact.subject != subject).and_then(|fact| full(&fact.subject))
    };
    let (cue, answer) = match fact.relation {
        // Here the name itself is the word.
        Relation::Epithet => (subject, fact.answer.as_str()),
        _ => fact.answer.split_once(' ')?,
    };
    let scene = match fact.relation {
        Relation::Epithet => format!("\"How old is {cue}"),
        Relation::Owns => format!("\"Who owns the {cue}"),
        Relation::LivesIn => format!("\"Where does {} live?\" asked {}. \"In the {cue}", full(subject)?, other()?),
        Relation::Hoards => format!("\"What does {} keep at home?\" asked {}. \"{cue}", full(subject)?, other()?),
        Relation::Pet => format!("\"Where is the {cue}"),
        _ => return None,
    };
    Some((scene, answer.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_in_its_story_and_not_in_its_question() {
        let questions = questions(0, 20);
        assert_eq!(questions, super::questions(0, 20));
        assert_eq!(questions.len(), 20 * ASKED.len());
        for question in questions {
            assert!(question.document.contains(&question.references[0]), "{question:?}");
            assert!(!question.rest.contains(&question.references[0]), "{question:?}");
        }
    }
}
