//! Reads single values out of JSON that arrives in pieces, and forgets the rest: what is skipped takes no memory.
//!
//! It finds values in the text of a server that is trusted to send JSON; it does not prove that the text is JSON.

/// Containers within each other, as in `serde_json`.
const MAX_DEPTH: usize = 128;
/// Keys are kept down to this depth.
const MAX_PATH: usize = 8;
const MAX_KEY_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 2048;

/// Receives what the scanner comes across.
pub trait Visitor {
    /// A string, number, `true`, `false` or `null`. Long ones and deep ones are left out.
    fn scalar(&mut self, path: &Path, value: &Scalar<'_>);
    /// The end of the object or array at that path.
    fn end(&mut self, _path: &Path) {}
}

/// The text of a single value.
#[derive(Debug)]
pub struct Scalar<'a>(&'a [u8]);

impl Scalar<'_> {
    /// The value of a string; `None` for anything else.
    pub fn string(&self) -> Option<String> {
        serde_json::from_slice(self.0).ok()
    }

    /// The value of a whole number that is not negative.
    pub fn number(&self) -> Option<u64> {
        serde_json::from_slice(self.0).ok()
    }
}

/// Where a value is: the keys of the objects around it.
#[derive(Debug, Default)]
pub struct Path {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    is_array: bool,
    key: String,
}

impl Path {
    /// Whether the value is at that path. An element of an array is `*`.
    pub fn is(&self, keys: &[&str]) -> bool {
        self.levels.len() == keys.len() && self.starts_with(keys)
    }

    /// Whether the value is a member of the object with that key at that path.
    pub fn is_below(&self, keys: &[&str], object: &str) -> bool {
        self.levels.len() == keys.len() + 2
            && self.levels.get(keys.len()).is_some_and(|level| !level.is_array && level.key == object)
            && self.starts_with(keys)
    }

    /// Whether the value has that key.
    pub fn ends_with(&self, key: &str) -> bool {
        self.levels.last().is_some_and(|level| !level.is_array && level.key == key)
    }

    fn starts_with(&self, keys: &[&str]) -> bool {
        let is_at =
            |(level, key): (&Level, &&str)| **key == *if level.is_array { "*" } else { level.key.as_str() };
        self.levels.iter().zip(keys).all(is_at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    Key,
    Colon,
    Next,
    Text { is_key: bool, is_escaped: bool },
    Literal,
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub struct Scanner {
    path: Path,
    expect: Expect,
    is_broken: bool,
    captured: Vec<u8>,
    is_too_long: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            path: Path::default(),
            expect: Expect::Value,
            is_broken: false,
            captured: vec![],
            is_too_long: false,
        }
    }
}

impl Scanner {
    /// Takes the next piece.
    pub fn feed(&mut self, mut bytes: &[u8], visitor: &mut impl Visitor) {
        while let (false, Some(&byte)) = (self.is_broken, bytes.first()) {
            let taken = match self.expect {
                Expect::Text { is_key, is_escaped } => self.text(bytes, is_key, is_escaped, visitor),
                Expect::Literal if !matches!(byte, b',' | b']' | b'}') && !byte.is_ascii_whitespace() => {
                    self.capture(&bytes[..1]);
                    1
                }
                Expect::Literal => {
                    self.scalar(visitor);
                    0
                }
                _ => {
                    self.structure(byte, visitor);
                    1
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// Whether one whole object or array went through.
    pub fn is_complete(&self) -> bool {
        !self.is_broken && self.expect == Expect::Nothing
    }

    /// Takes string text up to the next quote or backslash; how many bytes that is.
    fn text(&mut self, bytes: &[u8], is_key: bool, is_escaped: bool, visitor: &mut impl Visitor) -> usize {
        if is_escaped {
            self.capture(&bytes[..1]);
            self.expect = Expect::Text { is_key, is_escaped: false };
            return 1;
        }
        let Some(end) = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
            self.capture(bytes);
            return bytes.len();
        };
        self.capture(&bytes[..=end]);
        if bytes[end] == b'\\' {
            self.expect = Expect::Text { is_key, is_escaped: true };
        } else if is_key {
            let is_kept = !self.is_too_long && self.path.levels.len() <= MAX_PATH;
            let key = is_kept.then(|| serde_json::from_slice(&self.captured).ok()).flatten();
            if let Some(level) = self.path.levels.last_mut() {
                level.key = key.unwrap_or_default();
            }
            self.expect = Expect::Colon;
        } else {
            self.scalar(visitor);
        }
        end + 1
    }

    fn structure(&mut self, byte: u8, visitor: &mut impl Visitor) {
        match (self.expect, byte) {
            (_, byte) if byte.is_ascii_whitespace() => {}
            (Expect::Value, b'{' | b'[') if self.path.levels.len() < MAX_DEPTH => {
                let is_array = byte == b'[';
                self.path.levels.push(Level { is_array, key: String::new() });
                self.expect = if is_array { Expect::Value } else { Expect::Key };
            }
            (Expect::Value | Expect::Next, b']') => self.end(true, visitor),
            (Expect::Key | Expect::Next, b'}') => self.end(false, visitor),
            (Expect::Value, b'"') => self.begin(Expect::Text { is_key: false, is_escaped: false }, byte),
            (Expect::Key, b'"') => self.begin(Expect::Text { is_key: true, is_escaped: false }, byte),
            (Expect::Value, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.begin(Expect::Literal, byte),
            (Expect::Colon, b':') => self.expect = Expect::Value,
            (Expect::Next, b',') => {
                let is_array = self.path.levels.last().is_some_and(|level| level.is_array);
                self.expect = if is_array { Expect::Value } else { Expect::Key };
            }
            _ => self.is_broken = true,
        }
    }

    fn begin(&mut self, expect: Expect, byte: u8) {
        self.captured.clear();
        self.captured.push(byte);
        self.is_too_long = false;
        self.expect = expect;
    }

    fn capture(&mut self, bytes: &[u8]) {
        let most = match self.expect {
            Expect::Text { is_key: true, .. } => MAX_KEY_BYTES,
            _ => MAX_VALUE_BYTES,
        };
        self.is_too_long |= self.captured.len() + bytes.len() > most;
        if !self.is_too_long {
            self.captured.extend_from_slice(bytes);
        }
    }

    fn scalar(&mut self, visitor: &mut impl Visitor) {
        if !self.is_too_long && self.path.levels.len() <= MAX_PATH {
            visitor.scalar(&self.path, &Scalar(&self.captured));
        }
        self.after_value();
    }

    fn end(&mut self, is_array: bool, visitor: &mut impl Visitor) {
        match self.path.levels.pop() {
            Some(level) if level.is_array == is_array => {
                visitor.end(&self.path);
                self.after_value();
            }
            _ => self.is_broken = true,
        }
    }

    fn after_value(&mut self) {
        self.expect = if self.path.levels.is_empty() { Expect::Nothing } else { Expect::Next };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Visitor for Seen {
        fn scalar(&mut self, path: &Path, value: &Scalar<'_>) {
            for keys in [&["metadata", "uid"][..], &["items", "*", "name"], &["count"]] {
                if path.is(keys) {
                    let value = value.string().or_else(|| Some(value.number()?.to_string()));
                    self.0.push(format!("{}={}", keys.join("."), value.unwrap_or_default()));
                }
            }
        }

        fn end(&mut self, path: &Path) {
            if path.is(&["items", "*"]) {
                self.0.push("end".into());
            }
        }
    }

    fn scan(text: &str, piece: usize) -> (Vec<String>, bool) {
        let (mut scanner, mut seen) = (Scanner::default(), Seen::default());
        for piece in text.as_bytes().chunks(piece) {
            scanner.feed(piece, &mut seen);
        }
        (seen.0, scanner.is_complete())
    }

    #[test]
    fn c5_2_values_are_found_however_the_text_is_cut() {
        let long = "x\\\"{".repeat(5000);
        let text = format!(
            r#" {{ "kind":"L","metadata":{{"annotations":{{"a\"}}":"{long}","uid":"no"}},"uid":"u\u00e9\"\\"}},
               "items":[{{"name":"a","metadata":{{"uid":"inner"}}}} , {{"name":"{long}","list":[1,[2,{{}}],null]}},{{"name":null}}],
               "count" : 12,"empty":[],"none":{{}},"yes":true,"n":-1.5e3}} "#
        );
        let expected =
            ["metadata.uid=ué\"\\", "items.*.name=a", "end", "end", "items.*.name=", "end", "count=12"];
        for piece in [1, 2, 3, 7, 1000, usize::MAX] {
            assert_eq!(scan(&text, piece), (expected.map(String::from).to_vec(), true), "{piece}");
        }
    }

    #[test]
    fn c4_6_what_is_no_json_is_not_complete_and_harms_nothing() {
        let deep = "[".repeat(1000);
        let texts = [
            "",
            "{",
            "}",
            "]",
            "{\"a\"",
            "{]",
            "[}",
            "{\"a\":}",
            "nonsense",
            "{\"a\" 1}",
            "[1 2]",
            "\"",
            &deep,
        ];
        for text in texts {
            assert!(!scan(text, 3).1, "{text}");
        }
    }
}
