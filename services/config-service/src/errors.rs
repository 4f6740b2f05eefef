//! The failures of a request, and the one table that maps each to its gRPC status and HTTP problem.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tagged_config_auth::AuthError;
use tagged_config_domain::{KeyError, Refused, Role, StoreError};
use tagged_config_stores::UnknownTag;
use tagged_config_web::BodyError;
use thiserror::Error;
use tonic::Code;

use crate::api::guard::Broken;

/// Violations that a message has; the problem's details have all that were found.
const SHOWN_VIOLATIONS: usize = 3;

/// A request's failure. `Display` is the caller's message, except where [`ApiError::answer`] hides it.
#[derive(Clone, Debug, Error)]
pub(crate) enum ApiError {
    /// The key breaks the grammar, or no store has its tag.
    #[error("{problem}; known tags are {known}")]
    Key {
        /// What is wrong.
        problem: String,
        /// The tags there are.
        known: String,
    },
    /// Another part of the request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The caller is not known. Says nothing about why.
    #[error("a valid token is needed")]
    Unauthenticated,
    /// Tokens cannot be checked yet.
    #[error("tokens cannot be verified at the moment")]
    KeysUnavailable,
    /// The caller's role does not allow it.
    #[error("this needs the role {}", .0.as_str())]
    Forbidden(Role),
    /// No such key, or another tenant's.
    #[error("no such key")]
    NotFound,
    /// The source is older than the wanted version.
    #[error("the source has version {have}, which is older than min_version")]
    TooOld {
        /// The version that is there.
        have: i64,
    },
    /// The tenant used up its quota.
    #[error("too many {what} of this tenant; try again in {} ms", retry_after.as_millis())]
    RateLimited {
        /// Of what.
        what: &'static str,
        /// When trying again may help.
        retry_after: Duration,
    },
    /// The batch's answer is full.
    #[error("the batch's answer is full ({} MiB); request this key alone", crate::api::MAX_BATCH_BYTES >> 20)]
    BatchFull,
    /// The value does not fit into the answer.
    #[error(
        "the value has {bytes} bytes, too many for this answer; read it with GET /v1/config/{key}:raw"
    )]
    LargeValue {
        /// Its key.
        key: String,
        /// Its size.
        bytes: u64,
    },
    /// The whole value does not fit through an edge.
    #[error(
        "the value has {bytes} bytes, and an edge passes at most {limit} in one answer; read it in parts, with Range"
    )]
    NeedsRange {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The value breaks a JSON Schema of its key.
    #[error("the value breaks {}: {}", .0[0].schema, describe(.0))]
    BreaksSchema(Vec<Broken>),
    /// A schema was written past the service, and is none.
    #[error(
        "{key} cannot be used, and so nothing that it covers can be written; an admin must replace or delete it: {reason}"
    )]
    UnusableSchema {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The history has no value of this version.
    #[error("the history has no value of this version: it is a secret, or its store kept none")]
    NoValue,
    /// The key was there then, and its history begins later.
    #[error("the key's history begins after that time")]
    BeforeHistory,
    /// This deployment keeps none.
    #[error("this deployment keeps no history")]
    NoHistory,
    /// The caller's deadline passed.
    #[error("the deadline passed before the source answered")]
    DeadlineExceeded,
    /// The body is too large to be read.
    #[error("the body has more than {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("{}", BodyError::TimedOut)]
    BodyTimedOut,
    /// The store failed.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

/// How both transports answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// gRPC status code.
    pub code: Code,
    /// HTTP status.
    pub status: StatusCode,
    /// RFC 9457 `type`, below `urn:tagged-config:problem:`.
    pub kind: &'static str,
    /// RFC 9457 `title`.
    pub title: &'static str,
    /// Whether the message may be shown; otherwise only the title is.
    pub show_detail: bool,
}

impl ApiError {
    /// A key that breaks the grammar.
    pub(crate) fn bad_key(problem: KeyError, known: &UnknownTag) -> Self {
        Self::Key {
            problem: problem.to_string(),
            known: known.known().to_owned(),
        }
    }

    /// A well-formed key whose tag no store has.
    pub(crate) fn unknown_tag(known: &UnknownTag) -> Self {
        Self::Key {
            problem: "unknown tag".to_owned(),
            known: known.known().to_owned(),
        }
    }

    /// The table. Each arm has its reason where it is not plain.
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub(crate) fn answer(&self) -> Answer {
        use Code::{
            Aborted, DataLoss, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument,
            NotFound, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable,
            Unimplemented,
        };
        let shown = |code, status, kind, title| Answer {
            code,
            status,
            kind,
            title,
            show_detail: true,
        };
        let hidden = |code, status, kind, title| Answer {
            code,
            status,
            kind,
            title,
            show_detail: false,
        };
        match self {
            Self::Key { .. } => shown(
                InvalidArgument,
                StatusCode::BAD_REQUEST,
                "invalid-key",
                "Invalid key",
            ),
            Self::Invalid(_) => shown(
                InvalidArgument,
                StatusCode::BAD_REQUEST,
                "invalid-request",
                "Invalid request",
            ),
            // The reason would help to forge a better token.
            Self::Unauthenticated => hidden(
                Unauthenticated,
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "A valid token is needed",
            ),
            Self::KeysUnavailable => shown(
                Unavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Service unavailable",
            ),
            Self::Forbidden(_) => shown(
                PermissionDenied,
                StatusCode::FORBIDDEN,
                "forbidden",
                "Forbidden",
            ),
            Self::BreaksSchema(_) => shown(
                InvalidArgument,
                StatusCode::UNPROCESSABLE_ENTITY,
                "breaks-schema",
                "The value breaks a JSON Schema",
            ),
            Self::UnusableSchema { .. } => shown(
                FailedPrecondition,
                StatusCode::CONFLICT,
                "unusable-schema",
                "A JSON Schema cannot be used",
            ),
            Self::NoValue => shown(
                FailedPrecondition,
                StatusCode::CONFLICT,
                "no-value",
                "No value in the history",
            ),
            Self::BeforeHistory => shown(
                NotFound,
                StatusCode::NOT_FOUND,
                "before-history",
                "The history begins later",
            ),
            Self::NoHistory => shown(
                Unimplemented,
                StatusCode::NOT_IMPLEMENTED,
                "no-history",
                "No history here",
            ),
            Self::NotFound => shown(NotFound, StatusCode::NOT_FOUND, "not-found", "No such key"),
            Self::TooOld { .. } => shown(
                FailedPrecondition,
                StatusCode::PRECONDITION_FAILED,
                "too-old",
                "Not that new yet",
            ),
            Self::RateLimited { .. } => shown(
                ResourceExhausted,
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "Too many requests",
            ),
            // Of a key, within an answer that is otherwise good.
            Self::BatchFull => shown(
                ResourceExhausted,
                StatusCode::PAYLOAD_TOO_LARGE,
                "batch-full",
                "The batch's answer is full",
            ),
            // The other representation is there: not RESOURCE_EXHAUSTED, which invites to try again.
            Self::LargeValue { .. } | Self::NeedsRange { .. } => shown(
                FailedPrecondition,
                StatusCode::NOT_ACCEPTABLE,
                "large-value",
                "The value is too large for this answer",
            ),
            Self::DeadlineExceeded => shown(
                DeadlineExceeded,
                StatusCode::GATEWAY_TIMEOUT,
                "deadline-exceeded",
                "Deadline exceeded",
            ),
            Self::BodyTooLarge { .. } => shown(
                InvalidArgument,
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "Value too large",
            ),
            Self::BodyTimedOut => shown(
                DeadlineExceeded,
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "The body came too slowly",
            ),
            Self::Store(error) => match &**error {
                // A backend's time-out is not the caller's deadline: trying again is right.
                StoreError::Unavailable { .. }
                | StoreError::TimedOut { .. }
                | StoreError::Throttled { .. } => shown(
                    Unavailable,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "Service unavailable",
                ),
                // A fault of the deployment: logged, not shown to the caller.
                StoreError::Refused { .. } => hidden(
                    Internal,
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "Internal error",
                ),
                StoreError::Malformed { .. } => shown(
                    DataLoss,
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "malformed-value",
                    "The stored value is malformed",
                ),
                // gRPC's guidance for a failed test-and-set.
                StoreError::Conflict { .. } => shown(
                    Aborted,
                    StatusCode::PRECONDITION_FAILED,
                    "conflict",
                    "The key has changed",
                ),
                StoreError::Contended => shown(
                    Aborted,
                    StatusCode::CONFLICT,
                    "contended",
                    "Too many writers",
                ),
                StoreError::NotFound => {
                    shown(NotFound, StatusCode::NOT_FOUND, "not-found", "No such key")
                }
                StoreError::NotText { .. } => shown(
                    InvalidArgument,
                    StatusCode::BAD_REQUEST,
                    "invalid-request",
                    "Invalid request",
                ),
                StoreError::TooLarge { .. } => shown(
                    InvalidArgument,
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "too-large",
                    "Value too large",
                ),
                StoreError::VersionExhausted => shown(
                    FailedPrecondition,
                    StatusCode::CONFLICT,
                    "version-exhausted",
                    "No higher version",
                ),
                StoreError::Unsupported {
                    operation:
                        tagged_config_domain::Operation::List | tagged_config_domain::Operation::History,
                    ..
                } => shown(
                    Unimplemented,
                    StatusCode::NOT_IMPLEMENTED,
                    "unsupported",
                    "Not offered here",
                ),
                StoreError::Unsupported { .. } => shown(
                    FailedPrecondition,
                    StatusCode::CONFLICT,
                    "read-only",
                    "Read-only here",
                ),
            },
        }
    }

    /// The message for the caller.
    pub(crate) fn message(&self) -> String {
        let answer = self.answer();
        if !answer.show_detail {
            return answer.title.to_owned();
        }
        match self {
            Self::Store(error) => match &**error {
                StoreError::Conflict {
                    current: Some(version),
                } => {
                    let by_hand = "; it was written past this service: to replace it as it was read, give its entity tag \
                                   (If-Match, or expected_etag)";
                    let hint = if *version == 0 { by_hand } else { "" };
                    format!("the key has version {version}{hint}")
                }
                StoreError::Conflict { current: None } => "the key does not exist".to_owned(),
                other => other.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// Logs, once, what callers are not shown.
    pub(crate) fn log(&self, operation: &'static str) {
        let Self::Store(error) = self else { return };
        let chain = tagged_config_runtime::telemetry::chain(&**error);
        match &**error {
            StoreError::Refused { .. } => {
                tracing::error!(operation, error = chain, "the backend refuses this service");
            }
            StoreError::Unavailable { .. }
            | StoreError::TimedOut { .. }
            | StoreError::Throttled { .. } => {
                tracing::warn!(operation, error = chain, "the backend failed");
            }
            StoreError::Malformed { .. } => {
                tracing::warn!(operation, error = chain, "a stored value is malformed");
            }
            _ => tracing::debug!(operation, error = chain, "refused"),
        }
    }
}

fn describe(broken: &[Broken]) -> String {
    let of = |broken: &Broken| {
        format!(
            "at {:?}: {}",
            broken.violation.pointer, broken.violation.message
        )
    };
    let mut shown: Vec<String> = broken.iter().take(SHOWN_VIOLATIONS).map(of).collect();
    if broken.len() > SHOWN_VIOLATIONS {
        shown.push(format!("and {} more", broken.len() - SHOWN_VIOLATIONS));
    }
    shown.join("; ")
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::RateLimited {
            what: refused.what,
            retry_after: refused.retry_after,
        }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => Self::BodyTooLarge { limit },
            BodyError::TimedOut => Self::BodyTimedOut,
            BodyError::Broken => Self::Invalid(error.to_string()),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing | AuthError::Refused(_) => Self::Unauthenticated,
            AuthError::KeysUnavailable => Self::KeysUnavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use tagged_config_domain::{Backend, Operation};

    use super::*;

    #[test]
    fn every_variant_has_its_pair() {
        let backend = Backend("dynamodb");
        let store = |error: StoreError| ApiError::from(error);
        let secret = "arn:aws:secret";
        let unavailable = StoreError::Unavailable {
            backend,
            source: secret.into(),
        };
        let refused = StoreError::Refused {
            backend,
            reason: secret.to_owned(),
        };
        let too_large = StoreError::TooLarge {
            backend,
            limit: 1,
            actual: 2,
        };
        let unsupported = |operation| StoreError::Unsupported {
            backend,
            operation,
            instead: "",
        };
        for (error, code, status) in [
            (
                ApiError::Key {
                    problem: String::new(),
                    known: String::new(),
                },
                Code::InvalidArgument,
                400,
            ),
            (ApiError::Invalid(String::new()), Code::InvalidArgument, 400),
            (ApiError::Unauthenticated, Code::Unauthenticated, 401),
            (ApiError::KeysUnavailable, Code::Unavailable, 503),
            (
                ApiError::Forbidden(Role::Writer),
                Code::PermissionDenied,
                403,
            ),
            (ApiError::NotFound, Code::NotFound, 404),
            (ApiError::TooOld { have: 1 }, Code::FailedPrecondition, 412),
            (
                ApiError::RateLimited {
                    what: "reads",
                    retry_after: Duration::from_millis(1),
                },
                Code::ResourceExhausted,
                429,
            ),
            (ApiError::BatchFull, Code::ResourceExhausted, 413),
            (ApiError::DeadlineExceeded, Code::DeadlineExceeded, 504),
            (
                ApiError::BodyTooLarge { limit: 1 },
                Code::InvalidArgument,
                413,
            ),
            (ApiError::BodyTimedOut, Code::DeadlineExceeded, 408),
            (store(unavailable), Code::Unavailable, 503),
            (
                store(StoreError::TimedOut { backend }),
                Code::Unavailable,
                503,
            ),
            (
                store(StoreError::Throttled { backend }),
                Code::Unavailable,
                503,
            ),
            (store(refused), Code::Internal, 500),
            (
                store(StoreError::Malformed { reason: "x" }),
                Code::DataLoss,
                500,
            ),
            (
                store(StoreError::Conflict { current: None }),
                Code::Aborted,
                412,
            ),
            (store(StoreError::Contended), Code::Aborted, 409),
            (store(StoreError::NotFound), Code::NotFound, 404),
            (store(too_large), Code::InvalidArgument, 413),
            (
                store(StoreError::VersionExhausted),
                Code::FailedPrecondition,
                409,
            ),
            (
                store(unsupported(Operation::List)),
                Code::Unimplemented,
                501,
            ),
            (
                store(unsupported(Operation::Put)),
                Code::FailedPrecondition,
                409,
            ),
            (
                store(unsupported(Operation::Delete)),
                Code::FailedPrecondition,
                409,
            ),
        ] {
            let answer = error.answer();
            assert_eq!(
                (answer.code, answer.status.as_u16()),
                (code, status),
                "{error:?}"
            );
            assert!(!error.message().contains(secret), "{error:?}");
        }
    }
}
