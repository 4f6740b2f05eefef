//! What the errors of the validator say, without what they quote of the value.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};

use super::{MAX_VIOLATIONS, metered};

/// The longest pointer that is reported, in bytes.
const MAX_POINTER_BYTES: usize = 1024;
/// The longest quote of a schema in a message, in bytes.
const MAX_QUOTE_BYTES: usize = 200;
/// How many branches of `anyOf` or `oneOf` a message gives the reason of.
const MAX_REASONS: usize = 3;

/// The message of the schema `false`.
const FALSE: &str = "false: nothing is allowed here";

/// One way in which a value violates a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// An RFC 6901 pointer to the invalid part of the value, or to a parent of it if the pointer has more than 1 KiB. Contains
    /// names of properties, as any pointer does.
    pub pointer: String,
    /// The keyword and its constraint. Contains nothing of the value.
    pub message: String,
    /// Where the keyword is: an RFC 6901 pointer into the schema, shortened like `pointer`. Empty if no keyword is violated.
    pub keyword: String,
}

impl Violation {
    /// The only violation of a value that cannot be checked.
    pub(crate) fn of_whole(message: String) -> Vec<Self> {
        vec![Self {
            pointer: String::new(),
            message,
            keyword: String::new(),
        }]
    }
}

/// The violations that an error stands for: one for each property that is not allowed, otherwise one.
pub(super) fn violations(error: &ValidationError<'_>) -> Vec<Violation> {
    let (kind, pointer) = (error.kind(), error.instance_path().as_str());
    let keyword = error.schema_path().as_str();
    let keyword = match keyword.strip_suffix("/not") {
        Some(keyword) if is_false(kind) => keyword,
        _ => keyword,
    };
    let violation = |pointer: &str| Violation {
        pointer: shorten(pointer),
        message: message(kind),
        keyword: shorten(keyword),
    };
    match kind {
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            unexpected
                .iter()
                .take(MAX_VIOLATIONS)
                .map(|name| violation(&format!("{pointer}/{}", escape(name))))
                .collect()
        }
        _ => vec![violation(pointer)],
    }
}

/// Whether the schema was `false` before it was compiled.
fn is_false(kind: &Kind) -> bool {
    match kind {
        Kind::Not { schema } => metered::is_false(schema),
        Kind::PropertyNames { error } => is_false(error.kind()),
        _ => false,
    }
}

/// The keyword and its constraint. Quotes the schema and never the value.
pub(super) fn message(kind: &Kind) -> String {
    let constraint = match kind {
        Kind::FalseSchema => return FALSE.to_owned(),
        Kind::Not { .. } if is_false(kind) => return FALSE.to_owned(),
        Kind::Not { .. } => "must not match the schema".to_owned(),
        Kind::AdditionalItems { limit } => format!("must have at most {limit} items"),
        Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. } => {
            "this property is not allowed".to_owned()
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => none_of(context),
        Kind::OneOfMultipleValid { context } => {
            format!("more than one of the {} schemas matches", context.len())
        }
        Kind::Constant { expected_value } => {
            format!("must be {}", quote(&expected_value.to_string()))
        }
        Kind::Contains => "too few or too many items match the schema".to_owned(),
        Kind::ContentEncoding { content_encoding } => {
            format!("must be {}", quote(content_encoding))
        }
        Kind::ContentMediaType { content_media_type } => {
            format!("must be {}", quote(content_media_type))
        }
        Kind::FromUtf8 { .. } => "must be UTF-8".to_owned(),
        Kind::Custom { .. } => "is violated".to_owned(),
        Kind::Enum { options } => format!("must be one of {}", quote(&options.to_string())),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be greater than {limit}"),
        Kind::Format { format } => format!("must be a {}", quote(format)),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} properties"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MinProperties { limit } => format!("must have at least {limit} properties"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::Pattern { pattern } => format!("must match {}", quote(pattern)),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "cannot be matched".to_owned()
        }
        // A name is a string, and has no names whose message could nest in this one.
        Kind::PropertyNames { error } => {
            format!("the name of a property violates {}", message(error.kind()))
        }
        Kind::Required { property } => {
            format!("the property {} is missing", quote(&property.to_string()))
        }
        Kind::Type {
            kind: TypeKind::Single(name),
        } => format!("must be {name}"),
        Kind::Type {
            kind: TypeKind::Multiple(names),
        } => {
            let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
            format!("must be one of {}", names.join(", "))
        }
        Kind::UnevaluatedItems { unexpected } => {
            format!("{} items are not allowed", unexpected.len())
        }
        Kind::UniqueItems => "two items are equal".to_owned(),
        Kind::Referencing(_) => "does not lead to a schema".to_owned(),
    };
    format!("{}: {constraint}", kind.keyword())
}

/// That no branch matches, with the first reason of the first branches.
fn none_of(branches: &[Vec<ValidationError<'_>>]) -> String {
    let first = branches.iter().filter_map(|errors| errors.first());
    let reasons: Vec<_> = first
        .take(MAX_REASONS)
        .map(|error| match error.kind() {
            kind @ (Kind::AnyOf { .. } | Kind::OneOfNotValid { .. }) => kind.keyword().to_owned(),
            kind => message(kind),
        })
        .collect();
    format!(
        "none of the {} schemas matches ({})",
        branches.len(),
        reasons.join("; ")
    )
}

/// The name of a property as it appears in a pointer.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A pointer that is not too long: to a parent if need be.
pub(super) fn shorten(pointer: &str) -> String {
    let mut short = pointer;
    while short.len() > MAX_POINTER_BYTES {
        short = short.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    short.to_owned()
}

/// A part of a schema, or its beginning.
pub(super) fn quote(part: &str) -> String {
    if part.len() <= MAX_QUOTE_BYTES {
        return part.to_owned();
    }
    let end = part.floor_char_boundary(MAX_QUOTE_BYTES);
    format!("{}…", &part[..end])
}
