//! What a change of a schema would break: which of the caller's own values, and how many of other tenants'.

use std::sync::Arc;

use tagged_config_domain::{
    Admitted, ConfigKey, ConfigName, KeyPrefix, ListRequest, Principal, Record, Resource, Store,
    StoreError, Value,
};

use super::{
    ConfigApi, MAX_PAGE,
    guard::{Broken, Guard, Rules},
    logged, schema,
};
use crate::errors::ApiError;

/// Pages of the caller's own values that are checked.
const MAX_PAGES: usize = 20;
/// Keys that are named.
const MAX_NAMED: usize = 100;

/// Existing values that a schema would break. What was valid when it was written is served all the same.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    /// The caller's own, at most [`MAX_NAMED`], each with how it breaks the schema.
    pub own: Vec<(String, Vec<Broken>)>,
    /// How many of the caller's own values were checked.
    pub checked: u64,
    /// How many values of other tenants were checked, and how many of them would break it. Only of a schema of all tenants.
    pub others: Option<(u64, u64)>,
    /// Whether all values that it covers were checked.
    pub is_complete: bool,
}

/// What a schema covers.
#[derive(Debug)]
pub(crate) struct Covered {
    /// The tag, and the name that it covers, empty for the whole tag.
    prefix: KeyPrefix,
}

impl Covered {
    /// Whether a listed name is one of them: the name itself, or one below it.
    fn has(&self, name: &str) -> bool {
        let below = name.strip_prefix(self.prefix.name());
        below.is_some_and(|rest| {
            self.prefix.name().is_empty() || rest.is_empty() || rest.starts_with('/')
        })
    }
}

impl ConfigApi {
    /// What the schema in this key covers, unless nothing can be written or read that it does.
    pub(super) fn covered_by(&self, key: &ConfigKey) -> Result<Covered, ApiError> {
        let name = key.name();
        let invalid = |problem: &str| {
            Err(ApiError::Invalid(format!(
                "{} names no key, {problem}: a schema lies at schema_config_<key>, or at schema_config_<tag>_config for all keys of a tag",
                key.as_str()
            )))
        };
        let text = match name.as_str().strip_suffix("_config") {
            Some(_) => format!("{}_", name.as_str()),
            None => name.as_str().to_owned(),
        };
        let Ok(prefix) = KeyPrefix::parse(&text) else {
            return invalid("since it has no tag");
        };
        let is_of_tag = name.as_str().ends_with("_config");
        if !is_of_tag && ConfigName::parse(prefix.name()).is_err() {
            return invalid("since its name is malformed");
        }
        match prefix.tag() {
            schema::TAG => invalid("since schemas have none of their own"),
            SECRET_TAG => invalid("since secrets are never held against a schema"),
            tag if self.stores.route(tag).is_err() => invalid("since its tag is unknown"),
            _ => Ok(Covered { prefix }),
        }
    }

    /// What this schema would break.
    pub(super) async fn breaks(
        &self,
        caller: &Principal,
        guard: &Arc<Guard>,
        key: &ConfigKey,
        value: &Value,
    ) -> Result<Breaks, ApiError> {
        let covered = self.covered_by(key)?;
        let (_, schemas) = self.route(key.as_str())?;
        let admitted = self.admit_read(caller, schemas)?;
        let rules = guard.rule(&admitted, key, value).await?;
        let store = self
            .stores
            .route(covered.prefix.tag())
            .map_err(|known| ApiError::unknown_tag(&known))?;
        let mut breaks = Breaks {
            is_complete: true,
            ..Breaks::default()
        };
        let own = self
            .own_breaks(caller, guard, &covered, store, &rules, &mut breaks)
            .await;
        match own {
            Ok(()) => {}
            Err(ApiError::Store(error)) if matches!(*error, StoreError::Unsupported { .. }) => {
                breaks.is_complete = false;
            }
            Err(error) => return Err(error),
        }
        let is_of_all = schemas
            .locate(caller.tenant(), key.name())
            .first()
            .id()
            .partition()
            == tagged_config_stores::history::GLOBAL;
        if is_of_all {
            let prefix = covered.prefix.name().to_owned();
            let has = Arc::new(move |name: &str| covered.has(name));
            let is_broken = Arc::new(move |value: &Value| !rules.broken_by(value).is_empty());
            let counted = store.count_others(&admitted, &prefix, has, is_broken).await;
            match counted {
                Ok(others) => {
                    breaks.others = Some((others.checked, others.matching));
                    breaks.is_complete &= others.is_complete;
                }
                Err(StoreError::Unsupported { .. }) => breaks.is_complete = false,
                Err(error) => return Err(logged(error, "count")),
            }
        }
        Ok(breaks)
    }

    async fn own_breaks(
        &self,
        caller: &Principal,
        guard: &Arc<Guard>,
        covered: &Covered,
        store: &Arc<dyn Store>,
        rules: &Rules,
        breaks: &mut Breaks,
    ) -> Result<(), ApiError> {
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let request = ListRequest {
                prefix: covered.prefix.name(),
                after: after.as_deref(),
                limit: MAX_PAGE,
            };
            let admitted = self
                .gate
                .admit(caller.tenant(), Resource::Reads(store.backend()), 1)?;
            let page = store
                .list(&admitted, &request)
                .await
                .map_err(|error| logged(error, "list"))?;
            admitted.charge(store.read_units(super::bytes_of(&page) as u64) - 1);
            for (name, record) in page.entries {
                let (Ok(parsed), Ok(record)) = (ConfigName::parse(&name), record) else {
                    continue;
                };
                if !covered.has(&name) {
                    continue;
                }
                let Some(value) = whole(store, &admitted, caller, parsed, record).await? else {
                    breaks.is_complete = false;
                    continue;
                };
                breaks.checked += 1;
                let broken = guard.broken(&admitted, rules, &value).await?;
                if broken.is_empty() {
                    continue;
                }
                if breaks.own.len() == MAX_NAMED {
                    breaks.is_complete = false;
                    return Ok(());
                }
                breaks.own.push((covered.prefix.key_of(parsed), broken));
            }
            after = page.next_after;
            if after.is_none() {
                return Ok(());
            }
        }
        breaks.is_complete = false;
        Ok(())
    }
}

const SECRET_TAG: &str = "secret";

/// The value, if it is small enough to be checked. A listing may have left it in its store.
async fn whole(
    store: &Arc<dyn Store>,
    admitted: &Admitted,
    caller: &Principal,
    name: ConfigName<'_>,
    record: Record,
) -> Result<Option<Value>, ApiError> {
    match record.value {
        Value::Remote(remote) if remote.bytes > schema::MAX_CHECKED_BYTES => Ok(None),
        Value::Remote(_) => {
            let layers = store.locate(caller.tenant(), name);
            let read = store
                .read(admitted, std::slice::from_ref(layers.first()))
                .await;
            let read = read.map_err(|error| logged(error, "read"))?.pop().flatten();
            Ok(read
                .map(|record| record.value)
                .filter(|value| !matches!(value, Value::Remote(_))))
        }
        value => Ok(Some(value)),
    }
}
