use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use tagged_config_domain::Remote;

use super::*;

/// More than any check takes, also in a debug build on a busy machine, and less than one without a bound.
const LONG: Duration = Duration::from_mins(1);
/// What none of the messages may contain.
const NEEDLE: &str = "nEEdle";

fn schema(schema: &Json) -> Schema {
    Schema::parse(&schema.to_string()).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

fn refusal(schema: &Json) -> SchemaError {
    Schema::parse(&schema.to_string()).expect_err("refused")
}

/// The violations of a value, none if it is valid.
fn check(against: &Json, value: &Json) -> Vec<Violation> {
    let value = Value::from(value.to_string());
    schema(against).check(&value).err().unwrap_or_default()
}

fn check_text(against: &Json, value: &str) -> Vec<Violation> {
    schema(against)
        .check(&value.into())
        .err()
        .unwrap_or_default()
}

fn is_valid(against: &Json, value: &Json) -> bool {
    check(against, value).is_empty()
}

fn array(item: &str, length: usize) -> String {
    format!("[{}]", vec![item; length].join(","))
}

fn nested(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

/// Runs on a stack as small as that of a worker thread, and panics if it takes too long.
fn in_time<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let started = Instant::now();
    let result = thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(2 * 1024 * 1024);
        worker.spawn_scoped(scope, work).unwrap().join().unwrap()
    });
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
    result
}

// === names ===

#[test]
fn a_key_is_covered_by_its_name_and_those_above_it() {
    let names = |key: &str| names_covering(&ConfigKey::parse(key).unwrap());
    assert_eq!(
        names("tenant_config_payments/limits"),
        [
            "tenant_config_payments/limits",
            "tenant_config_payments",
            "tenant_config"
        ]
    );
    assert_eq!(names("param_config_x"), ["param_config_x", "param_config"]);
    assert_eq!(
        names("tenant_config_a_config_b/c"),
        [
            "tenant_config_a_config_b/c",
            "tenant_config_a_config_b",
            "tenant_config"
        ]
    );
    assert_eq!(names("tenant_config_1/2/3/4/5/6/7/8/9/10/11").len(), 12);
}

#[test]
fn a_schema_is_covered_by_none() {
    let key = ConfigKey::parse("schema_config_tenant_config_payments").unwrap();
    assert_eq!(names_covering(&key), Vec::<String>::new());
}

#[test]
fn names_that_are_too_long_are_left_out() {
    let key = format!("tenant_config_a/{}", "b".repeat(190));
    let names = names_covering(&ConfigKey::parse(&key).unwrap());
    assert_eq!(names, ["tenant_config_a", "tenant_config"]);
}

proptest! {
    /// Each name that covers a key is the name of a key itself.
    #[test]
    fn covering_names_can_be_written(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,60}(/[A-Za-z0-9_-]{1,20}){0,10}") {
        if let Ok(key) = ConfigKey::parse(&format!("tenant_config_{name}")) {
            let names = names_covering(&key);
            prop_assert!(names.len() <= 12);
            for name in names {
                prop_assert!(ConfigKey::parse(&format!("{TAG}_config_{name}")).is_ok(), "{}", name);
            }
        }
    }
}

// === schemas ===

#[test]
fn a_schema_is_an_object_or_a_boolean() {
    for text in ["true", "false", "{}", r#"{"type": "object"}"#] {
        assert!(Schema::parse(text).is_ok(), "{text}");
    }
    for text in ["null", "1", "[]", "\"object\""] {
        assert_eq!(Schema::parse(text).unwrap_err(), SchemaError::NotASchema);
    }
    for text in ["", "{", "{} {}", "{\"type\": }"] {
        let error = Schema::parse(text).unwrap_err();
        assert!(matches!(error, SchemaError::NotJson { .. }), "{error}");
    }
}

#[test]
fn a_schema_that_is_too_large_or_too_deep_is_refused() {
    let padded = |length: usize| format!("{{{}}}", " ".repeat(length - 2));
    assert!(Schema::parse(&padded(MAX_SCHEMA_BYTES)).is_ok());
    let bytes = MAX_SCHEMA_BYTES + 1;
    assert_eq!(
        Schema::parse(&padded(bytes)).unwrap_err(),
        SchemaError::TooLarge { bytes }
    );
    let deep = |levels: usize| format!("{{\"const\":{}}}", nested(levels - 1));
    assert!(Schema::parse(&deep(MAX_SCHEMA_DEPTH)).is_ok());
    for levels in [MAX_SCHEMA_DEPTH + 1, 10_000] {
        assert_eq!(
            Schema::parse(&deep(levels)).unwrap_err(),
            SchemaError::TooDeep { levels }
        );
    }
    let many = |count: usize| json!({ "anyOf": vec![json!({}); count] });
    assert!(Schema::parse(&many(MAX_SUBSCHEMAS - 1).to_string()).is_ok());
    assert_eq!(
        refusal(&many(MAX_SUBSCHEMAS)),
        SchemaError::TooManySubschemas
    );
    let name = "n".repeat(4_000);
    let long: serde_json::Map<_, _> = (0..900).map(|n| (n.to_string(), json!({}))).collect();
    let long = json!({ "properties": { name: { "properties": long } } });
    assert_eq!(refusal(&long), SchemaError::LongPaths);
}

#[test]
fn only_one_dialect_is_supported() {
    assert!(is_valid(&json!({ "$schema": DIALECT }), &json!(1)));
    let with_fragment = format!("{DIALECT}#");
    assert!(is_valid(&json!({ "$schema": with_fragment }), &json!(1)));
    for other in [
        "http://json-schema.org/draft-07/schema#",
        "https://example.com/dialect",
        "",
    ] {
        let part = json!({"$defs": {"a": {"$id": "a", "$schema": other}}});
        for schema in [json!({ "$schema": other }), part] {
            let message = refusal(&schema).to_string();
            assert!(message.contains(DIALECT), "{message}");
        }
    }
    let error = refusal(&json!({"$schema": 7}));
    assert!(matches!(error, SchemaError::Dialect { .. }), "{error}");
}

#[test]
fn a_schema_must_be_valid_against_the_meta_schema() {
    for (schema, pointer, reason) in [
        (json!({"type": "intger"}), "/type", "anyOf: none of"),
        (
            json!({"properties": {"a": {"minLength": -1}}}),
            "/properties/a/minLength",
            "minimum: must be at least 0",
        ),
        (json!({"items": [{}]}), "/items", "type: must be one of"),
        (json!({"required": "a"}), "/required", "type: must be array"),
    ] {
        match refusal(&schema) {
            SchemaError::Invalid {
                pointer: found,
                reason: message,
            } => {
                assert_eq!(found, pointer);
                assert!(message.starts_with(reason), "{message}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_reference_out_of_the_document_is_refused_by_name() {
    for reference in [
        "https://example.com/a.json",
        "https://example.com/a.json#/b",
        "file:///etc/passwd",
        "other.json",
        "urn:a:b",
        "//example.com/a",
        DIALECT,
        "https://json-schema.org/draft/2020-12/meta/core",
        "http://json-schema.org/draft-07/schema#",
    ] {
        for keyword in ["$ref", "$dynamicRef"] {
            for schema in [
                json!({ keyword: reference }),
                json!({"properties": {"a": {"not": {keyword: reference}}}}),
                json!({"$defs": {"unused": {keyword: reference}}}),
                json!({"$ref": "#/x", "x": {keyword: reference}}),
            ] {
                let reference = reference.to_owned();
                assert_eq!(refusal(&schema), SchemaError::RemoteReference { reference });
            }
        }
    }
}

#[test]
fn a_reference_to_no_schema_is_refused() {
    for reference in [
        "#/nope",
        "#nope",
        "#/x/y",
        "#/list/01",
        "#/%ff",
        "#/const",
        "#/enum/0",
    ] {
        let schema = json!({
            "properties": {"a": {"$ref": reference}},
            "x": {"y": 1},
            "list": [{}],
            "const": {"type": "string"},
            "enum": [{}],
        });
        let reference = reference.to_owned();
        assert_eq!(refusal(&schema), SchemaError::DeadReference { reference });
    }
}

#[test]
fn what_looks_like_a_reference_in_data_is_none() {
    let data = json!({"$ref": "https://example.com/a", "$id": "b", "$schema": "c"});
    assert!(is_valid(&json!({ "const": data, "default": data }), &data));
    assert!(is_valid(&json!({ "enum": [data] }), &data));
    assert!(!is_valid(&json!({ "const": data }), &json!({})));
}

#[test]
fn references_within_the_document_are_followed() {
    let integer = json!({"type": "integer"});
    for schema in [
        json!({"$ref": "#/$defs/a", "$defs": {"a": integer}}),
        json!({"$ref": "#/$defs/a~1b%25c", "$defs": {"a/b%c": integer}}),
        json!({"$ref": "#name", "$defs": {"a": {"$anchor": "name", "type": "integer"}}}),
        json!({"$dynamicRef": "#name", "$defs": {"a": {"$dynamicAnchor": "name", "type": "integer"}}}),
        json!({"$ref": "#/anywhere/0", "anywhere": [integer]}),
        json!({"$ref": "part", "$defs": {"a": {"$id": "part", "type": "integer"}}}),
        json!({
            "$id": "https://example.com/root.json",
            "$ref": "parts/a.json#name",
            "$defs": {"a": {"$id": "parts/a.json", "$defs": {"b": {"$anchor": "name", "$ref": "b.json"}}},
                "b": {"$id": "https://example.com/parts/b.json", "type": "integer"}},
        }),
    ] {
        assert!(is_valid(&schema, &json!(1)), "{schema}");
        assert!(!is_valid(&schema, &json!("1")), "{schema}");
    }
    let tree = json!({"type": "object", "additionalProperties": {"$ref": "#"}});
    assert!(is_valid(&tree, &json!({"a": {"b": {}}})));
    let violations = check(&tree, &json!({"a": {"b": 1}}));
    assert_eq!(violations[0].pointer, "/a/b");
    assert_eq!(violations[0].keyword, "/type");
}

#[test]
fn a_name_must_be_unique_and_well_formed() {
    for schema in [
        json!({"$defs": {"a": {"$id": "x"}, "b": {"$id": "x"}}}),
        json!({"$defs": {"a": {"$anchor": "x"}, "b": {"$dynamicAnchor": "x"}}}),
        json!({"$id": "http://[", "type": "object"}),
        json!({"$id": "x".repeat(2_000)}),
    ] {
        assert!(
            matches!(refusal(&schema), SchemaError::Name { .. }),
            "{schema}"
        );
    }
    let dynamic = json!({
        "$dynamicAnchor": "x",
        "properties": {"a": {"$id": "a", "$dynamicAnchor": "x", "items": {"$dynamicRef": "#x"}}},
    });
    let error = refusal(&dynamic);
    assert!(
        matches!(error, SchemaError::DynamicReference { .. }),
        "{error}"
    );
}

#[test]
fn a_reference_cycle_must_descend() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"if": {"not": {"$ref": "#"}}}),
        json!({"dependentSchemas": {"a": {"$ref": "#"}}}),
        json!({"$dynamicAnchor": "x", "anyOf": [{"$dynamicRef": "#x"}]}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    ] {
        let error = refusal(&schema);
        assert!(
            matches!(error, SchemaError::Cycle { .. }),
            "{schema}: {error}"
        );
    }
    for keyword in ["items", "contains", "additionalProperties", "propertyNames"] {
        schema(&json!({ keyword: {"$ref": "#"} }));
    }
}

#[test]
fn regular_expressions_are_bounded() {
    for pattern in [
        "(?=a)b",
        "(?<!a)b",
        r"(a)\1",
        "(?i)a",
        "(?-u:a)",
        "(",
        "a{1000}{1000}",
        r"(\p{L}{1000}){1000}",
        &"a".repeat(MAX_PATTERN_BYTES + 1),
    ] {
        for schema in [
            json!({ "pattern": pattern }),
            json!({ "patternProperties": { pattern: true } }),
        ] {
            let error = refusal(&schema);
            assert!(
                matches!(error, SchemaError::Pattern { .. }),
                "{schema}: {error}"
            );
        }
    }
    for pattern in [
        r"^\(?i",
        "[(?i]",
        "(?:a)",
        "(?<name>a)",
        r"^\p{L}{1,100}$",
        "[$]{2}",
    ] {
        schema(&json!({ "pattern": pattern }));
    }
    let many = (0..=MAX_PATTERNS).map(|n| json!({ "pattern": format!("[ab]+{n}") }));
    let many = json!({ "anyOf": many.collect::<Vec<_>>() });
    assert_eq!(refusal(&many), SchemaError::TooManyPatterns);
}

#[test]
fn schemas_are_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Schema>();
}

// === values ===

#[test]
fn a_violation_names_its_place_and_keyword() {
    let schema = json!({
        "type": "object",
        "required": ["name"],
        "properties": {"limits": {"items": {"$ref": "#/$defs/limit"}}, "a/b~": {"maxLength": 2}},
        "additionalProperties": false,
        "$defs": {"limit": {"properties": {"max": {"type": "integer", "minimum": 0}}}},
    });
    let value = json!({"limits": [{"max": 1}, {"max": -1}, {"max": "x"}], "a/b~": "long", "x": 1, "y/z": 2});
    let violation = |pointer: &str, message: &str, keyword: &str| Violation {
        pointer: pointer.to_owned(),
        message: message.to_owned(),
        keyword: keyword.to_owned(),
    };
    let mut found = check(&schema, &value);
    found.sort_by(|a, b| a.pointer.cmp(&b.pointer));
    let not_allowed = "additionalProperties: this property is not allowed";
    let max = "/$defs/limit/properties/max";
    assert_eq!(
        found,
        [
            violation(
                "",
                "required: the property \"name\" is missing",
                "/required"
            ),
            violation(
                "/a~1b~0",
                "maxLength: must have at most 2 characters",
                "/properties/a~1b~0/maxLength"
            ),
            violation(
                "/limits/1/max",
                "minimum: must be at least 0",
                &format!("{max}/minimum")
            ),
            violation(
                "/limits/2/max",
                "type: must be integer",
                &format!("{max}/type")
            ),
            violation("/x", not_allowed, "/additionalProperties"),
            violation("/y~1z", not_allowed, "/additionalProperties"),
        ]
    );
}

#[test]
fn a_message_never_quotes_the_value() {
    let text = json!(NEEDLE);
    let object = json!({NEEDLE: NEEDLE, "b": [NEEDLE]});
    let list = json!([NEEDLE, NEEDLE, object]);
    let mut keywords = std::collections::BTreeSet::new();
    for (schema, value) in [
        (json!(false), &text),
        (json!({"type": "integer"}), &text),
        (json!({"type": ["integer", "null"]}), &text),
        (json!({"const": "a"}), &text),
        (json!({"enum": ["a", 1]}), &text),
        (json!({"minLength": 10}), &text),
        (json!({"maxLength": 1}), &text),
        (json!({"pattern": "^[0-9]+$"}), &text),
        (json!({"not": {"type": "string"}}), &text),
        (json!({"not": {}}), &text),
        (json!({"allOf": [false]}), &text),
        (
            json!({"anyOf": [{"type": "null"}, {"anyOf": [{"const": 1}]}, false]}),
            &text,
        ),
        (
            json!({"oneOf": [{"type": "null"}, {"pattern": "x"}]}),
            &text,
        ),
        (json!({"oneOf": [true, {}]}), &text),
        (json!({"if": true, "then": {"maxLength": 1}}), &text),
        (json!({"minItems": 10}), &list),
        (json!({"maxItems": 1}), &list),
        (json!({"uniqueItems": true}), &list),
        (json!({"contains": {"type": "null"}}), &list),
        (json!({"contains": true, "maxContains": 1}), &list),
        (json!({"prefixItems": [{"type": "null"}]}), &list),
        (json!({"prefixItems": [true], "items": false}), &list),
        (
            json!({"prefixItems": [true], "unevaluatedItems": false}),
            &list,
        ),
        (json!({"items": {"type": "null"}}), &list),
        (json!({"required": ["c"]}), &object),
        (json!({"minProperties": 10}), &object),
        (json!({"maxProperties": 1}), &object),
        (json!({"propertyNames": {"maxLength": 1}}), &object),
        (
            json!({"propertyNames": {"anyOf": [{"const": "a"}, {"pattern": "^x"}]}}),
            &object,
        ),
        (json!({"propertyNames": {"allOf": [false]}}), &object),
        (json!({"additionalProperties": false}), &object),
        (
            json!({"properties": {"b": true}, "additionalProperties": false}),
            &object,
        ),
        (
            json!({"properties": {"b": true}, "unevaluatedProperties": false}),
            &object,
        ),
        (json!({"unevaluatedProperties": {"type": "null"}}), &object),
        (
            json!({"patternProperties": {"n": {"type": "null"}}}),
            &object,
        ),
        (json!({"dependentRequired": {"b": ["c"]}}), &object),
        (json!({"dependentSchemas": {"b": false}}), &object),
        (
            json!({"anyOf": [{"additionalProperties": false}, {"propertyNames": {"const": "a"}}]}),
            &object,
        ),
        (json!({"minimum": 8}), &json!(7.654_321)),
        (json!({"maximum": 7}), &json!(7.654_321)),
        (json!({"exclusiveMinimum": 8}), &json!(7.654_321)),
        (json!({"exclusiveMaximum": 7}), &json!(7.654_321)),
        (json!({"multipleOf": 2}), &json!(7.654_321)),
    ] {
        let violations = check(&schema, value);
        assert!(!violations.is_empty(), "{schema}");
        for Violation {
            pointer,
            message,
            keyword,
        } in violations
        {
            for quoted in [NEEDLE, "654"] {
                assert!(!message.contains(quoted), "{message}");
                assert!(!keyword.contains(quoted), "{keyword}");
            }
            assert!(value.pointer(&pointer).is_some(), "{pointer} in {value}");
            assert!(schema.pointer(&keyword).is_some(), "{keyword} in {schema}");
            assert!(!message.contains("meter"), "{message}");
            keywords.extend(
                message
                    .split_once(':')
                    .map(|(keyword, _)| keyword.to_owned()),
            );
        }
    }
    assert!(keywords.len() > 25, "{keywords:?}");
}

#[test]
fn what_is_not_json_violates_every_schema_except_true() {
    let remote = Remote {
        bytes: 100,
        name: "a".into(),
    };
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    for value in [
        Value::from("{\"nEEdle\""),
        Value::from(""),
        Value::from("nEEdle"),
        Value::from(Bytes::from_static(b"\"\xff nEEdle\"")),
        Value::from(array("[", 5_000)),
        Value::from(nested(MAX_VALUE_DEPTH + 1)),
        Value::from(nested(100_000)),
        Value::from(remote),
        Value::from(large),
    ] {
        assert_eq!(schema(&json!(true)).check(&value), Ok(()));
        for schema in [json!({}), json!(false), json!({"type": "object"})] {
            let violations = check_value(&schema, &value);
            assert_eq!(violations.len(), 1, "{violations:?}");
            assert_eq!((&*violations[0].pointer, &*violations[0].keyword), ("", ""));
            assert!(!violations[0].message.contains(NEEDLE), "{violations:?}");
        }
    }
    assert!(check_text(&json!({}), &nested(MAX_VALUE_DEPTH)).is_empty());
    assert!(check_value(&json!({}), &Value::from(Bytes::from_static(b"{}"))).is_empty());
}

fn check_value(against: &Json, value: &Value) -> Vec<Violation> {
    schema(against).check(value).err().unwrap_or_default()
}

#[test]
fn few_violations_are_reported() {
    let items = json!({"items": {"type": "string"}});
    assert_eq!(check_text(&items, &array("1", 19)).len(), 19);
    assert_eq!(check_text(&items, &array("1", 1_000)).len(), MAX_VIOLATIONS);
    let names = (0..1_000).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>();
    let closed = json!({"properties": {"a": true}, "additionalProperties": false});
    let violations = check_text(&closed, &format!("{{{}}}", names.join(",")));
    assert_eq!(violations.len(), MAX_VIOLATIONS);
}

#[test]
fn long_pointers_and_quotes_are_shortened() {
    let name = "n".repeat(2_000);
    let value = json!({ "a": { name.clone(): 1 } });
    let schema =
        json!({"properties": {"a": {"additionalProperties": {"enum": ["ä".repeat(5_000), 2]}}}});
    let violations = check(&schema, &value);
    assert_eq!(violations[0].pointer, "/a");
    assert!(violations[0].message.len() < 300, "{violations:?}");
    let violations = check(
        &json!({"properties": {name: {"const": 1}}}),
        &json!({"a": 1}),
    );
    assert_eq!(violations, []);
}

#[test]
fn formats_are_annotations() {
    let schema = json!({"format": "email", "contentMediaType": "application/json", "contentEncoding": "base64"});
    assert!(is_valid(&schema, &json!("no address")));
}

#[test]
fn numbers_are_equal_by_value() {
    assert!(is_valid(&json!({"const": 1}), &json!(1.0)));
    assert!(is_valid(
        &json!({"enum": [0, {"a": [1.0]}]}),
        &json!({"a": [1]})
    ));
    let unique = json!({"uniqueItems": true});
    for (values, distinct) in [
        (json!([1, 1.0]), false),
        (json!([0, -0.0]), false),
        (json!([1, true, "1", null, [1], {"a": 1}]), true),
        (json!([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]), false),
        (
            json!([9_007_199_254_740_993_u64, 9_007_199_254_740_992_u64]),
            true,
        ),
        (json!([[1, 2], [2, 1]]), true),
    ] {
        assert_eq!(is_valid(&unique, &values), distinct, "{values}");
    }
}

// === bounds ===

#[test]
fn an_expression_that_invites_backtracking_ends_at_once() {
    let value = Value::from(format!("\"{}!\"", "a".repeat(50_000)));
    for pattern in ["(a+)+$", "^(a+)+$", "^(a|aa)+$", "(a*)*b", "(x+x+)+y"] {
        let schema = schema(&json!({ "pattern": pattern }));
        let started = Instant::now();
        assert!(schema.check(&value).is_err(), "{pattern}");
        assert!(started.elapsed() < Duration::from_secs(5), "{pattern}");
    }
}

#[test]
fn subschemas_must_not_apply_too_often() {
    let doubling = |levels: usize| {
        let mut definitions = serde_json::Map::new();
        for level in 0..levels {
            let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
            definitions.insert(level.to_string(), json!({ "anyOf": [next, next] }));
        }
        definitions.insert(levels.to_string(), json!({"type": "string"}));
        json!({ "$ref": "#/$defs/0", "$defs": definitions })
    };
    assert!(!is_valid(&doubling(5), &json!(1)));
    for levels in [15, 100] {
        let error = refusal(&doubling(levels));
        assert!(
            matches!(error, SchemaError::TooManyApplications { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_check_ends_however_often_subschemas_apply() {
    let twice = |next: &Json| json!({"anyOf": [{"additionalProperties": next}, {"additionalProperties": next}]});
    let mut definitions = serde_json::Map::new();
    for level in 0..99 {
        let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
        definitions.insert(level.to_string(), twice(&next));
    }
    definitions.insert("99".to_owned(), json!({"type": "string"}));
    let multiplying = json!({ "$ref": "#/$defs/0", "$defs": definitions });
    let value = nested(99);
    let violations = in_time(|| check_text(&multiplying, &value));
    assert_eq!(violations.len(), 1);
    assert!(violations[0].message.contains("too long"), "{violations:?}");
    // The same depth, each level once.
    let recursive = json!({"anyOf": [{"additionalProperties": {"$ref": "#"}, "type": "object"}, {"type": "integer"}]});
    assert!(check_text(&recursive, &value).is_empty());
}

#[test]
fn a_check_of_large_values_ends() {
    let (zeros, objects) = (array("0", 120_000), array("{}", 80_000));
    let names = (0..20_000)
        .map(|n| format!("\"key{n}\":1"))
        .collect::<Vec<_>>();
    let names = format!("{{{}}}", names.join(","));
    let letters = format!("\"{}\"", "ab".repeat(120_000));
    // They round to the same float, and so share a hash.
    let numbers =
        (0..6_000_u64).map(|n| format!("[{},{}]", (1 << 63) + n % 1_000, (1 << 63) + n / 1_000));
    let numbers = format!("[{}]", numbers.collect::<Vec<_>>().join(","));
    for (schema, value) in [
        (json!({"uniqueItems": true}), &numbers),
        (
            json!({"items": {"anyOf": vec![json!({"required": ["a"]}); 300]}}),
            &objects,
        ),
        (
            json!({"items": {"not": {"enum": (0..9_000).collect::<Vec<_>>()}}}),
            &zeros,
        ),
        (
            json!({"items": {"enum": (1..9_000).map(|n| json!([n])).collect::<Vec<_>>()}}),
            &zeros,
        ),
        (json!({"items": {"allOf": vec![true; 900]}}), &zeros),
        (
            json!({"allOf": vec![json!({"multipleOf": 1.2e-300}); 400]}),
            &zeros,
        ),
        (
            json!({"anyOf": vec![json!({"unevaluatedItems": false}); 300]}),
            &zeros,
        ),
        (
            json!({"anyOf": vec![json!({"properties": {"a": {}}, "additionalProperties": false}); 300]}),
            &names,
        ),
        (
            json!({"propertyNames": {"anyOf": vec![json!({"maxLength": 1}); 500]}}),
            &names,
        ),
        (
            json!({"allOf": vec![json!({"pattern": "(a|b)*a(a|b){200}x"}); 50]}),
            &letters,
        ),
        (json!({"pattern": "[ab]{2000}c"}), &letters),
    ] {
        in_time(|| check_text(&schema, value));
    }
}

#[test]
fn long_names_are_not_repeated_for_each_error() {
    let schema = json!({"additionalProperties": {"items": {"type": "string"}}});
    let value = format!("{{\"{}\":{}}}", "n".repeat(200_000), array("1", 20_000));
    let violations = in_time(|| check_text(&schema, &value));
    assert_eq!(violations.len(), 1, "the first one");
    assert_eq!(violations[0].message, "type: must be string");
    assert_eq!(violations[0].pointer, "");
}

#[test]
fn the_stack_is_bounded() {
    let mut chained = json!({"type": ["object", "integer"], "additionalProperties": {"$ref": "#"}});
    for _ in 0..MAX_RECURSION / MAX_VALUE_DEPTH - 3 {
        chained = json!({ "anyOf": [chained] });
    }
    let deepest = nested(MAX_VALUE_DEPTH);
    assert!(in_time(|| check_text(&chained, &deepest)).is_empty());
    let wrong = deepest.replace('1', "null");
    assert!(!in_time(|| check_text(&chained, &wrong)).is_empty());
    for _ in 0..10 {
        chained = json!({ "oneOf": [chained] });
    }
    let violations = in_time(|| check_text(&chained, &deepest));
    assert!(
        violations[0].message.contains("levels deep"),
        "{violations:?}"
    );
    // Compiling follows references within each other.
    let mut definitions = serde_json::Map::new();
    for level in 0..30 {
        let mut part = json!({ "$ref": format!("#/$defs/{}", (level + 1) % 30) });
        for _ in 0..28 {
            part = json!({"properties": {"a": part}});
        }
        definitions.insert(level.to_string(), part);
    }
    let nested = json!({ "$ref": "#/$defs/0", "$defs": definitions });
    assert!(in_time(|| is_valid(&nested, &json!({"a": {"a": 1}}))));
}

// === the validator with meters and without ===

fn any_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (0..5_i64).prop_map(Json::from),
        Just(json!(0.5)),
        "[ab/~é]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[ab/~]{1,2}", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn any_schema() -> impl Strategy<Value = Json> {
    const TYPES: [&str; 6] = ["null", "boolean", "integer", "string", "array", "object"];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Json::from),
        prop::sample::select(&TYPES[..]).prop_map(|name| json!({ "type": name })),
        (0..4_i64)
            .prop_map(|n| json!({"minimum": n, "minLength": n, "maxItems": n, "maxProperties": n})),
        any_value().prop_map(|value| json!({ "const": value })),
        prop::collection::vec(any_value(), 1..4).prop_map(|values| json!({ "enum": values })),
        Just(json!({"pattern": "^a?b", "uniqueItems": true, "multipleOf": 0.5})),
        prop::sample::select(&["#/$defs/x", "#/$defs/y", "#y"][..])
            .prop_map(|to| json!({ "$ref": to })),
    ];
    let keywords = |inner: BoxedStrategy<Json>| {
        let name = prop::sample::select(
            &[
                "additionalProperties",
                "items",
                "contains",
                "not",
                "propertyNames",
                "unevaluatedItems",
                "unevaluatedProperties",
            ][..],
        );
        let list = prop::sample::select(&["allOf", "anyOf", "oneOf", "prefixItems"][..]);
        let map =
            prop::sample::select(&["properties", "patternProperties", "dependentSchemas"][..]);
        let pairs = prop_oneof![
            (name, inner.clone()).prop_map(|(name, schema)| (name, schema)),
            (list, prop::collection::vec(inner.clone(), 1..4))
                .prop_map(|(name, list)| (name, Json::from(list))),
            (
                map,
                prop::collection::btree_map("[ab/~]{1,2}", inner.clone(), 0..3)
            )
                .prop_map(|(name, map)| (name, Json::Object(map.into_iter().collect()))),
            prop::collection::btree_set("[ab]", 0..2).prop_map(|names| ("required", json!(names))),
        ];
        prop::collection::vec(pairs, 1..4).prop_map(|pairs| {
            let pairs = pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value));
            Json::Object(pairs.collect())
        })
    };
    let schema = leaf.prop_recursive(4, 32, 4, move |inner| keywords(inner.boxed()));
    (schema.clone(), schema.clone(), schema).prop_map(|(root, x, y)| {
        json!({"allOf": [root], "$defs": {"x": {"items": x}, "y": {"$anchor": "y", "additionalProperties": y}}})
    })
}

proptest! {
    /// A metered check finds what the plain validator finds, and each violation is where it says.
    #[test]
    fn meters_change_no_result(schema in any_schema(), values in prop::collection::vec(any_value(), 8)) {
        let Ok(metered) = Schema::parse(&schema.to_string()) else {
            return Ok(());
        };
        let plain = jsonschema::draft202012::new(&schema).map_err(|error| TestCaseError::fail(error.to_string()))?;
        for value in values {
            let violations = metered.check(&Value::from(value.to_string())).err().unwrap_or_default();
            prop_assert_eq!(violations.is_empty(), plain.is_valid(&value), "{} {}", schema, value);
            for violation in violations {
                prop_assert!(value.pointer(&violation.pointer).is_some(), "{:?}", violation);
                prop_assert!(schema.pointer(&violation.keyword).is_some(), "{:?}", violation);
            }
        }
    }

    /// No text makes parsing panic.
    #[test]
    fn any_text_is_parsed(text in "\\PC{0,60}|[{}\\[\\]\":,$a-z0-9]{0,60}") {
        let error = Schema::parse(&text).err();
        prop_assert!(error != Some(SchemaError::Unavailable));
    }
}
