//! Finding one's way in rendered objects.

use serde_json::{Map, Value};

pub fn kind(object: &Value) -> &str {
    object["kind"].as_str().expect("an object has a kind")
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("a name that is no text: {object}"))
}

pub fn of_kind<'a>(objects: &'a [Value], wanted: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| kind(object) == wanted).collect()
}

/// The only one of its kind.
pub fn the<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    let found = of_kind(objects, wanted);
    assert_eq!(found.len(), 1, "one {wanted}");
    found[0]
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn map(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no map: {value}"))
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The items of a list by their `name`.
pub fn named<'a>(items: &'a Value, wanted: &str) -> Option<&'a Value> {
    list(items).iter().find(|item| item["name"] == wanted)
}

/// Whether a selector, which must not be empty, selects something with these labels.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = map(selector);
    assert!(!selector.is_empty(), "an empty selector");
    selector.iter().all(|(key, value)| labels[key] == *value)
}

/// Every pod: its name, its labels and its spec.
pub fn pods(objects: &[Value]) -> Vec<(&str, &Value, &Value)> {
    let mut pods = vec![];
    for object in objects {
        match kind(object) {
            "Deployment" => {
                let template = &object["spec"]["template"];
                pods.push((name(object), &template["metadata"]["labels"], &template["spec"]));
            }
            "Pod" => pods.push((name(object), &object["metadata"]["labels"], &object["spec"])),
            "Job" | "DaemonSet" | "StatefulSet" | "CronJob" => panic!("teach this function {}", kind(object)),
            _ => {}
        }
    }
    pods
}
