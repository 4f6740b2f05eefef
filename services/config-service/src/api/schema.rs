//! JSON Schemas that guard keys: which schemas cover a key, and whether a value is valid against one.
//!
//! Draft 2020-12, in which `format` is an annotation. No I/O: nothing is ever fetched. Work and memory of a check are bounded
//! by [`metered::Meter`], but both functions may take seconds for what is made to be slow: callers run them off the request
//! threads. Messages quote the schema and never the value.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use jsonschema::{
    Draft, PatternOptions, Regex, Retrieve, Uri, ValidationError, ValidationOptions, Validator,
};
use serde_json::{Value as Json, json};
use tagged_config_domain::{ConfigKey, ConfigName, Value, json::nesting};
use thiserror::Error;

pub(crate) use self::violation::Violation;
use self::{
    metered::{Costs, Exhausted, METER, Meter, Metered, Part, Step},
    survey::Survey,
    violation::{message, quote, shorten, violations},
};

mod metered;
mod survey;
#[cfg(test)]
mod tests;
mod violation;

/// The tag of the keys that hold schemas. The name of such a key is what its schema covers.
pub(crate) const TAG: &str = "schema";
/// The dialect of all schemas.
pub(crate) const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The largest schema, in bytes.
pub(crate) const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// Arrays and objects within each other in a schema.
pub(crate) const MAX_SCHEMA_DEPTH: usize = 64;
/// Subschemas of a schema, including itself.
pub(crate) const MAX_SUBSCHEMAS: usize = 1_000;
/// Violations that one check reports.
pub(crate) const MAX_VIOLATIONS: usize = 20;
/// The largest value that is checked, in bytes: bounds the time and memory to parse it.
pub(crate) const MAX_CHECKED_BYTES: u64 = 1024 * 1024;
/// Arrays and objects within each other in a value that is checked. Writes of JSON allow no more.
pub(crate) const MAX_VALUE_DEPTH: usize = 100;
/// How many subschemas may apply to one part of a value, counted once for each way through the `$ref`s.
const MAX_APPLICATIONS: u64 = 10_000;
/// The longest chain of subschemas that apply to the same part of a value, such as `$ref`s to `$ref`s.
const MAX_CHAIN: usize = 32;
/// Levels of a value times the longest chain. Bounds the stack of a check: 300 KiB, or 1 MiB in a debug build.
const MAX_RECURSION: usize = 1_000;
/// Pointers to all keywords of a schema, in bytes: the validator stores one for each.
const MAX_PATHS_BYTES: usize = 4 * 1024 * 1024;
/// The longest regular expression, in bytes. Its compiled size does not bound what it takes to parse it.
const MAX_PATTERN_BYTES: usize = 4 * 1024;
/// Different regular expressions in a schema.
const MAX_PATTERNS: usize = 200;
/// Size limits of a compiled regular expression, in bytes. The smallest that is enough determines what a match costs.
const PATTERN_SIZES: [usize; 9] = [
    1 << 10,
    1 << 11,
    1 << 12,
    1 << 13,
    1 << 14,
    1 << 15,
    1 << 16,
    1 << 17,
    MAX_PATTERN_SIZE,
];
/// The largest compiled regular expression, in bytes.
const MAX_PATTERN_SIZE: usize = 256 * 1024;
/// All compiled regular expressions of a schema together, in bytes.
const MAX_PATTERNS_SIZE: usize = 1024 * 1024;
/// What the lazy automaton of one regular expression may cache, in bytes.
const PATTERN_CACHE_BYTES: usize = 64 * 1024;
/// The stack on which a schema is compiled, in bytes. The deepest schemas take 4 MiB, or 8 MiB in a debug build.
const COMPILE_STACK_BYTES: usize = 16 * 1024 * 1024;

/// A compiled schema, for use by any number of threads.
#[derive(Debug)]
pub(crate) struct Schema(Rule);

#[derive(Debug)]
enum Rule {
    /// The schema `true`, against which every value is valid, also one that is not JSON.
    Anything,
    /// Any other schema.
    Compiled {
        validator: Box<Validator<Metered>>,
        costs: Costs,
    },
}

/// Why a text is no usable schema. A schema is not secret: messages quote it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum SchemaError {
    /// The text is too large.
    #[error("a schema has at most {MAX_SCHEMA_BYTES} bytes, this one has {bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The text nests too deep.
    #[error("a schema nests at most {MAX_SCHEMA_DEPTH} levels deep, this one {levels}")]
    TooDeep {
        /// Its depth.
        levels: usize,
    },
    /// The text is not JSON.
    #[error("the schema is not JSON ({reason})")]
    NotJson {
        /// The message of the parser, which names the place.
        reason: String,
    },
    /// The text is JSON, but no schema.
    #[error("a schema is a JSON object or a boolean")]
    NotASchema,
    /// `$schema` names another dialect.
    #[error("$schema is {found}; supported is {DIALECT}")]
    Dialect {
        /// Its value.
        found: String,
    },
    /// The schema is invalid against its meta-schema, or cannot be compiled.
    #[error("the schema is invalid at {pointer:?}: {reason}")]
    Invalid {
        /// An RFC 6901 pointer into the schema.
        pointer: String,
        /// The keyword of the meta-schema and its constraint.
        reason: String,
    },
    /// A reference leads out of the document.
    #[error("the reference {reference} leads out of the schema, and nothing is fetched")]
    RemoteReference {
        /// The reference as written.
        reference: String,
    },
    /// A reference leads nowhere, or to what is no schema.
    #[error("the reference {reference} does not lead to a schema")]
    DeadReference {
        /// The reference as written.
        reference: String,
    },
    /// A reference names a dynamic anchor in a schema of several resources, where its target would depend on the caller.
    #[error(
        "the reference {reference} names a $dynamicAnchor, which is not supported beside an $id below the root"
    )]
    DynamicReference {
        /// The reference as written.
        reference: String,
    },
    /// An `$id` or anchor is not usable.
    #[error("the name {name:?} is not usable: {reason}")]
    Name {
        /// The name as written.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// Subschemas apply each other to the same part of a value without end.
    #[error(
        "the subschema at {pointer:?} leads into a reference cycle that never descends into the value"
    )]
    Cycle {
        /// An RFC 6901 pointer into the schema.
        pointer: String,
    },
    /// Too many subschemas.
    #[error("a schema has at most {MAX_SUBSCHEMAS} subschemas")]
    TooManySubschemas,
    /// Too many subschemas apply to one part of a value.
    #[error(
        "the subschema at {pointer:?} applies more than {MAX_APPLICATIONS} subschemas to one value, or more than {MAX_CHAIN} within each other"
    )]
    TooManyApplications {
        /// An RFC 6901 pointer into the schema.
        pointer: String,
    },
    /// The names on the way to the subschemas are too long.
    #[error("the pointers to all keywords have more than {MAX_PATHS_BYTES} bytes")]
    LongPaths,
    /// A regular expression is malformed, is not supported, or is too large.
    #[error(
        "the regular expression {pattern} is not supported: at most {MAX_PATTERN_BYTES} bytes, {MAX_PATTERN_SIZE} when compiled, no look-around, back-references or flags"
    )]
    Pattern {
        /// The expression, or its beginning.
        pattern: String,
    },
    /// Too many regular expressions.
    #[error(
        "a schema has at most {MAX_PATTERNS} different regular expressions, of {MAX_PATTERNS_SIZE} bytes when compiled"
    )]
    TooManyPatterns,
    /// The schema could not be compiled now: no thread could be started, or it panicked.
    #[error("the schema could not be compiled")]
    Unavailable,
}

/// The names of the schemas that cover a key, from the most specific to the tag. For `tenant_config_payments/limits` these are
/// `tenant_config_payments/limits`, `tenant_config_payments` and `tenant_config`.
///
/// At most 12; a name longer than [`ConfigName::MAX_LEN`] is left out. A key of the tag [`TAG`] has none.
pub(crate) fn names_covering(key: &ConfigKey) -> Vec<String> {
    if key.tag() == TAG {
        return Vec::new();
    }
    let (text, name) = (key.as_str(), key.name().as_str());
    let start = text.len() - name.len();
    let above = name
        .rmatch_indices('/')
        .map(|(end, _)| &text[..start + end]);
    std::iter::once(text)
        .chain(above)
        .chain(text[..start].strip_suffix('_'))
        .filter(|name| name.len() <= ConfigName::MAX_LEN)
        .map(str::to_owned)
        .collect()
}

// === impl Schema ===

impl Schema {
    /// Compiles a schema, unless it is invalid or could not be checked in bounded time.
    ///
    /// Typically takes a millisecond, and about a second for regular expressions made to be slow to parse. Runs on a thread of its own, since compiling recurses through the
    /// schema and through `$ref`s, and an overflow of the stack would end the process.
    pub(crate) fn parse(text: &str) -> Result<Self, SchemaError> {
        thread::scope(|scope| {
            thread::Builder::new()
                .name("schema".to_owned())
                .stack_size(COMPILE_STACK_BYTES)
                .spawn_scoped(scope, || Self::compile(text))
                .map_err(|_| SchemaError::Unavailable)?
                .join()
                .unwrap_or(Err(SchemaError::Unavailable))
        })
    }

    fn compile(text: &str) -> Result<Self, SchemaError> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(SchemaError::TooLarge { bytes: text.len() });
        }
        let levels = nesting(text);
        if levels > MAX_SCHEMA_DEPTH {
            return Err(SchemaError::TooDeep { levels });
        }
        let schema: Json = serde_json::from_str(text).map_err(|error| SchemaError::NotJson {
            reason: error.to_string(),
        })?;
        match schema {
            Json::Bool(true) => return Ok(Self(Rule::Anything)),
            Json::Bool(false) | Json::Object(_) => {}
            _ => return Err(SchemaError::NotASchema),
        }
        survey::check_dialect(&schema)?;
        jsonschema::draft202012::meta::validate(&schema).map_err(|error| invalid(&error))?;
        let survey = Survey::of(&schema)?;
        let costs = survey.costs(compiled_size)?;
        let validator = options(MAX_PATTERN_SIZE)
            .with_keyword(METER, |subschema, _, _| Ok(Box::new(Step::new(subschema))))
            .build(&survey.to_compile())
            .map_err(|error| invalid(&error))?;
        Ok(Self(Rule::Compiled {
            validator: Box::new(validator),
            costs,
        }))
    }

    /// Checks a value and reports at most [`MAX_VIOLATIONS`], or fewer if there are very many.
    ///
    /// A value that is not JSON, nests more than [`MAX_VALUE_DEPTH`] levels, or has more than [`MAX_CHECKED_BYTES`] violates
    /// every schema except `true`, and so does one whose check would take too long. If an object repeats a name, its last
    /// value counts, as in most parsers.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Vec<Violation>> {
        let Rule::Compiled { validator, costs } = &self.0 else {
            return Ok(());
        };
        let value = parse_value(value, costs.chain()).map_err(Violation::of_whole)?;
        let is_valid = bounded(|| validator.is_valid(Part::root(&value, &Meter::new(*costs))));
        if is_valid.map_err(Violation::of_whole)? {
            return Ok(());
        }
        Err(explain(validator, &value, *costs))
    }
}

/// The value as JSON, or why it is none that can be checked.
fn parse_value(value: &Value, chain: usize) -> Result<Json, String> {
    if value.len() > MAX_CHECKED_BYTES || matches!(value, Value::Remote(_)) {
        return Err(format!(
            "the value is too large to be checked: at most {MAX_CHECKED_BYTES} bytes are"
        ));
    }
    let text = value
        .as_text()
        .ok_or("the value is not UTF-8, and so not JSON")?;
    let levels = nesting(text);
    let most = MAX_VALUE_DEPTH.min(MAX_RECURSION / chain.max(1));
    if levels > most {
        return Err(format!(
            "the value nests {levels} levels deep; at most {most} can be checked"
        ));
    }
    // The message of the parser names the place and never quotes the value.
    serde_json::from_str(text).map_err(|error| format!("the value is not JSON ({error})"))
}

/// The violations of an invalid value. Collecting them all can take far more than finding the value invalid, so that it has a
/// bound of its own; beyond it only the first one is reported, or that there are some.
fn explain(validator: &Validator<Metered>, value: &Json, costs: Costs) -> Vec<Violation> {
    let all = bounded(|| {
        let meter = Meter::for_errors(costs);
        let errors = validator.iter_errors(Part::root(value, &meter));
        let violations = errors.flat_map(|error| violations(&error));
        violations.take(MAX_VIOLATIONS).collect()
    });
    let first = |_| {
        bounded(|| {
            let meter = Meter::for_errors(costs);
            let error = validator.validate(Part::root(value, &meter)).err();
            error.map_or_else(Vec::new, |error| violations(&error))
        })
    };
    let found: Vec<_> = all.or_else(first).unwrap_or_default();
    if found.is_empty() {
        return Violation::of_whole("the value is invalid in too many ways to report".to_owned());
    }
    found
}

/// Runs the validator until it ends or a [`Meter`] stops it.
fn bounded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    // The validator keeps no state between runs that could be left half changed.
    catch_unwind(AssertUnwindSafe(run)).map_err(|reason: Box<dyn Any + Send>| {
        let message = if reason.is::<Exhausted>() {
            "checking the value takes too long with this schema"
        } else {
            "the value could not be checked"
        };
        message.to_owned()
    })
}

// === compiling ===

/// Fetches nothing. All references are pointers within the schema when it is compiled.
struct Nothing;

impl Retrieve for Nothing {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("{uri} is not fetched").into())
    }
}

/// The options of the validator, with a size limit for compiled regular expressions.
fn options(pattern_size: usize) -> ValidationOptions<'static, Arc<dyn Retrieve>, Metered> {
    jsonschema::options_for::<Metered>()
        .with_draft(Draft::Draft202012)
        .with_retriever(Nothing)
        .should_validate_formats(false)
        .with_pattern_options(linear(pattern_size))
}

/// The engine that never backtracks: the time of a match is linear in the text.
fn linear(size: usize) -> PatternOptions<Regex> {
    PatternOptions::regex()
        .size_limit(size)
        .dfa_size_limit(PATTERN_CACHE_BYTES)
}

/// The smallest of [`PATTERN_SIZES`] within which a regular expression compiles.
fn compiled_size(pattern: &str) -> Result<usize, SchemaError> {
    let schema = json!({ "pattern": pattern });
    let exceeds = |size: &usize| options(*size).build(&schema).is_err();
    let readable = pattern.len() <= MAX_PATTERN_BYTES && !has_flags(pattern);
    readable
        .then(|| PATTERN_SIZES.partition_point(exceeds))
        .and_then(|smallest| PATTERN_SIZES.get(smallest).copied())
        .ok_or_else(|| SchemaError::Pattern {
            pattern: quote(pattern),
        })
}

/// Whether a group of a regular expression has flags, as in `(?i)`. They are not in the ECMA-262 of the draft, and an expression
/// that ignores case can take a second to parse.
fn has_flags(pattern: &str) -> bool {
    let (mut escaped, mut in_class) = (false, false);
    let mut before = ['\0'; 2];
    for character in pattern.chars() {
        if before == ['(', '?'] && !matches!(character, ':' | '=' | '!' | '<') {
            return true;
        }
        let is_syntax = !escaped && !in_class;
        before = [before[1], if is_syntax { character } else { '\0' }];
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
    }
    false
}

fn invalid(error: &ValidationError<'_>) -> SchemaError {
    SchemaError::Invalid {
        pointer: shorten(error.instance_path().as_str()),
        reason: message(error.kind()),
    }
}
