//! Conditional requests (RFC 9110, section 13): `If-Match` and `If-None-Match`, in that order.
//!
//! A tag that is well-formed and not of this service matches nothing. What is no list of tags is refused, so that a
//! missing quote does not make a write unconditional.

use axum::http::{HeaderMap, HeaderName, header};
use tagged_config_domain::{Content, Precondition};

use crate::{errors::ApiError, transport::etag::EntityTag};

/// The conditions of one request.
#[derive(Debug)]
pub(super) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// What a read that meets its conditions answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The representation.
    Content,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// The value of one of the two headers.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`
    Any,
    /// All lists of all lines.
    These(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// With its quotes.
    opaque: String,
}

// === impl Conditions ===

impl Conditions {
    /// The conditions in these headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self {
            if_match: tags(headers, &header::IF_MATCH)?,
            if_none_match: tags(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// What a read answers if the present representation has this strong tag.
    pub(super) fn of_read(&self, tag: &str) -> Outcome {
        if self
            .if_match
            .as_ref()
            .is_some_and(|tags| !tags.strongly(tag))
        {
            Outcome::Failed
        } else if self
            .if_none_match
            .as_ref()
            .is_some_and(|tags| tags.weakly(tag))
        {
            Outcome::NotModified
        } else {
            Outcome::Content
        }
    }

    /// What must hold for a write.
    pub(super) fn of_write(self) -> Precondition {
        let if_match = match self.if_match {
            None => Precondition::None,
            Some(Tags::Any) => Precondition::Exists,
            Some(Tags::These(tags)) => {
                Precondition::OneOf(contents(tags.iter().filter(|tag| !tag.weak)))
            }
        };
        let if_none_match = match self.if_none_match {
            None => Precondition::None,
            Some(Tags::Any) => Precondition::Absent,
            Some(Tags::These(tags)) => Precondition::NoneOf(contents(tags.iter())),
        };
        if_match.and(if_none_match)
    }
}

// === impl Tags ===

impl Tags {
    /// Whether one of them matches by strong comparison: neither is weak.
    fn strongly(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|one| !one.weak && one.opaque == tag),
        }
    }

    /// Whether one of them matches by weak comparison.
    fn weakly(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|one| one.opaque == tag),
        }
    }
}

fn contents<'t>(tags: impl Iterator<Item = &'t Tag>) -> Vec<Content> {
    tags.filter_map(|tag| EntityTag::parse(&tag.opaque)?.own_content())
        .collect()
}

/// All lines of a header as one list (RFC 9110, section 5.3).
fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, ApiError> {
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    // Tags may hold bytes above ASCII, each of which is a character here.
    let lines: Vec<String> = lines
        .map(|line| line.as_bytes().iter().copied().map(char::from).collect())
        .collect();
    let text = lines.join(",");
    if text.trim_matches([' ', '\t']) == "*" {
        return Ok(Some(Tags::Any));
    }
    list(&text).map(Tags::These).map(Some).ok_or_else(|| {
        ApiError::Invalid(format!(
            "{name} takes * or a list of entity tags, each in double quotes"
        ))
    })
}

/// `#entity-tag`; empty elements are ignored.
fn list(text: &str) -> Option<Vec<Tag>> {
    const SPACE: [char; 2] = [' ', '\t'];
    const BETWEEN: [char; 3] = [' ', '\t', ','];
    let mut tags = Vec::new();
    let mut rest = text.trim_start_matches(BETWEEN);
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let end = quoted.strip_prefix('"')?.find('"')? + 2;
        let (opaque, after) = quoted.split_at_checked(end)?;
        if opaque.contains([' ', '\t', '\u{7f}']) {
            return None;
        }
        tags.push(Tag {
            weak,
            opaque: opaque.to_owned(),
        });
        let after = after.trim_start_matches(SPACE);
        if !(after.is_empty() || after.starts_with(',')) {
            return None;
        }
        rest = after.trim_start_matches(BETWEEN);
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use tagged_config_domain::{Origin, Record, Revision};

    use super::*;

    fn record(value: &str) -> Record {
        Record::new(value, "text/plain", Revision::default(), None)
    }

    fn tag(value: &str) -> String {
        EntityTag::of(Origin::Tenant, &record(value)).to_string()
    }

    fn conditions(lines: &[(&'static str, &str)]) -> Result<Conditions, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Conditions::of(&headers)
    }

    #[test]
    fn reads_compare_as_the_rfc_says() {
        use Outcome::{Content, Failed, NotModified};
        let (m, n) = ("if-match", "if-none-match");
        for (lines, outcome) in [
            (vec![], Content),
            (vec![(n, "\"a\"")], NotModified),
            (vec![(n, "W/\"a\"")], NotModified),
            (vec![(n, "W/\"x\" ,, \"a\"")], NotModified),
            (vec![(n, "\"x\""), (n, "W/\"a\"")], NotModified),
            (vec![(n, "*")], NotModified),
            (vec![(n, "\"x\"")], Content),
            (vec![(n, "\"x,\", \"ä\"")], Content),
            (vec![(n, "")], Content),
            (vec![(m, "\"a\"")], Content),
            (vec![(m, "*")], Content),
            (vec![(m, "\"x\",\"a\"")], Content),
            (vec![(m, "\"x\""), (m, "\"a\"")], Content),
            (vec![(m, "W/\"a\"")], Failed),
            (vec![(m, "\"x\"")], Failed),
            (vec![(m, "")], Failed),
            (vec![(m, "\"x\""), (n, "\"a\"")], Failed),
            (vec![(m, "\"a\""), (n, "\"a\"")], NotModified),
        ] {
            assert_eq!(
                conditions(&lines).unwrap().of_read("\"a\""),
                outcome,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn writes_match_any_of_several_and_never_a_weak_or_foreign_tag() {
        let (one, two) = (tag("1"), tag("2"));
        let (m, n) = ("if-match", "if-none-match");
        let contents = |values: &[&str]| -> Vec<Content> {
            values.iter().map(|v| record(v).content()).collect()
        };
        let one_of = |values: &[&str]| Precondition::OneOf(contents(values));
        let none_of = |values: &[&str]| Precondition::NoneOf(contents(values));
        let default = EntityTag::of(Origin::Global, &record("1")).to_string();
        let both = format!("\"x\", {one}");
        let weak = format!("W/{one}");
        let (one, two, default) = (one.as_str(), two.as_str(), default.as_str());
        let (both, weak) = (both.as_str(), weak.as_str());
        for (lines, precondition) in [
            (vec![], Precondition::None),
            (vec![(m, "*")], Precondition::Exists),
            (vec![(n, " * ")], Precondition::Absent),
            (vec![(m, one)], one_of(&["1"])),
            (vec![(m, both), (m, two)], one_of(&["1", "2"])),
            (vec![(m, weak)], one_of(&[])),
            (vec![(m, "\"x\"")], one_of(&[])),
            (vec![(m, default)], one_of(&[])),
            (vec![(n, weak), (n, two)], none_of(&["1", "2"])),
            (
                vec![(m, one), (n, two)],
                one_of(&["1"]).and(none_of(&["2"])),
            ),
        ] {
            assert_eq!(
                conditions(&lines).unwrap().of_write(),
                precondition,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for bad in [
            "abc",
            "\"abc",
            "abc\"",
            "\"a\" \"b\"",
            "\"a b\"",
            "w/\"a\"",
            "*, \"a\"",
            "\"a\", *",
        ] {
            assert!(conditions(&[("if-match", bad)]).is_err(), "{bad}");
            assert!(conditions(&[("if-none-match", bad)]).is_err(), "{bad}");
        }
        assert!(conditions(&[("if-match", "*"), ("if-match", "*")]).is_err());
    }
}
