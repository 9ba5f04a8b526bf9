//! The bill of materials once more, as SPDX 2.3.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Value, json};

/// A name that is no address, only unique: documents of one content have one.
const NAMESPACE: &str = "https://pod-reloader.cs.sap.com/spdx";

/// Converts what `cyclonedx::complete` made. `name` is that of the document.
pub(crate) fn convert(bill: &Value, name: &str, created: &str) -> anyhow::Result<Value> {
    let root = &bill["metadata"]["component"];
    let components = bill["components"].as_array().context("there are no components")?;
    // By the reference of CycloneDX.
    let mut ids = BTreeMap::new();
    let mut packages = vec![];
    for (component, purpose) in std::iter::once((root, "APPLICATION"))
        .chain(components.iter().map(|component| (component, "LIBRARY")))
    {
        let reference = component["bom-ref"].as_str().context("a component has no reference")?;
        let package = package(component, purpose)?;
        ids.insert(reference, package["SPDXID"].clone());
        packages.push(package);
    }
    let id = |reference: &Value| {
        let reference = reference.as_str().context("a dependency has no reference")?;
        ids.get(reference).with_context(|| format!("{reference} is no component"))
    };
    let mut relationships =
        vec![relationship(&json!("SPDXRef-DOCUMENT"), "DESCRIBES", id(&root["bom-ref"])?)];
    for dependency in bill["dependencies"].as_array().into_iter().flatten() {
        for on in dependency["dependsOn"].as_array().into_iter().flatten() {
            relationships.push(relationship(id(&dependency["ref"])?, "DEPENDS_ON", id(on)?));
        }
    }
    let mut creators = vec![json!("Organization: pod-reloader")];
    for tool in bill["metadata"]["tools"].as_array().into_iter().flatten() {
        creators.push(json!(format!("Tool: {}-{}", string(tool, "name")?, string(tool, "version")?)));
    }
    let content = json!([packages, relationships, creators, created]);
    let digest = super::sha256(content.to_string().as_bytes());
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("{NAMESPACE}/{name}-{digest}"),
        "creationInfo": {"created": created, "creators": creators},
        "documentDescribes": [id(&root["bom-ref"])?],
        "packages": packages,
        "relationships": relationships,
    }))
}

fn string<'a>(object: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    object[key].as_str().with_context(|| format!("there is no {key} in {object}"))
}

fn relationship(from: &Value, kind: &str, to: &Value) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

fn package(component: &Value, purpose: &str) -> anyhow::Result<Value> {
    let (name, version) = (string(component, "name")?, string(component, "version")?);
    // Identifiers have letters, digits, dots and hyphens.
    let id: String = format!("SPDXRef-{name}-{version}")
        .chars()
        .map(|one| if one.is_ascii_alphanumeric() || one == '-' { one } else { '.' })
        .collect();
    let purl = string(component, "purl")?;
    // Those that are not from there are ours, or the toolchain's.
    let has_package = string(component, "bom-ref")?.starts_with("registry+");
    let download = if has_package {
        format!("https://crates.io/api/v1/crates/{name}/{version}/download")
    } else {
        "NOASSERTION".to_owned()
    };
    let mut references = vec![
        json!({"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}),
    ];
    if let Some(cpe) = component["cpe"].as_str() {
        references.push(
            json!({"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": cpe}),
        );
    }
    let mut package = json!({
        "SPDXID": id,
        "name": name,
        "versionInfo": version,
        "primaryPackagePurpose": purpose,
        "supplier": "NOASSERTION",
        "downloadLocation": download,
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": component["licenses"][0]["expression"].as_str().unwrap_or("NOASSERTION"),
        "copyrightText": "NOASSERTION",
        "externalRefs": references,
    });
    if let Some(sum) = component["hashes"][0]["content"].as_str() {
        package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sum}]);
    }
    Ok(package)
}

#[cfg(test)]
mod tests {
    use super::super::cyclonedx::tests::completed;
    use super::*;

    const CREATED: &str = "2026-01-31T00:00:00Z";

    #[test]
    fn it_has_the_same_packages_and_how_they_depend_on_each_other() {
        let document = convert(&completed(), "pod-reloader-1.0.0-linux-amd64", CREATED).unwrap();
        assert_eq!(document["spdxVersion"], "SPDX-2.3");
        assert_eq!(document["creationInfo"]["creators"][1], "Tool: cargo-cyclonedx-0.5.9");
        let ids: Vec<_> = document["packages"].as_array().unwrap().iter().map(|one| &one["SPDXID"]).collect();
        assert_eq!(
            ids,
            [
                "SPDXRef-pod-reloader-1.0.0",
                "SPDXRef-glibc-2.36",
                "SPDXRef-rust-std-1.95.0",
                "SPDXRef-serde-1.0.229"
            ]
        );
        let relationships: Vec<_> = document["relationships"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                (one["relationshipType"].as_str().unwrap(), one["relatedSpdxElement"].as_str().unwrap())
            })
            .collect();
        assert_eq!(
            relationships,
            [
                ("DESCRIBES", "SPDXRef-pod-reloader-1.0.0"),
                ("DEPENDS_ON", "SPDXRef-glibc-2.36"),
                ("DEPENDS_ON", "SPDXRef-rust-std-1.95.0"),
                ("DEPENDS_ON", "SPDXRef-serde-1.0.229"),
            ]
        );
        let serde = &document["packages"][3];
        assert_eq!(serde["checksums"], json!([{"algorithm": "SHA256", "checksumValue": "5a15"}]));
        assert_eq!(serde["downloadLocation"], "https://crates.io/api/v1/crates/serde/1.0.229/download");
        assert_eq!(document["packages"][0]["downloadLocation"], "NOASSERTION");
    }

    #[test]
    fn the_same_content_has_the_same_name_and_another_content_another() {
        let first = convert(&completed(), "name", CREATED).unwrap();
        assert_eq!(first, convert(&completed(), "name", CREATED).unwrap());
        let mut bill = completed();
        bill["components"][2]["version"] = json!("1.0.230");
        let second = convert(&bill, "name", CREATED).unwrap();
        assert_ne!(first["documentNamespace"], second["documentNamespace"]);
    }

    #[test]
    fn a_dependency_that_is_no_component_is_an_error() {
        let mut bill = completed();
        bill["dependencies"][0]["dependsOn"][0] = json!("nowhere");
        assert!(convert(&bill, "name", CREATED).unwrap_err().to_string().contains("nowhere"));
    }
}
