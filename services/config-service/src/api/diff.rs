//! What differs between two values of one key: a JSON Patch, a unified diff, or the two sizes.
//!
//! Pure and bounded, but up to a quarter of a second of work: callers run it off the request threads. The diff quotes the
//! values, so that secrets never come here.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use serde_json::{Value as Json, json};
use similar::TextDiff;
use tagged_config_domain::Value;

/// The largest value that is compared, in bytes; of a larger one only its size is told.
pub(crate) const MAX_DIFF_INPUT_BYTES: u64 = 1024 * 1024;
/// The largest diff that is given, in bytes.
pub(crate) const MAX_DIFF_BYTES: usize = 256 * 1024;
/// What the paths of a patch may take while it is made, in bytes: each operation repeats the whole path.
const MAX_PATH_BYTES: usize = 16 * 1024 * 1024;
/// How long the shortest text diff is looked for; afterwards a longer one is given.
const TEXT_TIMEOUT: Duration = Duration::from_millis(250);
/// Lines of context around each change.
const CONTEXT_LINES: usize = 3;
/// The name of a side that is not there, as `diff` and `git` write it.
const NOTHING: &str = "/dev/null";

/// One of the two values.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    /// The value; no secret.
    pub value: &'a Value,
    /// Its media type.
    pub content_type: &'a str,
    /// Its version, which the header of a text diff names.
    pub version: i64,
}

/// What differs. Its `Debug` tells sizes and never a part of a value.
#[derive(Clone, PartialEq)]
pub(crate) enum Diff {
    /// The same bytes, or nothing on both sides.
    Same,
    /// The operations of an RFC 6902 patch that makes the new value of the old one; never empty. Numbers are as `serde_json`
    /// reads them: integers beyond 64 bits are rounded.
    Json(Vec<Json>),
    /// A unified diff.
    Text(String),
    /// At least one side is no text: only sizes, where a side that is not there has none.
    Bytes {
        /// Bytes of the old value.
        before: u64,
        /// Bytes of the new value.
        after: u64,
    },
    /// A value has more than [`MAX_DIFF_INPUT_BYTES`], or their diff more than [`MAX_DIFF_BYTES`].
    TooLarge {
        /// Bytes of the old value.
        before: u64,
        /// Bytes of the new value.
        after: u64,
    },
}

impl Diff {
    /// As answers spell it.
    pub(crate) fn format(&self) -> &'static str {
        match self {
            Self::Same => "none",
            Self::Json(_) => "json-patch",
            Self::Text(_) => "unified",
            Self::Bytes { .. } => "bytes",
            Self::TooLarge { .. } => "too-large",
        }
    }
}

impl fmt::Debug for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => write!(f, "Same"),
            Self::Json(operations) => write!(f, "Json({} operations)", operations.len()),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Bytes { before, after } => write!(f, "Bytes({before} to {after})"),
            Self::TooLarge { before, after } => write!(f, "TooLarge({before} to {after})"),
        }
    }
}

/// Compares two values; an absent one counts as nothing.
///
/// Two JSON values give a patch. It falls back to the text diff where a side does not parse (`serde_json` refuses more than
/// 128 levels), where the patch would repeat long paths too often, and where both sides are the same JSON in other bytes.
pub(crate) fn between(old: Option<Side<'_>>, new: Option<Side<'_>>) -> Diff {
    let bytes = |side: Option<Side<'_>>| side.map_or(0, |side| side.value.len());
    let (before, after) = (bytes(old), bytes(new));
    if old.map(|side| side.value) == new.map(|side| side.value) {
        return Diff::Same;
    }
    let (Some(old_text), Some(new_text)) = (text_of(old), text_of(new)) else {
        return Diff::Bytes { before, after };
    };
    // The same text, once as bytes of a store that keeps any.
    if old_text == new_text && old.is_some() == new.is_some() {
        return Diff::Same;
    }
    let too_large = Diff::TooLarge { before, after };
    if before.max(after) > MAX_DIFF_INPUT_BYTES {
        return too_large;
    }
    if let Some(operations) = json_patch_of(old, new).filter(|patch| !patch.is_empty()) {
        return if size_of(&operations) > MAX_DIFF_BYTES {
            too_large
        } else {
            Diff::Json(operations)
        };
    }
    unified(old_text, new_text, &name_of(old), &name_of(new)).map_or(too_large, Diff::Text)
}

/// The text of a side; an absent one is empty. A NUL character is in no text that people edit.
fn text_of(side: Option<Side<'_>>) -> Option<&str> {
    side.map_or(Some(""), |side| {
        side.value.as_text().filter(|text| !text.contains('\0'))
    })
}

fn name_of(side: Option<Side<'_>>) -> String {
    side.map_or(NOTHING.to_owned(), |side| {
        format!("version {}", side.version)
    })
}

/// The patch between two JSON values, if both sides are, and if it is worth making.
fn json_patch_of(old: Option<Side<'_>>, new: Option<Side<'_>>) -> Option<Vec<Json>> {
    let parse = |side: Side<'_>| {
        let text = side
            .value
            .as_text()
            .filter(|_| is_json(side.content_type))?;
        serde_json::from_str::<Json>(text).ok()
    };
    match (old, new) {
        (None, None) => Some(Vec::new()),
        (None, Some(new)) => Some(vec![
            json!({ "op": "add", "path": "", "value": parse(new)? }),
        ]),
        (Some(old), None) => {
            parse(old)?;
            Some(vec![json!({ "op": "remove", "path": "" })])
        }
        (Some(old), Some(new)) => {
            let (old, new) = (parse(old)?, parse(new)?);
            let mut paths_left = MAX_PATH_BYTES;
            take_paths(&old, 0, &mut paths_left)?;
            take_paths(&new, 0, &mut paths_left)?;
            // Recurses as deep as the values nest, which the parser limits to 128 levels.
            let patch = json_patch::diff(&old, &new);
            match serde_json::to_value(patch) {
                Ok(Json::Array(operations)) => Some(operations),
                _ => None,
            }
        }
    }
}

/// Takes from `left` what the paths to all parts of a value take together, which bounds those of any patch. `None` if it is
/// not enough.
fn take_paths(value: &Json, path: usize, left: &mut usize) -> Option<()> {
    *left = left.checked_sub(path)?;
    match value {
        // An index has at most 7 digits within the largest value.
        Json::Array(items) => items
            .iter()
            .try_for_each(|item| take_paths(item, path + 8, left)),
        // Each character of a name may be escaped to two.
        Json::Object(members) => members
            .iter()
            .try_for_each(|(name, member)| take_paths(member, path + 1 + 2 * name.len(), left)),
        _ => Some(()),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// How many bytes the operations take as JSON; more than any limit if they cannot be written.
fn size_of(operations: &[Json]) -> usize {
    serde_json::to_vec(operations).map_or(usize::MAX, |json| json.len())
}

/// The unified diff, unless it is larger than [`MAX_DIFF_BYTES`].
fn unified(old: &str, new: &str, old_name: &str, new_name: &str) -> Option<String> {
    let diff = TextDiff::configure()
        .timeout(TEXT_TIMEOUT)
        .diff_lines(old, new);
    let mut text = Bounded(String::new());
    write!(
        text,
        "{}",
        diff.unified_diff()
            .context_radius(CONTEXT_LINES)
            .header(old_name, new_name)
    )
    .ok()?;
    Some(text.0)
}

/// A text that refuses to grow beyond [`MAX_DIFF_BYTES`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() + part.len() > MAX_DIFF_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use proptest::prelude::*;
    use tagged_config_domain::Remote;

    use super::*;

    const JSON: &str = "application/json";
    const TEXT: &str = "text/plain";

    fn diff_as(content_type: &str, old: Option<&str>, new: Option<&str>) -> Diff {
        let (old, new) = (old.map(Value::from), new.map(Value::from));
        let side = |value, version| Side {
            value,
            content_type,
            version,
        };
        between(
            old.as_ref().map(|value| side(value, 1)),
            new.as_ref().map(|value| side(value, 2)),
        )
    }

    fn operations(diff: Diff) -> Json {
        match diff {
            Diff::Json(operations) => Json::Array(operations),
            other => panic!("{other:?}"),
        }
    }

    fn text(diff: Diff) -> String {
        match diff {
            Diff::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn equal_values_do_not_differ() {
        for content_type in [JSON, TEXT] {
            assert_eq!(diff_as(content_type, Some("{}"), Some("{}")), Diff::Same);
            assert_eq!(diff_as(content_type, None, None), Diff::Same);
        }
        let (text, bytes) = (Value::from("{}"), Value::from(Bytes::from_static(b"{}")));
        let side = |value| Side {
            value,
            content_type: TEXT,
            version: 1,
        };
        assert_eq!(between(Some(side(&text)), Some(side(&bytes))), Diff::Same);
    }

    #[test]
    fn json_gives_the_patch_that_makes_the_new_of_the_old() {
        for (old, new, patch) in [
            (
                r#"{"a": 1, "b": {"c": "x"}}"#,
                r#"{"a": 2, "b": {}, "d": null}"#,
                json!([
                    {"op": "replace", "path": "/a", "value": 2},
                    {"op": "remove", "path": "/b/c"},
                    {"op": "add", "path": "/d", "value": null},
                ]),
            ),
            (
                r#"{"a/b~c": "grün"}"#,
                r#"{"a/b~c": "grün 🦀"}"#,
                json!([{"op": "replace", "path": "/a~1b~0c", "value": "grün 🦀"}]),
            ),
            (
                "[1, 2, 3]",
                "[1]",
                json!([{"op": "remove", "path": "/1"}, {"op": "remove", "path": "/1"}]),
            ),
            (
                "1",
                "[]",
                json!([{"op": "replace", "path": "", "value": []}]),
            ),
        ] {
            for content_type in [JSON, "Application/Problem+JSON; charset=utf-8"] {
                let found = operations(diff_as(content_type, Some(old), Some(new)));
                assert_eq!(found, patch, "{old} to {new}");
            }
        }
    }

    #[test]
    fn an_absent_side_counts_as_nothing() {
        assert_eq!(
            operations(diff_as(JSON, None, Some("[1]"))),
            json!([{"op": "add", "path": "", "value": [1]}])
        );
        assert_eq!(
            operations(diff_as(JSON, Some("[1]"), None)),
            json!([{"op": "remove", "path": ""}])
        );
        assert_eq!(
            text(diff_as(TEXT, None, Some("a\nb\n"))),
            "--- /dev/null\n+++ version 2\n@@ -0,0 +1,2 @@\n+a\n+b\n"
        );
        assert_eq!(
            text(diff_as(TEXT, Some("a\n"), None)),
            "--- version 1\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
        );
    }

    #[test]
    fn an_empty_text_is_not_an_absent_one() {
        for (old, new) in [(None, Some("")), (Some(""), None)] {
            let diff = text(diff_as(TEXT, old, new));
            assert!(diff.is_empty(), "no line differs: {diff}");
        }
    }

    #[test]
    fn text_gives_a_unified_diff_with_three_lines_around() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = old.replace('5', "fünf 🦀");
        assert_eq!(
            text(diff_as(TEXT, Some(old), Some(&new))),
            "--- version 1\n+++ version 2\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+fünf 🦀\n 6\n 7\n 8\n"
        );
    }

    #[test]
    fn a_missing_newline_at_the_end_is_told() {
        assert_eq!(
            text(diff_as(TEXT, Some("a\nb"), Some("a\nb\n"))),
            "--- version 1\n+++ version 2\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"
        );
    }

    #[test]
    fn the_same_json_in_other_bytes_gives_the_text_diff() {
        let diff = text(diff_as(JSON, Some("[1,2]"), Some("[1, 2]")));
        assert!(
            diff.contains("-[1,2]\n") && diff.contains("+[1, 2]\n"),
            "{diff}"
        );
        // Beyond 64 bits a number is rounded, and the patch would be empty.
        let large = "12345678901234567890123456789";
        let diff = text(diff_as(
            JSON,
            Some(large),
            Some("12345678901234567890123456788"),
        ));
        assert!(diff.contains(large), "{diff}");
    }

    #[test]
    fn what_does_not_parse_gives_the_text_diff() {
        let deep = "[".repeat(5_000) + &"]".repeat(5_000);
        for (old, new) in [("{", "{}"), ("{}", "{"), ("[]", &deep), (&deep, "[]")] {
            let diff = text(diff_as(JSON, Some(old), Some(new)));
            assert!(diff.starts_with("--- version 1\n"), "{diff}");
        }
        let diff = text(diff_as(JSON, None, Some("{")));
        assert!(diff.contains("+{"), "{diff}");
    }

    #[test]
    fn json_and_text_give_the_text_diff() {
        let (old, new) = (Value::from("{}"), Value::from("{x"));
        let side = |value, content_type| Side {
            value,
            content_type,
            version: 1,
        };
        let diff = between(Some(side(&old, JSON)), Some(side(&new, TEXT)));
        assert!(text(diff).contains("+{x\n"));
    }

    #[test]
    fn bytes_give_sizes_only() {
        let side = |value| Side {
            value,
            content_type: JSON,
            version: 1,
        };
        let bytes = |before, after| Diff::Bytes { before, after };
        let (text, binary) = (
            Value::from("[]"),
            Value::from(Bytes::from_static(b"\xff\x00\x01")),
        );
        let zero = Value::from("a\0b");
        let remote = |bytes, name: &str| {
            Value::from(Remote {
                bytes,
                name: name.into(),
            })
        };
        let (far, farther) = (remote(5_000_000, "a"), remote(6_000_000, "b"));
        for (old, new, expected) in [
            (Some(&text), Some(&binary), bytes(2, 3)),
            (Some(&binary), None, bytes(3, 0)),
            (Some(&zero), Some(&text), bytes(3, 2)),
            (Some(&far), Some(&farther), bytes(5_000_000, 6_000_000)),
            (Some(&far), Some(&far), Diff::Same),
            (None, Some(&far), bytes(0, 5_000_000)),
        ] {
            assert_eq!(between(old.map(side), new.map(side)), expected);
        }
    }

    #[test]
    fn a_diff_is_bounded() {
        let lines = |line: &str| line.repeat(MAX_DIFF_BYTES / line.len());
        let (old, new) = (lines("old\n"), lines("new\n"));
        let too_large = |old: &str, new: &str| Diff::TooLarge {
            before: old.len() as u64,
            after: new.len() as u64,
        };
        assert_eq!(diff_as(TEXT, Some(&old), Some(&new)), too_large(&old, &new));
        let json = format!("[{}0]", "10,".repeat(MAX_DIFF_BYTES / 3));
        assert_eq!(
            diff_as(JSON, Some("{}"), Some(&json)),
            too_large("{}", &json)
        );
        let huge = "x".repeat(1_048_577);
        assert_eq!(diff_as(TEXT, Some("x"), Some(&huge)), too_large("x", &huge));
    }

    #[test]
    fn a_hard_diff_ends_in_time() {
        let numbers = |step: u64| {
            let mut state = step;
            std::iter::repeat_with(|| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(step);
                format!("{}\n", state >> 61)
            })
            .take(500_000)
            .collect::<String>()
        };
        let started = Instant::now();
        let (old, new) = (numbers(1), numbers(3));
        let diff = diff_as(TEXT, Some(&old), Some(&new));
        assert!(matches!(diff, Diff::TooLarge { .. }), "{diff:?}");
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
    }

    #[test]
    fn long_paths_are_not_repeated_for_each_item() {
        let value = |item: &str| {
            let name = "n".repeat(200_000);
            format!(
                r#"{{"{name}": [{}{item}]}}"#,
                format!("{item},").repeat(50_000)
            )
        };
        let started = Instant::now();
        let diff = diff_as(JSON, Some(&value("1")), Some(&value("2")));
        assert!(matches!(diff, Diff::TooLarge { .. }), "{diff:?}");
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
    }

    #[test]
    fn nothing_of_a_value_is_printed() {
        let diff = diff_as(JSON, Some("1"), Some("\"needle\""));
        assert_eq!(format!("{diff:?}"), "Json(1 operations)");
        let diff = diff_as(TEXT, Some("1"), Some("needle"));
        assert!(!format!("{diff:?}").contains("needle"));
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            (0..5_i64).prop_map(Json::from),
            "[a-c/~é]{0,3}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("[a-c/~é]{0,3}", inner, 0..4)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// RFC 6902 applied to the old value gives the new one.
        #[test]
        fn a_patch_leads_from_the_old_to_the_new(old in any_json(), new in any_json()) {
            match diff_as(JSON, Some(&old.to_string()), Some(&new.to_string())) {
                Diff::Same => prop_assert_eq!(old, new),
                Diff::Json(operations) => {
                    let patch: json_patch::Patch = serde_json::from_value(Json::Array(operations))?;
                    let mut patched = old;
                    json_patch::patch(&mut patched, &patch)?;
                    prop_assert_eq!(patched, new);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        /// Any two texts are compared without a panic, and what is left or taken is in the diff.
        #[test]
        fn any_texts_are_compared(old in "[ab\\r\\né🦀]{0,12}", new in "[ab\\r\\né🦀]{0,12}") {
            match diff_as(TEXT, Some(&old), Some(&new)) {
                Diff::Same => prop_assert_eq!(old, new),
                Diff::Text(diff) => prop_assert!(diff.starts_with("--- version 1\n+++ version 2\n@@ ")),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
