//! What samples of answers look like.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, Understanding};
use crate::experiment::arms::arms;
use crate::experiment::fit::{finite, holds, observed, same, states};
use crate::experiment::manifest::Source;

impl Understanding {
    pub(super) fn fits(&self, models: &[Source], name: &str, answer: &Answer) -> Result<(), String> {
        let known = models.iter().any(|model| model.name == answer.model);
        holds(&format!("its model is {:?}, which is none of this run's", answer.model), known)?;
        same("name", name, &format!("{}, {}", answer.policy, answer.question))?;
        self.policy_fits(answer)?;
        let parts: BTreeSet<&str> = self.metric.parts().iter().copied().collect();
        same("scores", &answer.scores.keys().map(String::as_str).collect(), &parts)?;
        finite("score", &answer.scores.values().copied().collect::<Vec<_>>())?;
        holds("a score of it is beyond 0 to 100", answer.scores.values().all(|score| (0.0..=100.0).contains(score)))?;
        holds("its share of the document is none", (0.0..=1.0).contains(&answer.kept))?;
        let most = self.max_new_tokens;
        holds(&format!("its answer has more than {most} tokens"), answer.written.tokens <= most)
    }

    fn policy_fits(&self, answer: &Answer) -> Result<(), String> {
        let bound = answer.states.map_or_else(String::new, |states| format!("@{states}"));
        let name = answer.policy.strip_suffix(&bound[..]).unwrap_or(&answer.policy);
        let unbounded = name == "full" || name == "baseline";
        observed(answer.states.filter(|_| !unbounded), &answer.written.observed)?;
        match (name, answer.states) {
            ("full", None) => Ok(()),
            ("baseline", Some(_)) => holds("it is a baseline, of which there are none", self.baseline),
            (_, Some(_)) => {
                let mut asked = arms(&self.policies, &self.states).into_iter().filter(|spec| !spec.is_full());
                let fits = asked.any(|spec| spec.name() == name && states(spec.budget(), answer.states).is_ok());
                holds(&format!("its policy is {:?}, which was not asked for", answer.policy), fits)
            }
            _ => Err(format!("its policy is {:?}, which was not asked for", answer.policy)),
        }
    }

    /// Every model under every policy answers the same questions, in the same order.
    pub(super) fn all_fit(&self, models: &[Source], answers: &[Answer]) -> Result<(), String> {
        let groups: Vec<&[Answer]> = answers.chunk_by(|a, b| (&a.model, &a.policy) == (&b.model, &b.policy)).collect();
        let mut names = BTreeSet::new();
        holds(
            "the answers of a model under a policy do not follow each other",
            groups.iter().all(|group| names.insert((&group[0].model, &group[0].policy))),
        )?;
        let asked = |answer: &Answer| (answer.question.clone(), answer.document.clone());
        let first: Vec<_> = groups.first().map_or_else(Vec::new, |group| group.iter().map(asked).collect());
        for group in &groups {
            let of = format!("{} under {}", group[0].model, group[0].policy);
            let questions: Vec<_> = group.iter().map(asked).collect();
            holds(&format!("{of} answered other questions than the first"), questions == first)?;
        }
        // What was asked is written down beside every answer, but for those of older runs.
        let mut words = BTreeMap::new();
        let told = answers.iter().filter_map(|answer| Some((&answer.question, answer.asked.as_ref()?)));
        for (question, asked) in told {
            let same = words.insert(question, asked).is_none_or(|before| before == asked);
            holds(&format!("{question} was asked in other words"), same)?;
        }
        for model in models {
            let of_model = groups.iter().filter(|group| group[0].model == model.name);
            // The full state and bounded ones read the same prompts.
            let prompts = |group: &&&[Answer]| {
                group.iter().map(|a| (a.prompt_sha256.clone(), a.prompt_tokens)).collect::<Vec<_>>()
            };
            let whole: Vec<_> = of_model
                .filter(|group| !group[0].policy.starts_with("baseline@"))
                .map(|group| prompts(&group))
                .collect();
            holds(
                &format!("policies of {} read different prompts", model.name),
                whole.windows(2).all(|p| p[0] == p[1]),
            )?;
        }
        Ok(())
    }
}
