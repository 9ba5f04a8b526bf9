//! JSON Patch as the API server applies it: `gopkg.in/evanphx/json-patch.v4`.

use json_patch::jsonptr::Pointer;
use json_patch::{PatchOperation, TestOperation};
use serde_json::Value;

/// Applies the operations to a copy. The error names the operation that failed.
///
/// The difference to the `json-patch` crate: a `test` for `null` holds where the member is missing, provided that what
/// should contain it is there.
pub(crate) fn apply(document: &Value, operations: &[PatchOperation]) -> Result<Value, String> {
    let mut document = document.clone();
    for operation in operations {
        if let PatchOperation::Test(TestOperation { path, value: Value::Null }) = operation
            && is_null_or_missing(&document, path)
        {
            continue;
        }
        json_patch::patch(&mut document, std::slice::from_ref(operation)).map_err(|error| {
            if matches!(operation, PatchOperation::Test(_)) {
                format!("testing path {} failed: {error}", operation.path())
            } else {
                error.to_string()
            }
        })?;
    }
    Ok(document)
}

/// Whether the parent is there, and the member is null or missing.
fn is_null_or_missing(document: &Value, path: &Pointer) -> bool {
    let Some((parent, _)) = path.split_back() else { return document.is_null() };
    document.pointer(parent.as_str()).is_some_and(Value::is_object)
        && document.pointer(path.as_str()).is_none_or(Value::is_null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_test_holds_where_the_api_servers_would() {
        let document = json!({"metadata": {"annotations": {"a": "1", "n": null}}, "list": ["x"]});
        for (path, value, holds) in [
            ("/metadata/annotations/a", json!("1"), true),
            ("/metadata/annotations/a", json!("2"), false),
            ("/metadata/annotations/a", json!(null), false),
            ("/metadata/annotations/n", json!(null), true),
            ("/metadata/annotations/b", json!(null), true),
            ("/metadata/annotations/b", json!("1"), false),
            ("/metadata/labels", json!(null), true),
            ("/metadata/labels/a", json!(null), false),
            ("/list/0", json!("x"), true),
            ("/list/1", json!(null), false),
        ] {
            let patch = json!([{"op": "test", "path": path, "value": value}]);
            let operations: Vec<PatchOperation> = serde_json::from_value(patch).unwrap();
            assert_eq!(apply(&document, &operations).is_ok(), holds, "{path} {value}");
        }
    }

    #[test]
    fn nothing_is_applied_if_a_later_operation_fails() {
        let document = json!({"a": 1});
        for last in
            [json!({"op": "remove", "path": "/b"}), json!({"op": "replace", "path": "/b", "value": 1})]
        {
            let patch = json!([{"op": "add", "path": "/c", "value": 1}, last]);
            let operations: Vec<PatchOperation> = serde_json::from_value(patch).unwrap();
            assert!(apply(&document, &operations).is_err());
        }
    }
}
