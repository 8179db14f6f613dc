//! Plots for a paper: as large as they are printed, in its letters, without a title unless one is wanted.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::check::check;
use super::svg::{Print, Style, styled};
use crate::error::BenchError;
use crate::output::OutputFile;
use crate::results::Results;

/// Width and height of a plot in print: `85x60mm`, `3.25x2.4in`, `8.5x6cm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// In inches.
    pub width: f64,
    /// In inches.
    pub height: f64,
}

impl Default for Size {
    /// A column of two.
    fn default() -> Self {
        Self { width: 3.25, height: 2.4 }
    }
}

/// Units and how many of them an inch has.
const UNITS: [(&str, f64); 3] = [("in", 1.0), ("cm", 2.54), ("mm", 25.4)];

/// Inches that are no slip of the keyboard.
const SIDES: std::ops::RangeInclusive<f64> = 0.5..=50.0;

/// Points of letters that can be read, and are letters of a label.
const LABELS: std::ops::RangeInclusive<f64> = 3.0..=36.0;

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size; give width and height, such as 85x60mm or 3.25x2.4in");
        let (sides, per_inch) =
            UNITS.iter().find_map(|(unit, n)| Some((text.strip_suffix(unit)?, *n))).ok_or_else(wrong)?;
        let (width, height) = sides.split_once('x').ok_or_else(wrong)?;
        let [width, height] = [width, height].map(|side| side.trim().parse::<f64>());
        let (width, height) = (width.map_err(|_| wrong())? / per_inch, height.map_err(|_| wrong())? / per_inch);
        match SIDES.contains(&width) && SIDES.contains(&height) {
            true => Ok(Self { width, height }),
            false => Err(format!("{text:?} is no size of a plot; give half an inch to 50 inches a side")),
        }
    }
}

/// Plots of that size, with labels of so many points.
///
/// # Errors
///
/// When labels of that size cannot be read.
pub fn style(size: Size, label: f64, font: &str, title: bool) -> Result<Style, BenchError> {
    if !LABELS.contains(&label) {
        return Err(BenchError::Input(format!("labels of {label} points are none to read; give 3 to 36")));
    }
    let print = Print { width: size.width, height: size.height, label };
    Ok(Style { print: Some(print), font: font.to_owned(), title })
}

/// As what plots are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// With letters of the machine that shows them.
    #[default]
    Svg,
    /// With their letters in the file. Only with the feature `pdf`.
    Pdf,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Pdf => "pdf",
        }
    }

    /// Drawings in that format.
    fn of(self, svgs: Vec<String>, style: &Style) -> Result<Vec<Vec<u8>>, BenchError> {
        match self {
            Self::Svg => Ok(svgs.into_iter().map(String::into_bytes).collect()),
            Self::Pdf => printed(&svgs, style),
        }
    }
}

#[cfg(feature = "pdf")]
fn printed(svgs: &[String], style: &Style) -> Result<Vec<Vec<u8>>, BenchError> {
    let printer = super::pdf::Printer::new(&style.font)?;
    svgs.iter().map(|svg| printer.print(svg)).collect()
}

#[cfg(not(feature = "pdf"))]
fn printed(_svgs: &[String], _style: &Style) -> Result<Vec<Vec<u8>>, BenchError> {
    Err(BenchError::Input(
        "this msrnn writes no PDF; build it with `cargo install --path msrnn-bench --features pdf`, or write svg and turn \
         that into PDF (`rsvg-convert -f pdf -o PLOT.pdf PLOT.svg`)"
            .into(),
    ))
}

/// Writes every plot as `ID.svg` or `ID.pdf` into a directory, which may hold other files, and the same plots. The files.
///
/// # Errors
///
/// When there is none, one cannot be drawn, before anything is written; or another file has its name.
pub fn write(results: &Results, style: &Style, format: Format, directory: &Path) -> Result<Vec<PathBuf>, BenchError> {
    check(&results.figures)?;
    let (mut paths, mut drawings) = (Vec::new(), Vec::new());
    for figure in &results.figures {
        if let Some(svg) = styled(figure, style)? {
            paths.push(directory.join(format!("{}.{}", figure.id, format.ending())));
            drawings.push(svg);
        }
    }
    if paths.is_empty() {
        return Err(BenchError::Input(
            "there is nothing to draw in this run; its tables are in its figures folder".into(),
        ));
    }
    let plots: Vec<(PathBuf, Vec<u8>)> = paths.into_iter().zip(format.of(drawings, style)?).collect();
    for (path, plot) in &plots {
        let there = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            there => there.map_err(|source| BenchError::Read { path: path.clone(), source })?,
        };
        if there != *plot {
            return Err(BenchError::Input(format!(
                "{} is there already and looks otherwise; choose another directory",
                path.display()
            )));
        }
    }
    std::fs::create_dir_all(directory).map_err(|source| BenchError::Write { path: directory.into(), source })?;
    for (path, plot) in &plots {
        if !path.exists() {
            let mut file = OutputFile::create_new(path)?;
            file.put(plot)?;
            file.finish()?;
        }
    }
    Ok(plots.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    #[test]
    fn sizes_are_read_in_inches_and_millimetres() {
        let size = |text: &str| text.parse::<Size>().map(|size| (size.width, size.height));
        assert_eq!(size("3.25x2.4in"), Ok((3.25, 2.4)));
        assert_eq!(size("254x127mm"), Ok((10.0, 5.0)));
        assert_eq!(size("5.08x2.54cm"), Ok((2.0, 1.0)));
        for wrong in ["", "3x2", "x2in", "3in", "NaNx2in", "0x2in", "3x2000mm", "3x-1in", "3x2px"] {
            assert!(size(wrong).unwrap_err().contains("size"), "{wrong}");
        }
    }

    proptest! {
        /// What is drawn has the size that was asked for and no letters but those, and lies on its sheet.
        #[test]
        fn a_plot_has_its_size_and_its_letters(figure in sample::figures(), title in any::<bool>()) {
            let size = Size { width: 4.0, height: 3.0 };
            let style = style(size, 6.0, "Times New Roman", title).unwrap();
            let Some(svg) = styled(&figure, &style).unwrap_or(None) else { return Ok(()) };
            let document = roxmltree::Document::parse(&svg).unwrap();
            let root = document.root_element();
            prop_assert_eq!(root.attribute("width"), Some("4in"));
            prop_assert_eq!(root.attribute("height"), Some("3in"));
            prop_assert_eq!(root.attribute("viewBox"), Some("0 0 2400 1800"));
            for text in root.descendants().filter(|node| node.has_tag_name("text")) {
                prop_assert_eq!(text.attribute("font-family"), Some("Times New Roman"));
            }
        }
    }
}
