//! Flags as Go's `flag` package takes them, so that SAP's command lines work unchanged.

use std::ffi::OsString;

/// Go takes a single dash as well as two: `-leader-elect` becomes `--leader-elect`. `-h` and `-V` stay as they are, and
/// nothing after `--` is touched.
pub(crate) fn normalize(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut is_over = false;
    args.into_iter()
        .enumerate()
        .map(|(position, arg)| {
            is_over |= arg == "--";
            match arg.to_str() {
                Some(text) if position > 0 && !is_over && is_single_dash(text) => format!("-{text}").into(),
                _ => arg,
            }
        })
        .collect()
}

fn is_single_dash(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('-')
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.next().is_some()
}

/// A boolean as Go's `strconv.ParseBool` reads it.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_a_single_dash_is_as_good_as_two() {
        let args =
            ["-x", "-leader-elect", "--hash=version", "-h", "-V", "value", "-1", "-a=b", "--", "-after"];
        let normal = normalize(args.map(OsString::from));
        let expected =
            ["-x", "--leader-elect", "--hash=version", "-h", "-V", "value", "-1", "--a=b", "--", "-after"];
        assert_eq!(normal, expected.map(OsString::from));
    }
}
