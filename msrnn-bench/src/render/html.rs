//! `report.html`: one file without network. It is whole without scripts: tables are tables, plots are
//! SVG; scripts put plots in their place that answer to pointer and keyboard.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::head::head;
use super::scale::Scale;
use super::{Report, check, colour, decimal, extent, printable, svg, warning};
use crate::error::BenchError;
use crate::figure::{Cell, Content, Excerpt, Figure, Passage};

/// The page's script: its parts in a block of their own, so that no name is global.
const SCRIPT: &str = concat!(
    "\"use strict\";\n{\nconst data = JSON.parse(document.getElementById(\"page-data\").textContent);\n",
    include_str!("page/dom.js"),
    include_str!("page/axes.js"),
    include_str!("page/chart.js"),
    include_str!("page/lines.js"),
    include_str!("page/bars.js"),
    include_str!("page/heat_map.js"),
    include_str!("page/files.js"),
    include_str!("page/start.js"),
    "}\n"
);

/// The report as one page.
///
/// # Errors
///
/// When a figure is not as it should be ([`check`](check::check)).
pub(crate) fn page(report: &Report<'_>) -> Result<String, BenchError> {
    let figures = report.figures();
    check::check(figures.iter().map(AsRef::as_ref))?;
    let plots = figures.iter().map(|figure| svg::svg(figure)).collect::<Result<Vec<_>, _>>()?;
    let manifest =
        toml::to_string_pretty(report.manifest).map_err(|e| BenchError::Input(format!("the manifest: {e}")))?;
    let data = data(&figures.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(report.title, include_str!("page/report.css"), true))
            body {
                a.skip href="#page-results" { "Skip to the results" }
                header {
                    p.kicker { "msrnn" }
                    h1 { (printable(report.title)) }
                    @if !report.summary.is_empty() { p.summary { (printable(report.summary)) } }
                    @if let Some(warning) = warning(report.results) {
                        div.warning role="note" aria-label="Warning" {
                            strong { "A bound was never reached: " }
                            (printable(&warning))
                        }
                    }
                    @if figures.len() > 2 { (contents(&figures)) }
                }
                main id="page-results" {
                    @for (index, (figure, plot)) in figures.iter().zip(&plots).enumerate() {
                        (section(index, figure, plot.as_deref()))
                    }
                    @if !report.results.notes.is_empty() {
                        section id="page-notes" aria-labelledby="page-notes-title" {
                            h2 id="page-notes-title" { "Notes" }
                            ul.notes { @for note in &report.results.notes { li { (printable(note)) } } }
                        }
                    }
                    section id="page-manifest" aria-labelledby="page-manifest-title" {
                        h2 id="page-manifest-title" { "How it was made" }
                        details {
                            summary { "Manifest" }
                            pre tabindex="0" role="region" aria-label="Manifest" { code { (lines(&manifest)) } }
                        }
                    }
                }
                footer { p { "Excerpt by msrnn " (env!("CARGO_PKG_VERSION")) "." } }
                script type="application/json" id="page-data" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

fn contents(figures: &[impl AsRef<Figure>]) -> Markup {
    html! {
        nav aria-label="Figures" {
            ol {
                @for figure in figures.iter().map(AsRef::as_ref) {
                    li { a href={ "#" (figure.id) } { (printable(&figure.title)) } }
                }
                li { a href="#page-manifest" { "How it was made" } }
            }
        }
    }
}

fn section(index: usize, figure: &Figure, plot: Option<&str>) -> Markup {
    let heading = format!("{}-title", figure.id);
    html! {
        section id=(figure.id) aria-labelledby=(heading) {
            h2 id=(heading) { (printable(&figure.title)) }
            @if !figure.caption.is_empty() { p.caption { (printable(&figure.caption)) } }
            @match (&figure.content, plot) {
                (Content::Table { columns, rows }, _) => (table(&figure.title, columns, rows)),
                (Content::Passages { passages: all }, _) => (passages(all)),
                (_, Some(plot)) => {
                    div.plot data-figure=(index) {
                        div.static tabindex="0" role="region" aria-label={ (printable(&figure.title)) ", drawing" } {
                            (PreEscaped(plot))
                        }
                    }
                }
                (_, None) => p.empty { "There is nothing to draw." },
            }
            p.files {
                "Data: "
                a href={ "figures/" (figure.id) ".csv" } data-download=(index) data-as="csv" { "CSV" }
                " · "
                a href={ "figures/" (figure.id) ".parquet" } { "Parquet" }
                @if plot.is_some() {
                    " · "
                    a href={ "figures/" (figure.id) ".svg" } data-download=(index) data-as="svg" { "SVG" }
                }
            }
        }
    }
}

/// Columns of numbers are set to the right, so that their decimals line up.
fn table(title: &str, columns: &[String], rows: &[Vec<Cell>]) -> Markup {
    let numeric = |index: usize| rows.iter().any(|row| matches!(row[index], Cell::Number { .. }));
    let class = |index: usize| numeric(index).then_some("number");
    html! {
        div.scroll tabindex="0" role="region" aria-label={ (printable(title)) ", table" } {
            table {
                thead {
                    tr { @for (index, head) in columns.iter().enumerate() {
                        th scope="col" class=[class(index)] { (printable(head)) }
                    } }
                }
                tbody {
                    @for row in rows {
                        tr { @for (index, cell) in row.iter().enumerate() {
                            @match cell {
                                Cell::Text(text) if index == 0 => th scope="row" { (printable(text)) },
                                Cell::Text(text) => td class=[class(index)] { (printable(text)) },
                                Cell::Number { value, error, decimals, best } => td.number {
                                    @if *best { strong { (decimal(*value, *decimals)) } }
                                    @else { (decimal(*value, *decimals)) }
                                    @if let Some(error) = error { " " small { "±" (decimal(*error, *decimals)) } }
                                },
                            }
                        } }
                    }
                }
            }
        }
    }
}

/// The first is open, the others open on demand.
fn passages(passages: &[Passage]) -> Markup {
    html! {
        @for (index, Passage { title, texts }) in passages.iter().enumerate() {
            details.passage open[index == 0] {
                summary { (printable(title)) }
                dl {
                    @for Excerpt { by, remark, text } in texts {
                        dt { (printable(by)) @if !remark.is_empty() { " " small { (printable(remark)) } } }
                        dd { @if text.is_empty() { em { "nothing" } } @else { (lines(text)) } }
                    }
                }
            }
        }
    }
}

/// Text of several lines.
fn lines(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}

/// What the script draws from: colours for values, and the figures.
#[derive(Serialize)]
struct Data<'a> {
    values: Vec<String>,
    figures: Vec<Drawing<'a>>,
}

/// A figure and how far its data reaches.
#[derive(Serialize)]
struct Drawing<'a> {
    #[serde(flatten)]
    figure: &'a Figure,
    across: Option<Scale>,
    up: Option<Scale>,
    span: Option<(f64, f64)>,
    /// Of lines that are no references, and of series ([`colour::places`]).
    places: Vec<usize>,
}

fn drawing(figure: &Figure) -> Drawing<'_> {
    let (across, up, span) = match &figure.content {
        Content::Table { .. } | Content::Passages { .. } => (None, None, None),
        Content::Lines { x, y, lines } => {
            let (across, up) = extent::lines(x, y, lines);
            (Some(across), Some(up), None)
        }
        Content::Bars { y, series, .. } => (None, Some(extent::bars(y, series)), None),
        Content::HeatMap { panels, .. } => {
            let values = panels.iter().flat_map(|panel| panel.values.iter().flatten().flatten().copied());
            (None, None, Some(colour::span(values)))
        }
    };
    let places = match &figure.content {
        Content::Lines { lines, .. } => {
            colour::places(lines.iter().filter(|line| !line.reference).map(|line| line.name.as_str()))
        }
        Content::Bars { series, .. } => colour::places(series.iter().map(|series| series.name.as_str())),
        _ => Vec::new(),
    };
    Drawing { figure, across, up, span, places }
}

/// The data as JSON in which nothing looks like the end of a script.
fn data(figures: &[&Figure]) -> Result<String, BenchError> {
    let data = Data {
        values: colour::VALUES.iter().copied().map(colour::hex).collect(),
        figures: figures.iter().map(|figure| drawing(figure)).collect(),
    };
    let json = serde_json::to_string(&data).map_err(|e| BenchError::Input(format!("no JSON: {e}")))?;
    Ok(escaped(&json))
}

/// JSON for a script element. These characters occur in JSON in strings only, where they may be
/// written as escapes: without them there is no end tag, no comment, and no end of line for a
/// script of old.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;
    use crate::results::Results;

    fn results(figures: Vec<Figure>, notes: Vec<String>) -> Results {
        Results { metrics: serde_json::Value::Null, arms: Vec::new(), notes, figures, missing: Vec::new() }
    }

    fn page_of(title: &str, summary: &str, results: &Results, manifest: &toml::Table) -> String {
        page(&Report { title, summary, results, manifest, speed: &[] }).unwrap()
    }

    /// The text between two marks of the page.
    fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
        let from = page.find(start).unwrap() + start.len();
        &page[from..from + page[from..].find(end).unwrap()]
    }

    /// HTML's own rules for the characters that it gives meaning to.
    fn unescaped(html: &str) -> String {
        html.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
    }

    proptest! {
        /// JSON says the same after escaping, and has nothing that HTML would see.
        #[test]
        fn escaped_json_is_the_same_json(figure in sample::figures()) {
            let plain = serde_json::to_string(&figure).unwrap();
            let safe = escaped(&plain);
            let seen = safe.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(!seen, "{}", safe);
            prop_assert_eq!(serde_json::from_str::<Figure>(&safe).unwrap(), figure);
        }

        /// Any text stays text: the page has as many tags as with harmless words, and says the words.
        #[test]
        fn any_text_stays_text(words in sample::text(), figure in sample::figures()) {
            let mut manifest = toml::Table::new();
            manifest.insert("key".to_owned(), words.clone().into());
            let mut figure = figure;
            figure.title = words.clone();
            figure.caption = format!("_{words}");
            let page = page_of(&words, &format!("_{words}"), &results(vec![figure.clone()], vec![words.clone()]), &manifest);

            prop_assert_eq!(page.matches("<script").count(), 2);
            prop_assert_eq!(page.matches("</script").count(), 2);
            prop_assert_eq!(page.matches("<!--").count(), 0);
            let heading = between(&page, "<h1>", "</h1>");
            prop_assert_eq!(unescaped(heading), printable(&words));
            let caption = between(&page, "<p class=\"caption\">", "</p>");
            prop_assert_eq!(unescaped(caption), printable(&figure.caption));
            let data = between(&page, "id=\"page-data\">", "</script>");
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            prop_assert_eq!(data["figures"][0]["title"].as_str().unwrap(), words);
        }
    }

    #[test]
    fn the_style_has_the_colours_of_the_drawings() {
        let style = include_str!("page/report.css");
        for (index, &rgb) in colour::LINES.iter().enumerate() {
            let line = format!("--c{index}: {};", colour::hex(rgb));
            assert!(style.contains(&line), "report.css needs {line}");
        }
        assert!(style.contains(&format!("--none: {};", colour::hex(colour::NO_VALUE))));
    }

    #[test]
    fn cells_are_escaped_and_the_manifest_is_there() {
        let evil = "</td><img src=x onerror=alert(1)>";
        let content = Content::Table {
            columns: vec![evil.to_owned(), "n".to_owned()],
            rows: vec![vec![Cell::text(evil), Cell::number(1.5, Some(0.25))]],
        };
        let figure = Figure { id: "t".to_owned(), title: "T".to_owned(), caption: String::new(), content };
        let manifest = toml::Table::from_iter([("device".to_owned(), "flex".into())]);
        let page = page_of("A", "", &results(vec![figure], Vec::new()), &manifest);
        assert!(!page.contains("<img"));
        assert!(page.contains("1.500 <small>±0.250</small>"));
        assert!(between(&page, "<details>", "</details>").contains("device = &quot;flex&quot;"));
    }
}
