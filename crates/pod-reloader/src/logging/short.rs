//! Keeps log lines short, whatever they quote: an API server's answer may carry what a tenant wrote, and be as long.

use std::io::{self, Write};

use serde_json::{Map, Value};
use tracing_subscriber::fmt::MakeWriter;

/// Longer lines are shortened.
const MAX_LINE_BYTES: usize = 4 * 1024;
/// Longer values of such a line are cut.
const MAX_VALUE_BYTES: usize = 1024;

/// Makes writers whose lines are short.
#[derive(Clone, Debug)]
pub(crate) struct Short<M>(pub(crate) M);

/// A writer of one line.
pub(crate) struct ShortLine<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Short<M> {
    type Writer = ShortLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ShortLine(self.0.make_writer())
    }
}

impl<W: Write> Write for ShortLine<W> {
    /// Takes whole lines, as the formatting layers write them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.len() <= MAX_LINE_BYTES {
            self.0.write_all(line)?;
        } else {
            self.0.write_all(&shortened(line))?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn shortened(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    // One that is JSON stays so.
    let mut short = match serde_json::from_str::<Map<String, Value>>(&text) {
        Ok(mut fields) => {
            fields.values_mut().for_each(shorten);
            Value::Object(fields).to_string()
        }
        Err(_) => cut(text.trim_end(), MAX_LINE_BYTES),
    };
    // As many fields as that have no place in our lines.
    if short.len() > 2 * MAX_LINE_BYTES {
        short = cut(&short, MAX_LINE_BYTES);
    }
    short.push('\n');
    short.into_bytes()
}

fn shorten(value: &mut Value) {
    let text = match value {
        Value::String(text) => std::mem::take(text),
        Value::Array(_) | Value::Object(_) => value.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return,
    };
    *value = Value::String(cut(&text, MAX_VALUE_BYTES));
}

fn cut(text: &str, most: usize) -> String {
    let kept = &text[..text.floor_char_boundary(most)];
    match text.len() - kept.len() {
        0 => kept.to_owned(),
        more => format!("{kept}... ({more} bytes more)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt;

    use crate::logging::tests::Lines;

    fn log_long_line() {
        let long = "é".repeat(1 << 20);
        tracing::info!(error = long, name = "app", "an API server that says\n very much: {long}");
    }

    #[test]
    fn c4_10_no_log_line_is_long_and_each_is_still_json() {
        let lines = Lines::default();
        let layer = fmt::layer().json().flatten_event(true).with_writer(Short(lines.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log_long_line);
        let text = lines.text();
        assert!(text.len() < MAX_LINE_BYTES, "{}", text.len());
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["name"], &line["level"]), (&"app".into(), &"INFO".into()));
        assert!(line["error"].as_str().unwrap().ends_with("... (2096128 bytes more)"), "{text}");
    }

    #[test]
    fn c4_10_no_log_line_for_people_is_long() {
        let lines = Lines::default();
        let layer = fmt::layer().with_ansi(false).with_writer(Short(lines.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log_long_line);
        let text = lines.text();
        assert!(text.len() < MAX_LINE_BYTES + 100 && text.ends_with("bytes more)\n"), "{}", text.len());
    }

    #[test]
    fn c4_10_ordinary_lines_are_left_as_they_are() {
        let lines = Lines::default();
        let line = format!("{}\n", "x".repeat(MAX_LINE_BYTES - 1));
        Short(lines.clone()).make_writer().write_all(line.as_bytes()).unwrap();
        assert_eq!(lines.text(), line);
    }
}
