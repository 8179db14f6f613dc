//! `report.html` in a real browser. Where no Chromium is installed these tests say so and pass,
//! unless `MSRNN_REQUIRE_BROWSER=1`. `MSRNN_SCREENSHOTS=FOLDER` keeps the report and pictures of
//! what they saw.

mod chromium;
mod fixture;

use std::path::{Path, PathBuf};
use std::sync::Once;

use self::chromium::Page;
use msrnn_bench::render::{self, Report};
use serde_json::json;
use tempfile::TempDir;

/// A report with its files, in a folder of its own.
fn report() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (results, speed) = (fixture::results(), [fixture::speed()]);
    let report = Report {
        title: "Language modelling under bounded states",
        summary: "8 policies at 5 sizes on 64 held-out stories of the bundled generator, contexts of 512 tokens.",
        results: &results,
        manifest: &fixture::manifest(),
        speed: &speed,
    };
    render::write(&report, folder.path()).unwrap();
    // One test keeps it for all.
    static KEPT: Once = Once::new();
    if let Some(pictures) = std::env::var_os("MSRNN_SCREENSHOTS") {
        KEPT.call_once(|| render::write(&report, &Path::new(&pictures).join("report")).unwrap());
    }
    let page = folder.path().join("report.html");
    (folder, page)
}

/// A page with the report in it, on a screen of 1200 × 900 in light colours; none without browser.
fn opened(file: &Path) -> Option<Page> {
    let mut page = Page::open()?;
    page.set(1200, 900, false, "light");
    page.load(file);
    Some(page)
}

#[test]
fn every_screen_shows_the_whole_report_without_complaint() {
    let (_folder, file) = report();
    let Some(mut page) = Page::open() else { return };
    let screens =
        [("light", 1200, 900, false), ("dark", 1200, 900, false), ("light", 360, 740, true), ("dark", 360, 740, true)];
    for (scheme, width, height, phone) in screens {
        page.set(width, height, phone, scheme);
        page.load(&file);
        let name = format!("{scheme}-{width}");
        page.picture(&name);
        let widest = page.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(widest <= u64::from(width), "{name}: the page is {widest} wide");
        // Every plot is alive: all but the tables, which are in the page itself.
        let counts = "[document.querySelectorAll('.plot.live').length, document.querySelectorAll('.plot').length, \
                      document.querySelectorAll('table').length]";
        assert_eq!(page.evaluate(counts), json!([6, 6, 4]), "{name}");
        // WCAG 2.1, 1.4.3: text needs a contrast of 4.5.
        for colour in ["--ink", "--quiet", "--link", "--warn"] {
            let contrast = page.evaluate(&format!("({CONTRAST})('{colour}')")).as_f64().unwrap();
            assert!(contrast >= 4.5, "{name}: {colour} has a contrast of {contrast}");
        }
        // In a map, what is much against what is little and against what has no value.
        let contrasts = page.evaluate(&format!("({MAP_CONTRASTS})()"));
        for contrast in contrasts.as_array().unwrap() {
            assert!(contrast.as_f64().unwrap() >= 4.5, "{name}: contrasts in maps are {contrasts}");
        }
    }
    assert_eq!(page.complaints, Vec::<String>::new());
}

/// The contrast of a colour on the paper, by WCAG's definition.
const CONTRAST: &str = "(name) => {
    const value = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const light = (hex) => {
        const linear = (at) => {
            const part = parseInt(hex.slice(at, at + 2), 16) / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        };
        return 0.2126 * linear(1) + 0.7152 * linear(3) + 0.0722 * linear(5);
    };
    const [a, b] = [light(value(name)), light(value('--paper'))].sort((a, b) => b - a);
    return (a + 0.05) / (b + 0.05);
}";

/// The contrasts of a map's highest value with its lowest, and with no value.
const MAP_CONTRASTS: &str = "() => {
    const style = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
    const light = (colour) => {
        const [red, green, blue] = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const steps = style('.ramp', 'backgroundImage').match(/rgb[^)]*[)]/g);
    const ratio = (one, other) => {
        const [a, b] = [light(one), light(other)].sort((a, b) => b - a);
        return (a + 0.05) / (b + 0.05);
    };
    return [steps[0], style('.map canvas', 'backgroundColor')].map((other) => ratio(steps[steps.length - 1], other));
}";

#[test]
fn lines_answer_to_pointer_keys_and_legend() {
    let (_folder, file) = report();
    let Some(mut page) = opened(&file) else { return };
    let drawn = "document.querySelectorAll('#perplexity path.line').length";
    assert_eq!(page.evaluate(drawn), 9);
    page.click("#perplexity .legend li:nth-child(2) button");
    assert_eq!(page.evaluate(drawn), 8);
    assert_eq!(page.text("document.querySelector('#perplexity .legend li:nth-child(2) button').ariaPressed"), "false");
    page.click("#perplexity .legend li:nth-child(2) button");
    assert_eq!(page.evaluate(drawn), 9);

    // The pointer at the left end, then the keyboard at the right.
    let readout = "document.querySelector('#perplexity .readout').textContent";
    let [left, top, _, height] = page.place("#perplexity .chart svg");
    page.mouse("mouseMoved", (left + 60.0, top + height / 2.0), json!({}));
    let words = page.text(readout);
    assert!(words.contains("states: 16") && words.contains("h2o") && words.contains("±"), "{words}");
    page.mouse("mouseMoved", (left, top - 40.0), json!({}));
    assert_eq!(page.text(readout), "");
    page.evaluate("document.querySelector('#perplexity .chart svg').focus()");
    page.key("End", 35);
    assert!(page.text(readout).contains("states: 256"));
    page.key("ArrowLeft", 37);
    assert!(page.text(readout).contains("states: 128"));
    assert_eq!(page.complaints, Vec::<String>::new());
}

#[test]
fn bars_answer_to_pointer_and_legend() {
    let (_folder, file) = report();
    let Some(mut page) = opened(&file) else { return };
    let drawn = "document.querySelectorAll('#token-kinds .bar').length";
    let both = page.evaluate(drawn).as_u64().unwrap();
    page.click("#token-kinds .legend li:nth-child(1) button");
    assert_eq!(page.evaluate(drawn).as_u64().unwrap() * 2, both);
    let [left, top, width, height] = page.place("#judgements .chart svg");
    page.mouse("mouseMoved", (left + width / 2.0, top + height / 2.0), json!({}));
    let words = page.text("document.querySelector('#judgements .readout').textContent");
    assert!(words.contains("tie") && words.contains("0.5"), "{words}");
    assert_eq!(page.complaints, Vec::<String>::new());
}

#[test]
fn a_heat_map_can_be_scrubbed_zoomed_and_read() {
    let (_folder, file) = report();
    let Some(mut page) = opened(&file) else { return };
    let pixels = "document.querySelector('#retention canvas').toDataURL()";
    let first = page.text(pixels);
    page.evaluate("document.querySelector('#retention input').focus()");
    page.key("ArrowRight", 39);
    assert_eq!(page.text("document.querySelector('#retention output').textContent"), "1");
    assert_eq!(page.text("document.querySelector('#retention input').getAttribute('aria-valuetext')"), "1");
    let second = page.text(pixels);
    assert_ne!(first, second);

    // A turn of the wheel scrolls the page past the map, until the map is clicked.
    let words = "document.querySelector('#retention .cellvalue').textContent";
    let zoomed = "document.querySelector('#retention .map').classList.contains('zoomed')";
    let [left, top, width, height] = page.place("#retention canvas");
    let middle = (left + width / 2.0, top + height / 2.0);
    page.mouse("mouseWheel", middle, json!({ "deltaX": 0, "deltaY": -120 }));
    assert_eq!(page.evaluate(zoomed), false);
    page.click("#retention canvas");
    assert!(page.text(words).contains("layer 1, step 128, position 128: 1"), "{}", page.text(words));
    page.mouse("mouseWheel", middle, json!({ "deltaX": 0, "deltaY": -120 }));
    assert_eq!(page.evaluate(zoomed), true);
    let closer = page.text(pixels);
    assert_ne!(closer, second);
    // Dragging moves what is seen.
    page.mouse("mousePressed", middle, json!({ "button": "left", "clickCount": 1 }));
    page.mouse("mouseMoved", (middle.0 + 40.0, middle.1), json!({ "button": "left", "buttons": 1 }));
    page.mouse("mouseReleased", (middle.0 + 40.0, middle.1), json!({ "button": "left", "clickCount": 1 }));
    assert_ne!(page.text(pixels), closer);
    // All again, by button; closer and back by key.
    page.click("#retention .zoom button:nth-child(3)");
    assert_eq!(page.text(pixels), second);
    page.click("#retention .zoom button:nth-child(1)");
    assert_eq!(page.evaluate(zoomed), true);
    page.evaluate("document.querySelector('#retention canvas').focus()");
    page.key("0", 48);
    assert_eq!(page.evaluate(zoomed), false);
    page.key("ArrowRight", 39);
    let moved = page.text(words);
    assert!(moved.contains("layer 1, ") && moved.contains("no value"), "{moved}");

    // Two fingers that part zoom in.
    let touch = |x: f64| json!({ "x": middle.0 + x, "y": middle.1, "id": if x < 0.0 { 1 } else { 2 } });
    page.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": true, "maxTouchPoints": 2 }));
    page.place("#retention canvas");
    page.call("Input.dispatchTouchEvent", json!({ "type": "touchStart", "touchPoints": [touch(-20.0), touch(20.0)] }));
    for apart in [30.0, 60.0, 90.0] {
        let points = json!({ "type": "touchMove", "touchPoints": [touch(-apart), touch(apart)] });
        page.call("Input.dispatchTouchEvent", points);
    }
    page.call("Input.dispatchTouchEvent", json!({ "type": "touchEnd", "touchPoints": [] }));
    page.frame();
    assert_eq!(page.evaluate(zoomed), true);
    assert_eq!(page.complaints, Vec::<String>::new());
}

#[test]
fn links_make_the_files_from_the_page() {
    let (folder, file) = report();
    let Some(mut page) = opened(&file) else { return };
    // Instead of saving: keep what would be saved.
    page.evaluate(
        "window.made = []; URL.createObjectURL = (blob) => { made.push(blob); return 'about:blank#'; }; \
         HTMLAnchorElement.prototype.click = () => {}; 0",
    );
    for id in
        ["perplexity", "perplexity-table", "token-kinds", "retention", "needle", "trouble", "states-held", "speed"]
    {
        page.evaluate("made.length = 0; 0");
        page.click(&format!("#{id} a[data-as=csv]"));
        let made = page.text("made[0].text()");
        let written = std::fs::read_to_string(folder.path().join(format!("figures/{id}.csv"))).unwrap();
        assert!(made == written, "{id}: {} and {}", &made[..made.len().min(300)], &written[..written.len().min(300)]);
    }
    page.click("#perplexity a[data-as=svg]");
    assert!(page.text("made[1].text()").starts_with("<svg "));
    assert_eq!(page.complaints, Vec::<String>::new());
}

#[test]
fn without_scripts_and_in_print_everything_is_there() {
    let (_folder, file) = report();
    let Some(mut page) = Page::open() else { return };
    page.set(1200, 900, false, "light");
    page.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    page.load_only(&file);
    let visible = |selector: &str| {
        format!(
            "[...document.querySelectorAll({selector:?})].filter((e) => e.getBoundingClientRect().height > 0).length"
        )
    };
    assert_eq!(page.evaluate(&visible(".static svg")), 6);
    assert_eq!(page.evaluate(&visible("table")), 4);
    page.picture("no-scripts");
    page.call("Emulation.setScriptExecutionDisabled", json!({ "value": false }));

    page.load(&file);
    assert_eq!(page.evaluate(&visible(".static svg")), 0);
    page.call("Emulation.setEmulatedMedia", json!({ "media": "print" }));
    assert_eq!(page.evaluate(&visible(".static svg")), 6);
    for hidden in [".legend", ".controls", ".chart", "nav", ".files"] {
        assert_eq!(page.evaluate(&visible(hidden)), 0, "{hidden}");
    }
    assert_eq!(page.evaluate(&visible("pre")), 1, "the manifest is closed");
    page.picture("print");
    let pdf = page.pdf();
    assert!(pdf.starts_with(b"%PDF") && pdf.len() > 20_000, "{} bytes", pdf.len());
    if let Some(folder) = std::env::var_os("MSRNN_SCREENSHOTS") {
        std::fs::write(Path::new(&folder).join("print.pdf"), pdf).unwrap();
    }
    assert_eq!(page.complaints, Vec::<String>::new());
}

#[test]
fn user_text_runs_nothing() {
    let (_folder, file) = report();
    let Some(mut page) = opened(&file) else { return };
    page.click("#page-manifest summary");
    assert_eq!(page.evaluate("document.querySelector('#page-manifest details').open"), true);
    let expected: String = fixture::TROUBLE.replace('\u{2028}', "\u{fffd}");
    assert_eq!(page.text("document.querySelectorAll('#stories dd')[2].textContent.trim()"), expected);
    assert_eq!(page.text("document.querySelector('#trouble h2').textContent"), expected);
    assert_eq!(page.evaluate("document.images.length"), 0);
    assert!(page.text("document.querySelector('.warning').textContent").contains("tova@4096"));
    assert_eq!(page.complaints, Vec::<String>::new());
}
