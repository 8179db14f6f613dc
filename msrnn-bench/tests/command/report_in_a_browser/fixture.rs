//! Results of every kind, as large as those of real experiments.

use msrnn_bench::evaluate::Observed;
use msrnn_bench::experiment::{Arm, Results};
use msrnn_bench::figure::{Axis, Cell, Content, Excerpt, Figure, Line, Panel, Passage, Point, Series};

/// Text that would break a page that did not escape it.
pub(crate) const TROUBLE: &str = "</script><img src=x onerror=\"console.error('run')\"> & \u{2028} {{x}}";

const POLICIES: [&str; 8] =
    ["tova", "tova-head", "h2o", "window", "window+4", "random", "tova+gap", "a policy with quite a long name"];
const STATES: [usize; 5] = [16, 32, 64, 128, 256];

/// Perplexity of a policy at so many states: falls, and by another amount for each.
fn perplexity(policy: usize, states: usize) -> f64 {
    4.2 + (policy + 1) as f64 * 7.0 / (states as f64).powf(0.6 + 0.05 * policy as f64)
}

fn figure(id: &str, title: &str, caption: &str, content: Content) -> Figure {
    Figure { id: id.to_owned(), title: title.to_owned(), caption: caption.to_owned(), content }
}

fn lines() -> Figure {
    let line = |(index, name): (usize, &&str)| {
        let point = |&states: &usize| {
            let y = perplexity(index, states);
            Point { x: states as f64, y, error: Some(y / 40.0) }
        };
        Line { name: (*name).to_owned(), reference: false, points: STATES.iter().map(point).collect() }
    };
    let ends = [16.0, 256.0].map(|x| Point { x, y: 4.2, error: None });
    let full = Line { name: "full".to_owned(), reference: true, points: ends.into() };
    figure(
        "perplexity",
        "Perplexity over states",
        "Mean over 64 held-out stories with its standard error. Lower is better; no bounded state is expected below \
         the full one.",
        Content::Lines {
            x: Axis::log("states"),
            y: Axis::log("perplexity"),
            lines: [full].into_iter().chain(POLICIES.iter().enumerate().map(line)).collect(),
        },
    )
}

fn table() -> Figure {
    let row = |(index, name): (usize, &&str)| {
        let cell = |&states: &usize| {
            let value = perplexity(index, states);
            Cell::number(value, Some(value / 40.0))
        };
        [Cell::text(*name)].into_iter().chain(STATES.iter().map(cell)).collect()
    };
    figure(
        "perplexity-table",
        "Perplexity",
        "± standard error over texts.",
        Content::Table {
            columns: ["policy".to_owned()].into_iter().chain(STATES.iter().map(usize::to_string)).collect(),
            rows: POLICIES.iter().enumerate().map(row).collect(),
        },
    )
}

fn running() -> Figure {
    let line = |name: &str, rise: f64| {
        let point = |step: u32| {
            let x = f64::from(step) * 70.0;
            Point { x, y: 5.0 + 30.0 / (1.0 + x / 500.0) + rise * x / 70_000.0, error: None }
        };
        Line { name: name.to_owned(), reference: false, points: (1..=1000).map(point).collect() }
    };
    figure(
        "extrapolation",
        "Running-average perplexity over position",
        "One text of 70,000 tokens, far beyond the length of training.",
        Content::Lines {
            x: Axis::linear("position"),
            y: Axis::linear("perplexity so far"),
            lines: vec![line("tova@256", 0.2), line("window+4@256", 1.5)],
        },
    )
}

fn kinds() -> Figure {
    let tags = "CC CD DT EX FW IN JJ JJR JJS LS MD NN NNS NNP NNPS PDT POS PRP PRP$ RB RBR RBS RP SYM TO UH VB VBD VBG \
                VBN VBP VBZ WDT WP WP$ WRB newline quote punctuation other";
    let groups: Vec<String> = tags.split_whitespace().map(str::to_owned).collect();
    let series = |name: &str, shift: usize| {
        let value = |index: usize| (index % 11 != 9).then(|| 20.0 + ((index * 37 + shift * 13) % 50) as f64);
        let values: Vec<Option<f64>> = (0..groups.len()).map(value).collect();
        let errors = values.iter().map(|value| value.map(|value| value / 12.0)).collect();
        Series { name: name.to_owned(), values, errors }
    };
    let series = vec![series("tova@64", 0), series("h2o@64", 1)];
    figure(
        "token-kinds",
        "Mean steps kept by token kind",
        "Penn Treebank tags on detokenised text.",
        Content::Bars { groups, y: Axis::linear("steps"), series },
    )
}

fn judgements() -> Figure {
    let groups = ["win", "tie", "loss"].map(str::to_owned).into();
    let one = Series { name: "tova@64".to_owned(), values: vec![Some(0.2), Some(0.5), Some(0.3)], errors: Vec::new() };
    let content = Content::Bars { groups, y: Axis::linear("share of pairs"), series: vec![one] };
    figure("judgements", "Stories against the full state", "", content)
}

fn retention() -> Figure {
    // A row per step: positions up to it, the recent ones and some old ones held.
    let cell = |layer: usize, step: usize, position: usize| {
        if position > step {
            return None;
        }
        let recent = step - position < 24 + 12 * layer;
        let old = (position * 7919 + layer * 31) % 97 < 6 && step - position < 180;
        Some(if recent {
            1.0
        } else if old {
            0.25 * (1 + position % 4) as f64
        } else {
            0.0
        })
    };
    let panel = |layer: usize| Panel {
        name: layer.to_string(),
        values: (0..256).map(|step| (0..256).map(|position| cell(layer, step, position)).collect()).collect(),
    };
    figure(
        "retention",
        "Positions kept, step by step",
        "Each row is a step, from the first on top; each column a position. What is not yet seen has no value.",
        Content::HeatMap {
            panel: "layer".to_owned(),
            x: Axis::linear("position"),
            columns: (0..256).map(f64::from).collect(),
            y: Axis::linear("step"),
            rows: (0..256).map(f64::from).collect(),
            value: "share of heads that hold the position".to_owned(),
            panels: (0..4).map(panel).collect(),
        },
    )
}

fn needle() -> Figure {
    let panel = |(index, name): (usize, &&str)| Panel {
        name: format!("{name}@64"),
        values: (0..5)
            .map(|row| (0..6).map(|column| Some(((row * 6 + column * 5 + index * 3) % 11) as f64 / 10.0)).collect())
            .collect(),
    };
    figure(
        "needle",
        "Needle found, by depth and length",
        "",
        Content::HeatMap {
            panel: "policy".to_owned(),
            x: Axis::log("length in tokens"),
            columns: [128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0].into(),
            y: Axis::linear("depth in per cent"),
            rows: [0.0, 25.0, 50.0, 75.0, 100.0].into(),
            value: "exact match".to_owned(),
            panels: POLICIES.iter().take(3).enumerate().map(panel).collect(),
        },
    )
}

fn stories() -> Figure {
    let text = "Once upon a time there was a small house beside a river, and in it lived a miller. ".repeat(12);
    let passage = |seed: usize| Passage {
        title: format!("Seed {seed}"),
        texts: vec![
            Excerpt::new("full", "", &text),
            Excerpt::new("tova@64", "the same text", &text),
            Excerpt::new(TROUBLE, TROUBLE, TROUBLE),
            Excerpt::new("a-policy-with-a-name-that-is-longer-than-its-column@4096", "", ""),
        ],
    };
    figure("stories", "What was written", "", Content::Passages { passages: (0..3).map(passage).collect() })
}

fn trouble() -> Figure {
    let rows = vec![vec![Cell::text(TROUBLE), Cell::number(f64::INFINITY, None)], vec![Cell::empty(), Cell::count(7)]];
    let columns = [TROUBLE, "a, \"quoted\"\nhead"].map(str::to_owned).into();
    figure("trouble", TROUBLE, TROUBLE, Content::Table { columns, rows })
}

pub(crate) fn results() -> Results {
    let arm = |policy: &str, states: Option<usize>, omitted| Arm {
        model: "bundled".to_owned(),
        policy: states.map_or_else(|| policy.to_owned(), |states| format!("{policy}@{states}")),
        states,
        observed: Observed {
            omitted,
            max_rows: states.unwrap_or(511),
            state_bytes: states.unwrap_or(511) * 4096,
            predicted: 511,
            under_bound: if omitted > 0 { 400 } else { 0 },
        },
    };
    Results {
        metrics: serde_json::json!({}),
        arms: vec![arm("full", None, 0), arm("tova", Some(64), 1_234_567), arm("tova", Some(4096), 0)],
        notes: vec!["Each context begins with the beginning-of-text token.".to_owned(), TROUBLE.to_owned()],
        figures: vec![lines(), table(), running(), kinds(), judgements(), retention(), needle(), stories(), trouble()],
        missing: Vec::new(),
    }
}

/// Time, which is no result.
pub(crate) fn speed() -> Figure {
    let columns = ["policy", "seconds", "tokens per second"].map(str::to_owned).into();
    let row = |policy: &str, seconds: f64| {
        let number = |value, decimals| Cell::rounded(value, None, decimals);
        vec![Cell::text(policy), number(seconds, 1), number(32_704.0 / seconds, 0)]
    };
    figure(
        "speed",
        "Speed",
        "Wall-clock time.",
        Content::Table { columns, rows: vec![row("full", 2.5), row("tova@64", 3.1)] },
    )
}

pub(crate) fn manifest() -> toml::Table {
    let text = "command = \"msrnn experiment lm --out out\"\nexperiment = \"lm\"\nseed = 0\n\n\
                [model]\nname = \"bundled\"\nhash = \"sha256:0123456789abcdef\"\n";
    let mut table: toml::Table = text.parse().unwrap();
    table.insert("trouble".to_owned(), TROUBLE.into());
    table
}
