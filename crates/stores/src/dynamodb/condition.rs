//! What must hold of an item for a write to replace it.

use std::{collections::HashMap, fmt::Write};

use aws_sdk_dynamodb::types::AttributeValue;

use super::{Item, item, number};

/// A write's condition on the item that it replaces.
pub(super) struct Condition {
    pub(super) expression: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

// === impl Condition ===

impl Condition {
    /// The item carries the version that the service gave it, and that is lower than the one being written.
    pub(super) fn assigned_and_older() -> Self {
        let expression = "#version < :version AND #assigned = #version".to_owned();
        Self {
            expression,
            names: HashMap::new(),
            values: HashMap::new(),
        }
    }

    /// The item is as the claim left it.
    pub(super) fn claimed(claim: String, version: i64, value: &str) -> Self {
        let item = HashMap::from([
            (item::CLAIM.to_owned(), AttributeValue::S(claim)),
            (item::VERSION.to_owned(), number(version)),
            (item::VALUE.to_owned(), AttributeValue::S(value.to_owned())),
        ]);
        Self::unchanged(Some(&item))
    }

    /// What is there is what was read, to the letter: a hand edit that kept the version counts as a change.
    pub(super) fn unchanged(old: Option<&Item>) -> Self {
        let mut names = HashMap::from([("#pk".to_owned(), "PK".to_owned())]);
        let mut values = HashMap::new();
        let Some(old) = old else {
            return Self {
                expression: "attribute_not_exists(#pk)".to_owned(),
                names,
                values,
            };
        };
        let mut expression = "attribute_exists(#pk)".to_owned();
        for (attribute, name) in [
            (item::VERSION, "version"),
            (item::VALUE, "value"),
            (item::ASSIGNED_VERSION, "assigned"),
            (item::CLAIM, "claim"),
        ] {
            names.insert(format!("#{name}"), attribute.to_owned());
            if let Some(value) = old.get(attribute) {
                let _ = write!(expression, " AND #{name} = :old_{name}");
                values.insert(format!(":old_{name}"), value.clone());
            } else {
                let _ = write!(expression, " AND attribute_not_exists(#{name})");
            }
        }
        Self {
            expression,
            names,
            values,
        }
    }
}
