//! What is generated, and what is said in several places.

use std::fs;
use std::process::Command;

use pod_reloader_e2e::{chart, paths};
use serde_json::Value;

use crate::helm::parse;

#[test]
fn schema_and_readme_are_what_the_values_give() {
    let output = Command::new(paths::root().join("charts/generate.sh")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Without a description, README.md has a line that says nothing.
#[test]
fn every_value_has_a_description() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(chart::folder().join("values.schema.json")).unwrap())
            .unwrap();
    let mut bare = vec![];
    let mut seen = 0;
    visit(&schema, "", &mut |path, property| {
        seen += 1;
        if property["description"].as_str().is_none_or(str::is_empty) {
            bare.push(path.to_owned());
        }
    });
    assert!(bare.is_empty(), "without a description: {bare:?}");
    assert!(seen > 60, "{seen} values");
}

/// Calls `look` for each value that has no further ones below it.
fn visit(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        if property["properties"].is_null() {
            look(&path, property);
        } else {
            visit(property, &path, look);
        }
    }
}

#[test]
fn chart_and_operator_have_one_version_and_one_image() {
    let read = |file| parse(&fs::read_to_string(chart::folder().join(file)).unwrap()).unwrap().remove(0);
    let metadata = read("Chart.yaml");
    assert_eq!(metadata["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(metadata["appVersion"], concat!("v", env!("CARGO_PKG_VERSION")));
    // What SAP's image is replaced by.
    let repository = &read("values.yaml")["image"]["repository"];
    assert_eq!(metadata["annotations"]["pod-reloader/image-repository"], *repository);
}
