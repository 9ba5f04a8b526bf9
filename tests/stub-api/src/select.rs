//! Field and label selectors, as far as they are used.

use serde_json::Value;

use crate::request::RequestInfo;
use crate::status::Answer;

#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    namespace: Option<String>,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug)]
struct Requirement {
    pointer: Vec<String>,
    /// One of these; `None`: that it is there at all.
    values: Option<Vec<String>>,
    is_negated: bool,
}

impl Selector {
    pub(crate) fn of(request: &RequestInfo) -> Result<Self, Answer> {
        let mut requirements = vec![];
        for field in terms(request.parameter("fieldSelector")) {
            let requirement = parse(&field, |key| key.split('.').map(str::to_owned).collect());
            let is_supported = requirement.pointer.first().is_some_and(|first| first == "metadata")
                && matches!(requirement.pointer.get(1).map(String::as_str), Some("name" | "namespace"));
            if !is_supported {
                return Err(Answer::bad_request(format!("field label not supported: {field}")));
            }
            requirements.push(requirement);
        }
        for label in terms(request.parameter("labelSelector")) {
            requirements
                .push(parse(&label, |key| vec!["metadata".to_owned(), "labels".to_owned(), key.to_owned()]));
        }
        Ok(Self { namespace: request.namespace.clone(), requirements })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let is_here = self
            .namespace
            .as_ref()
            .is_none_or(|namespace| object["metadata"]["namespace"].as_str() == Some(namespace));
        is_here
            && self.requirements.iter().all(|requirement| {
                let value = requirement.pointer.iter().try_fold(object, |value, key| value.get(key));
                let is_met = match (&requirement.values, value.and_then(Value::as_str)) {
                    (Some(wanted), Some(value)) => wanted.iter().any(|wanted| wanted == value),
                    (Some(_), None) => false,
                    (None, value) => value.is_some(),
                };
                is_met != requirement.is_negated
            })
    }
}

/// The parts between commas that are in no parentheses.
fn terms(selector: Option<&str>) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut depth = 0;
    for c in selector.unwrap_or_default().chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            terms.push(String::new());
        } else if let Some(last) = terms.last_mut() {
            last.push(c);
        }
    }
    terms.retain(|term| !term.trim().is_empty());
    terms.iter().map(|term| term.trim().to_owned()).collect()
}

fn parse(term: &str, pointer: impl Fn(&str) -> Vec<String>) -> Requirement {
    let (key, value, is_negated) = if let Some(of_set) = parse_set(term, &pointer) {
        return of_set;
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, Some(value), true)
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Some(value), false)
    } else if let Some(key) = term.strip_prefix('!') {
        (key, None, true)
    } else {
        (term, None, false)
    };
    Requirement {
        pointer: pointer(key.trim()),
        values: value.map(|value| vec![value.trim().to_owned()]),
        is_negated,
    }
}

/// `key in (a,b)` and `key notin (a,b)`.
fn parse_set(term: &str, pointer: &impl Fn(&str) -> Vec<String>) -> Option<Requirement> {
    let (head, values) = term.strip_suffix(')')?.split_once('(')?;
    let (key, operator) = head.trim().split_once(char::is_whitespace)?;
    let values = values.split(',').map(|value| value.trim().to_owned()).collect();
    let is_negated = operator.trim() == "notin";
    Some(Requirement { pointer: pointer(key), values: Some(values), is_negated })
}
