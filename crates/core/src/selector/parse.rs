//! The grammar of label selectors.

use std::collections::BTreeSet;

use super::{Requirement, Test};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A key, a value or, where an operator may be, `in` and `notin`.
    Word(&'a str),
    /// An operator or a mark.
    Sign(&'static str),
}

/// The longest first.
const SIGNS: [&str; 9] = ["!=", "==", "=", "!", "(", ")", ",", "<", ">"];

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Reads a whole selector. The error is a clause that says what is wrong.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut rest = Tokens { tokens: tokens(text), next: 0 };
    let mut requirements = vec![];
    if rest.peek().is_none() {
        return Ok(requirements);
    }
    loop {
        requirements.push(rest.requirement()?);
        match rest.take() {
            None => return Ok(requirements),
            Some(Token::Sign(",")) => {}
            Some(other) => return Err(format!("{} where a comma was expected", show(Some(other)))),
        }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = vec![];
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
        let length = if let Some(sign) = sign {
            tokens.push(Token::Sign(sign));
            sign.len()
        } else {
            let is_end = |c| is_blank(c) || "=!(),<>".contains(c);
            let length = rest.find(is_end).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..length]));
            length
        };
        rest = rest[length..].trim_start_matches(is_blank);
    }
    tokens
}

fn show(token: Option<Token<'_>>) -> String {
    match token {
        None => "the end".into(),
        Some(Token::Sign(sign)) => format!("'{sign}'"),
        Some(Token::Word(word)) => format!("'{}'", shown(word)),
    }
}

/// Some of a text that may be anything.
fn shown(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

struct Tokens<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).copied()
    }

    fn take(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let is_negated = self.peek() == Some(Token::Sign("!"));
        if is_negated {
            self.take();
        }
        let key = match self.take() {
            Some(Token::Word(key)) => key,
            other => return Err(format!("{} where a label's key was expected", show(other))),
        };
        check_key(key)?;
        let key = key.to_owned();
        if is_negated {
            return Ok(Requirement { key, test: Test::Missing });
        }
        if matches!(self.peek(), None | Some(Token::Sign(","))) {
            return Ok(Requirement { key, test: Test::Exists });
        }
        let test = match self.take() {
            Some(Token::Sign("=" | "==")) => Test::In([self.value()?].into()),
            Some(Token::Sign("!=")) => Test::NotIn([self.value()?].into()),
            Some(Token::Sign(">")) => Test::Above(self.number()?),
            Some(Token::Sign("<")) => Test::Below(self.number()?),
            Some(Token::Word("in")) => Test::In(self.values()?),
            Some(Token::Word("notin")) => Test::NotIn(self.values()?),
            other => {
                return Err(format!(
                    "{} after the key '{}' where =, ==, !=, in, notin, < or > was expected",
                    show(other),
                    shown(&key)
                ));
            }
        };
        Ok(Requirement { key, test })
    }

    /// One value; nothing is the empty one.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            None | Some(Token::Sign(",")) => Ok(String::new()),
            Some(Token::Word(value)) => {
                self.take();
                checked_value(value)
            }
            other => Err(format!("{} where a value was expected", show(other))),
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.value()?;
        value.parse().map_err(|_| format!("'{}' is no whole number to compare with", shown(&value)))
    }

    /// Values in parentheses, separated by commas; between two commas is the empty one.
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        match self.take() {
            Some(Token::Sign("(")) => {}
            other => return Err(format!("{} where '(' was expected", show(other))),
        }
        if self.peek() == Some(Token::Sign(")")) {
            return Err("'()' has no values".into());
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match self.peek() {
                Some(Token::Word(value)) => {
                    self.take();
                    checked_value(value)?
                }
                _ => String::new(),
            };
            values.insert(value);
            match self.take() {
                Some(Token::Sign(",")) => {}
                Some(Token::Sign(")")) => return Ok(values),
                other => return Err(format!("{} where ',' or ')' was expected", show(other))),
            }
        }
    }
}

/// A label's value (`IsValidLabelValue` in apimachinery).
fn checked_value(value: &str) -> Result<String, String> {
    if value.is_empty() || is_label_name(value) {
        return Ok(value.to_owned());
    }
    Err(format!(
        "'{}' is no value of a label (at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last)",
        shown(value)
    ))
}

/// A label's key (`IsQualifiedName` in apimachinery): a name, perhaps with a DNS subdomain and a slash before it.
fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_none_or(crate::name::is_valid_name) && is_label_name(name) {
        return Ok(());
    }
    Err(format!("'{}' is no key of a label, such as team or example.com/team", shown(key)))
}

fn is_label_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}
