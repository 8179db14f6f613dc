//! Options that name one of a few values of the library, as help and completions list them.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use msrnn_bench::evaluate::Form;
use msrnn_bench::experiment::{retrieval, understanding};
use msrnn_bench::render::plots::Format;

/// Lists the values of a type, each with what it means.
macro_rules! values {
    ($type:ty: $($value:ident $name:literal $help:literal),* $(,)?) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$value),*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$value => PossibleValue::new($name).help($help)),*
                })
            }
        }
    };
}

values! { Form:
    Step "step" "Every token through all layers before the next token",
    Layer "layer" "A block of tokens through one layer before the next layer. Exact, since the state of a layer depends on that layer's inputs alone",
}

values! { Format:
    Svg "svg" "SVG, with letters of the machine that shows them",
    Pdf "pdf" "PDF, with their letters in the file; only with the feature pdf",
}

values! { retrieval::task::Task:
    Facts "facts" "A fact of one character in a story of the bundled generator: object, home, hoard, pet or epithet",
    Passkey "passkey" "A number of five digits in repeated sentences (Mohtashami & Jaggi 2023, arXiv 2305.16300)",
    Needle "needle" "A number of five digits that belongs to a town, in prose",
}

values! { understanding::Task:
    Squality "squality" "Questions about science-fiction stories, answered in a paragraph (Wang et al. 2022)",
    Qasper "qasper" "Questions about papers, answered concisely or not at all (Dasigi et al. 2021)",
    Jsonl "jsonl" "Any prompts with references",
    Stories "stories" "What the bundled generator's stories said early and need late",
}

values! { understanding::Metric:
    Rouge "rouge" "Geometric mean of ROUGE-1, ROUGE-2 and ROUGE-L",
    F1 "f1" "Token F1",
    Exact "exact" "Exact match after normalisation",
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written on the command line is what a manifest says.
    fn named_alike<T: ValueEnum + serde::Serialize>() {
        for value in T::value_variants() {
            let possible = value.to_possible_value().unwrap();
            assert_eq!(serde_json::to_value(value).unwrap(), possible.get_name());
        }
    }

    #[test]
    fn values_are_called_in_options_as_in_manifests() {
        named_alike::<Form>();
        named_alike::<Format>();
        named_alike::<retrieval::task::Task>();
        named_alike::<understanding::Task>();
        named_alike::<understanding::Metric>();
    }
}
