//! What a reader of the results must know.

use super::Retention;
use crate::text_ids;

pub(super) fn notes(setting: &Retention) -> Vec<String> {
    let grid = setting.grid();
    let mut notes = vec![
        "A step kept is a step in which a row takes part, the one that omits it included; a row that is held to the \
         end counts the steps up to there. The average over all rows is then Σ min(t, k + 1) / n, whatever the \
         policy."
            .to_owned(),
        format!(
            "Maps show every {}th step; a cell is the share of the rows of {} neighbouring positions, in all \
             contexts and deciding groups of the layer, that are held after that step.",
            grid.stride, grid.stride
        ),
        "Recent: among the k newest tokens. The share is taken over the rows held after all steps that omitted \
         something. The paper (73 to 76 % at k = 512) does not say how it counts."
            .to_owned(),
        "Kinds: Penn Treebank tags made from Universal tags (harper-brill) and the form of the word; verbs, \
         adjectives, adverbs and pronouns are not told apart further. A token has the tag of the word in which its \
         first visible character stands; special tokens, line breaks and lone spaces are kinds of their own."
            .to_owned(),
        "Standard errors take contexts as independent.".to_owned(),
        text_ids::note(setting.reading),
    ];
    if setting.attention {
        notes.push(
            "Attention of an omission: the weight that the current query gave the row that went, among the rows in \
             the step. Attention missing: the share of the query's attention to all rows so far, had the layer kept \
             them, that falls on rows no longer held. Both are means over the query heads that share the decision; \
             queries and keys are those of the bounded run, so the layers below have already lost what they lost."
                .to_owned(),
        );
    }
    notes
}
