//! Settings from the environment. Everything is read through [`EnvReader`], which keeps going after a bad
//! variable so that all of them are reported at once.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    num::{NonZeroU32, ParseIntError},
    str::FromStr,
    time::Duration,
};

use secrecy::SecretString;
use thiserror::Error;

/// Where variables come from: the process, or a map in tests.
pub trait Env {
    /// The variable's value; an empty one counts as absent.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's own environment.
#[derive(Debug, Default)]
pub struct ProcessEnv;

/// Reads variables and remembers what was wrong with them.
pub struct EnvReader<'e> {
    env: &'e dyn Env,
    problems: Vec<String>,
}

/// What an edge puts before every path, as a REST API of API Gateway does with its stage's name: one segment after a
/// slash, such as `/live`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(String);

/// Every variable that is missing or malformed, a line each.
#[derive(Debug, Error)]
pub struct BadEnv(Vec<String>);

/// A kind of value that a variable can have.
pub trait FromEnv: Sized {
    /// The value, or what is wrong with it.
    fn from_env(text: &str) -> Result<Self, String>;
}

impl Env for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

impl<S: std::hash::BuildHasher> Env for HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name)
            .cloned()
            .filter(|value| !value.is_empty())
    }
}

// === impl EnvReader ===

impl<'e> EnvReader<'e> {
    /// A reader over these variables.
    pub fn new(env: &'e dyn Env) -> Self {
        Self {
            env,
            problems: Vec::new(),
        }
    }

    /// A variable that must be there.
    pub fn required<T: FromEnv>(&mut self, name: &str) -> Option<T> {
        let value = self.optional(name);
        if value.is_none() && self.env.get(name).is_none() {
            self.problems.push(format!("{name} is not set"));
        }
        value
    }

    /// A variable that may be absent.
    pub fn optional<T: FromEnv>(&mut self, name: &str) -> Option<T> {
        let text = self.env.get(name)?;
        match T::from_env(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(format!("{name} {problem}"));
                None
            }
        }
    }

    /// A variable with a default.
    pub fn or<T: FromEnv>(&mut self, name: &str, default: T) -> T {
        self.optional(name).unwrap_or(default)
    }

    /// Notes a problem that concerns several variables or a range.
    pub fn reject(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// The settings, if nothing was wrong with any of them.
    pub fn finish<T>(self, settings: Option<T>) -> Result<T, BadEnv> {
        match settings {
            Some(settings) if self.problems.is_empty() => Ok(settings),
            _ => Err(BadEnv(self.problems)),
        }
    }
}

impl fmt::Display for BadEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad settings in the environment: {}", self.0.join("; "))
    }
}

// === impl PathPrefix ===

impl PathPrefix {
    /// With its slash in front, none behind.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl FromEnv ===

impl FromEnv for String {
    fn from_env(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromEnv for SecretString {
    fn from_env(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl FromEnv for SocketAddr {
    fn from_env(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("must be ip:port, not {text:?}"))
    }
}

impl FromEnv for u16 {
    fn from_env(text: &str) -> Result<Self, String> {
        number(text)
    }
}

impl FromEnv for NonZeroU32 {
    fn from_env(text: &str) -> Result<Self, String> {
        number(text)
    }
}

impl FromEnv for u64 {
    fn from_env(text: &str) -> Result<Self, String> {
        number(text)
    }
}

impl FromEnv for bool {
    fn from_env(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("must be true or false, not {text:?}"))
    }
}

impl FromEnv for PathPrefix {
    fn from_env(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        match text.strip_prefix('/') {
            Some(name) if is_name(name) => Ok(Self(text.to_owned())),
            _ => Err(format!("must be one segment such as /live, not {text:?}")),
        }
    }
}

impl FromEnv for Duration {
    fn from_env(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("must be a duration with its unit such as 500ms, 10s, 5m or 1h, not {text:?}")
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (count, unit) = text.split_at(digits);
        let count: u64 = count.parse().map_err(|_| bad())?;
        let millis = match unit {
            "ms" => Some(count),
            "s" => count.checked_mul(1_000),
            "m" => count.checked_mul(60_000),
            "h" => count.checked_mul(3_600_000),
            _ => None,
        };
        millis.map(Duration::from_millis).ok_or_else(bad)
    }
}

fn number<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("must be a whole number, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_variable_is_reported() {
        let env = HashMap::from([
            ("A".to_owned(), "1.2.3.4".to_owned()),
            ("B".to_owned(), "10".to_owned()),
            ("D".to_owned(), "7".to_owned()),
            ("E".to_owned(), String::new()),
        ]);
        let mut reader = EnvReader::new(&env);
        let _: Option<SocketAddr> = reader.required("A");
        let _: Option<Duration> = reader.optional("B");
        let _: Option<String> = reader.required("C");
        assert_eq!(reader.required::<u64>("D"), Some(7));
        let _: Option<String> = reader.required("E");
        let message = reader.finish(Some(())).unwrap_err().to_string();
        for name in [
            "A must be ip:port",
            "B must be a duration",
            "C is not set",
            "E is not set",
        ] {
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn a_path_prefix_is_one_segment() {
        assert_eq!(
            PathPrefix::from_env("/live")
                .as_ref()
                .map(PathPrefix::as_str),
            Ok("/live")
        );
        for bad in ["live", "/", "/a/b", "/live/", "/a b", "/{x}", "/%2f"] {
            assert!(PathPrefix::from_env(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_carry_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(Duration::from_env(text), Ok(Duration::from_millis(millis)));
        }
        for bad in [
            "10",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(Duration::from_env(bad).is_err(), "{bad}");
        }
    }
}
