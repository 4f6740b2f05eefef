//! Conditional writes of one item, each in one transaction with its entry in the journal, where there is one.

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{self, AttributeValue, TransactWriteItem, builders::TransactWriteItemBuilder},
};
use tagged_config_domain::{LocationId, NewValue, Revision, StoreError};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    BACKEND, DynamoDbStore, condition::Condition, incomplete, item, item::Item, key, number,
};
use crate::{
    aws::store_error,
    journal::{Entry, Journal},
};

/// A new value, which is text.
#[derive(Clone, Copy)]
pub(super) struct NewText<'a> {
    pub(super) text: &'a str,
    content_type: &'a str,
    modified_by: &'a str,
}

/// What one update sets.
pub(super) struct Update<'a> {
    pub(super) new: NewText<'a>,
    pub(super) version: i64,
    pub(super) now: OffsetDateTime,
    /// A claim, or nothing for a version that is given for good.
    pub(super) claim: Option<&'a str>,
}

impl<'a> NewText<'a> {
    pub(super) fn of(new: NewValue<'a>) -> Result<Self, StoreError> {
        Ok(Self {
            text: new
                .value
                .as_text()
                .ok_or(StoreError::NotText { backend: BACKEND })?,
            content_type: new.content_type,
            modified_by: new.modified_by,
        })
    }
}

impl DynamoDbStore {
    /// Writes if the condition holds; `false` if it does not, or another write was at the same item.
    pub(super) async fn update(
        &self,
        id: &LocationId,
        update: Update<'_>,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        let Update {
            new,
            version,
            now,
            claim,
        } = update;
        let expression = "SET #value = :value, #version = :version, #modified = :modified, #type = :type, #by = :by";
        let expression = match claim {
            Some(_) => format!("{expression}, #claim = :claim REMOVE #assigned"),
            None => format!("{expression}, #assigned = :version REMOVE #claim"),
        };
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let modified = now.format(&Rfc3339).unwrap_or_default();
        let mut values = condition.values;
        values.extend(
            [
                (":value", text(new.text)),
                (":version", number(version)),
                (":modified", text(&modified)),
                (":type", text(new.content_type)),
                (":by", text(new.modified_by)),
            ]
            .into_iter()
            .chain(claim.map(|claim| (":claim", text(claim))))
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let mut names = condition.names;
        names.extend(
            [
                ("#value", item::VALUE),
                ("#version", item::VERSION),
                ("#assigned", item::ASSIGNED_VERSION),
                ("#claim", item::CLAIM),
                ("#modified", item::LAST_MODIFIED),
                ("#type", item::CONTENT_TYPE),
                ("#by", item::MODIFIED_BY),
            ]
            .map(|(name, attribute)| (name.to_owned(), attribute.to_owned())),
        );
        if let Some(journal) = &self.journal {
            let update = types::Update::builder()
                .table_name(&self.table)
                .set_key(Some(key(id)))
                .update_expression(expression)
                .condition_expression(condition.expression)
                .set_expression_attribute_names(Some(names))
                .set_expression_attribute_values(Some(values))
                .build()
                .map_err(incomplete)?;
            let revision = Revision {
                incarnation: 0,
                version,
            };
            let entry = Entry::written(id, revision, version);
            return self
                .transact(TransactWriteItem::builder().update(update), journal, &entry)
                .await;
        }
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(id)))
            .update_expression(expression)
            .condition_expression(condition.expression)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values));
        held(call.send().await)
    }

    /// A write and its entry in the journal, both or neither; `false` if the write's condition does not hold, or
    /// another transaction was at the same item.
    async fn transact(
        &self,
        write: TransactWriteItemBuilder,
        journal: &Journal,
        entry: &Entry,
    ) -> Result<bool, StoreError> {
        let put = journal.put(entry, self.versions.now_ms())?;
        let both = self
            .client
            .transact_write_items()
            .transact_items(write.build())
            .transact_items(TransactWriteItem::builder().put(put).build());
        let Err(error) = both.send().await else {
            return Ok(true);
        };
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
            error.as_service_error()
        else {
            return Err(store_error(BACKEND, error));
        };
        let because = |code: &str| {
            cancelled
                .cancellation_reasons()
                .iter()
                .any(|reason| reason.code() == Some(code))
        };
        if because("ConditionalCheckFailed") || because("TransactionConflict") {
            Ok(false)
        } else if because("ThrottlingError") || because("ProvisionedThroughputExceeded") {
            Err(StoreError::Throttled { backend: BACKEND })
        } else {
            Err(store_error(BACKEND, error))
        }
    }

    /// Marks an item that somebody wrote past the service, and touches nothing else.
    pub(super) async fn claim(
        &self,
        id: &LocationId,
        claim: &str,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(id)))
            .update_expression("SET #claim = :claim")
            .condition_expression(condition.expression)
            .set_expression_attribute_names(Some(condition.names))
            .set_expression_attribute_values(Some(condition.values))
            .expression_attribute_names("#claim", item::CLAIM)
            .expression_attribute_values(":claim", AttributeValue::S(claim.to_owned()));
        held(call.send().await)
    }

    /// Removes what has this version; `at_ms` is the removal's own.
    pub(super) async fn remove(
        &self,
        id: &LocationId,
        old: &Item,
        at_ms: i64,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        let values = (!condition.values.is_empty()).then_some(condition.values);
        if let Some(journal) = &self.journal {
            let delete = types::Delete::builder()
                .table_name(&self.table)
                .set_key(Some(key(id)))
                .condition_expression(condition.expression)
                .set_expression_attribute_names(Some(condition.names))
                .set_expression_attribute_values(values)
                .build()
                .map_err(incomplete)?;
            let removed = Revision {
                incarnation: 0,
                version: item::version(old),
            };
            // What somebody wrote may share its version with what was there before.
            let source_event_id = match item::assigned_version(old) {
                Some(_) => String::new(),
                None => at_ms.to_string(),
            };
            let entry = Entry::removed(id, removed, at_ms, &source_event_id);
            return self
                .transact(TransactWriteItem::builder().delete(delete), journal, &entry)
                .await;
        }
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key(id)))
            .condition_expression(condition.expression)
            .set_expression_attribute_names(Some(condition.names))
            .set_expression_attribute_values(values);
        held(call.send().await)
    }
}

/// Whether a conditional write was done. That another writer was faster (the condition does not hold, or a transaction was
/// at the same item) is no failure.
fn held<T, E>(result: Result<T, SdkError<E, HttpResponse>>) -> Result<bool, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(_) => Ok(true),
        Err(error) if was_overtaken(&error) => Ok(false),
        Err(error) => Err(store_error(BACKEND, error)),
    }
}

fn was_overtaken<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code);
    matches!(
        code,
        Some("ConditionalCheckFailedException" | "TransactionConflictException")
    )
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::{error::ErrorMetadata, operation::update_item::UpdateItemError};

    use super::*;

    #[expect(clippy::result_large_err, reason = "the SDK's error")]
    fn refused(code: &str) -> Result<(), SdkError<UpdateItemError, HttpResponse>> {
        let metadata = ErrorMetadata::builder().code(code).build();
        let response = HttpResponse::new(400.try_into().expect("a status"), "".into());
        Err(SdkError::service_error(
            UpdateItemError::generic(metadata),
            response,
        ))
    }

    #[test]
    fn a_plain_write_that_meets_a_transaction_was_overtaken() {
        for code in [
            "ConditionalCheckFailedException",
            "TransactionConflictException",
        ] {
            assert!(!held(refused(code)).expect("no failure"), "{code}");
        }
        assert!(held(refused("ThrottlingException")).is_err());
        assert!(held::<_, UpdateItemError>(Ok(())).expect("done"));
    }
}
