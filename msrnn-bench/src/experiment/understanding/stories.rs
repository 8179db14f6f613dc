//! Questions about stories of the bundled generator, as its own scenes ask them.
//!
//! A story is the document; a scene of the kind that the bundled model was trained on asks for a fact
//! that the story stated early, and breaks off where the answer is due.

use crate::stories::{Fact, Relation, Split, Stories, Story};

use super::question::Question;

/// Words of a story: with question and answer it fits the bundled model's context.
const WORDS: usize = 450;

/// Facts that are asked for, one of each kind and story.
const ASKED: [Relation; 6] =
    [Relation::Age, Relation::LivesIn, Relation::Friend, Relation::Hoards, Relation::OwnedBy, Relation::Paid];

/// One question per kind of fact about each of the first held-out stories of a seed: about the fact
/// whose last mention lies farthest back.
pub fn questions(seed: u64, stories: usize) -> Vec<Question> {
    let stories = Stories::new(Split::Test, seed).with_words(WORDS).take(stories).enumerate();
    stories.flat_map(|(number, story)| about(&story, number)).collect()
}

fn about(story: &Story, number: usize) -> Vec<Question> {
    let last = |fact: &Fact| fact.asked_at.last().map_or(fact.stated_at.end, |span| span.end);
    let document = format!("story {number}");
    let question = |relation| {
        let facts = story.facts.iter().filter(|fact| fact.relation == relation);
        let fact = facts.min_by_key(|fact| last(fact))?;
        let (rest, reference) = scene(story, fact)?;
        Some(Question {
            id: format!("{document}, {relation:?} of {}", fact.subject),
            document_id: document.clone(),
            document: story.text.as_str().into(),
            rest: format!("\n\n{rest}"),
            references: vec![reference],
            stop: vec![",".into(), "\"".into(), "\n".into()],
        })
    };
    ASKED.into_iter().filter_map(question).collect()
}

/// The scene up to the answer, and the answer.
fn scene(story: &Story, fact: &Fact) -> Option<(String, String)> {
    let find = |subject: &str, relation| {
        let mut facts = story.facts.iter();
        facts.find(|fact| fact.subject == subject && fact.relation == relation).map(|fact| fact.answer.as_str())
    };
    // Name and epithet.
    let full = |name: &str| find(name, Relation::Epithet).map(|epithet| format!("{name} {epithet}"));
    let subject = fact.subject.as_str();
    let other = || {
        let mut names = story.facts.iter().filter(|fact| fact.relation == Relation::Age);
        names.find(|fact| fact.subject != subject).and_then(|fact| full(&fact.subject))
    };
    let answer = fact.answer.as_str();
    Some(match fact.relation {
        Relation::Age => {
            (format!("\"How old is {}?\" asked a stranger. \"{subject} is", full(subject)?), answer.to_owned())
        }
        Relation::LivesIn => {
            (format!("\"Where does {} live?\" asked {}. \"In the", full(subject)?, other()?), answer.to_owned())
        }
        Relation::Friend => {
            (format!("\"Who is the best friend of {}?\" asked the mayor. \"It is", full(subject)?), full(answer)?)
        }
        Relation::Hoards => {
            (format!("\"What does {} keep at home?\" asked {}. \"", full(subject)?, other()?), answer.to_owned())
        }
        // The subject is the thing.
        Relation::OwnedBy => {
            let asks = story.facts.iter().filter(|fact| fact.relation == Relation::Age && fact.subject != answer);
            let asks = full(asks.map(|fact| fact.subject.as_str()).next()?)?;
            (format!("\"Who owns the {subject}?\" asked {asks}. \"It belongs to"), full(answer)?)
        }
        Relation::Paid => {
            let (home, thing) = (find(subject, Relation::LivesIn)?, find(subject, Relation::Owns)?);
            let asks = "\" asked the stranger. \"I paid";
            (
                format!("On Monday morning, a stranger came to the {home}. \"How much for the {thing}?{asks}"),
                answer.to_owned(),
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_in_its_story_and_not_in_its_question() {
        let questions = questions(0, 20);
        assert_eq!(questions, super::questions(0, 20));
        assert!(questions.len() > 100, "{}", questions.len());
        for question in questions {
            assert!(question.document.contains(&question.references[0]), "{question:?}");
            assert!(!question.rest.contains(&question.references[0]), "{question:?}");
        }
    }
}
