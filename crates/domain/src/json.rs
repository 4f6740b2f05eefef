//! What the service and its clients must agree on about JSON texts.

/// How deep arrays and objects nest in a text that is JSON. Needs no stack, however deep they are.
pub fn nesting(json: &str) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_nest() {
        for (json, depth) in [
            ("1", 0),
            (r#"["[[[", {"{\"[": []}]"#, 3),
            (r#"["[[[", "\"[", {"a": []}]"#, 3),
            (r#"{"a\\": [[1], [2]]}"#, 3),
            ("[[],[],[]]", 2),
        ] {
            assert_eq!(nesting(json), depth, "{json}");
        }
    }
}
