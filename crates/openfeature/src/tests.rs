use serde_json::json;
use tagged_config_proto::v1::{BatchGetConfigResponse, GetConfigResponse, KeyError};

use super::*;

/// The table of shapes, which order-service's tests use too.
const SHAPES: &str = include_str!("../../../docs/values.json");
const PAGE: &str = include_str!("../../../docs/values.md");

fn snapshot(key: &str, value: &str, content_type: &str) -> Snapshot {
    Snapshot::from(BatchGetConfigResponse {
        entries: vec![GetConfigResponse {
            key: key.to_owned(),
            value: value.to_owned(),
            content_type: content_type.to_owned(),
            ..Default::default()
        }],
        missing: vec!["tenant_config_missing".to_owned()],
        errors: vec![KeyError {
            key: "tenant_config_secret".to_owned(),
            code: 12,
            message: "a secret is not watched".to_owned(),
        }],
    })
}

fn read(value: &str, content_type: &str) -> EvaluationResult<Evaluated> {
    let snapshot = snapshot("tenant_config_x", value, content_type);
    Evaluated::read(&snapshot, "x", true)
}

fn evaluated(value: &str) -> Evaluated {
    read(value, "application/json").unwrap()
}

/// A resolver's result in the table's words.
fn outcome<T: serde::Serialize>(result: EvaluationResult<ResolutionDetails<T>>) -> Json {
    match result {
        Ok(details) => json!(details.value),
        Err(error) => json!({ "error": error.code.to_string() }),
    }
}

/// Point 6: both consumers agree on one table of shapes. Findings: cases 1 and 2.
#[test]
fn every_shape_resolves_as_the_table_says() {
    let shapes: Vec<Json> = serde_json::from_str(SHAPES).unwrap();
    assert!(shapes.len() > 20);
    for shape in shapes {
        let value = shape["value"].as_str().unwrap();
        let content_type = shape["contentType"].as_str().unwrap_or("application/json");
        let read = || read(value, content_type);
        let structure = read()
            .and_then(|flag| flag.structure())
            .map(|_| ResolutionDetails::<String>::new("structure".to_owned()));
        for (resolver, found) in [
            ("boolean", outcome(read().and_then(|flag| flag.boolean()))),
            ("string", outcome(read().and_then(|flag| flag.string()))),
            ("integer", outcome(read().and_then(|flag| flag.integer()))),
            ("float", outcome(read().and_then(|flag| flag.float()))),
            ("structure", outcome(structure)),
        ] {
            let expected = match &shape[resolver] {
                Json::Null => json!({"error": "TYPE_MISMATCH"}),
                Json::String(code) if code.starts_with('!') => json!({ "error": &code[1..] }),
                other => other.clone(),
            };
            assert_eq!(found, expected, "{resolver} of {value}");
        }
    }
}

/// The page shows the table that the tests use.
#[test]
fn the_page_has_every_shape() {
    let shapes: Vec<Json> = serde_json::from_str(SHAPES).unwrap();
    for shape in shapes {
        let cell = |column: &str| match &shape[column] {
            Json::Null => "-".to_owned(),
            Json::String(code) if code.starts_with('!') => code[1..].to_owned(),
            Json::String(text) if text == "structure" => "yes".to_owned(),
            // Whether an exponent has a sign depends on serde_json's features.
            other => format!("`{other}`").replace("e+", "e"),
        };
        let kind = shape["contentType"].as_str();
        let value = shape["value"].as_str().unwrap();
        let row = format!(
            "| `{value}`{} | {} |",
            kind.map(|kind| format!(" ({kind})")).unwrap_or_default(),
            [
                "boolean",
                "string",
                "integer",
                "float",
                "structure",
                "orderFlag",
                "orderNumber",
                "orderString",
            ]
            .map(cell)
            .join(" | ")
        );
        assert!(PAGE.contains(&row), "docs/values.md lacks the row\n{row}");
    }
}

/// Case 1.
#[test]
fn a_flag_is_never_on_by_accident() {
    for value in [
        r#"{"enabled": "false"}"#,
        r#"{"enabled": "true"}"#,
        r#"{"enabled": 0}"#,
        r#"{"enabled": 1}"#,
        r#"{"enabled": null}"#,
        r#"{"enabled": {}, "value": 1, "variant": "a"}"#,
        r#"{"enabled": false, "enabled": true}"#,
    ] {
        let code = read(value, "").unwrap_err().code;
        assert_eq!(code, EvaluationErrorCode::TypeMismatch, "{value}");
    }
}

/// L21 and case 4.
#[test]
fn a_name_that_holds_config_is_found_by_its_short_name() {
    let snapshot = snapshot("tenant_config_new_config_ui", "true", "");
    for name in ["new_config_ui", "tenant_config_new_config_ui"] {
        let flag = Evaluated::read(&snapshot, name, true).unwrap();
        assert!(flag.boolean().unwrap().value);
    }
    for key in ["param_config_x", "blob_config_x", "secret_config_x"] {
        assert_eq!(key_of(key), key);
    }
}

/// Case 4.
#[test]
fn a_key_that_the_cache_does_not_keep_says_so() {
    let snapshot = snapshot("tenant_config_x", "true", "");
    let message = |name| {
        let error = Evaluated::read(&snapshot, name, true).unwrap_err();
        assert_eq!(error.code, EvaluationErrorCode::FlagNotFound);
        error.message.unwrap()
    };
    assert!(message("missing").contains("tenant_config_missing does not exist"));
    assert!(message("other").contains("tenant_config_other is not a key that the cache keeps"));
    let secret = Evaluated::read(&snapshot, "secret", true).unwrap_err();
    assert!(secret.message.unwrap().contains("secret"));
}

/// Case 5, the reading side.
#[test]
fn a_value_that_is_nested_too_deep_says_so() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for value in [
        deep.clone(),
        format!(r#"{{"enabled": true, "value": {deep}}}"#),
    ] {
        let error = read(&value, "").unwrap_err();
        assert_eq!(error.code, EvaluationErrorCode::ParseError);
        assert!(error.message.unwrap().contains("too deep"));
    }
}

#[test]
fn reasons_say_how_current_a_value_is() {
    let mut on = evaluated(r#"{"enabled": true, "variant": "treatment"}"#);
    let details = on.boolean().unwrap();
    assert_eq!(details.reason, Some(EvaluationReason::Static));
    assert_eq!(details.variant.as_deref(), Some("treatment"));
    on.is_current = false;
    let reason = on.boolean().unwrap().reason;
    assert_eq!(reason, Some(EvaluationReason::Other("STALE".to_owned())));
    let off = evaluated(r#"{"enabled": false}"#).boolean().unwrap();
    assert_eq!(off.reason, Some(EvaluationReason::Disabled));
}

#[test]
fn structures_keep_their_types() {
    let found = structure(&json!({"a": 1, "b": 1.5, "c": ["x"], "d": {"e": true}, "f": null}));
    let fields = found.unwrap().fields;
    assert_eq!(fields["a"], Value::Int(1));
    assert_eq!(fields["b"], Value::Float(1.5));
    assert_eq!(
        fields["c"],
        Value::Array(vec![Value::String("x".to_owned())])
    );
    assert!(matches!(&fields["d"], Value::Struct(inner) if inner.fields["e"] == Value::Bool(true)));
    assert_eq!(fields.len(), 4);
    assert!(structure(&json!([1])).is_none());
    assert!(structure(&json!({"a": [null]})).is_none());
}
