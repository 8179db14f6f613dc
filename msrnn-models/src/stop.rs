//! Texts that end a generation and do not belong to it.

use crate::error::ModelError;

/// Looks for stop texts in a text that comes piece by piece, and lets through what can be part of none.
///
/// Where several end a text, the one counts that ends first, of those that end together the longest: how the text is cut
/// into pieces changes nothing.
#[derive(Clone, Debug)]
pub struct StopTexts {
    stops: Vec<String>,
    /// The end of the text so far, which may be the beginning of a stop text.
    held: String,
}

/// What a piece of text came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// What may be shown: it belongs to the text, whatever comes.
    pub text: String,
    /// Whether a stop text came. Then nothing follows.
    pub stopped: bool,
}

impl StopTexts {
    /// Stop texts; none for a text that is let through as it is.
    ///
    /// # Errors
    ///
    /// When one is empty.
    pub fn new(stops: &[String]) -> Result<Self, ModelError> {
        match stops.iter().any(String::is_empty) {
            true => Err(ModelError::EmptyStop),
            false => Ok(Self { stops: stops.to_vec(), held: String::new() }),
        }
    }

    /// The next piece. `ahead` is what would follow it if nothing else came, as
    /// [`TextStream::held`](crate::tokenizer::TextStream::held) tells: it counts for whether a stop text is there.
    pub fn push(&mut self, piece: &str, ahead: &str) -> Passed {
        self.held.push_str(piece);
        let all = match ahead.is_empty() {
            true => std::mem::take(&mut self.held),
            false => format!("{}{ahead}", self.held),
        };
        if let Some(at) = self.first(&all) {
            self.held.clear();
            return Passed { text: all[..at].to_owned(), stopped: true };
        }
        if ahead.is_empty() {
            self.held = all;
        }
        let kept = self.begun();
        let text = self.held[..self.held.len() - kept].to_owned();
        self.held.drain(..text.len());
        Passed { text, stopped: false }
    }

    /// The end of the text, `rest` with it, up to a stop text if there is one.
    pub fn finish(mut self, rest: &str) -> Passed {
        let Passed { mut text, stopped } = self.push(rest, "");
        if !stopped {
            text.push_str(&self.held);
        }
        Passed { text, stopped }
    }

    /// Where the stop text begins that ends first.
    fn first(&self, text: &str) -> Option<usize> {
        let found = self.stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at)));
        found.min().map(|(_, at)| at)
    }

    /// Bytes of the longest end of what is held that a stop text begins with.
    fn begun(&self) -> usize {
        let longest = self.stops.iter().map(|stop| stop.len() - 1).max().unwrap_or(0).min(self.held.len());
        let ends = (self.held.len() - longest..self.held.len()).filter(|&at| self.held.is_char_boundary(at));
        let begins = |end: &str| self.stops.iter().any(|stop| stop.starts_with(end));
        ends.map(|at| &self.held[at..]).find(|end| begins(end)).map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces through stop texts: what was shown piece by piece, and whether it stopped. Every piece with so much of the
    /// text behind it looked at ahead.
    fn through(stops: &[&str], pieces: &[&str], ahead: usize) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut filter = StopTexts::new(&stops).unwrap();
        let mut shown = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            let rest: String = pieces[at + 1..].concat();
            let passed = filter.push(piece, &rest[..rest.floor_char_boundary(ahead.min(rest.len()))]);
            shown.push(passed.text);
            if passed.stopped {
                return (shown, true);
            }
        }
        let end = filter.finish("");
        shown.push(end.text);
        (shown, end.stopped)
    }

    /// The plain twin: the text before the stop text that ends first.
    fn plain<'t>(stops: &[&str], text: &'t str) -> (&'t str, bool) {
        for end in 0..=text.len() {
            if let Some(stop) = stops
                .iter()
                .filter(|stop| text.as_bytes()[..end].ends_with(stop.as_bytes()))
                .max_by_key(|stop| stop.len())
            {
                return (&text[..end - stop.len()], true);
            }
        }
        (text, false)
    }

    #[test]
    fn a_text_ends_before_the_first_stop_text_however_it_is_cut_and_shows_nothing_of_it() {
        let texts =
            ["one\né two\n three EN four END five\n\n", "aaab", "abcd", "xab\u{e9}", "", "ENENDEND", "日本語日本"];
        let stops: [&[&str]; 7] = [
            &["\n\n", "END"],
            &["aab"],
            &["abcd", "bc"],
            &["é", "b"],
            &["語日"],
            &["d", "cd", "bcd"],
            &["zzz", "本語日本x"],
        ];
        for text in texts {
            for stops in stops {
                let (expected, stopped) = plain(stops, text);
                let signs: Vec<&str> = text.split("").filter(|sign| !sign.is_empty()).collect();
                for size in 1..5 {
                    let pieces: Vec<String> = signs.chunks(size).map(<[&str]>::concat).collect();
                    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                    for ahead in 0..4 {
                        let (shown, found) = through(stops, &pieces, ahead);
                        assert_eq!((shown.concat().as_str(), found), (expected, stopped), "{text:?} {stops:?} {size}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_can_be_part_of_no_stop_text_is_shown_at_once() {
        let (shown, _) = through(&["END", "EX"], &["a", "bE", "N", "d", "E", "x"], 0);
        assert_eq!(shown, ["a", "b", "", "ENd", "", "Ex", ""]);
        assert_eq!(through(&[], &["a", "b"], 0).0, ["a", "b", ""]);
        assert!(StopTexts::new(&[String::new()]).is_err());
    }
}
