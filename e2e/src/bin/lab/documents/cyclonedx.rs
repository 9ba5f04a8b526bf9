//! Completes the bill of materials that cargo-cyclonedx writes: it knows crates only, and names folders.

use anyhow::Context as _;
use serde_json::{Value, json};

/// What a binary has besides crates.
#[derive(Debug)]
pub(crate) struct Linked {
    /// SHA-256 of the binary.
    pub(crate) binary: String,
    pub(crate) glibc: String,
    pub(crate) rust: String,
}

/// The document with the libraries that are linked, with the binary's digest, and without the folder's name.
pub(crate) fn complete(text: &str, folder: &str, linked: &Linked) -> anyhow::Result<Value> {
    let mut bill: Value = serde_json::from_str(&text.replace(&format!("file://{folder}"), "file:///src"))?;
    let root = bill.pointer_mut("/metadata/component").context("no component is described")?;
    tidy_identity(root);
    let root = root.as_object_mut().context("the component is no object")?;
    root.insert("hashes".into(), json!([{"alg": "SHA-256", "content": linked.binary}]));
    // The binaries of a package are components within it, which say nothing more.
    root.remove("components");
    let root = root.get("bom-ref").cloned().context("the component has no reference")?;

    let Linked { glibc, rust, .. } = linked;
    let components = array_mut(&mut bill, "components")?;
    components.iter_mut().for_each(tidy_identity);
    // A scanner for vulnerabilities should know of what else is in the binary.
    components.splice(
        0..0,
        [
            library("glibc", glibc, "LGPL-2.1-or-later", "gnu:glibc"),
            library("rust-std", rust, "Apache-2.0 OR MIT", "rust-lang:rust"),
        ],
    );
    for dependency in array_mut(&mut bill, "dependencies")? {
        if dependency["ref"] == root {
            array_mut(dependency, "dependsOn")?.splice(0..0, [json!("glibc"), json!("rust-std")]);
        }
    }
    Ok(bill)
}

fn array_mut<'a>(object: &'a mut Value, key: &str) -> anyhow::Result<&'a mut Vec<Value>> {
    object.get_mut(key).and_then(Value::as_array_mut).with_context(|| format!("there are no {key}"))
}

fn library(name: &str, version: &str, licence: &str, cpe: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": name,
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": [{"expression": licence}],
        "cpe": format!("cpe:2.3:a:{cpe}:{version}:*:*:*:*:*:*:*"),
        "purl": format!("pkg:generic/{name}@{version}"),
    })
}

/// A folder is nowhere to download a crate from, and blanks in a licence mean nothing.
fn tidy_identity(component: &mut Value) {
    if let Some(Value::String(purl)) = component.get_mut("purl")
        && let Some(at) = purl.find("?download_url=file:")
    {
        purl.truncate(at);
    }
    for licence in component.get_mut("licenses").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::String(expression)) = licence.get_mut("expression") {
            *expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const LOCAL: &str = "path+file:///tmp/copy/crates/pod-reloader#1.0.0";

    /// What cargo-cyclonedx writes, cut short.
    pub(crate) fn written() -> String {
        let serde = "registry+https://github.com/rust-lang/crates.io-index#serde@1.0.229";
        json!({
            "bomFormat": "CycloneDX", "specVersion": "1.5",
            "metadata": {
                "tools": [{"vendor": "CycloneDX", "name": "cargo-cyclonedx", "version": "0.5.9"}],
                "component": {
                    "type": "application", "bom-ref": LOCAL, "name": "pod-reloader", "version": "1.0.0",
                    "licenses": [{"expression": "Apache-2.0"}],
                    "purl": "pkg:cargo/pod-reloader@1.0.0?download_url=file://.#src/main.rs",
                },
            },
            "components": [{
                "type": "library", "bom-ref": serde, "name": "serde", "version": "1.0.229",
                "licenses": [{"expression": "MIT  OR  Apache-2.0"}],
                "hashes": [{"alg": "SHA-256", "content": "5a15"}], "purl": "pkg:cargo/serde@1.0.229",
            }],
            "dependencies": [{"ref": LOCAL, "dependsOn": [serde]}, {"ref": serde}],
        })
        .to_string()
    }

    pub(crate) fn completed() -> Value {
        let linked = Linked { binary: "abcd".into(), glibc: "2.36".into(), rust: "1.95.0".into() };
        complete(&written(), "/tmp/copy", &linked).unwrap()
    }

    #[test]
    fn it_names_what_is_linked_and_no_folder() {
        let bill = completed();
        let names: Vec<_> = bill["components"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["glibc", "rust-std", "serde"]);
        assert_eq!(bill["components"][0]["version"], "2.36");
        assert_eq!(bill["components"][2]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let root = &bill["metadata"]["component"];
        assert_eq!(root["bom-ref"], "path+file:///src/crates/pod-reloader#1.0.0");
        assert_eq!(root["purl"], "pkg:cargo/pod-reloader@1.0.0");
        assert_eq!(root["hashes"][0]["content"], "abcd");
        assert!(!bill.to_string().contains("/tmp/copy"));
        assert_eq!(bill["dependencies"][0]["dependsOn"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn what_is_no_bill_of_materials_is_refused() {
        let linked = Linked { binary: String::new(), glibc: String::new(), rust: String::new() };
        for text in ["", "[]", "{}", r#"{"metadata": {"component": {"bom-ref": "a"}}}"#] {
            assert!(complete(text, "/tmp/copy", &linked).is_err(), "{text}");
        }
    }
}
