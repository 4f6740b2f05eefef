//! An OpenFeature provider over a tenant's configuration: flags are values such as
//! `{"enabled": true, "variant": "treatment", "value": 7}`. `docs/values.md` has every shape and what it resolves to.
//!
//! - A boolean flag is `enabled`, or the value itself if that is a boolean. `enabled` that is not a boolean is a
//!   TYPE_MISMATCH for every resolver: a flag is never on by accident.
//! - A string flag is `value` if that is a string or a number (as it is written), else `variant`. A number flag is `value`, as
//!   a number or its string. A structure is `value`. Without a field `value`, the value itself counts.
//! - A value of another content type than JSON, such as text/plain, is its own string.
//! - A flag that is not enabled resolves to the caller's default: OpenFeature's client gives it for an error, so other
//!   types than boolean answer with the error "DISABLED".
//!
//! The tenant is the one whose [`TenantConfig`] the provider was made of; nothing in the evaluation context changes it.
//!
//! <https://openfeature.dev/specification/sections/providers>

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use async_trait::async_trait;
use open_feature::{
    EvaluationContext, EvaluationError, EvaluationErrorCode, EvaluationReason, EvaluationResult,
    StructValue, Value,
    provider::{FeatureProvider, ProviderMetadata, ProviderStatus, ResolutionDetails},
};
use serde_json::Value as Json;
use tagged_config_client::{ReadError, Snapshot, TenantConfig, values::Flag};

/// What a flag's key begins with where the caller leaves it out.
const PREFIX: &str = "tenant_config_";
/// What a whole key begins with. In another name `_config_` is a part of the name.
const TAGS: [&str; 4] = [PREFIX, "param_config_", "blob_config_", "secret_config_"];

/// Flags of one tenant. A flag `x` is the key `tenant_config_x`; one that begins with a known tag is a key as it is.
pub struct Provider {
    config: TenantConfig,
    metadata: ProviderMetadata,
}

/// A flag as it was read.
#[derive(Clone, Debug)]
struct Evaluated {
    flag: Arc<Flag>,
    /// Neither stale nor read without a live watch.
    is_current: bool,
}

// === impl Provider ===

impl Provider {
    /// The flags of this tenant. Its keys must be among those that the cache keeps.
    pub fn new(config: TenantConfig) -> Self {
        Self {
            config,
            metadata: ProviderMetadata::new("tagged-config"),
        }
    }

    fn flag(&self, name: &str) -> EvaluationResult<Evaluated> {
        let snapshot = self.config.snapshot().map_err(|status| {
            error(
                EvaluationErrorCode::ProviderNotReady,
                status.message().to_owned(),
            )
        })?;
        Evaluated::read(&snapshot, name, self.config.freshness().live)
    }
}

#[async_trait]
impl FeatureProvider for Provider {
    fn status(&self) -> ProviderStatus {
        if self.config.snapshot().is_ok() {
            ProviderStatus::Ready
        } else {
            ProviderStatus::NotReady
        }
    }

    fn metadata(&self) -> &ProviderMetadata {
        &self.metadata
    }

    async fn resolve_bool_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<bool>> {
        self.flag(flag_key)?.boolean()
    }

    async fn resolve_int_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<i64>> {
        self.flag(flag_key)?.integer()
    }

    async fn resolve_float_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<f64>> {
        self.flag(flag_key)?.float()
    }

    async fn resolve_string_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<String>> {
        self.flag(flag_key)?.string()
    }

    async fn resolve_struct_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<StructValue>> {
        self.flag(flag_key)?.structure()
    }
}

// === impl Evaluated ===

impl Evaluated {
    fn read(snapshot: &Snapshot, name: &str, is_live: bool) -> EvaluationResult<Self> {
        let key = key_of(name);
        let flag = snapshot.flag(&key).map_err(|problem| {
            let code = match &problem {
                ReadError::NotKept { .. } => EvaluationErrorCode::FlagNotFound,
                ReadError::Failed { failure, .. } => {
                    EvaluationErrorCode::General(format!("{:?}", failure.code))
                }
                ReadError::Malformed { .. } | ReadError::TooDeep { .. } => {
                    EvaluationErrorCode::ParseError
                }
                ReadError::Mismatch { .. } => EvaluationErrorCode::TypeMismatch,
            };
            error(code, problem.to_string())
        })?;
        let flag = flag.ok_or_else(|| {
            error(
                EvaluationErrorCode::FlagNotFound,
                format!("{key} does not exist"),
            )
        })?;
        let is_stale = snapshot.entry(&key).is_some_and(|e| e.response().stale);
        Ok(Self {
            flag,
            is_current: is_live && !is_stale,
        })
    }

    fn boolean(&self) -> EvaluationResult<ResolutionDetails<bool>> {
        let enabled = self.flag.enabled().ok_or_else(mismatch)?;
        Ok(self.details(enabled))
    }

    fn integer(&self) -> EvaluationResult<ResolutionDetails<i64>> {
        self.value(Flag::integer)
    }

    fn float(&self) -> EvaluationResult<ResolutionDetails<f64>> {
        self.value(Flag::float)
    }

    fn string(&self) -> EvaluationResult<ResolutionDetails<String>> {
        self.value(|flag| flag.string().map(Cow::into_owned))
    }

    fn structure(&self) -> EvaluationResult<ResolutionDetails<StructValue>> {
        self.value(|flag| structure(&flag.json()?))
    }

    /// A value that is not boolean.
    fn value<T>(
        &self,
        read: impl Fn(&Flag) -> Option<T>,
    ) -> EvaluationResult<ResolutionDetails<T>> {
        if self.flag.enabled() == Some(false) {
            let disabled = EvaluationErrorCode::General("DISABLED".to_owned());
            return Err(error(disabled, "the flag is not enabled".to_owned()));
        }
        let value = read(&self.flag).ok_or_else(mismatch)?;
        Ok(self.details(value))
    }

    fn details<T>(&self, value: T) -> ResolutionDetails<T> {
        let is_off = self.flag.enabled() == Some(false);
        let reason = match (is_off, self.is_current) {
            (true, _) => EvaluationReason::Disabled,
            (false, true) => EvaluationReason::Static,
            // The specification's reason for values that are not current.
            (false, false) => EvaluationReason::Other("STALE".to_owned()),
        };
        ResolutionDetails {
            variant: self.flag.variant().map(str::to_owned),
            reason: Some(reason),
            ..ResolutionDetails::new(value)
        }
    }
}

fn key_of(name: &str) -> Cow<'_, str> {
    if TAGS.iter().any(|tag| name.starts_with(tag)) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{PREFIX}{name}"))
    }
}

fn error(code: EvaluationErrorCode, message: String) -> EvaluationError {
    EvaluationError {
        code,
        message: Some(message),
    }
}

fn mismatch() -> EvaluationError {
    error(
        EvaluationErrorCode::TypeMismatch,
        "the flag's value has another type".to_owned(),
    )
}

fn structure(value: &Json) -> Option<StructValue> {
    let fields = value.as_object()?.iter();
    let fields: Option<HashMap<_, _>> = fields
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| Some((name.clone(), field(value)?)))
        .collect();
    Some(StructValue { fields: fields? })
}

/// `None` for what the standard has no type for (null inside a list).
fn field(value: &Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(values) => Value::Array(values.iter().map(field).collect::<Option<_>>()?),
        Json::Object(_) => Value::Struct(structure(value)?),
    })
}

#[cfg(test)]
mod tests;
