//! Statements of PartiQL, which DynamoDB runs one by one or in a transaction. Unlike `PutItem`, `INSERT` never replaces an
//! item, and has an action of its own in IAM: a role that may insert, and nothing else, can only append.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.html>

use std::fmt::Write;

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::{
        execute_statement::ExecuteStatementError, execute_transaction::ExecuteTransactionError,
    },
    types::{AttributeValue, ParameterizedStatement},
};
use tagged_config_domain::StoreError;

use crate::{
    aws::store_error,
    dynamodb::{BACKEND, incomplete, item::Item},
};

/// A statement with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    text: String,
    parameters: Vec<AttributeValue>,
}

/// How a transaction ended that DynamoDB answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All statements took effect.
    Done,
    /// None did: a condition does not hold, an item to be inserted is there, or another transaction was at one of the items.
    Overtaken,
}

// === impl Statement ===

impl Statement {
    /// Inserts an item. Fails if one with its key is there.
    pub(crate) fn insert(table: &str, item: Item) -> Self {
        let mut attributes: Vec<_> = item.into_iter().collect();
        attributes.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut text = format!("INSERT INTO {} VALUE {{", quoted(table));
        for (index, (name, _)) in attributes.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let _ = write!(text, "{comma}'{}': ?", name.replace('\'', "''"));
        }
        text.push('}');
        Self {
            text,
            parameters: attributes.into_iter().map(|(_, value)| value).collect(),
        }
    }

    /// Sets attributes of the item that the condition finds.
    pub(crate) fn update<'a>(
        table: &str,
        set: impl IntoIterator<Item = (&'a str, AttributeValue)>,
        condition: Where,
    ) -> Self {
        let mut text = format!("UPDATE {}", quoted(table));
        let mut parameters = Vec::new();
        for (attribute, value) in set {
            let _ = write!(text, " SET {} = ?", quoted(attribute));
            parameters.push(value);
        }
        Self { text, parameters }.with(condition)
    }

    /// Deletes the item that the condition finds.
    pub(crate) fn delete(table: &str, condition: Where) -> Self {
        let text = format!("DELETE FROM {}", quoted(table));
        let parameters = Vec::new();
        Self { text, parameters }.with(condition)
    }

    fn with(mut self, condition: Where) -> Self {
        let _ = write!(self.text, " WHERE {}", condition.text);
        self.parameters.extend(condition.parameters);
        self
    }

    fn build(self) -> Result<ParameterizedStatement, StoreError> {
        ParameterizedStatement::builder()
            .statement(self.text)
            .set_parameters(Some(self.parameters))
            .build()
            .map_err(incomplete)
    }
}

/// Finds one item by its key, and says what must hold of it.
#[derive(Clone, Debug)]
pub(crate) struct Where {
    text: String,
    parameters: Vec<AttributeValue>,
}

// === impl Where ===

impl Where {
    /// The item with this key.
    pub(crate) fn key(partition: &str, sort: &str) -> Self {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        Self {
            text: format!("{} = ? AND {} = ?", quoted("PK"), quoted("SK")),
            parameters: vec![text(partition), text(sort)],
        }
    }

    /// Its attribute has this value, or is not there.
    pub(crate) fn and(mut self, attribute: &str, value: Option<&AttributeValue>) -> Self {
        let attribute = quoted(attribute);
        if let Some(value) = value {
            let _ = write!(self.text, " AND {attribute} = ?");
            self.parameters.push(value.clone());
        } else {
            let _ = write!(self.text, " AND {attribute} IS MISSING");
        }
        self
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Runs one statement.
pub(crate) async fn execute(client: &Client, statement: Statement) -> Result<Outcome, StoreError> {
    let call = client
        .execute_statement()
        .statement(statement.text)
        .set_parameters(Some(statement.parameters));
    let Err(error) = call.send().await else {
        return Ok(Outcome::Done);
    };
    match error.as_service_error() {
        Some(
            ExecuteStatementError::ConditionalCheckFailedException(_)
            | ExecuteStatementError::DuplicateItemException(_)
            | ExecuteStatementError::TransactionConflictException(_),
        ) => Ok(Outcome::Overtaken),
        _ => Err(store_error(BACKEND, error)),
    }
}

/// Runs several statements, all or none.
pub(crate) async fn transact(
    client: &Client,
    statements: Vec<Statement>,
) -> Result<Outcome, StoreError> {
    let statements: Vec<_> = statements
        .into_iter()
        .map(Statement::build)
        .collect::<Result<_, _>>()?;
    let call = client
        .execute_transaction()
        .set_transact_statements(Some(statements));
    match call.send().await {
        Ok(_) => Ok(Outcome::Done),
        Err(error) => cancelled(error),
    }
}

fn cancelled(
    error: SdkError<ExecuteTransactionError, aws_sdk_dynamodb::config::http::HttpResponse>,
) -> Result<Outcome, StoreError> {
    let Some(ExecuteTransactionError::TransactionCanceledException(cancelled)) =
        error.as_service_error()
    else {
        return Err(store_error(BACKEND, error));
    };
    let reasons = cancelled.cancellation_reasons();
    let is_any = |codes: &[&str]| {
        let given = reasons.iter().filter_map(|reason| reason.code());
        given.into_iter().any(|code| codes.contains(&code))
    };
    if is_any(&[
        "ConditionalCheckFailed",
        "DuplicateItem",
        "TransactionConflict",
    ]) {
        Ok(Outcome::Overtaken)
    } else if is_any(&["ThrottlingError", "ProvisionedThroughputExceeded"]) {
        Err(StoreError::Throttled { backend: BACKEND })
    } else {
        Err(store_error(BACKEND, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    #[test]
    fn statements_carry_values_as_parameters_alone() {
        let hostile = "x' OR 1=1 --";
        let item = [("SK", hostile), ("PK", "TENANT#A")]
            .map(|(name, value)| (name.to_owned(), text(value)))
            .into();
        let insert = Statement::insert("T", item);
        assert_eq!(insert.text, r#"INSERT INTO "T" VALUE {'PK': ?, 'SK': ?}"#);
        assert_eq!(insert.parameters, [text("TENANT#A"), text(hostile)]);
        let found = Where::key("TENANT#A", hostile)
            .and("version", Some(&text("1")))
            .and("claim", None);
        let update = Statement::update("T", [("configValue", text("2"))], found.clone());
        assert_eq!(
            update.text,
            r#"UPDATE "T" SET "configValue" = ? WHERE "PK" = ? AND "SK" = ? AND "version" = ? AND "claim" IS MISSING"#
        );
        assert_eq!(update.parameters.len(), 4);
        let delete = Statement::delete(r#"T"x"#, found);
        assert!(
            delete
                .text
                .starts_with(r#"DELETE FROM "T""x" WHERE "PK" = ?"#)
        );
    }
}
