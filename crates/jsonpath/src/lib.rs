//! Stands in for the crate `jsonpath-rust`, of which kube-client uses one function for one thing: to find the token in
//! what the command of a kubeconfig's `auth-provider` prints (`token-key: '{.credential.access_token}'`). kubectl has
//! not known such providers since Kubernetes 1.26. The crate's own parser and its regular expressions are a tenth of
//! the release binary, so here are the paths that such kubeconfigs hold: names, one inside the other.

use serde_json::Value;

/// Why nothing was looked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path {0:?} is not supported: it has to be `$` and names, as in `$.credential.access_token`")]
pub struct UnsupportedPath(String);

/// The part of the crate's trait that is used.
pub trait JsonPath {
    /// What is found at a path of names, as in `$.credential.access_token`: one value, or none.
    ///
    /// # Errors
    /// If the path is anything else (RFC 9535 has much more).
    fn query(&self, path: &str) -> Result<Vec<&Value>, UnsupportedPath>;
}

impl JsonPath for Value {
    fn query(&self, path: &str) -> Result<Vec<&Value>, UnsupportedPath> {
        let unsupported = || UnsupportedPath(path.to_owned());
        let names = path.strip_prefix('$').ok_or_else(unsupported)?;
        let mut found = Some(self);
        if !names.is_empty() {
            for name in names.strip_prefix('.').ok_or_else(unsupported)?.split('.') {
                if name.is_empty() || !name.chars().all(is_of_name) {
                    return Err(unsupported());
                }
                found = found.and_then(|value| value.as_object()?.get(name));
            }
        }
        Ok(found.into_iter().collect())
    }
}

/// RFC 9535 writes names of other characters in brackets; it has no `-` here, but Kubernetes' own `JSONPath` does.
fn is_of_name(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_followed_and_all_else_is_refused() {
        let printed =
            json!({"credential": {"access_token": "secret", "token-expiry": "2030-01-01T00:00:00Z"}});
        for (path, expected) in [
            ("$", Some(printed.clone())),
            ("$.credential.access_token", Some(json!("secret"))),
            ("$.credential.token-expiry", Some(json!("2030-01-01T00:00:00Z"))),
            ("$.credential.none", None),
            ("$.credential.access_token.more", None),
            ("$.none.access_token", None),
        ] {
            assert_eq!(printed.query(path), Ok(expected.iter().collect()), "{path}");
        }
        for path in
            ["", "credential", "$credential", "$.", "$..access_token", "$.credential[0]", "$.*", "$.a b"]
        {
            let error = printed.query(path).unwrap_err().to_string();
            assert!(error.contains(&format!("{path:?}")), "{error}");
        }
    }
}
