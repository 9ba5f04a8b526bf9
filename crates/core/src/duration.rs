//! Durations as Go writes them: SAP's flags and the API server's `?timeout=` use that form.

use std::time::Duration;

/// Reads a duration such as `10s`, `1m30s`, `500ms` or `0` (Go's `time.ParseDuration`, without negative ones).
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, tail) =
            tail.split_at(tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let millis = |n| Some(Duration::from_millis(n));
        for (text, expected) in [
            ("0", millis(0)),
            ("0s", millis(0)),
            ("2s", millis(2000)),
            ("500ms", millis(500)),
            ("1.5s", millis(1500)),
            ("1m30s", millis(90_000)),
            ("1h", millis(3_600_000)),
            ("", None),
            ("2", None),
            ("s", None),
            ("-1s", None),
            ("1x", None),
            ("1s ", None),
            ("99999999999999999999999999h", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
