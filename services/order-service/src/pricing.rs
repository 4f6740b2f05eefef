//! The price of an order: exact decimals, rounded once per amount, half away from zero.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use tagged_config_client::values::deserialize_decimal;
use thiserror::Error;
use uuid::Uuid;

use crate::settings::{Feature, Provenance, Settings};

/// The variant of the feature flag that brings the discount.
const TREATMENT: &str = "treatment";
/// Largest unit price.
const MAX_UNIT_PRICE: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);
const MAX_SKU: usize = 64;

/// An order as it is sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) lines: Vec<Line>,
}

/// One article.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) sku: String,
    #[serde(deserialize_with = "whole")]
    pub(crate) quantity: u32,
    /// A number or its string, to the digit.
    #[serde(deserialize_with = "deserialize_decimal")]
    pub(crate) unit_price: Decimal,
}

/// A whole number in any JSON notation: `2`, `2.0`, `2e0`.
fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = Decimal::try_from(
        serde_json::Number::deserialize(deserializer)?
            .as_f64()
            .unwrap_or(-1.0),
    );
    let whole = number.ok().filter(|number| number.fract().is_zero());
    whole
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| serde::de::Error::custom("not a whole number"))
}

/// An order with its price.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PricedOrder {
    order_id: Uuid,
    currency: String,
    lines: Vec<PricedLine>,
    subtotal: Decimal,
    discount: Decimal,
    tax_rate: Decimal,
    tax: Decimal,
    total: Decimal,
    feature_flag: Feature,
    configuration: Vec<Provenance>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PricedLine {
    sku: String,
    quantity: u32,
    unit_price: Decimal,
    amount: Decimal,
}

/// Why an order cannot be priced.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum OrderError {
    #[error("an order has at least one line")]
    Empty,
    #[error("an order of this tenant has at most {limit} lines, not {lines}")]
    TooManyLines { lines: usize, limit: usize },
    #[error("line {line}: the quantity must be 1 to {limit} for this tenant")]
    Quantity { line: usize, limit: u32 },
    #[error("line {line}: the unit price must be 0 to {MAX_UNIT_PRICE}")]
    UnitPrice { line: usize },
    #[error("line {line}: the sku must have 1 to {MAX_SKU} characters")]
    Sku { line: usize },
    #[error("the order's total is too large")]
    Overflow,
}

/// Prices an order.
pub(crate) fn price(order: Order, settings: Settings) -> Result<PricedOrder, OrderError> {
    let limits = &settings.limits;
    if order.lines.is_empty() {
        return Err(OrderError::Empty);
    }
    if order.lines.len() > limits.max_lines {
        return Err(OrderError::TooManyLines {
            lines: order.lines.len(),
            limit: limits.max_lines,
        });
    }
    let digits = minor_digits(&settings.currency);
    let money = |amount: Decimal| {
        let mut rounded =
            amount.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
        rounded.rescale(digits);
        rounded
    };
    let mut lines = Vec::with_capacity(order.lines.len());
    let mut subtotal = Decimal::ZERO;
    for (index, line) in order.lines.into_iter().enumerate() {
        let number = index + 1;
        if line.quantity == 0 || line.quantity > limits.max_quantity {
            return Err(OrderError::Quantity {
                line: number,
                limit: limits.max_quantity,
            });
        }
        if line.unit_price < Decimal::ZERO || line.unit_price > MAX_UNIT_PRICE {
            return Err(OrderError::UnitPrice { line: number });
        }
        if line.sku.is_empty() || line.sku.chars().count() > MAX_SKU {
            return Err(OrderError::Sku { line: number });
        }
        let amount = line
            .unit_price
            .checked_mul(line.quantity.into())
            .map(money)
            .ok_or(OrderError::Overflow)?;
        subtotal = subtotal.checked_add(amount).ok_or(OrderError::Overflow)?;
        lines.push(PricedLine {
            sku: line.sku,
            quantity: line.quantity,
            unit_price: line.unit_price,
            amount,
        });
    }
    let treated =
        settings.feature.enabled && settings.feature.variant.as_deref() == Some(TREATMENT);
    let percent = if treated {
        settings.discount_percent
    } else {
        Decimal::ZERO
    };
    let part = |of: Decimal, rate: Decimal| of.checked_mul(rate).ok_or(OrderError::Overflow);
    let discount = money(part(subtotal, percent / Decimal::ONE_HUNDRED)?);
    let net = subtotal - discount;
    let tax = money(part(net, settings.tax_rate)?);
    Ok(PricedOrder {
        order_id: Uuid::new_v4(),
        currency: settings.currency,
        lines,
        subtotal: money(subtotal),
        discount,
        tax_rate: settings.tax_rate,
        tax,
        total: net.checked_add(tax).ok_or(OrderError::Overflow)?,
        feature_flag: settings.feature,
        configuration: settings.provenance,
    })
}

/// Digits after the point of a currency's amounts (ISO 4217).
fn minor_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "UYI" | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Limits;

    fn settings(currency: &str, variant: &str) -> Settings {
        Settings {
            currency: currency.to_owned(),
            discount_percent: Decimal::from(10),
            limits: Limits {
                max_lines: 2,
                max_quantity: 10,
            },
            feature: Feature {
                enabled: true,
                variant: Some(variant.to_owned()),
            },
            tax_rate: "0.19".parse().unwrap(),
            provenance: Vec::new(),
        }
    }

    fn line(quantity: u32, unit_price: &str) -> Line {
        Line {
            sku: "book".to_owned(),
            quantity,
            unit_price: unit_price.parse().unwrap(),
        }
    }

    fn amounts(order: &PricedOrder) -> [String; 4] {
        [order.subtotal, order.discount, order.tax, order.total].map(|amount| amount.to_string())
    }

    #[test]
    fn configuration_changes_the_price() {
        let order = || Order {
            lines: vec![line(2, "19.99")],
        };
        assert_eq!(
            amounts(&price(order(), settings("EUR", "control")).unwrap()),
            ["39.98", "0.00", "7.60", "47.58"]
        );
        assert_eq!(
            amounts(&price(order(), settings("EUR", "treatment")).unwrap()),
            ["39.98", "4.00", "6.84", "42.82"]
        );
        assert_eq!(
            amounts(&price(order(), settings("JPY", "control")).unwrap()),
            ["40", "0", "8", "48"]
        );
    }

    /// Case 6.
    #[test]
    fn a_unit_price_is_a_number_or_its_string() {
        for unit_price in ["19.99", "\"19.99\"", "1999e-2"] {
            let text = format!(
                r#"{{"lines": [{{"sku": "x", "quantity": 1, "unitPrice": {unit_price}}}]}}"#
            );
            let order: Order = serde_json::from_slice(text.as_bytes()).unwrap();
            assert_eq!(order.lines[0].unit_price.to_string(), "19.99");
        }
    }

    #[test]
    fn what_cannot_be_priced() {
        let price = |lines| price(Order { lines }, settings("EUR", "control")).err();
        assert_eq!(price(vec![]), Some(OrderError::Empty));
        assert_eq!(
            price(vec![line(1, "1"), line(1, "1"), line(1, "1")]),
            Some(OrderError::TooManyLines { lines: 3, limit: 2 })
        );
        assert_eq!(
            price(vec![line(0, "1")]),
            Some(OrderError::Quantity { line: 1, limit: 10 })
        );
        assert_eq!(
            price(vec![line(1, "1"), line(11, "1")]),
            Some(OrderError::Quantity { line: 2, limit: 10 })
        );
        assert_eq!(
            price(vec![line(1, "-0.01")]),
            Some(OrderError::UnitPrice { line: 1 })
        );
        assert_eq!(
            price(vec![line(1, "79228162514264337593543950335")]),
            Some(OrderError::UnitPrice { line: 1 })
        );
        let nameless = Line {
            sku: String::new(),
            ..line(1, "1")
        };
        assert_eq!(price(vec![nameless]), Some(OrderError::Sku { line: 1 }));
    }

    proptest! {
        /// No input panics, and the parts make the whole.
        #[test]
        fn the_parts_make_the_whole(quantity in 1_u32..=10, mantissa in 0_i64..=i64::MAX, scale in 0_u32..=28) {
            let unit_price = Decimal::new(mantissa, scale);
            let lines = vec![Line { sku: "x".to_owned(), quantity, unit_price }];
            if let Ok(order) = price(Order { lines }, settings("EUR", "treatment")) {
                prop_assert_eq!(order.subtotal - order.discount + order.tax, order.total);
                prop_assert_eq!(order.total.scale(), 2);
            }
        }
    }
}
