//! The key grammar: `<tag>_config_<name>`. A key that does not match is refused, never repaired, so that
//! one configuration has one spelling and one cache entry.

use thiserror::Error;

/// What separates the tag from the name.
const SEPARATOR: &str = "_config_";

/// A well-formed key. Whether its tag has a store is the factory's to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigKey {
    text: String,
    tag_len: usize,
}

/// The part of a key after the tag: `[A-Za-z0-9][A-Za-z0-9._/-]{0,199}`, at most 11 segments, without
/// empty, `.` or `..` segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConfigName<'k>(&'k str);

/// The beginning of some keys: a whole tag and any beginning of a name, also an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix {
    text: String,
    tag_len: usize,
}

/// How a key breaks the grammar.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// No `<tag>_config_` in front.
    #[error("a key has the form <tag>_config_<name>")]
    NoTag,
    /// Nothing after the tag.
    #[error("the name after the tag is empty")]
    EmptyName,
    /// The name is too long.
    #[error("the name is longer than {} characters", ConfigName::MAX_LEN)]
    TooLong,
    /// A character outside the alphabet, or a first one that is no letter or digit.
    #[error("a name has only A-Z a-z 0-9 . _ / - and begins with a letter or digit")]
    Alphabet,
    /// An empty, `.` or `..` segment.
    #[error("a name has no empty, \".\" or \"..\" segment")]
    Segment,
    /// Too many segments.
    #[error("a name has at most {} segments", ConfigName::MAX_SEGMENTS)]
    TooManySegments,
}

// === impl ConfigKey ===

impl ConfigKey {
    /// Checks the whole grammar.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (tag, name) = split(text)?;
        ConfigName::parse(name)?;
        Ok(Self {
            text: text.to_owned(),
            tag_len: tag.len(),
        })
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The tag without `_config_`, such as `tenant`.
    pub fn tag(&self) -> &str {
        &self.text[..self.tag_len]
    }

    /// What follows `<tag>_config_`.
    pub fn name(&self) -> ConfigName<'_> {
        ConfigName(&self.text[self.tag_len + SEPARATOR.len()..])
    }
}

// === impl ConfigName ===

impl<'k> ConfigName<'k> {
    /// Longest name, in characters.
    pub const MAX_LEN: usize = 200;
    /// Most `/`-separated segments: with root, `tenants` and the tenant, Parameter Store's 15 levels.
    pub const MAX_SEGMENTS: usize = 11;

    /// Checks a name on its own, as it stands in a sort key or parameter path.
    pub fn parse(name: &'k str) -> Result<Self, KeyError> {
        let first = *name.as_bytes().first().ok_or(KeyError::EmptyName)?;
        if name.len() > Self::MAX_LEN {
            return Err(KeyError::TooLong);
        }
        if !first.is_ascii_alphanumeric() || !name.bytes().all(in_alphabet) {
            return Err(KeyError::Alphabet);
        }
        let mut segments = 0;
        for segment in name.split('/') {
            segments += 1;
            if matches!(segment, "" | "." | "..") {
                return Err(KeyError::Segment);
            }
        }
        if segments > Self::MAX_SEGMENTS {
            return Err(KeyError::TooManySegments);
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &'k str {
        self.0
    }
}

// === impl KeyPrefix ===

impl KeyPrefix {
    /// Checks that the prefix starts with a whole tag and could be the beginning of a key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (tag, name) = split(text)?;
        if name.len() > ConfigName::MAX_LEN {
            return Err(KeyError::TooLong);
        }
        if name
            .as_bytes()
            .first()
            .is_some_and(|b| !b.is_ascii_alphanumeric())
            || !name.bytes().all(in_alphabet)
        {
            return Err(KeyError::Alphabet);
        }
        Ok(Self {
            text: text.to_owned(),
            tag_len: tag.len(),
        })
    }

    /// The whole prefix.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The tag without `_config_`.
    pub fn tag(&self) -> &str {
        &self.text[..self.tag_len]
    }

    /// The beginning of the names; may be empty.
    pub fn name(&self) -> &str {
        &self.text[self.tag_len + SEPARATOR.len()..]
    }

    /// The key of a listed name.
    pub fn key_of(&self, name: ConfigName<'_>) -> String {
        format!("{}{SEPARATOR}{}", self.tag(), name.as_str())
    }
}

fn split(text: &str) -> Result<(&str, &str), KeyError> {
    let (tag, name) = text.split_once(SEPARATOR).ok_or(KeyError::NoTag)?;
    let tag_ok = !tag.is_empty()
        && tag.len() <= 32
        && tag
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if tag_ok {
        Ok((tag, name))
    } else {
        Err(KeyError::NoTag)
    }
}

fn in_alphabet(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples() {
        let key = ConfigKey::parse("tenant_config_123_featureA").unwrap();
        assert_eq!((key.tag(), key.name().as_str()), ("tenant", "123_featureA"));
        let key = ConfigKey::parse("param_config_tax/rate").unwrap();
        assert_eq!((key.tag(), key.name().as_str()), ("param", "tax/rate"));
        let key = ConfigKey::parse("tenant_config_param_config_x").unwrap();
        assert_eq!(
            (key.tag(), key.name().as_str()),
            ("tenant", "param_config_x")
        );

        for (text, error) in [
            ("", KeyError::NoTag),
            ("featureX", KeyError::NoTag),
            ("_config_x", KeyError::NoTag),
            ("Tenant_config_x", KeyError::NoTag),
            ("tenant_config", KeyError::NoTag),
            ("tenant_config_", KeyError::EmptyName),
            ("tenant_config_.x", KeyError::Alphabet),
            ("tenant_config_a b", KeyError::Alphabet),
            ("tenant_config_a%2Fb", KeyError::Alphabet),
            ("tenant_config_ä", KeyError::Alphabet),
            ("tenant_config_a//b", KeyError::Segment),
            ("tenant_config_a/../b", KeyError::Segment),
            ("tenant_config_a/.", KeyError::Segment),
            ("tenant_config_a/", KeyError::Segment),
            (
                "tenant_config_1/2/3/4/5/6/7/8/9/10/11/12",
                KeyError::TooManySegments,
            ),
        ] {
            assert_eq!(ConfigKey::parse(text), Err(error), "{text}");
        }
        assert!(ConfigKey::parse(&format!("tenant_config_{}", "a".repeat(200))).is_ok());
        assert_eq!(
            ConfigKey::parse(&format!("tenant_config_{}", "a".repeat(201))),
            Err(KeyError::TooLong)
        );
    }

    #[test]
    fn prefixes_hold_a_whole_tag() {
        assert_eq!(KeyPrefix::parse("tenant_config_").unwrap().name(), "");
        assert_eq!(KeyPrefix::parse("tenant_config_a/").unwrap().name(), "a/");
        assert_eq!(KeyPrefix::parse("tenant_conf"), Err(KeyError::NoTag));
        assert_eq!(KeyPrefix::parse(""), Err(KeyError::NoTag));
        assert_eq!(KeyPrefix::parse("tenant_config_#"), Err(KeyError::Alphabet));
    }

    proptest! {
        /// Parsing never panics, and whatever it accepts is in the grammar and comes back to the letter.
        #[test]
        fn accepts_only_the_grammar(text in "\\PC{0,260}") {
            if let Ok(key) = ConfigKey::parse(&text) {
                prop_assert_eq!(key.as_str(), &text);
                prop_assert_eq!(format!("{}_config_{}", key.tag(), key.name().as_str()), text);
            }
        }

        /// What the grammar describes is accepted.
        #[test]
        fn accepts_the_grammar(name in "[A-Za-z0-9][A-Za-z0-9_-]{0,9}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}){0,10}") {
            let key = ConfigKey::parse(&format!("tenant_config_{name}"));
            prop_assert_eq!(key.as_ref().map(|k| k.name().as_str()), Ok(name.as_str()));
        }

        /// Nothing that could change the meaning of a path or of a DynamoDB key gets through.
        #[test]
        fn refuses_separators(a in "[A-Za-z0-9]{1,5}", bad in "[#\\\\ %?&\u{0}:]", b in "[A-Za-z0-9]{1,5}") {
            let text = format!("tenant_config_{a}{bad}{b}");
            prop_assert_eq!(ConfigKey::parse(&text), Err(KeyError::Alphabet));
        }
    }
}
