//! What every page begins with.

use maud::{Markup, PreEscaped, html};

use super::printable;

/// The head of a page that is one file. `scripts`: whether its own may run; nothing else is loaded or run.
pub(crate) fn head(title: &str, style: &str, scripts: bool) -> Markup {
    let scripts = if scripts { "script-src 'unsafe-inline'; img-src data: blob:; " } else { "img-src data:; " };
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; {scripts}base-uri 'none'; form-action 'none'");
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta http-equiv="Content-Security-Policy" content=(policy);
            title { (printable(title)) " · msrnn" }
            // An icon of nothing, so that no browser asks a server for one.
            link rel="icon" href="data:,";
            style { (PreEscaped(style)) }
        }
    }
}
