//! Whether a value is what its content type says.

use crate::errors::ApiError;

/// What a value is taken for if nothing is said.
pub(crate) const DEFAULT_CONTENT_TYPE: &str = "application/json";
const MAX_CONTENT_TYPE_BYTES: usize = 100;

/// The content type to store, or why the value cannot be stored under it. JSON types must hold JSON.
pub(crate) fn check(value: &str, content_type: &str) -> Result<String, ApiError> {
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
    if (essence == "application/json" || essence.ends_with("+json"))
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(value)
    {
        // The parser's message names the place and never quotes the value.
        return Err(ApiError::Invalid(format!(
            "the value is not JSON ({error}); for other values give their content type, such as text/plain"
        )));
    }
    Ok(content_type.to_owned())
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
                check(value, content_type).is_ok(),
                ok,
                "{value} as {content_type}"
            );
        }
        assert_eq!(check("1", "").unwrap(), DEFAULT_CONTENT_TYPE);
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(check(&deep, "").is_ok(), "nesting costs no stack");
    }
}
