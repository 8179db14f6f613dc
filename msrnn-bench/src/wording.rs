//! Words around numbers.

/// A number and what it is of: `1 context`, `2 contexts`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_has_no_s() {
        assert_eq!([0, 1, 2].map(|n| super::counted(n, "context")), ["0 contexts", "1 context", "2 contexts"]);
    }
}
