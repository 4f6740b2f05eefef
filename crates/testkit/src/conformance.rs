//! What every store must do. The same cases run against each backend's wire protocol (crate `e2e`) and the stores in
//! memory (here).

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use tagged_config_domain::{
    Author, ConfigName, ListRequest, NewValue, Precondition, Record, Remote, Role, Store,
    StoreError, TenantId, Value, Written,
};

use crate::{Issuer, admitted};

/// A store under test, and a way to write behind its back.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The store.
    fn store(&self) -> &dyn Store;
    /// Whether the store writes.
    fn writable(&self) -> bool;
    /// Writes a tenant's own value as an operator does.
    async fn set(&self, tenant: &TenantId, name: &str, value: &str);
    /// Deletes a tenant's own value as an operator does.
    async fn unset(&self, tenant: &TenantId, name: &str);
    /// Writes a shared default; `false` if the backend has none.
    async fn set_shared(&self, name: &str, value: &str) -> bool;
}

/// Runs every case on random tenants, so that stores can be shared between runs.
pub async fn run(subject: &dyn Subject) {
    let run = uuid::Uuid::new_v4().simple().to_string();
    let issuer = Issuer::new();
    let tenant = |suffix: &str| issuer.tenant(&format!("t{}{suffix}", &run[..12]));
    reads(subject, &tenant("a"), &tenant("ab")).await;
    layers(
        subject,
        &tenant("c"),
        &tenant("d"),
        &format!("shared/{run}"),
    )
    .await;
    if subject.writable() {
        writes(subject, &tenant("e"), &tenant("f")).await;
        sizes(subject, &tenant("j")).await;
        bytes(subject, &tenant("k")).await;
        lists(subject, &tenant("g"), &tenant("h")).await;
    } else {
        refuses_writes(subject, &tenant("i")).await;
    }
}

/// The value that a tenant sees: the first layer that has one. A secret's is revealed.
async fn get(store: &dyn Store, tenant: &TenantId, name: &str) -> Option<Record> {
    let layers = store.locate(tenant, name_of(name));
    let locations: Vec<_> = layers.iter().cloned().collect();
    let found = store.read(&admitted(tenant), &locations).await;
    let found = found.expect("the store answers");
    let mut layers = found.into_iter().zip(&locations);
    let (record, location) = layers.find_map(|(record, location)| Some((record?, location)))?;
    if !record.secret {
        return Some(record);
    }
    assert!(
        record.value.is_empty(),
        "a secret is read without its value"
    );
    let revealed = store.reveal(&admitted(tenant), location).await;
    let revealed = revealed.expect("the store answers")?;
    assert_eq!(revealed.content(), record.content(), "one value, one tag");
    Some(revealed)
}

/// A part of a value that lies in the backend.
async fn opened(
    store: &dyn Store,
    tenant: &TenantId,
    name: &str,
    remote: &Remote,
    range: Range<u64>,
) -> Vec<u8> {
    let layers = store.locate(tenant, name_of(name));
    let admitted = admitted(tenant);
    let stream = store.open(&admitted, layers.first(), remote, range).await;
    let pieces: Vec<Bytes> = stream
        .expect("it is there")
        .try_collect()
        .await
        .expect("all of it arrives");
    pieces.concat()
}

/// What a value holds, wherever it lies.
async fn bytes_of(store: &dyn Store, tenant: &TenantId, name: &str, value: &Value) -> Vec<u8> {
    match value {
        Value::Remote(remote) => opened(store, tenant, name, remote, 0..remote.bytes).await,
        held => held.to_bytes().expect("it is in memory").to_vec(),
    }
}

fn new(value: &Value) -> NewValue<'_> {
    NewValue {
        value,
        content_type: "application/json",
        author: tester(),
        is_rollback: false,
    }
}

/// Who writes in tests.
pub fn tester() -> Author<'static> {
    Author {
        subject: "tester",
        role: Role::Admin,
        request_id: "request-1",
        note: "a test",
    }
}

fn name_of(name: &str) -> ConfigName<'_> {
    ConfigName::parse(name).expect("the test's names are good")
}

/// Values come back to the letter, to their own tenant alone, and change with the source.
async fn reads(subject: &dyn Subject, a: &TenantId, ab: &TenantId) {
    let store = subject.store();
    assert_eq!(get(store, a, "nothing/here").await, None);
    for (name, value) in [
        ("plain", r#"{"enabled": true, "n": 1.50}"#),
        ("deep/er/name.with-all_kinds", "[1,2]"),
        (
            "words",
            "no JSON; ümläut \u{1F980} \"quoted\" \\ and\nlines",
        ),
    ] {
        subject.set(a, name, value).await;
        let record = get(store, a, name).await.expect("it was written");
        assert_eq!(record.value, value);
        assert_eq!(
            get(store, ab, name).await,
            None,
            "a tenant whose id begins with another's sees nothing of it"
        );
    }
    assert_eq!(
        &*get(store, a, "plain").await.expect("there").content_type,
        "application/json"
    );
    assert_eq!(
        &*get(store, a, "words").await.expect("there").content_type,
        "text/plain"
    );

    // A name that is the beginning of others, or ends like the suffix that its backend gives.
    subject.set(a, "plain-abc123", "\"longer\"").await;
    assert_eq!(get(store, a, "plai").await, None);
    let found = [
        get(store, a, "plain").await,
        get(store, a, "plain-abc123").await,
    ];
    let [plain, longer] = found.map(|record| record.expect("there").value);
    assert_eq!(plain, r#"{"enabled": true, "n": 1.50}"#);
    assert_eq!(longer, "\"longer\"");
    assert_eq!(get(store, a, "plain-xyz789").await, None);

    let before = get(store, a, "plain").await.expect("there");
    subject.set(a, "plain", "2").await;
    let after = get(store, a, "plain").await.expect("there");
    assert_eq!(after.value, "2");
    assert_ne!(before.digest(), after.digest());
    subject.unset(a, "plain").await;
    assert_eq!(get(store, a, "plain").await, None);

    // One call for several places, answered in their order.
    let places = ["words", "nothing/here", "deep/er/name.with-all_kinds"]
        .map(|n| store.locate(a, name_of(n)).first().clone());
    let found = store
        .read(&admitted(a), &places)
        .await
        .expect("the store answers");
    assert_eq!(
        found.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false, true]
    );
}

/// A tenant's own value hides the shared default, for that tenant alone.
async fn layers(subject: &dyn Subject, c: &TenantId, d: &TenantId, name: &str) {
    let store = subject.store();
    if !subject.set_shared(name, "\"default\"").await {
        assert_eq!(store.locate(c, name_of(name)).iter().count(), 1);
        return;
    }
    let value =
        |record: Option<Record>| record.and_then(|r| r.value.as_text().map(ToOwned::to_owned));
    assert_eq!(
        value(get(store, c, name).await).as_deref(),
        Some("\"default\"")
    );
    subject.set(c, name, "\"own\"").await;
    assert_eq!(value(get(store, c, name).await).as_deref(), Some("\"own\""));
    assert_eq!(
        value(get(store, d, name).await).as_deref(),
        Some("\"default\"")
    );
    subject.unset(c, name).await;
    assert_eq!(
        value(get(store, c, name).await).as_deref(),
        Some("\"default\"")
    );
}

/// Versions rise, preconditions hold, and delete and recreate never go back.
async fn writes(subject: &dyn Subject, e: &TenantId, f: &TenantId) {
    let store = subject.store();
    let name = name_of("w/1");
    let put = async |value: &str, precondition| {
        store
            .put(&admitted(e), name, new(&value.into()), precondition)
            .await
    };
    let conflict = |result: Result<Written, StoreError>| match result {
        Err(StoreError::Conflict { current }) => current,
        other => panic!("a conflict was expected, not {other:?}"),
    };
    let one_of = |record: &Record| Precondition::OneOf(vec![record.content()]);
    let none_of = |record: &Record| Precondition::NoneOf(vec![record.content()]);

    assert_eq!(conflict(put("1", Precondition::Version(5)).await), None);
    assert_eq!(conflict(put("1", Precondition::Exists).await), None);
    assert_eq!(conflict(put("1", Precondition::OneOf(vec![])).await), None);
    let first = put("1", Precondition::Absent).await.expect("absent");
    assert!(first.created);
    let first = first.record;
    assert_eq!(
        get(store, e, "w/1").await,
        Some(first.clone()),
        "what put returns is what is read"
    );
    assert!(first.modified_ms.is_some());
    let v1 = first.revision.version;
    assert_eq!(conflict(put("2", Precondition::Absent).await), Some(v1));
    assert_eq!(
        conflict(put("2", Precondition::Version(v1 - 1)).await),
        Some(v1)
    );
    assert_eq!(conflict(put("2", none_of(&first)).await), Some(v1));
    let v2 = put("2", Precondition::Version(v1))
        .await
        .expect("the version is right");
    assert!(!v2.created);
    let v3 = put("3", Precondition::None).await.expect("no condition");
    assert!(!v3.created);
    let (v2, v3) = (v2.record, v3.record);
    assert_eq!(
        conflict(put("4", one_of(&first)).await),
        Some(v3.revision.version)
    );
    let both = one_of(&v3).and(none_of(&v3));
    assert_eq!(conflict(put("4", both).await), Some(v3.revision.version));
    let several = Precondition::OneOf(vec![first.content(), v3.content()]);
    let v4 = put("4", several.and(none_of(&first)))
        .await
        .expect("one of them is there, and not the other")
        .record;
    assert!(v1 < v2.revision.version && v2.revision < v3.revision && v3.revision < v4.revision);

    // A hand edit is noticed by its content, whatever its version says.
    subject.set(e, "w/1", "\"by hand\"").await;
    conflict(put("5", one_of(&v4)).await);
    let by_hand = get(store, e, "w/1").await.expect("there");
    let v5 = put("5", one_of(&by_hand))
        .await
        .expect("a hand edit is replaced as it was read")
        .record;
    assert!(
        v5.revision > v4.revision,
        "a hand edit does not bring versions back"
    );

    for precondition in [
        Precondition::None,
        Precondition::Exists,
        Precondition::Absent,
    ] {
        assert!(matches!(
            store
                .delete(&admitted(f), name, precondition, tester())
                .await,
            Err(StoreError::NotFound)
        ));
    }
    for precondition in [
        Precondition::Version(v4.revision.version),
        Precondition::Absent,
        one_of(&v4),
        none_of(&v5),
    ] {
        assert!(matches!(
            store
                .delete(&admitted(e), name, precondition, tester())
                .await,
            Err(StoreError::Conflict { .. })
        ));
    }
    let deleted = store
        .delete(&admitted(e), name, one_of(&v5).and(none_of(&v4)), tester())
        .await
        .expect("as it was written");
    assert!(deleted > v5.revision.version);
    assert_eq!(get(store, e, "w/1").await, None);
    let v6 = put("6", none_of(&v5)).await.expect("deleted");
    assert!(v6.created, "it was deleted before");
    assert!(
        v6.record.revision.version > deleted,
        "a recreated key goes on above its deletion"
    );

    // Without a condition, a hand edit is replaced like any value.
    subject.set(e, "w/2", "\"by hand\"").await;
    let over = store
        .put(
            &admitted(e),
            name_of("w/2"),
            new(&"1".into()),
            Precondition::None,
        )
        .await
        .expect("over a hand edit");
    assert!(!over.created);
    assert_eq!(
        get(store, e, "w/2").await,
        Some(over.record),
        "what was returned is what is there"
    );
}

/// The largest value fits, and one byte more is refused and changes nothing. A value that stays in the backend is streamed,
/// whole and in parts, and after it was replaced, too.
async fn sizes(subject: &dyn Subject, j: &TenantId) {
    let store = subject.store();
    let name = "large/1";
    let put = async |value: String| {
        let new = NewValue {
            value: &value.into(),
            content_type: "text/plain",
            author: tester(),
            is_rollback: false,
        };
        store
            .put(&admitted(j), name_of(name), new, Precondition::None)
            .await
    };
    let largest: String = (b'a'..=b'z')
        .cycle()
        .map(char::from)
        .take(store.max_value_bytes())
        .collect();
    let written = put(largest.clone()).await.expect("it fits").record;
    assert!(matches!(
        put(format!("{largest} ")).await,
        Err(StoreError::TooLarge { .. })
    ));
    let read = get(store, j, name).await.expect("untouched");
    assert_eq!(written, read, "what put returns is what is read");
    assert_eq!(read.value.len(), largest.len() as u64);
    let whole = bytes_of(store, j, name, &read.value).await;
    assert!(whole == largest.as_bytes(), "another value");
    let Value::Remote(remote) = &read.value else {
        return;
    };
    let end = remote.bytes;
    for range in [0..1, 26..52, end - 1..end, end - 70_000..end - 3] {
        let [from, to] = [range.start, range.end].map(|at| usize::try_from(at).expect("small"));
        let part = opened(store, j, name, remote, range).await;
        assert!(part == largest.as_bytes()[from..to], "{from}..{to}");
    }
    put("small".to_owned()).await.expect("it fits");
    assert_eq!(get(store, j, name).await.expect("there").value, "small");
    let before = bytes_of(store, j, name, &read.value).await;
    assert!(
        before == largest.as_bytes(),
        "what was read is streamed, not what is there now"
    );
}

/// Any bytes come back with their type, or are refused by a store that keeps text.
async fn bytes(subject: &dyn Subject, k: &TenantId) {
    let store = subject.store();
    let put = async |value: &[u8], content_type: &str| {
        let new = NewValue {
            value: &Bytes::copy_from_slice(value).into(),
            content_type,
            author: tester(),
            is_rollback: false,
        };
        store
            .put(&admitted(k), name_of("bytes"), new, Precondition::None)
            .await
    };
    for (value, content_type) in [
        (&b"\xff\x00\xfe\r\n"[..], "image/x-test"),
        (b"\0", "image/x-test"),
        (b"", "image/x-test"),
        // To the letter, also what a backend says of what it does not know.
        (b"text", "application/octet-stream"),
        (b"{}", "binary/octet-stream"),
    ] {
        let written = put(value, content_type).await;
        if !store.keeps_bytes() && std::str::from_utf8(value).is_err() {
            assert!(matches!(written, Err(StoreError::NotText { .. })));
            assert_eq!(get(store, k, "bytes").await, None);
            continue;
        }
        let written = written.expect("it fits").record;
        let read = get(store, k, "bytes").await.expect("there");
        assert_eq!(written, read);
        assert_eq!(&*read.content_type, content_type);
        assert_eq!(bytes_of(store, k, "bytes", &read.value).await, value);
    }
}

/// Pages are complete, in order, and of one tenant.
async fn lists(subject: &dyn Subject, g: &TenantId, h: &TenantId) {
    let store = subject.store();
    for name in ["a", "b/1", "b/2", "b/3", "c"] {
        subject.set(g, name, "1").await;
        subject.set(h, name, "2").await;
    }
    for (prefix, limit, expected) in [
        ("", 2, vec!["a", "b/1", "b/2", "b/3", "c"]),
        ("b/", 10, vec!["b/1", "b/2", "b/3"]),
        ("z", 5, vec![]),
    ] {
        let mut names = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..10 {
            let request = ListRequest {
                prefix,
                after: after.as_deref(),
                limit,
            };
            let page = store
                .list(&admitted(g), &request)
                .await
                .expect("the store answers");
            assert!(page.entries.len() <= limit);
            for (name, record) in page.entries {
                let value = record.expect("good").value;
                let value = bytes_of(store, g, &name, &value).await;
                assert_eq!(value, b"1", "another tenant's value");
                names.push(name);
            }
            after = page.next_after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(names, expected);
    }
}

/// A read-only store says so and changes nothing.
async fn refuses_writes(subject: &dyn Subject, i: &TenantId) {
    let store = subject.store();
    let put = store
        .put(
            &admitted(i),
            name_of("x"),
            new(&"1".into()),
            Precondition::None,
        )
        .await;
    assert!(
        matches!(put, Err(StoreError::Unsupported { .. })),
        "{put:?}"
    );
    let deleted = store
        .delete(&admitted(i), name_of("x"), Precondition::None, tester())
        .await;
    assert!(
        matches!(deleted, Err(StoreError::Unsupported { .. })),
        "{deleted:?}"
    );
    let listed = store
        .list(
            &admitted(i),
            &ListRequest {
                prefix: "",
                after: None,
                limit: 1,
            },
        )
        .await;
    assert!(
        matches!(listed, Err(StoreError::Unsupported { .. })),
        "{listed:?}"
    );
    assert_eq!(get(store, i, "x").await, None);
}

#[cfg(test)]
mod tests {
    use tagged_config_domain::Revision;

    use super::*;
    use crate::MemoryStore;

    #[async_trait]
    impl Subject for MemoryStore {
        fn store(&self) -> &dyn Store {
            self
        }

        fn writable(&self) -> bool {
            true
        }

        async fn set(&self, tenant: &TenantId, name: &str, value: &str) {
            let record = Record::new(
                value,
                Record::guess_content_type(value),
                Revision::default(),
                None,
            );
            MemoryStore::set(self, tenant.as_str(), name, record);
        }

        async fn unset(&self, tenant: &TenantId, name: &str) {
            MemoryStore::unset(self, tenant.as_str(), name);
        }

        async fn set_shared(&self, name: &str, value: &str) -> bool {
            let layers = self.locate(&Issuer::new().tenant("any"), name_of(name));
            let Some(shared) = layers.iter().nth(1) else {
                return false;
            };
            let record = Record::new(
                value,
                Record::guess_content_type(value),
                Revision::default(),
                None,
            );
            MemoryStore::set(self, shared.id().partition(), "", record);
            true
        }
    }

    #[tokio::test]
    async fn memory() {
        run(&MemoryStore::default()).await;
    }

    #[tokio::test]
    async fn memory_of_bytes() {
        run(&MemoryStore::of_bytes()).await;
    }
}
