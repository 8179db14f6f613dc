//! Names that policies have elsewhere, and names that are nearly right.

/// What is called otherwise elsewhere and means the same: kvpress's `StreamingLLMPress` keeps its rows' positions, and four
/// sinks, as `window+4` does.
const SAME: [(&str, &str); 4] =
    [("streaming-llm", "window+4"), ("streamingllm", "window+4"), ("sink", "window+4"), ("sinks", "window+4")];

/// What has another rule here, or needs a choice.
const NEAR: [(&str, &str); 9] = [
    ("adakv", "pooled(snapkv, floor=0.2)"),
    ("ada-kv", "pooled(snapkv, floor=0.2)"),
    ("pyramidkv", "pyramid(snapkv)"),
    ("observed-attention", "h2o"),
    ("heavy-hitter", "h2o"),
    ("sliding-window", "window"),
    ("r-kv", "rkv"),
    ("lag-kv", "lagkv"),
    ("quantized", "int4(full)"),
];

/// How alike a name has to be to be meant, from 0 to 1.
const ALIKE: f64 = 0.7;

/// What a name from elsewhere is written here as.
pub(super) fn same(name: &str) -> Option<&'static str> {
    SAME.into_iter().find_map(|(elsewhere, here)| (elsewhere == name).then_some(here))
}

/// What was probably meant. known: the names that there are.
pub(super) fn meant<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_lowercase();
    let near = NEAR.into_iter().find_map(|(elsewhere, here)| (elsewhere == name).then_some(here));
    let known = known.map(|known| (strsim::normalized_damerau_levenshtein(&name, &known.to_lowercase()), known));
    near.or_else(|| {
        known.filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
    })
}
