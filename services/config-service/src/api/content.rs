//! Checks that a value is what its content type says, and that clients can parse it.

use tagged_config_domain::{Value, json::nesting};

use crate::errors::ApiError;

/// The content type of a value that is written without one.
pub(crate) const DEFAULT_CONTENT_TYPE: &str = "application/json";
const MAX_CONTENT_TYPE_BYTES: usize = 100;
/// Arrays and objects within each other. Common parsers stop soon after: serde_json, and so our own clients, at 128 levels.
/// What is written past this service may be deeper, and is served as the text that it is.
pub(crate) const MAX_JSON_DEPTH: usize = 100;

/// The content type to store, or why the value cannot be stored under it. JSON types must hold JSON.
pub(crate) fn check(value: &Value, content_type: &str) -> Result<String, ApiError> {
    let content_type = if content_type.is_empty() {
        DEFAULT_CONTENT_TYPE
    } else {
        content_type.trim()
    };
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let printable = content_type.bytes().all(|b| (b' '..0x7f).contains(&b));
    let well_formed = essence
        .split_once('/')
        .is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    if !well_formed || !printable || content_type.len() > MAX_CONTENT_TYPE_BYTES {
        return Err(ApiError::Invalid(
            "content_type must be a media type such as application/json".to_owned(),
        ));
    }
    if essence == "application/json" || essence.ends_with("+json") {
        let text = value.as_text().ok_or_else(|| {
            ApiError::Invalid(format!("the value is not UTF-8, and so not {essence}"))
        })?;
        check_json(text)?;
    }
    Ok(content_type.to_owned())
}

fn check_json(value: &str) -> Result<(), ApiError> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(value) {
        // The parser's message names the place and never quotes the value.
        return Err(ApiError::Invalid(format!(
            "the value is not JSON ({error}); for other values give their content type, such as text/plain"
        )));
    }
    let depth = nesting(value);
    if depth > MAX_JSON_DEPTH {
        return Err(ApiError::Invalid(format!(
            "the value nests {depth} levels deep; at most {MAX_JSON_DEPTH} are allowed, since parsers of clients refuse more"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_checked_and_the_default() {
        for (value, content_type, ok) in [
            (r#"{"a": 1}"#, "", true),
            ("1", "application/json", true),
            ("{", "", false),
            ("", "", false),
            ("{\"a\": 1", "application/json; charset=utf-8", false),
            ("{} x", "application/problem+json", false),
            ("half {", "text/plain", true),
            ("", "text/plain", true),
            ("x", "plain", false),
            ("x", "text/", false),
            ("x", "text/pl ain", false),
            ("x", "text/plain\r\nx: y", false),
            ("x", "täxt/plain", false),
        ] {
            assert_eq!(
                check(&value.into(), content_type).is_ok(),
                ok,
                "{value} as {content_type}"
            );
        }
        assert_eq!(check(&"1".into(), "").unwrap(), DEFAULT_CONTENT_TYPE);
    }

    #[test]
    fn json_that_clients_could_not_parse_is_refused() {
        let arrays = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let objects = |depth| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        for deepest in [arrays(MAX_JSON_DEPTH), objects(MAX_JSON_DEPTH)] {
            assert!(check(&deepest.as_str().into(), "").is_ok());
            let parsed = serde_json::from_str::<serde_json::Value>(&deepest);
            assert!(parsed.is_ok(), "a client can read what is accepted");
        }
        for too_deep in [arrays(MAX_JSON_DEPTH + 1), objects(200), arrays(100_000)] {
            let refused = check(&too_deep.as_str().into(), "application/problem+json");
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("levels deep; at most 100"), "{message}");
            assert!(
                check(&too_deep.as_str().into(), "text/plain").is_ok(),
                "no JSON, no limit"
            );
        }
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        assert!(check(&format!("\"{}\"", "[".repeat(1_000)).into(), "").is_ok());
    }
}
