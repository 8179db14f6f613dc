//! Damage of every kind, from a seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// What chance decides, the same for the same seed.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Below `n`; 0 of nothing.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }

    fn byte(&mut self) -> u8 {
        self.0.random()
    }

    /// Numbers that are wrong in most places.
    fn number(&mut self) -> &'static str {
        self.of::<&str>(&[
            "0",
            "-0",
            "1",
            "-1",
            "2",
            "3",
            "0.5",
            "1e-320",
            "1e308",
            "1e400",
            "-1e400",
            "nan",
            "inf",
            "255",
            "65536",
            "2147483647",
            "2147483648",
            "4294967295",
            "4294967296",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999999",
        ])
    }

    /// Letters that are wrong in most places.
    pub(crate) fn text(&mut self) -> String {
        let base = *self.of(&[
            "",
            " ",
            "\0",
            "a",
            "../../x",
            "/etc/passwd",
            "\u{1b}[2J\u{1b}]0;x\u{7}",
            "\u{202e}x",
            "\u{feff}",
            "C:\\x",
            "{}",
            "NaN",
            "</s>",
            "<s>",
            "▁",
            "é",
            "e\u{301}",
            "\u{10ffff}",
            "日本",
            "%s%n",
            "(?<a>x)(",
            "\\p{",
            "(a+)+$",
            "[",
            "\r\n",
        ]);
        match self.below(12) {
            0 => base.repeat(1 + self.below(300)),
            _ => base.to_owned(),
        }
    }

    /// A value that is wrong in most places.
    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth > 2 { 6 } else { 10 }) {
            0 => Value::Null,
            1 => json!(self.one_in(2)),
            2 | 3 => serde_json::from_str(self.number()).unwrap_or(Value::Null),
            4 | 5 => json!(self.text()),
            6 => (0..self.below(5)).map(|_| self.value(depth + 1)).collect(),
            7 => Value::Object((0..self.below(4)).map(|_| (self.text(), self.value(depth + 1))).collect()),
            8 => (0..self.below(2000)).map(|i| json!(i)).collect(),
            _ => (0..self.below(100)).fold(json!(0), |inner, _| json!([inner])),
        }
    }

    /// Damages bytes somewhere. `other`: bytes of another file of that kind.
    pub(crate) fn bytes(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        let to = (at + self.below(60)).min(bytes.len());
        match self.below(14) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.byte(),
            2 => bytes.insert(at, self.byte()),
            3 => drop(bytes.drain(at..to)),
            4 => bytes.truncate(at),
            5 => bytes.extend(vec![0; self.below(100)]),
            6 => {
                let part = bytes[at..to].to_vec();
                let into = self.below(bytes.len() + 1);
                bytes.splice(into..into, part);
            }
            7 => {
                let from = self.below(other.len());
                let part = other[from..(from + self.below(200)).min(other.len())].to_vec();
                bytes.splice(at..to, part);
            }
            8 => bytes.splice(at..to, self.text().into_bytes()).for_each(drop),
            9 => {
                let n = 1 + self.below(3000);
                bytes.splice(at..at, vec![*self.of(b"[{( \"\n,9a"); n]).for_each(drop);
            }
            10 => {
                let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
                let n = (1 + self.below(8)).min(bytes.len() - at);
                bytes.splice(at..at + n, huge[..n].to_vec()).for_each(drop);
            }
            _ => {
                let numbers = crate::common::numbers(bytes);
                if let Some(range) = numbers.get(self.below(numbers.len())) {
                    bytes.splice(range.clone(), self.number().bytes()).for_each(drop);
                }
            }
        }
    }

    /// Damages a JSON value somewhere.
    pub(crate) fn json(&mut self, value: &mut Value) {
        let mut places = Vec::new();
        paths(value, String::new(), &mut places);
        let at = self.of(&places).clone();
        let other = value.pointer(&self.of(&places).clone()).cloned().unwrap_or_default();
        let Some(found) = value.pointer_mut(&at) else { return };
        match (self.below(8), found) {
            (0, Value::Object(all)) if !all.is_empty() => {
                let key = all.keys().nth(self.below(all.len())).unwrap().clone();
                all.remove(&key);
            }
            (1, Value::Object(all)) => {
                all.insert(self.text(), self.value(0));
            }
            (0, Value::Array(all)) if !all.is_empty() => drop(all.remove(self.below(all.len()))),
            (1, Value::Array(all)) => all.insert(self.below(all.len() + 1), self.value(0)),
            (2, Value::Array(all)) if !all.is_empty() => {
                let (a, b) = (self.below(all.len()), self.below(all.len()));
                all.swap(a, b);
            }
            (3, found) => *found = other,
            (4, Value::String(text)) => {
                let mut bytes = std::mem::take(text).into_bytes();
                self.bytes(&mut bytes, b"");
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
            (_, found) => *found = self.value(0),
        }
    }

    /// A JSON text damaged in one to three places: in its values, or in its letters.
    pub(crate) fn json_text(&mut self, text: &str, other: &[u8]) -> Vec<u8> {
        let mut value: Value = serde_json::from_str(text).unwrap();
        if self.one_in(5) {
            let mut bytes = text.as_bytes().to_vec();
            (0..=self.below(3)).for_each(|_| self.bytes(&mut bytes, other));
            return bytes;
        }
        (0..=self.below(3)).for_each(|_| self.json(&mut value));
        let mut bytes = value.to_string().into_bytes();
        if self.one_in(12) {
            self.bytes(&mut bytes, other);
        }
        bytes
    }
}

/// JSON pointers to all values.
fn paths(value: &Value, at: String, places: &mut Vec<String>) {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(all) => {
            all.iter().take(200).enumerate().for_each(|(i, value)| paths(value, format!("{at}/{i}"), places))
        }
        Value::Object(all) => {
            all.iter().take(200).for_each(|(key, value)| paths(value, format!("{at}/{}", escape(key)), places));
        }
        _ => {}
    }
    places.push(at);
}
