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
    /// `None`: that it is there at all.
    value: Option<String>,
    is_negated: bool,
}

impl Selector {
    pub(crate) fn of(request: &RequestInfo) -> Result<Self, Answer> {
        let mut requirements = vec![];
        for field in terms(request.parameter("fieldSelector")) {
            let requirement = parse(field, |key| key.split('.').map(str::to_owned).collect());
            let is_supported = requirement.pointer.first().is_some_and(|first| first == "metadata")
                && matches!(requirement.pointer.get(1).map(String::as_str), Some("name" | "namespace"));
            if !is_supported {
                return Err(Answer::bad_request(format!("field label not supported: {field}")));
            }
            requirements.push(requirement);
        }
        for label in terms(request.parameter("labelSelector")) {
            requirements
                .push(parse(label, |key| vec!["metadata".to_owned(), "labels".to_owned(), key.to_owned()]));
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
                let is_met = match (&requirement.value, value.and_then(Value::as_str)) {
                    (Some(wanted), Some(value)) => wanted == value,
                    (Some(_), None) => false,
                    (None, value) => value.is_some(),
                };
                is_met != requirement.is_negated
            })
    }
}

fn terms(selector: Option<&str>) -> impl Iterator<Item = &str> {
    selector.unwrap_or_default().split(',').map(str::trim).filter(|term| !term.is_empty())
}

fn parse(term: &str, pointer: impl Fn(&str) -> Vec<String>) -> Requirement {
    let (key, value, is_negated) = if let Some((key, value)) = term.split_once("!=") {
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
        value: value.map(|value| value.trim().to_owned()),
        is_negated,
    }
}
