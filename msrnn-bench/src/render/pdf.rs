//! A drawing as PDF: lines as lines, and its letters in the file, so that it looks the same wherever it is printed.

use svg2pdf::usvg::fontdb::{Database, Family, Query};
use svg2pdf::usvg::{Options, Tree};
use svg2pdf::{ConversionOptions, PageOptions};

use crate::error::BenchError;

/// Pixels of an inch, as CSS has them.
const PER_INCH: f32 = 96.0;

/// What families that every machine has are called there, the usual ones first.
const GENERIC: [(&str, [&str; 5]); 3] = [
    ("sans-serif", ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans", "Noto Sans"]),
    ("serif", ["Times New Roman", "Times", "Liberation Serif", "DejaVu Serif", "Noto Serif"]),
    ("monospace", ["Courier New", "Courier", "Liberation Mono", "DejaVu Sans Mono", "Noto Sans Mono"]),
];

/// Makes PDF of drawings in one family of letters.
pub(super) struct Printer {
    options: Options<'static>,
}

impl Printer {
    /// Looks for the letters on this machine.
    ///
    /// # Errors
    ///
    /// When it has none of that family: a drawing would lose its words.
    pub(super) fn new(font: &str) -> Result<Self, BenchError> {
        let mut options = Options::default();
        let fonts = options.fontdb_mut();
        fonts.load_system_fonts();
        let has = |fonts: &Database, name: &str| {
            fonts.query(&Query { families: &[Family::Name(name)], ..Query::default() }).is_some()
        };
        let usual = GENERIC.iter().find(|(generic, _)| *generic == font).map(|(_, usual)| &usual[..]);
        let found = usual.unwrap_or(&[font]).iter().copied().find(|name| has(fonts, name));
        let Some(found) = found else {
            return Err(BenchError::Input(format!(
                "there are no letters called {font:?} on this machine to put into a PDF; choose a ‘font’ that \
                 `fc-list : family` lists, or install one, such as fonts-dejavu or fonts-liberation"
            )));
        };
        match font {
            "sans-serif" => fonts.set_sans_serif_family(found),
            "serif" => fonts.set_serif_family(found),
            "monospace" => fonts.set_monospace_family(found),
            _ => {}
        }
        Ok(Self { options })
    }

    /// A drawing on a page of its size.
    ///
    /// # Errors
    ///
    /// When it is no drawing.
    pub(super) fn print(&self, svg: &str) -> Result<Vec<u8>, BenchError> {
        let wrong = |reason: String| BenchError::Input(format!("a plot cannot be made PDF: {reason}; write it as svg"));
        let tree = Tree::from_str(svg, &self.options).map_err(|e| wrong(e.to_string()))?;
        let page = PageOptions { dpi: PER_INCH };
        svg2pdf::to_pdf(&tree, ConversionOptions::default(), page).map_err(|e| wrong(e.to_string()))
    }
}
