//! An OpenFeature provider over a tenant's configuration: flags are values such as
//! `{"enabled": true, "variant": "treatment", "value": 7}`.
//!
//! - A boolean flag is `enabled` (or the value itself, if that is a boolean).
//! - A string flag is `value` if that is a string, else `variant`; numbers and structures are `value`, or the value itself.
//! - A flag that is not enabled resolves to the caller's default: OpenFeature's client gives it for an error, so other
//!   types than boolean answer with the error "disabled".
//!
//! The tenant is the one whose [`TenantConfig`] the provider was made of; nothing in the evaluation context changes it.
//!
//! <https://openfeature.dev/specification/sections/providers>

use std::collections::HashMap;

use async_trait::async_trait;
use open_feature::{
    EvaluationContext, EvaluationError, EvaluationErrorCode, EvaluationReason, EvaluationResult,
    StructValue, Value,
    provider::{FeatureProvider, ProviderMetadata, ProviderStatus, ResolutionDetails},
};
use serde_json::Value as Json;
use tagged_config_client::{ReadError, TenantConfig};

/// What a flag's key begins with where the caller leaves it out.
const PREFIX: &str = "tenant_config_";

/// Flags of one tenant. A flag `x` is the key `tenant_config_x`; one that has a tag is a key as it is.
pub struct Provider {
    config: TenantConfig,
    metadata: ProviderMetadata,
}

/// What was found under a flag's key.
struct Flag {
    value: Json,
    is_enabled: bool,
    variant: Option<String>,
    is_live: bool,
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

    fn flag(&self, key: &str) -> EvaluationResult<Flag> {
        let key = if key.contains("_config_") {
            key.to_owned()
        } else {
            format!("{PREFIX}{key}")
        };
        let snapshot = self.config.snapshot().map_err(|status| {
            error(
                EvaluationErrorCode::ProviderNotReady,
                status.message().to_owned(),
            )
        })?;
        let value = snapshot.get::<Json>(&key).map_err(|problem| {
            let code = match &problem {
                ReadError::Malformed { .. } => EvaluationErrorCode::ParseError,
                ReadError::Failed { code, .. } => EvaluationErrorCode::General(format!("{code:?}")),
            };
            error(code, problem.to_string())
        })?;
        let Some(value) = value else {
            return Err(error(
                EvaluationErrorCode::FlagNotFound,
                format!("there is no {key}"),
            ));
        };
        let text = |name: &str| value.get(name).and_then(Json::as_str).map(str::to_owned);
        Ok(Flag {
            is_enabled: match value.as_bool() {
                Some(enabled) => enabled,
                None => value.get("enabled").and_then(Json::as_bool).unwrap_or(true),
            },
            variant: text("variant"),
            value: value.as_ref().clone(),
            is_live: self.config.freshness().live,
        })
    }

    /// A value that is not boolean, as `read` takes it from the flag's value.
    fn resolve<T>(
        &self,
        key: &str,
        read: impl Fn(&Flag) -> Option<T>,
    ) -> EvaluationResult<ResolutionDetails<T>> {
        let flag = self.flag(key)?;
        if !flag.is_enabled {
            let disabled = EvaluationErrorCode::General("DISABLED".to_owned());
            return Err(error(disabled, "the flag is not enabled".to_owned()));
        }
        let value = read(&flag).ok_or_else(mismatch)?;
        Ok(flag.details(value))
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
        let flag = self.flag(flag_key)?;
        let says = flag.value.is_boolean() || flag.value.get("enabled").is_some();
        if !says {
            return Err(mismatch());
        }
        Ok(flag.details(flag.is_enabled))
    }

    async fn resolve_int_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<i64>> {
        self.resolve(flag_key, |flag| flag.inner().as_i64())
    }

    async fn resolve_float_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<f64>> {
        self.resolve(flag_key, |flag| flag.inner().as_f64())
    }

    async fn resolve_string_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<String>> {
        self.resolve(flag_key, |flag| {
            let own = flag.inner().as_str().map(str::to_owned);
            own.or_else(|| flag.variant.clone())
        })
    }

    async fn resolve_struct_value(
        &self,
        flag_key: &str,
        _: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<StructValue>> {
        self.resolve(flag_key, |flag| structure(flag.inner()))
    }
}

// === impl Flag ===

impl Flag {
    /// `value`, or the whole if it has none.
    fn inner(&self) -> &Json {
        self.value.get("value").unwrap_or(&self.value)
    }

    fn details<T>(&self, value: T) -> ResolutionDetails<T> {
        let reason = match (self.is_enabled, self.is_live) {
            (false, _) => EvaluationReason::Disabled,
            (true, true) => EvaluationReason::Static,
            // The specification's reason for values that are not current.
            (true, false) => EvaluationReason::Other("STALE".to_owned()),
        };
        ResolutionDetails {
            variant: self.variant.clone(),
            reason: Some(reason),
            ..ResolutionDetails::new(value)
        }
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
mod tests {
    use serde_json::json;

    use super::*;

    fn flag(value: Json) -> Flag {
        Flag {
            is_enabled: value.get("enabled").and_then(Json::as_bool).unwrap_or(true),
            variant: value
                .get("variant")
                .and_then(Json::as_str)
                .map(str::to_owned),
            value,
            is_live: true,
        }
    }

    #[test]
    fn reasons_tell_what_a_value_is_worth() {
        let mut on = flag(json!({"enabled": true, "variant": "treatment"}));
        let details = on.details(true);
        assert_eq!(details.reason, Some(EvaluationReason::Static));
        assert_eq!(details.variant.as_deref(), Some("treatment"));
        on.is_live = false;
        let reason = on.details(true).reason;
        assert_eq!(reason, Some(EvaluationReason::Other("STALE".to_owned())));
        let off = flag(json!({"enabled": false}));
        assert_eq!(off.details(false).reason, Some(EvaluationReason::Disabled));
    }

    #[test]
    fn structures_keep_their_types() {
        let found = structure(&json!({"a": 1, "b": 1.5, "c": ["x"], "d": {"e": true}, "f": null}));
        let fields = found.unwrap().fields;
        assert_eq!(fields["a"], Value::Int(1));
        assert_eq!(fields["b"], Value::Float(1.5));
        assert_eq!(
            fields["c"],
            Value::Array(vec![Value::String("x".to_owned())])
        );
        assert!(
            matches!(&fields["d"], Value::Struct(inner) if inner.fields["e"] == Value::Bool(true))
        );
        assert_eq!(fields.len(), 4);
        assert!(structure(&json!([1])).is_none());
        assert!(structure(&json!({"a": [null]})).is_none());
    }
}
