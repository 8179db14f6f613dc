//! Which tokens of a text the states still hold, to be looked at.

use std::fmt::Write;

use maud::{DOCTYPE, html};
use msrnn_core::state::MultiState;
use msrnn_models::tokenizer::Tokenizer;

use crate::error::BenchError;
use crate::render::head::head;
use crate::render::printable;

/// A text with what is held of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// By position.
    pub tokens: Vec<Token>,
    /// Layers of the model.
    pub layers: usize,
}

/// A token of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it adds to the text.
    pub text: String,
    /// By layer, the share of KV heads that hold its row.
    pub held: Vec<f64>,
}

impl Token {
    /// The mean over layers of the share of heads that hold it.
    pub fn share(&self) -> f64 {
        self.held.iter().sum::<f64>() / self.held.len().max(1) as f64
    }

    /// Whether no layer holds it.
    pub fn is_gone(&self) -> bool {
        self.held.iter().all(|&share| share == 0.0)
    }
}

/// How a text is marked in a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// What is gone is dim.
    Dim,
    /// What is gone stands in `[-` and `-]`.
    Brackets,
}

impl Remembered {
    /// Of the states of all layers, that have seen `ids`. Reads the device.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn of(states: &[MultiState], ids: &[u32], tokenizer: &Tokenizer) -> Result<Self, BenchError> {
        let (text, ends) = tokenizer.decode_with_specials(ids)?;
        let mut from = 0;
        let mut tokens: Vec<Token> = ends
            .iter()
            .map(|&end| {
                let text = text[from..end].to_owned();
                from = end;
                Token { text, held: vec![0.0; states.len()] }
            })
            .collect();
        for (layer, state) in states.iter().enumerate() {
            let groups = &state.held()[0];
            for positions in groups {
                for &position in positions {
                    if let Some(token) = usize::try_from(position).ok().and_then(|at| tokens.get_mut(at)) {
                        token.held[layer] += 1.0 / groups.len() as f64;
                    }
                }
            }
        }
        Ok(Self { tokens, layers: states.len() })
    }

    /// Tokens that some layer holds.
    pub fn held(&self) -> usize {
        self.tokens.iter().filter(|token| !token.is_gone()).count()
    }

    /// One line that says how much is left.
    pub fn summary(&self) -> String {
        // A sum of nothing would be −0.
        let rows = self.tokens.iter().map(Token::share).fold(0.0, |sum: f64, share| sum + share);
        format!(
            "{} tokens seen; {} of them held in some layer, {rows:.1} on average over the layers",
            self.tokens.len(),
            self.held()
        )
    }

    /// The text for a terminal. `visible` spells out what would command it.
    pub fn text(&self, marking: Marking, visible: impl Fn(&str) -> String) -> String {
        let (open, close) = match marking {
            Marking::Dim => ("\x1b[2m", "\x1b[0m"),
            Marking::Brackets => ("[-", "-]"),
        };
        let mut shown = String::new();
        for run in self.tokens.chunk_by(|a, b| a.is_gone() == b.is_gone()) {
            let text = visible(&run.iter().map(|token| token.text.as_str()).collect::<String>());
            match run[0].is_gone() && !text.is_empty() {
                true => {
                    let _ = write!(shown, "{open}{text}{close}");
                }
                false => shown.push_str(&text),
            }
        }
        shown
    }

    /// A page that needs nothing else: darker behind what more layers hold, and which ones where a pointer rests.
    pub fn page(&self, title: &str) -> String {
        let tip = |at: usize, token: &Token| {
            let layers: Vec<String> = (0..self.layers)
                .filter(|&layer| token.held[layer] > 0.0)
                .map(|layer| match token.held[layer] {
                    share if share < 1.0 - 1e-9 => format!("{layer} ({:.0} % of its heads)", share * 100.0),
                    _ => layer.to_string(),
                })
                .collect();
            match layers.len() {
                0 => format!("position {at}: gone from all layers"),
                n => format!("position {at}: held in {n} of {} layers: {}", self.layers, layers.join(", ")),
            }
        };
        // Lines stay lines; no page should get other controls.
        let legible = |text: &str| text.split('\n').map(printable).collect::<Vec<_>>().join("\n");
        // Five steps, each with a colour whose contrast to the text was looked at.
        let step = |token: &Token| match token.share() {
            0.0 => 0,
            share => ((share * 4.0).ceil() as usize).clamp(1, 4),
        };
        html! {
            (DOCTYPE)
            html lang="en" {
                (head(title, STYLE, false))
                body {
                    h1 { (printable(title)) }
                    p { (self.summary()) "." }
                    p.key {
                        "Held in " span.h0 { "no layer" } " " span.h1 { "up to ¼" } " " span.h2 { "up to ½" } " "
                        span.h3 { "up to ¾" } " " span.h4 { "more" }
                        ". Rest on a word to see in which layers."
                    }
                    main {
                        @for (at, token) in self.tokens.iter().enumerate() {
                            span class=(format!("h{}", step(token))) title=(tip(at, token)) { (legible(&token.text)) }
                        }
                    }
                }
            }
        }
        .into_string()
    }
}

/// Text and grounds of the five steps have a contrast of at least 4.5 in both schemes, which a test works out.
const STYLE: &str = "\
:root{--text:#1a1a1a;--page:#ffffff;--g:#6b6b6b;--h1:#e6f0fa;--h2:#c9e0f5;--h3:#a3cbef;--h4:#79b4e6}\
@media (prefers-color-scheme:dark){:root{--text:#f0f0f0;--page:#121212;--g:#8c8c8c;--h1:#16263a;--h2:#1b3a5c;\
--h3:#214d7d;--h4:#2a5f99}}\
body{background:var(--page);color:var(--text);font:16px/1.6 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem}main{white-space:pre-wrap;overflow-wrap:anywhere}.h0{color:var(--g)}.h1{background:var(--h1)}\
.h2{background:var(--h2)}.h3{background:var(--h3)}.h4{background:var(--h4)}.key span{padding:0 .3rem}";

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered() -> Remembered {
        let token = |text: &str, held: &[f64]| Token { text: text.into(), held: held.to_vec() };
        Remembered {
            tokens: vec![
                token("<b>", &[1.0, 1.0]),
                token("gone", &[0.0, 0.0]),
                token(" too\n", &[0.0, 0.0]),
                token("half\u{1b}", &[0.5, 0.0]),
            ],
            layers: 2,
        }
    }

    #[test]
    fn what_is_gone_is_marked_once_for_every_run_of_it() {
        let visible = |text: &str| text.replace('\u{1b}', "ESC");
        assert_eq!(remembered().text(Marking::Brackets, visible), "<b>[-gone too\n-]halfESC");
        assert_eq!(remembered().text(Marking::Dim, visible), "<b>\u{1b}[2mgone too\n\u{1b}[0mhalfESC");
        assert_eq!(
            remembered().summary(),
            "4 tokens seen; 2 of them held in some layer, 1.2 on average over the layers"
        );
    }

    #[test]
    fn a_page_escapes_the_text_and_names_the_layers() {
        let page = remembered().page("a <title>");
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>") && page.contains("a &lt;title&gt;"));
        assert!(page.contains("position 1: gone from all layers"));
        assert!(page.contains(" too\n<") && !page.contains('\u{1b}') && page.contains("half\u{fffd}"), "{page}");
        assert!(page.contains("default-src 'none'") && !page.contains("script-src"), "{page}");
        assert!(page.contains("held in 1 of 2 layers: 0 (50 % of its heads)"), "{page}");
        for (class, text) in [("h4", "&lt;b&gt;"), ("h0", "gone"), ("h1", "half")] {
            let at = page.rfind(&format!(">{text}")).unwrap();
            assert!(page[..at].rfind("<span").is_some_and(|from| page[from..at].contains(class)), "{text}");
        }
    }

    #[test]
    fn text_on_every_ground_is_legible_in_both_schemes() {
        let channel = |hex: &str| {
            let value = f64::from(u8::from_str_radix(hex, 16).unwrap()) / 255.0;
            if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055f64).powf(2.4) }
        };
        let light =
            |hex: &str| 0.2126 * channel(&hex[1..3]) + 0.7152 * channel(&hex[3..5]) + 0.0722 * channel(&hex[5..7]);
        let contrast = |a: &str, b: &str| {
            let (a, b) = (light(a), light(b));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        for scheme in STYLE.split("@media") {
            let colour = |name: &str| {
                let at = scheme.find(&format!("--{name}:#")).unwrap() + name.len() + 3;
                &scheme[at..at + 7]
            };
            assert!(contrast(colour("g"), colour("page")) >= 4.5, "{}", contrast(colour("g"), colour("page")));
            for ground in ["page", "h1", "h2", "h3", "h4"] {
                let found = contrast(colour("text"), colour(ground));
                assert!(found >= 4.5, "{ground}: {found}");
            }
        }
    }
}
