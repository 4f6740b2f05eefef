//! The shapes that a value may have: flags, numbers, strings. Every consumer reads them here, so that all agree;
//! `docs/values.md` has the table. Strict where an accident is dangerous (a flag is never on by accident), lenient where
//! only the notation differs (a number or its string).

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value as Json, error::Category, value::RawValue};
use tagged_config_domain::json::nesting;

/// Levels of nesting that a value can be read with: those of serde_json.
pub const MAX_NESTING: usize = 127;

/// Why a value is not of the wanted shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No JSON, or no JSON of the type.
    Malformed { at: String, category: &'static str },
    /// Another shape.
    Mismatch(&'static str),
    /// Too many levels.
    TooDeep,
}

/// A value read as a flag: `true`, `{"enabled": true, "variant": "treatment", "value": 7}`, or a value alone.
#[derive(Clone, Debug)]
pub struct Flag {
    enabled: Option<bool>,
    variant: Option<String>,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    None,
    /// The text of another content type than JSON.
    Text(String),
    Json(Box<RawValue>),
    /// The whole object, which has no field `value`.
    Object(Box<RawValue>),
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default, deserialize_with = "present")]
    enabled: Option<Box<RawValue>>,
    variant: Option<Box<RawValue>>,
    value: Option<Box<RawValue>>,
}

// === impl Flag ===

impl Flag {
    pub(crate) fn parse(text: &str, is_json: bool) -> Result<Self, Fault> {
        let bare = |value| Self {
            enabled: None,
            variant: None,
            value,
        };
        if !is_json {
            return Ok(bare(Value::Text(text.to_owned())));
        }
        if nesting(text) > MAX_NESTING {
            return Err(Fault::TooDeep);
        }
        let raw: Box<RawValue> = serde_json::from_str(text).map_err(|error| fault(&error, "."))?;
        match raw.get() {
            "null" => Ok(bare(Value::None)),
            "true" | "false" => Ok(Self {
                enabled: Some(raw.get() == "true"),
                ..bare(Value::None)
            }),
            object if object.starts_with('{') => {
                let fields: Fields = serde_json::from_str(object)
                    .map_err(|_| Fault::Mismatch("a field of the flag is there twice"))?;
                let enabled = match fields.enabled.as_deref().map(RawValue::get) {
                    None => None,
                    Some("true") => Some(true),
                    Some("false") => Some(false),
                    Some(_) => return Err(Fault::Mismatch("`enabled` is no boolean")),
                };
                let variant = fields
                    .variant
                    .map(|raw| serde_json::from_str(raw.get()))
                    .transpose()
                    .map_err(|_| Fault::Mismatch("`variant` is no string"))?;
                let value = fields.value.map_or(Value::Object(raw), Value::Json);
                Ok(Self {
                    enabled,
                    variant,
                    value,
                })
            }
            _ => Ok(bare(Value::Json(raw))),
        }
    }

    /// Whether the flag is on; `None` if the value does not say so.
    pub fn enabled(&self) -> Option<bool> {
        self.enabled
    }

    /// The variant.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// The flag's value as a string (a number as it is written), else its variant.
    pub fn string(&self) -> Option<Cow<'_, str>> {
        let own = match &self.value {
            Value::Text(text) => Some(Cow::Borrowed(text.as_str())),
            Value::Json(raw) => scalar(raw),
            Value::None | Value::Object(_) => None,
        };
        own.or_else(|| self.variant().map(Cow::Borrowed))
    }

    /// The flag's value as a whole number: also `"7"`, `7.0` and `7e0`.
    pub fn integer(&self) -> Option<i64> {
        let number = parse_decimal(&self.number()?)?;
        number.is_integer().then(|| number.try_into().ok())?
    }

    /// The flag's value as a floating-point number; finite.
    pub fn float(&self) -> Option<f64> {
        let number: f64 = self.number()?.parse().ok()?;
        number.is_finite().then_some(number)
    }

    /// The flag's value as JSON; the whole object if it has no field `value`.
    pub fn json(&self) -> Option<Json> {
        match &self.value {
            Value::Json(raw) | Value::Object(raw) => serde_json::from_str(raw.get()).ok(),
            Value::None | Value::Text(_) => None,
        }
    }

    fn number(&self) -> Option<Cow<'_, str>> {
        let text = match &self.value {
            Value::Text(text) => Cow::Borrowed(text.as_str()),
            Value::Json(raw) => scalar(raw)?,
            Value::None | Value::Object(_) => return None,
        };
        is_number(&text).then_some(text)
    }
}

/// Whether a content type says JSON. An absent one does.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let suffix = essence.get(essence.len().saturating_sub(5)..);
    essence.is_empty()
        || essence.eq_ignore_ascii_case("application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// A JSON text as a type.
pub(crate) fn json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        if nesting(text) > MAX_NESTING {
            return Fault::TooDeep;
        }
        fault(error.inner(), &error.path().to_string())
    })?;
    parser.end().map_err(|error| fault(&error, "."))?;
    Ok(value)
}

/// A whole value as a number, to the digit.
pub(crate) fn decimal(text: &str, is_json: bool) -> Result<Decimal, Fault> {
    let text = if is_json {
        scalar_of(text)?
    } else {
        Some(Cow::Borrowed(text))
    };
    text.and_then(|text| parse_decimal(&text))
        .ok_or(Fault::Mismatch(NOT_A_DECIMAL))
}

/// A whole value as a string.
pub(crate) fn string(text: &str, is_json: bool) -> Result<String, Fault> {
    if !is_json {
        return Ok(text.to_owned());
    }
    let text = scalar_of(text)?.ok_or(Fault::Mismatch("it is neither a string nor a number"))?;
    Ok(text.into_owned())
}

/// A field that is a JSON number or a string of one, to the digit: for `#[serde(deserialize_with = ...)]`.
pub fn deserialize_decimal<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Decimal, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    scalar(&raw)
        .and_then(|text| parse_decimal(&text))
        .ok_or_else(|| serde::de::Error::custom(NOT_A_DECIMAL))
}

/// A field that is a whole number, or a string of one, in any notation (`"7"`, `7.0`, `7e0`): for
/// `#[serde(deserialize_with = ...)]`.
pub fn deserialize_integer<'de, T: TryFrom<i64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let number = deserialize_decimal(deserializer)?;
    let whole = number.is_integer().then(|| i64::try_from(number).ok());
    whole
        .flatten()
        .and_then(|whole| T::try_from(whole).ok())
        .ok_or_else(|| serde::de::Error::custom("it is no whole number of the size that is wanted"))
}

const NOT_A_DECIMAL: &str =
    "it is no decimal number of at most 28 digits, as a number or in a string";

/// The number that a text in decimal or scientific notation is, or `None` if it cannot be held to the digit.
fn parse_decimal(text: &str) -> Option<Decimal> {
    if !is_number(text) {
        return None;
    }
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, Some(exponent)),
        None => (text, None),
    };
    let exact = Decimal::from_str_exact(digits).ok()?;
    match exponent {
        Some(_) if exact.is_zero() => Some(Decimal::ZERO),
        Some(_) => Decimal::from_scientific(text).ok(),
        None => Some(exact),
    }
}

/// `-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?`: what JSON calls a number, and leading zeros.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let mantissa = match mantissa.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part),
        None => digits(mantissa),
    };
    mantissa && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}

fn scalar_of(text: &str) -> Result<Option<Cow<'_, str>>, Fault> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| fault(&error, "."))?;
    Ok(scalar(raw))
}

/// A JSON string's content, or a JSON number as it is written.
fn scalar(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get().as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(raw.get())
            .ok()
            .map(Cow::Owned),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(raw.get())),
        _ => None,
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

fn fault(error: &serde_json::Error, at: &str) -> Fault {
    Fault::Malformed {
        at: at.to_owned(),
        category: match error.classify() {
            Category::Syntax | Category::Io => "syntax",
            Category::Data => "data",
            Category::Eof => "eof",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_taken_to_the_digit_or_not_at_all() {
        for (text, expected) in [
            ("10", "10"),
            ("0.20", "0.20"),
            ("-0.01", "-0.01"),
            ("1e1", "10"),
            ("8.25e-2", "0.0825"),
            ("8.25E-2", "0.0825"),
            ("1E+2", "100"),
            ("1e28", "10000000000000000000000000000"),
            ("007.50", "7.50"),
            ("0e99", "0"),
            (
                "79228162514264337593543950335",
                "79228162514264337593543950335",
            ),
        ] {
            let found = parse_decimal(text).map(|number| number.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "+5",
            "1_000",
            " 1",
            "1e",
            "1e1e1",
            "1e29",
            "1e-29",
            "NaN",
            "inf",
            "0x10",
            "79228162514264337593543950336",
            "0.12345678901234567890123456789",
        ] {
            assert_eq!(parse_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn a_decimal_field_is_a_number_or_its_string() {
        #[derive(Debug, Deserialize)]
        struct Field {
            #[serde(deserialize_with = "deserialize_decimal")]
            percent: Decimal,
        }
        for text in ["10.10", r#""10.10""#, r#""10.1\u0030""#, "1010e-2"] {
            let field = json::<Field>(&format!(r#"{{"percent": {text}}}"#)).unwrap();
            assert_eq!(field.percent.to_string(), "10.10");
        }
        for text in ["true", "null", "[1]", r#""ten""#, "1e99"] {
            let fault = json::<Field>(&format!(r#"{{"percent": {text}}}"#)).unwrap_err();
            let expected = Fault::Malformed {
                at: "percent".to_owned(),
                category: "data",
            };
            assert_eq!(fault, expected, "{text}");
        }
    }

    #[test]
    fn a_value_that_is_nested_too_deep_says_so() {
        let deep = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(json::<Json>(&deep(MAX_NESTING)).is_ok());
        assert!(
            Flag::parse(&deep(MAX_NESTING), true)
                .unwrap()
                .json()
                .is_some()
        );
        for levels in [MAX_NESTING + 1, 200, 100_000] {
            assert_eq!(json::<Json>(&deep(levels)).unwrap_err(), Fault::TooDeep);
            assert_eq!(
                Flag::parse(&deep(levels), true).unwrap_err(),
                Fault::TooDeep
            );
        }
    }

    #[test]
    fn content_types_of_json() {
        for json in [
            "",
            "application/json",
            "Application/JSON; charset=utf-8",
            "a/b+JSON",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in ["text/plain", "text/json", "application/x-json", "ü+jso"] {
            assert!(!is_json(other), "{other}");
        }
    }
}
