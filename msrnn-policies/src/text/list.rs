//! Lists of policies.

/// The parts of a list that is separated by commas; those inside parentheses separate nothing.
///
/// ```
/// use msrnn_policies::split;
///
/// let parts: Vec<&str> = split("tova,every(128, tova), h2o").collect();
/// assert_eq!(parts, ["tova", "every(128, tova)", "h2o"]);
/// ```
pub fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let separates = move |sign: char| {
        match sign {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        sign == ',' && depth == 0
    };
    list.split(separates).map(str::trim)
}
