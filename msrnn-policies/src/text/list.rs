//! Lists of policies, and policies without their budgets.

/// The parts of a list that is separated by commas; those inside parentheses separate nothing.
///
/// ```
/// use msrnn_policies::split;
///
/// let parts: Vec<&str> = split("tova,every(128, tova), h2o").collect();
/// assert_eq!(parts, ["tova", "every(128, tova)", "h2o"]);
/// ```
pub fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(outside(',')).map(str::trim)
}

/// What stands before the budget of a spec that may have one.
///
/// ```
/// use msrnn_policies::without_budget;
///
/// assert_eq!(without_budget("tova@512"), "tova");
/// assert_eq!(without_budget("layers(0: full, *: tova@512)"), "layers(0: full, *: tova@512)");
/// ```
pub fn without_budget(spec: &str) -> &str {
    spec.split(outside('@')).next().unwrap_or(spec).trim()
}

/// Whether a character is that sign, outside all parentheses; asked of one after the other.
fn outside(sign: char) -> impl FnMut(char) -> bool {
    let mut depth = 0_usize;
    move |found| {
        match found {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        found == sign && depth == 0
    }
}
