//! The tenant's configuration that an order is priced from, as the cache in this process knows it.

use std::{sync::Arc, time::Duration};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tagged_config_client::{CallerToken, ConfigCache, Entry, ReadError, Snapshot};
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
    pub(crate) max_lines: usize,
    pub(crate) max_quantity: u32,
}

/// `tenant_config_featureFlagX`; off where the tenant has none.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Feature {
    #[serde(default)]
    pub(crate) enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

    /// As the cache knows them now: a call only for a tenant that was not seen before.
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

    fn from_snapshot(snapshot: &Snapshot, is_stale: bool) -> Result<Self, SettingsError> {
        if let Some((key, code)) = snapshot.failures().next() {
            return Err(SettingsError::Key {
                key: key.to_owned(),
                code,
            });
        }
        let pricing: Option<Arc<Pricing>> = read(snapshot, PRICING)?;
        let pricing = pricing.as_deref().cloned().unwrap_or_default();
        let shared_currency: Option<Arc<String>> = read(snapshot, CURRENCY)?;
        let currency = pricing
            .currency
            .or(shared_currency.as_deref().cloned())
            .ok_or(SettingsError::Missing(CURRENCY))?;
        let invalid = |key, reason: &str| {
            Err(SettingsError::Invalid {
                key,
                reason: reason.to_owned(),
            })
        };
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return invalid(PRICING, "the currency must be an ISO 4217 code such as USD");
        }
        if pricing.discount_percent < Decimal::ZERO
            || pricing.discount_percent > Decimal::ONE_HUNDRED
        {
            return invalid(PRICING, "discountPercent must be 0 to 100");
        }
        let tax_rate: Arc<Number> =
            read(snapshot, TAX_RATE)?.ok_or(SettingsError::Missing(TAX_RATE))?;
        if tax_rate.0 < Decimal::ZERO || tax_rate.0 > Decimal::ONE {
            return invalid(TAX_RATE, "the tax rate must be 0 to 1");
        }
        Ok(Self {
            currency,
            discount_percent: pricing.discount_percent,
            limits: read(snapshot, LIMITS)?
                .as_deref()
                .copied()
                .unwrap_or_default(),
            feature: read(snapshot, FEATURE)?
                .as_deref()
                .cloned()
                .unwrap_or_default(),
            tax_rate: tax_rate.0,
            provenance: Self::KEYS
                .iter()
                .filter_map(|key| Some(Provenance::of(key, snapshot.entry(key)?, is_stale)))
                .collect(),
        })
    }
}

/// A JSON number, or a number in a string, to the digit.
#[derive(Debug)]
struct Number(Decimal);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?;
        let text = raw.get().trim_matches('"');
        text.parse()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not a decimal number"))
    }
}

fn read<T: DeserializeOwned + Send + Sync + 'static>(
    snapshot: &Snapshot,
    key: &'static str,
) -> Result<Option<Arc<T>>, SettingsError> {
    snapshot.get(key).map_err(|error| match error {
        ReadError::Failed { key, code } => SettingsError::Key { key, code },
        ReadError::Malformed { category, .. } => SettingsError::Invalid {
            key,
            reason: format!("{category} error in its JSON"),
        },
    })
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
        BatchGetConfigResponse {
            entries: values.iter().map(entry).collect(),
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

    #[test]
    fn a_key_that_failed_fails_the_price() {
        let mut answer = batch(&[(TAX_RATE, "0.2"), (CURRENCY, "\"USD\"")]);
        answer.errors.push(KeyError {
            key: LIMITS.to_owned(),
            code: 14,
            message: String::new(),
        });
        assert!(matches!(
            from_batch(answer),
            Err(SettingsError::Key {
                code: Code::Unavailable,
                ..
            })
        ));
    }
}
