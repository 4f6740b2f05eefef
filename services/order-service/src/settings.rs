//! The tenant's configuration that an order is priced from, fetched in one call with the caller's token.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tagged_config_client::{CallerToken, ConfigClient};
use tagged_config_proto::v1::{BatchGetConfigResponse, GetConfigResponse};
use thiserror::Error;
use tonic::{Code, Status};

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
#[derive(Debug, Deserialize)]
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
    key: String,
    version: i64,
    origin: String,
    stale: bool,
}

#[derive(Debug, Default, Deserialize)]
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
    /// Asks for all of them at once.
    pub(crate) async fn fetch(
        client: &ConfigClient,
        token: &CallerToken,
    ) -> Result<Self, SettingsError> {
        let keys = [PRICING, LIMITS, FEATURE, TAX_RATE, CURRENCY]
            .map(ToOwned::to_owned)
            .into();
        let batch = client
            .batch_get(token, keys)
            .await
            .map_err(SettingsError::Call)?;
        Self::from_batch(&batch)
    }

    fn from_batch(batch: &BatchGetConfigResponse) -> Result<Self, SettingsError> {
        if let Some(error) = batch.errors.first() {
            return Err(SettingsError::Key {
                key: error.key.clone(),
                code: Code::from_i32(error.code),
            });
        }
        let pricing: Pricing = read(batch, PRICING)?.unwrap_or_default();
        let shared_currency: Option<String> = read(batch, CURRENCY)?;
        let currency = pricing
            .currency
            .or(shared_currency)
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
        let tax_rate: Number = read(batch, TAX_RATE)?.ok_or(SettingsError::Missing(TAX_RATE))?;
        if tax_rate.0 < Decimal::ZERO || tax_rate.0 > Decimal::ONE {
            return invalid(TAX_RATE, "the tax rate must be 0 to 1");
        }
        Ok(Self {
            currency,
            discount_percent: pricing.discount_percent,
            limits: read(batch, LIMITS)?.unwrap_or_default(),
            feature: read(batch, FEATURE)?.unwrap_or_default(),
            tax_rate: tax_rate.0,
            provenance: batch.entries.iter().map(Provenance::of).collect(),
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

fn read<T: DeserializeOwned>(
    batch: &BatchGetConfigResponse,
    key: &'static str,
) -> Result<Option<T>, SettingsError> {
    let Some(entry) = batch.entries.iter().find(|entry| entry.key == key) else {
        return Ok(None);
    };
    match serde_json::from_str(&entry.value) {
        Ok(value) => Ok(Some(value)),
        // The parser's message may quote the value.
        Err(error) => Err(SettingsError::Invalid {
            key,
            reason: format!("{:?} error in its JSON", error.classify()),
        }),
    }
}

impl Provenance {
    fn of(entry: &GetConfigResponse) -> Self {
        Self {
            key: entry.key.clone(),
            version: entry.version,
            origin: entry.origin.clone(),
            stale: entry.stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use tagged_config_proto::v1::KeyError;

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

    #[test]
    fn defaults_hold_where_the_tenant_has_nothing() {
        let settings =
            Settings::from_batch(&batch(&[(TAX_RATE, "0.20"), (CURRENCY, "\"USD\"")])).unwrap();
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
            let error = Settings::from_batch(&batch(&values))
                .unwrap_err()
                .to_string();
            assert!(error.contains(key) && !error.contains("secret"), "{error}");
        }
        assert!(matches!(
            Settings::from_batch(&batch(&[(CURRENCY, "\"USD\"")])),
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
            Settings::from_batch(&answer),
            Err(SettingsError::Key {
                code: Code::Unavailable,
                ..
            })
        ));
    }
}
