//! Text that a server wrote, for people.

use super::Answer;

/// Longest piece of a server's text in a message.
const LONGEST: usize = 300;

/// A text as it may be printed: the beginning, on one line, with whatever could move a cursor, colour a
/// terminal or turn the direction of writing spelled out.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (at, sign) in text.chars().enumerate() {
        if at == LONGEST {
            shown.push('…');
            break;
        }
        match sign {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                shown.extend(sign.escape_unicode());
            }
            _ if sign.is_control() => shown.extend(sign.escape_default()),
            _ => shown.push(sign),
        }
    }
    shown
}

/// Whether an answer is a page for a browser: that of a login, a proxy or another site.
pub(crate) fn is_page(answer: &Answer, beginning: &[u8]) -> bool {
    let kind = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
    let beginning = beginning.trim_ascii_start();
    let tag = &beginning[..beginning.len().min(9)];
    kind.starts_with("text/html") || tag.eq_ignore_ascii_case(b"<!doctype") || {
        tag.len() >= 5 && tag[..5].eq_ignore_ascii_case(b"<html")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_reaches_a_terminal_as_a_command() {
        let hostile = "a\u{1b}[2Jb\r\nc\u{9b}31m\u{202e}d\u{200b}\0";
        let found = shown(hostile);
        assert!(found.chars().all(|sign| sign.is_ascii_graphic()), "{found:?}");
        assert_eq!(shown("naïve \"ü\" 漢"), "naïve \"ü\" 漢");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), LONGEST + 1);
    }
}
