//! The tenant's configuration that an order is priced from, as the cache in this process knows it.

use std::{sync::Arc, time::Duration};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tagged_config_client::{
    CallerToken, ConfigCache, Entry, ReadError, Snapshot,
    values::{Flag, deserialize_decimal, deserialize_integer},
};
use tagged_config_domain::TenantId;
use thiserror::Error;
use tonic::{Code, Status};

/// Without a watch for longer than this, the answer says that its configuration is stale.
const STALE: Duration = Duration::from_secs(5);

const PRICING: &str = "tenant_config_pricing";
const LIMITS: &str = "tenant_config_orderLimits";
const FEATURE: &str = "tenant_config_featureFlagX";
const TAX_RATE: &str = "param_config_tax/rate";
const CURRENCY: &str = "param_config_currency/default";

/// What pricing needs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// ISO 4217, three capital letters.
    pub(crate) currency: String,
    /// What the flag's treatment takes off, in percent, 0 to 100.
    pub(crate) discount_percent: Decimal,
    pub(crate) limits: Limits,
    pub(crate) feature: Feature,
    /// 0 to 1.
    pub(crate) tax_rate: Decimal,
    /// Where each came from, for the answer.
    pub(crate) provenance: Vec<Provenance>,
}

/// `tenant_config_orderLimits`; the defaults hold where the tenant has none.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Limits {
    #[serde(deserialize_with = "deserialize_integer")]
    pub(crate) max_lines: usize,
    #[serde(deserialize_with = "deserialize_integer")]
    pub(crate) max_quantity: u32,
}

/// `tenant_config_featureFlagX`; off where the tenant has none.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Feature {
    pub(crate) enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// One configuration that the price depends on.
#[derive(Debug, Serialize)]
pub(crate) struct Provenance {
    key: &'static str,
    version: i64,
    origin: String,
    stale: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pricing {
    currency: Option<String>,
    #[serde(deserialize_with = "deserialize_decimal")]
    discount_percent: Decimal,
}

/// Why there are no settings.
#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    /// config-service failed.
    #[error("config-service did not answer")]
    Call(#[source] Status),
    /// One key could not be read.
    #[error("the configuration {key} could not be read")]
    Key {
        /// Which.
        key: String,
        /// Why, as gRPC's code.
        code: Code,
    },
    /// A key without a default is missing.
    #[error("the configuration {0} is missing")]
    Missing(&'static str),
    /// A value is there and cannot be used.
    #[error("the configuration {key} cannot be used: {reason}")]
    Invalid {
        /// Which.
        key: &'static str,
        /// What is wrong; never the value.
        reason: String,
    },
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_lines: 100,
            max_quantity: 1_000,
        }
    }
}

impl Settings {
    /// Every key, to be kept for each tenant.
    pub(crate) const KEYS: [&str; 5] = [PRICING, LIMITS, FEATURE, TAX_RATE, CURRENCY];

    /// From the cache. Makes a call only while no watch of the tenant is live.
    pub(crate) async fn of(
        cache: &ConfigCache,
        tenant: &TenantId,
        token: &CallerToken,
    ) -> Result<Self, SettingsError> {
        let config = cache.tenant(tenant, token).await;
        let config = config.map_err(SettingsError::Call)?;
        let snapshot = config.snapshot().map_err(SettingsError::Call)?;
        let freshness = config.freshness();
        let is_stale = !freshness.live && freshness.age > STALE;
        Self::from_snapshot(&snapshot, is_stale)
    }

    /// Fails with the first key that cannot be read and is needed. A key with a default fails too: the default holds where
    /// the tenant has no value, not where the value is unknown.
    fn from_snapshot(snapshot: &Snapshot, is_stale: bool) -> Result<Self, SettingsError> {
        let pricing: Option<Arc<Pricing>> = snapshot.get(PRICING).map_err(problem(PRICING))?;
        let pricing = pricing.as_deref().cloned().unwrap_or_default();
        let (currency, key) = match pricing.currency {
            Some(currency) => (currency, PRICING),
            None => (shared_currency(snapshot)?, CURRENCY),
        };
        let invalid = |key, reason: &str| {
            Err(SettingsError::Invalid {
                key,
                reason: reason.to_owned(),
            })
        };
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return invalid(key, "the currency must be an ISO 4217 code such as USD");
        }
        if pricing.discount_percent < Decimal::ZERO
            || pricing.discount_percent > Decimal::ONE_HUNDRED
        {
            return invalid(PRICING, "discountPercent must be 0 to 100");
        }
        let limits = snapshot.get(LIMITS).map_err(problem(LIMITS))?;
        let tax_rate = snapshot.decimal(TAX_RATE).map_err(problem(TAX_RATE))?;
        let tax_rate = tax_rate.ok_or(SettingsError::Missing(TAX_RATE))?;
        if tax_rate < Decimal::ZERO || tax_rate > Decimal::ONE {
            return invalid(TAX_RATE, "the tax rate must be 0 to 1");
        }
        Ok(Self {
            currency,
            discount_percent: pricing.discount_percent,
            limits: limits.as_deref().copied().unwrap_or_default(),
            feature: Feature::read(snapshot)?,
            tax_rate,
            provenance: Self::KEYS
                .iter()
                .filter_map(|key| Some(Provenance::of(key, snapshot.entry(key)?, is_stale)))
                .collect(),
        })
    }
}

impl Feature {
    fn read(snapshot: &Snapshot) -> Result<Self, SettingsError> {
        let flag: Option<Arc<Flag>> = snapshot.flag(FEATURE).map_err(problem(FEATURE))?;
        let Some(flag) = flag else {
            return Ok(Self::default());
        };
        let enabled = flag.enabled().ok_or_else(|| SettingsError::Invalid {
            key: FEATURE,
            reason: "it is neither a boolean nor an object with a boolean `enabled`".to_owned(),
        })?;
        Ok(Self {
            enabled,
            variant: flag.variant().map(str::to_owned),
        })
    }
}

fn shared_currency(snapshot: &Snapshot) -> Result<String, SettingsError> {
    let currency = snapshot.string(CURRENCY).map_err(problem(CURRENCY))?;
    let currency = currency.ok_or(SettingsError::Missing(CURRENCY))?;
    Ok(currency.as_ref().clone())
}

/// Why a key cannot be used. config-service does not watch a secret (UNIMPLEMENTED), and gives it only to an admin
/// (PERMISSION_DENIED).
fn problem(key: &'static str) -> impl Fn(ReadError) -> SettingsError {
    move |error| {
        let reason = match error {
            ReadError::Failed { failure, .. } => match failure.code {
                Code::Unimplemented | Code::PermissionDenied => {
                    "it is a secret (SecureString); store it as a String".to_owned()
                }
                code => {
                    return SettingsError::Key {
                        key: key.to_owned(),
                        code,
                    };
                }
            },
            ReadError::Malformed { at, category, .. } => {
                format!("{category} error in its JSON at {at}")
            }
            ReadError::Mismatch { problem, .. } => problem.to_owned(),
            ReadError::TooDeep { .. } => "it is nested too deep".to_owned(),
            ReadError::NotKept { .. } => "the cache does not keep it".to_owned(),
        };
        SettingsError::Invalid { key, reason }
    }
}

impl Provenance {
    fn of(key: &'static str, entry: &Entry, is_stale: bool) -> Self {
        let entry = entry.response();
        Self {
            key,
            version: entry.version,
            origin: entry.origin.clone(),
            stale: entry.stale || is_stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use tagged_config_proto::v1::{BatchGetConfigResponse, GetConfigResponse, KeyError};

    use super::*;

    fn batch(values: &[(&str, &str)]) -> BatchGetConfigResponse {
        let entry = |(key, value): &(&str, &str)| GetConfigResponse {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            ..Default::default()
        };
        let has = |key: &str| values.iter().any(|(has, _)| *has == key);
        let missing = Settings::KEYS.into_iter().filter(|key| !has(key));
        BatchGetConfigResponse {
            entries: values.iter().map(entry).collect(),
            missing: missing.map(str::to_owned).collect(),
            ..Default::default()
        }
    }

    fn from_batch(batch: BatchGetConfigResponse) -> Result<Settings, SettingsError> {
        Settings::from_snapshot(&Snapshot::from(batch), false)
    }

    #[test]
    fn defaults_hold_where_the_tenant_has_nothing() {
        let settings = from_batch(batch(&[(TAX_RATE, "0.20"), (CURRENCY, "\"USD\"")])).unwrap();
        assert_eq!(
            (settings.currency.as_str(), settings.tax_rate.to_string()),
            ("USD", "0.20".to_owned())
        );
        assert!(!settings.feature.enabled);
        assert_eq!(settings.limits.max_lines, 100);
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_value() {
        for (values, key) in [
            (vec![(TAX_RATE, "{secret")], TAX_RATE),
            (vec![(TAX_RATE, "1.5")], TAX_RATE),
            (
                vec![(TAX_RATE, "0.2"), (PRICING, r#"{"currency": "secret"}"#)],
                PRICING,
            ),
            (
                vec![
                    (TAX_RATE, "0.2"),
                    (PRICING, r#"{"currency": "EUR", "discountPercent": "101"}"#),
                ],
                PRICING,
            ),
            (
                vec![
                    (TAX_RATE, "0.2"),
                    (CURRENCY, "\"USD\""),
                    (LIMITS, r#"{"maxLines": "secret"}"#),
                ],
                LIMITS,
            ),
        ] {
            let mut values = values;
            if !values.iter().any(|(key, _)| *key == CURRENCY) {
                values.push((CURRENCY, "\"USD\""));
            }
            let error = from_batch(batch(&values)).unwrap_err().to_string();
            assert!(error.contains(key) && !error.contains("secret"), "{error}");
        }
        assert!(matches!(
            from_batch(batch(&[(CURRENCY, "\"USD\"")])),
            Err(SettingsError::Missing(TAX_RATE))
        ));
    }

    /// What a key of config-service fails with, beside good values of the others.
    fn failed(key: &str, code: Code) -> Result<Settings, SettingsError> {
        let good = [(TAX_RATE, "0.2"), (CURRENCY, "\"USD\"")];
        let others: Vec<_> = good
            .into_iter()
            .filter(|(other, _)| *other != key)
            .collect();
        let mut answer = batch(&others);
        answer.missing.retain(|missing| missing != key);
        answer.errors.push(KeyError {
            key: key.to_owned(),
            code: code.into(),
            message: String::new(),
        });
        from_batch(answer)
    }

    #[test]
    fn a_key_that_failed_fails_the_price_also_if_it_has_a_default() {
        for key in Settings::KEYS {
            let error = failed(key, Code::Unavailable).unwrap_err();
            assert!(
                matches!(&error, SettingsError::Key { key: failed, code: Code::Unavailable } if failed == key),
                "{error:?}"
            );
        }
    }

    /// The shared currency is not read where the tenant has its own.
    #[test]
    fn a_key_that_is_not_needed_fails_nothing() {
        let mut answer = batch(&[(TAX_RATE, "0.2"), (PRICING, r#"{"currency": "EUR"}"#)]);
        answer.missing.retain(|key| key != CURRENCY);
        answer.errors.push(KeyError {
            key: CURRENCY.to_owned(),
            code: Code::Unavailable.into(),
            message: String::new(),
        });
        assert_eq!(from_batch(answer).unwrap().currency, "EUR");
    }

    /// Case 7.
    #[test]
    fn a_secret_in_place_of_a_string_is_named_and_recovers() {
        for code in [Code::Unimplemented, Code::PermissionDenied] {
            for key in Settings::KEYS {
                let error = failed(key, code).unwrap_err().to_string();
                assert!(error.contains(key) && error.contains("secret"), "{error}");
            }
        }
        let back = from_batch(batch(&[(TAX_RATE, "0.0825"), (CURRENCY, "\"USD\"")]));
        assert_eq!(back.unwrap().tax_rate.to_string(), "0.0825");
    }

    /// Case 6.
    #[test]
    fn numbers_and_their_strings_are_alike_to_the_digit() {
        for (percent, rate, expected) in [
            ("10", "8.25e-2", ("10", "0.0825")),
            ("\"10\"", "\"8.25e-2\"", ("10", "0.0825")),
            ("1e1", "0.0825", ("10", "0.0825")),
            ("\"1e1\"", "\"0.0825\"", ("10", "0.0825")),
            (
                "0.1000000000000000000000000001",
                "0.20",
                ("0.1000000000000000000000000001", "0.20"),
            ),
        ] {
            let pricing = format!(r#"{{"currency": "USD", "discountPercent": {percent}}}"#);
            let settings = from_batch(batch(&[(PRICING, &pricing), (TAX_RATE, rate)])).unwrap();
            let found = (
                settings.discount_percent.to_string(),
                settings.tax_rate.to_string(),
            );
            assert_eq!((found.0.as_str(), found.1.as_str()), expected);
        }
        for percent in ["101", "-1", "1e40", "true", "null", "\"ten\""] {
            let pricing = format!(r#"{{"currency": "USD", "discountPercent": {percent}}}"#);
            let error = from_batch(batch(&[(PRICING, &pricing), (TAX_RATE, "0.2")])).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(PRICING) && error.contains("discountPercent"),
                "{error}"
            );
        }
        for rate in ["2", "1e40", "true"] {
            let error = from_batch(batch(&[(TAX_RATE, rate), (CURRENCY, "\"USD\"")])).unwrap_err();
            assert!(error.to_string().contains(TAX_RATE), "{error}");
        }
    }

    #[test]
    fn limits_are_whole_numbers_in_any_notation() {
        let limits = |limits: &str| {
            let answer = batch(&[(LIMITS, limits), (TAX_RATE, "0.2"), (CURRENCY, "\"USD\"")]);
            from_batch(answer).map(|settings| settings.limits)
        };
        for value in ["7", "\"7\"", "7.0", "7e0", "\"7.0\""] {
            let found = limits(&format!(r#"{{"maxLines": {value}}}"#)).unwrap();
            assert_eq!((found.max_lines, found.max_quantity), (7, 1_000), "{value}");
        }
        for value in ["7.5", "-1", "true", "null", "\"x\"", "1e30"] {
            let error = limits(&format!(r#"{{"maxQuantity": {value}}}"#)).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(LIMITS) && error.contains("maxQuantity"),
                "{error}"
            );
        }
    }

    /// Point 6: both consumers agree on one table of shapes; the OpenFeature provider's tests use it too.
    #[test]
    fn every_shape_is_read_as_the_table_says() {
        use serde_json::{Value, json};
        let shapes: Vec<Value> =
            serde_json::from_str(include_str!("../../../docs/values.json")).unwrap();
        assert!(shapes.len() > 20);
        for shape in shapes {
            let snapshot = |key: &str| {
                Snapshot::from(BatchGetConfigResponse {
                    entries: vec![GetConfigResponse {
                        key: key.to_owned(),
                        value: shape["value"].as_str().unwrap().to_owned(),
                        content_type: shape["contentType"].as_str().unwrap_or("").to_owned(),
                        ..Default::default()
                    }],
                    ..Default::default()
                })
            };
            let flag = Feature::read(&snapshot(FEATURE)).map(|flag| json!(flag));
            let number = snapshot(TAX_RATE).decimal(TAX_RATE);
            let number = number
                .map(|number| json!(number.unwrap()))
                .map_err(problem(TAX_RATE));
            let string = shared_currency(&snapshot(CURRENCY)).map(|string| json!(string));
            for (column, found, key) in [
                ("orderFlag", flag, FEATURE),
                ("orderNumber", number, TAX_RATE),
                ("orderString", string, CURRENCY),
            ] {
                match (&shape[column], found) {
                    (Value::Null, Err(error)) => assert!(error.to_string().contains(key)),
                    (expected, found) => assert_eq!(&found.unwrap(), expected, "{column} {shape}"),
                }
            }
        }
    }
}
