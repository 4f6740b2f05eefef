//! The operations over a cache and stores in memory.

use tagged_config_domain::{Quota, Revision};
use tagged_config_testkit::{Issuer, MemoryStore};
use tokio::time::advance;

use super::{read::FALLBACK_AFTER, *};
use crate::cache::State;

pub(crate) struct Fixture {
    pub(crate) api: Arc<ConfigApi>,
    pub(crate) tenant_store: Arc<MemoryStore>,
    pub(crate) shared_store: Arc<MemoryStore>,
    a: Principal,
    b: Principal,
    a_reader: Principal,
    a_admin: Principal,
}

pub(crate) fn fixture() -> Fixture {
    let service = crate::fixture::service(Duration::from_mins(1));
    let issuer = Issuer::new();
    Fixture {
        api: service.api,
        tenant_store: service.tenant_store,
        shared_store: service.shared_store,
        a: issuer.principal("A", "writer"),
        b: issuer.principal("B", "writer"),
        a_reader: issuer.principal("A", "reader"),
        a_admin: issuer.principal("A", "admin"),
    }
}

fn record(value: &str) -> Record {
    Record::new(
        value,
        "application/json",
        Revision {
            incarnation: 1,
            version: 1,
        },
        None,
    )
}

fn context() -> WriteContext {
    WriteContext::new("request-1".to_owned(), "a test".to_owned()).unwrap()
}

async fn put(f: &Fixture, who: &Principal, key: &str, value: &str) -> Result<Record, ApiError> {
    let written = f
        .api
        .put(
            who,
            key,
            value.to_owned().into(),
            "",
            Precondition::None,
            &context(),
        )
        .await?;
    Ok(written.record)
}

#[tokio::test(start_paused = true)]
async fn a_tenant_sees_its_own_and_writes_are_read_at_once() {
    let f = fixture();
    put(&f, &f.a, "tenant_config_x", "1").await.unwrap();
    assert_eq!(
        f.api
            .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
            .await
            .unwrap()
            .record
            .value,
        "1"
    );
    assert!(matches!(
        f.api
            .get(&f.b, "tenant_config_x", 0, Fallback::Within(None))
            .await,
        Err(ApiError::NotFound)
    ));
    put(&f, &f.a, "tenant_config_x", "2").await.unwrap();
    assert_eq!(
        f.api
            .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
            .await
            .unwrap()
            .record
            .value,
        "2"
    );
    f.api
        .delete(&f.a, "tenant_config_x", Precondition::None, &context())
        .await
        .unwrap();
    assert!(matches!(
        f.api
            .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
            .await,
        Err(ApiError::NotFound)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_in_the_key_is_just_a_name() {
    let f = fixture();
    f.tenant_store.set("B", "x", record("\"of B\""));
    for name in ["B/x", "B_x", "TENANT", "TENANT-B", "B"] {
        let got = f
            .api
            .get(
                &f.a,
                &format!("tenant_config_{name}"),
                0,
                Fallback::Within(None),
            )
            .await;
        assert!(matches!(got, Err(ApiError::NotFound)), "{name}");
    }
    for key in [
        "tenant_config_../B/x",
        "tenant_config_TENANT#B",
        "tenant_config_B%2Fx",
    ] {
        assert!(
            matches!(
                f.api.get(&f.a, key, 0, Fallback::Within(None)).await,
                Err(ApiError::Key { .. })
            ),
            "{key}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_tags_list_the_known() {
    let f = fixture();
    for key in ["other_config_x", "x", "", "tenant_x"] {
        let message = f
            .api
            .get(&f.a, key, 0, Fallback::Within(None))
            .await
            .unwrap_err()
            .message();
        assert!(
            message.contains("tenant_config_, param_config_"),
            "{message}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn readers_cannot_write_and_nothing_changes() {
    let f = fixture();
    put(&f, &f.a, "tenant_config_x", "1").await.unwrap();
    assert!(matches!(
        put(&f, &f.a_reader, "tenant_config_x", "2").await,
        Err(ApiError::Forbidden(Role::Writer))
    ));
    let deleted = f
        .api
        .delete(
            &f.a_reader,
            "tenant_config_x",
            Precondition::None,
            &context(),
        )
        .await;
    assert!(matches!(deleted, Err(ApiError::Forbidden(Role::Writer))));
    assert!(put(&f, &f.a, "tenant_config_x", "{half").await.is_err());
    assert_eq!(
        f.api
            .get(&f.a_reader, "tenant_config_x", 0, Fallback::Within(None))
            .await
            .unwrap()
            .record
            .value,
        "1"
    );
}

#[tokio::test(start_paused = true)]
async fn an_override_hides_the_default_for_its_tenant_alone() {
    let f = fixture();
    f.shared_store.set("global/tax", "", record("0.2"));
    f.shared_store.set("B", "tax", record("0.1"));
    let got = f
        .api
        .get(&f.a, "param_config_tax", 0, Fallback::Within(None))
        .await
        .unwrap();
    assert_eq!(
        (got.record.value.as_text(), got.origin, got.result),
        (Some("0.2"), Origin::Global, ReadResult::miss)
    );
    let got = f
        .api
        .get(&f.b, "param_config_tax", 0, Fallback::Within(None))
        .await
        .unwrap();
    assert_eq!(
        (got.record.value.as_text(), got.origin),
        (Some("0.1"), Origin::Tenant)
    );
    assert_eq!(f.shared_store.reads(), 2, "both layers in one call");
    for who in [&f.a, &f.b] {
        assert_eq!(
            f.api
                .get(who, "param_config_tax", 0, Fallback::Within(None))
                .await
                .unwrap()
                .result,
            ReadResult::hit
        );
    }
    assert_eq!(
        f.shared_store.reads(),
        2,
        "the missing override is remembered too"
    );
}

#[tokio::test(start_paused = true)]
async fn secrets_are_for_admins_and_never_cached() {
    let f = fixture();
    f.shared_store
        .set("global/key", "", record("\"s3cret\"").secret());
    assert!(matches!(
        f.api
            .get(&f.a, "param_config_key", 0, Fallback::Within(None))
            .await,
        Err(ApiError::Forbidden(Role::Admin))
    ));
    for _ in 0..2 {
        let got = f
            .api
            .get(&f.a_admin, "param_config_key", 0, Fallback::Within(None))
            .await
            .unwrap();
        assert_eq!(
            (got.record.value.as_text(), got.result),
            (Some("\"s3cret\""), ReadResult::miss)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_of_a_version_reads_the_source_once() {
    let f = fixture();
    let v1 = put(&f, &f.a, "tenant_config_x", "1")
        .await
        .unwrap()
        .revision
        .version;
    f.api
        .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
        .await
        .unwrap();
    // Another replica writes; nothing tells this one.
    let later = Record::new(
        "2",
        "application/json",
        Revision {
            incarnation: 0,
            version: v1 + 10,
        },
        None,
    );
    f.tenant_store.set("A", "x", later);
    assert_eq!(
        f.api
            .get(&f.a, "tenant_config_x", v1, Fallback::Within(None))
            .await
            .unwrap()
            .record
            .value,
        "1",
        "new enough"
    );
    assert_eq!(
        f.api
            .get(&f.a, "tenant_config_x", v1 + 10, Fallback::Within(None))
            .await
            .unwrap()
            .record
            .value,
        "2"
    );
    assert_eq!(
        f.api
            .get(&f.a, "tenant_config_x", v1 + 10, Fallback::Within(None))
            .await
            .unwrap()
            .result,
        ReadResult::hit
    );
    let too_old = f
        .api
        .get(&f.a, "tenant_config_x", v1 + 11, Fallback::Within(None))
        .await;
    assert!(matches!(too_old, Err(ApiError::TooOld { have }) if have == v1 + 10));
    assert!(matches!(
        f.api
            .get(&f.a, "tenant_config_none", 1, Fallback::Within(None))
            .await,
        Err(ApiError::NotFound)
    ));
    assert!(matches!(
        f.api
            .get(&f.a, "param_config_x", 1, Fallback::Within(None))
            .await,
        Err(ApiError::Invalid(_))
    ));
    assert!(matches!(
        f.api
            .get(&f.a, "tenant_config_x", -1, Fallback::Within(None))
            .await,
        Err(ApiError::Invalid(_))
    ));
}

#[tokio::test]
async fn forced_reads_are_limited_for_each_tenant_alone() {
    let f = fixture();
    put(&f, &f.a, "tenant_config_x", "1").await.unwrap();
    put(&f, &f.b, "tenant_config_x", "1").await.unwrap();
    let mut limited = 0;
    for _ in 0..200 {
        match f
            .api
            .get(&f.a, "tenant_config_x", i64::MAX, Fallback::Within(None))
            .await
        {
            Err(ApiError::RateLimited { .. }) => limited += 1,
            Err(ApiError::TooOld { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(limited > 0);
    assert!(matches!(
        f.api
            .get(&f.b, "tenant_config_x", i64::MAX, Fallback::Within(None))
            .await,
        Err(ApiError::TooOld { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn with_its_backend_down_the_last_value_is_served_as_stale() {
    let f = fixture();
    put(&f, &f.a, "tenant_config_x", "1").await.unwrap();
    f.api
        .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
        .await
        .unwrap();
    f.tenant_store.set_down(true);
    advance(Duration::from_mins(2)).await;
    for _ in 0..3 {
        let got = f
            .api
            .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
            .await
            .unwrap();
        assert_eq!(
            (got.record.value.as_text(), got.result),
            (Some("1"), ReadResult::stale)
        );
        assert!(got.age >= Duration::from_mins(2));
    }
    assert!(matches!(
        f.api
            .get(&f.a, "tenant_config_cold", 0, Fallback::Within(None))
            .await,
        Err(ApiError::Store(_))
    ));
    advance(Duration::from_hours(1)).await;
    assert!(
        matches!(
            f.api
                .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
                .await,
            Err(ApiError::Store(_))
        ),
        "the maximum age"
    );
    f.tenant_store.set_down(false);
    advance(Duration::from_secs(2)).await;
    assert_eq!(
        f.api
            .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
            .await
            .unwrap()
            .result,
        ReadResult::miss
    );
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_does_not_hold_back_known_values() {
    let f = fixture();
    put(&f, &f.a, "tenant_config_x", "1").await.unwrap();
    f.api
        .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
        .await
        .unwrap();
    f.tenant_store.hold_reads();
    advance(Duration::from_mins(2)).await;
    let started = Instant::now();
    assert_eq!(
        f.api
            .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
            .await
            .unwrap()
            .result,
        ReadResult::stale
    );
    assert!(started.elapsed() <= FALLBACK_AFTER + Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_fails_key_by_key() {
    let f = fixture();
    put(&f, &f.a, "tenant_config_x", "1").await.unwrap();
    f.shared_store.set_down(true);
    let keys = [
        "tenant_config_x",
        "tenant_config_none",
        "param_config_x",
        "nonsense",
        "tenant_config_x",
    ];
    let batch = f
        .api
        .batch(
            &f.a,
            keys.map(ToOwned::to_owned).into(),
            Fallback::Within(None),
        )
        .await
        .unwrap();
    assert_eq!(
        batch
            .entries
            .iter()
            .map(|e| e.key.as_str())
            .collect::<Vec<_>>(),
        ["tenant_config_x"]
    );
    assert_eq!(batch.missing, ["tenant_config_none"]);
    assert_eq!(
        batch
            .errors
            .iter()
            .map(|(key, _)| key.as_str())
            .collect::<Vec<_>>(),
        ["param_config_x", "nonsense"]
    );
    let many = (0..101).map(|n| format!("tenant_config_{n}")).collect();
    assert!(matches!(
        f.api.batch(&f.a, many, Fallback::Within(None)).await,
        Err(ApiError::Invalid(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn pages_are_the_callers_own() {
    let f = fixture();
    for name in ["a", "b", "c"] {
        put(&f, &f.a, &format!("tenant_config_{name}"), "1")
            .await
            .unwrap();
    }
    put(&f, &f.b, "tenant_config_z", "1").await.unwrap();
    let first = f.api.list(&f.a, "tenant_config_", 2, "").await.unwrap();
    let second = f
        .api
        .list(&f.a, "tenant_config_", 2, &first.next_page_token)
        .await
        .unwrap();
    let keys = |page: &Page| {
        page.entries
            .iter()
            .map(|e| e.key.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (keys(&first), keys(&second)),
        (
            vec!["tenant_config_a".to_owned(), "tenant_config_b".to_owned()],
            vec!["tenant_config_c".to_owned()],
        )
    );
    assert_eq!(second.next_page_token, "");
    for (prefix, size, token) in [
        ("tenant_config_", 101, ""),
        ("tenant_config_", -1, ""),
        ("tenant", 1, ""),
        ("", 1, ""),
        ("tenant_config_", 1, "forged"),
        ("tenant_config_b", 1, first.next_page_token.as_str()),
    ] {
        assert!(
            f.api.list(&f.a, prefix, size, token).await.is_err(),
            "{prefix} {size} {token}"
        );
    }
    assert!(
        f.api
            .list(&f.b, "tenant_config_", 2, &first.next_page_token)
            .await
            .is_err(),
        "another tenant's token"
    );
}

#[tokio::test(start_paused = true)]
async fn a_value_near_its_ttl_is_read_again_while_it_is_served() {
    let f = fixture();
    f.tenant_store.set("A", "x", record("1"));
    let get = || {
        f.api
            .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
    };
    get().await.unwrap();
    let reads = f.tenant_store.reads();
    advance(Duration::from_secs(50)).await;
    for _ in 0..10 {
        assert_eq!(get().await.unwrap().result, ReadResult::hit);
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        f.tenant_store.reads(),
        reads + 1,
        "one reader has it read again"
    );
    advance(Duration::from_secs(20)).await;
    assert_eq!(
        get().await.unwrap().result,
        ReadResult::hit,
        "beyond the TTL of the first read"
    );
}

#[tokio::test(start_paused = true)]
async fn a_value_is_explained_to_admins_only() {
    let f = fixture();
    f.shared_store.set("global/x", "", record("1"));
    f.api
        .get(&f.a, "param_config_x", 0, Fallback::Within(None))
        .await
        .unwrap();
    let (source, layers) = f.api.explain(&f.a_admin, "param_config_x").unwrap();
    assert_eq!(source.0, "memory-layered");
    let states: Vec<_> = layers
        .iter()
        .map(|layer| (layer.origin, layer.cached.state, layer.cached.version))
        .collect();
    assert_eq!(
        states,
        [
            (Origin::Tenant, State::Absent, 0),
            (Origin::Global, State::Value, 1)
        ]
    );
    assert!(matches!(
        f.api.explain(&f.a, "param_config_x"),
        Err(ApiError::Forbidden(Role::Admin))
    ));
    let (_, layers) = f.api.explain(&f.a_admin, "tenant_config_y").unwrap();
    assert_eq!(layers[0].cached.state, State::NotCached);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_over_a_quota_is_refused_alone() {
    let mut f = fixture();
    let quota = Quota {
        per_second: 1,
        burst: 5,
    };
    let api = Arc::get_mut(&mut f.api).unwrap();
    let resources = [
        Resource::Reads(f.tenant_store.backend()),
        Resource::Writes,
        Resource::ForcedReads,
        Resource::WatchedKeys,
        Resource::Requests,
    ];
    api.gate = Gate::new(resources.map(|resource| (resource, quota)), 1 << 20);
    let is_refused = |error: &ApiError| matches!(error, ApiError::RateLimited { .. });
    f.tenant_store.set("A", "known", record("1"));
    f.api
        .get(&f.a, "tenant_config_known", 0, Fallback::Within(None))
        .await
        .unwrap();
    let mut refused = 0;
    for n in 0..20 {
        let answer = f
            .api
            .get(
                &f.a,
                &format!("tenant_config_cold{n}"),
                0,
                Fallback::Within(None),
            )
            .await;
        refused += usize::from(answer.is_err_and(|error| is_refused(&error)));
    }
    assert!(refused > 0, "no limit on reads");
    assert!(matches!(
        f.api
            .get(&f.b, "tenant_config_cold", 0, Fallback::Within(None))
            .await,
        Err(ApiError::NotFound)
    ));
    // The last known value is the fallback.
    advance(Duration::from_mins(2)).await;
    for n in 0..20 {
        let _ = f
            .api
            .get(
                &f.a,
                &format!("tenant_config_more{n}"),
                0,
                Fallback::Within(None),
            )
            .await;
    }
    let known = f
        .api
        .get(&f.a, "tenant_config_known", 0, Fallback::Within(None))
        .await
        .unwrap();
    assert_eq!(known.result, ReadResult::stale);
    let mut refused = 0;
    for _ in 0..20 {
        let answer = put(&f, &f.a, "tenant_config_w", "1").await;
        refused += usize::from(answer.is_err_and(|error| is_refused(&error)));
    }
    assert!(refused > 0, "no limit on writes");
    let mut refused = 0;
    for _ in 0..20 {
        let page = f.api.list(&f.a, "tenant_config_", 1, "").await;
        refused += usize::from(page.is_err_and(|error| is_refused(&error)));
    }
    assert!(refused > 0, "no limit on lists");
    let mut refused = 0;
    for n in 0..20 {
        let watch = f.api.watch(&f.a, vec![format!("tenant_config_absent{n}")]);
        refused += usize::from(watch.is_err_and(|error| is_refused(&error)));
    }
    assert!(refused > 0, "no limit on watches");
    let mut refused = 0;
    for _ in 0..20 {
        let explained = f.api.explain(&f.a_admin, "tenant_config_known");
        refused += usize::from(explained.is_err_and(|error| is_refused(&error)));
    }
    assert!(refused > 0, "no limit on explain");
    assert!(f.api.list(&f.b, "tenant_config_", 1, "").await.is_ok());
    assert!(put(&f, &f.b, "tenant_config_w", "1").await.is_ok());
}

/// Findings H2 and case 9: a secret's reads have a quota, though its entry is a hit.
#[tokio::test(start_paused = true)]
async fn reads_of_a_secret_have_a_quota() {
    let mut f = fixture();
    let quota = Quota {
        per_second: 50,
        burst: 200,
    };
    let reads = Resource::Reads(f.shared_store.backend());
    Arc::get_mut(&mut f.api).unwrap().gate = Gate::new([(reads, quota)], 1 << 20);
    f.shared_store.set("A", "key", record("s").secret());
    let mut refused = 0;
    for _ in 0..300 {
        match f
            .api
            .get(&f.a_admin, "param_config_key", 0, Fallback::Within(None))
            .await
        {
            Ok(served) => assert_eq!(served.result, ReadResult::miss),
            Err(ApiError::RateLimited { retry_after, .. }) => {
                assert!(retry_after > Duration::ZERO);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 100, "{refused}");
    let other = f
        .api
        .get(&f.b, "param_config_cold", 0, Fallback::Within(None))
        .await;
    assert!(matches!(other, Err(ApiError::NotFound)), "{other:?}");
}

/// Finding H3: a batch's answer is bounded in bytes; the rest is reported for each key.
#[tokio::test(start_paused = true)]
async fn a_batchs_answer_is_bounded_in_bytes() {
    let f = fixture();
    let value = format!("\"{}\"", "x".repeat(256 * 1024 - 2));
    let keys: Vec<String> = (0..17)
        .map(|n| format!("tenant_config_big/{n:02}"))
        .collect();
    for n in 0..17 {
        f.tenant_store
            .set("A", &format!("big/{n:02}"), record(&value));
    }
    let batch = f
        .api
        .batch(&f.a, keys.clone(), Fallback::Within(None))
        .await
        .unwrap();
    assert_eq!(batch.entries.len(), 12, "3 MiB");
    assert_eq!(batch.errors.len(), 5);
    for (key, error) in &batch.errors {
        assert_eq!(error.answer().code, tonic::Code::ResourceExhausted);
        assert!(error.message().contains("alone"), "{}", error.message());
        assert!(
            f.api
                .get(&f.a, key, 0, Fallback::Within(None))
                .await
                .is_ok()
        );
    }
    assert_eq!(batch.entries[0].key, keys[0], "in the order of the request");
}

#[tokio::test]
async fn a_batchs_answer_is_bounded_in_json_too() {
    let f = fixture();
    let value = "\u{1}".repeat(256 * 1024);
    let keys: Vec<String> = (0..12).map(|n| format!("tenant_config_c/{n}")).collect();
    for n in 0..12 {
        f.tenant_store.set("A", &format!("c/{n}"), record(&value));
    }
    let batch = f.api.batch(&f.a, keys, Fallback::Within(None)).await;
    let entries = batch.unwrap().entries.len();
    assert!(entries * 6 * value.len() < 9_000_000, "{entries} entries");
    assert!(entries > 0);
}

/// A key that was never read does not take those that are known beyond the batch's deadline.
#[tokio::test(start_paused = true)]
async fn a_batch_answers_what_it_has_before_its_deadline() {
    let f = fixture();
    put(&f, &f.a, "tenant_config_known", "1").await.unwrap();
    let get = f
        .api
        .get(&f.a, "tenant_config_known", 0, Fallback::Within(None));
    get.await.unwrap();
    f.tenant_store.hold_reads();
    let keys = ["known", "cold"].map(|name| format!("tenant_config_{name}"));
    let started = Instant::now();
    let deadline = Duration::from_secs(2);
    let batch = f
        .api
        .batch(&f.a, keys.into(), Fallback::Within(Some(deadline)));
    let batch = batch.await.unwrap();
    assert!(started.elapsed() < deadline);
    assert_eq!(batch.entries.len(), 1);
    assert_eq!(batch.errors[0].0, "tenant_config_cold");
}

/// Over its read quota a tenant waits, and is not answered with what its own write replaced.
#[tokio::test(start_paused = true)]
async fn a_write_is_never_followed_by_the_value_before() {
    let mut f = fixture();
    put(&f, &f.a, "tenant_config_x", "1").await.unwrap();
    let get = |f: &Fixture| {
        let (api, a) = (Arc::clone(&f.api), f.a.clone());
        async move {
            api.get(&a, "tenant_config_x", 0, Fallback::Within(None))
                .await
        }
    };
    get(&f).await.unwrap();
    let quota = |per_second, burst| Quota { per_second, burst };
    let reads = f
        .api
        .stores
        .all()
        .map(|store| (Resource::Reads(store.backend()), quota(1, 0)));
    let quotas = reads
        .chain([(Resource::Writes, quota(10, 10))])
        .collect::<Vec<_>>();
    Arc::get_mut(&mut f.api).unwrap().gate = Gate::new(quotas, 1 << 20);
    put(&f, &f.a, "tenant_config_x", "2").await.unwrap();
    let refused = get(&f).await.unwrap_err();
    assert_eq!(refused.answer().code, tonic::Code::ResourceExhausted);
}

/// Finding H4: a page is charged what it costs.
#[tokio::test(start_paused = true)]
async fn pages_are_charged_by_their_size() {
    let f = fixture();
    for n in 0..100 {
        f.tenant_store.set("A", &format!("k{n:03}"), record("1"));
    }
    let mut pages = 0;
    while f.api.list(&f.a, "tenant_config_", 100, "").await.is_ok() {
        pages += 1;
        assert!(pages < 1_000, "no limit");
    }
    assert!(pages > 100, "{pages}");
}

/// Finding M14: while the backend hangs, readers of a known value wait for the read in flight at most once, and a batch waits
/// no longer than one key.
#[tokio::test(start_paused = true)]
async fn while_the_backend_hangs_known_values_are_served_soon() {
    let f = fixture();
    let keys: Vec<String> = (0..100).map(|n| format!("tenant_config_k{n}")).collect();
    for n in 0..100 {
        f.tenant_store.set("A", &format!("k{n}"), record("1"));
    }
    f.api
        .batch(&f.a, keys.clone(), Fallback::Within(None))
        .await
        .unwrap();
    advance(Duration::from_mins(2)).await;
    f.tenant_store.hold_reads();
    let started = Instant::now();
    let batch = f
        .api
        .batch(&f.a, keys, Fallback::Within(None))
        .await
        .unwrap();
    assert_eq!(batch.entries.len(), 100);
    assert!(
        batch
            .entries
            .iter()
            .all(|served| served.result == ReadResult::stale)
    );
    assert!(
        started.elapsed() <= FALLBACK_AFTER + Duration::from_millis(100),
        "{:?}",
        started.elapsed()
    );
    for _ in 0..3 {
        advance(Duration::from_millis(500)).await;
        let started = Instant::now();
        let served = f
            .api
            .get(&f.a, "tenant_config_k0", 0, Fallback::Within(None))
            .await
            .unwrap();
        assert_eq!(served.result, ReadResult::stale);
        assert!(
            started.elapsed() < Duration::from_millis(10),
            "{:?}",
            started.elapsed()
        );
    }
    // A caller with less time than that gets its answer in time.
    let f = fixture();
    f.tenant_store.set("A", "x", record("1"));
    f.api
        .get(&f.a, "tenant_config_x", 0, Fallback::Within(None))
        .await
        .unwrap();
    advance(Duration::from_mins(2)).await;
    f.tenant_store.hold_reads();
    let limit = Duration::from_millis(200);
    let started = Instant::now();
    let served = f
        .api
        .get(&f.a, "tenant_config_x", 0, Fallback::Within(Some(limit)))
        .await
        .unwrap();
    assert_eq!(served.result, ReadResult::stale);
    assert!(started.elapsed() < limit);
}

/// Finding L22: the age of a read counts from when it began, also for those that joined it later.
#[tokio::test(start_paused = true)]
async fn the_age_of_a_joined_read_counts_from_its_beginning() {
    let f = fixture();
    f.tenant_store.set("A", "x", record("1"));
    f.tenant_store.hold_reads();
    let api = Arc::clone(&f.api);
    let (a, other) = (f.a.clone(), Arc::clone(&f.api));
    let first = tokio::spawn(async move {
        api.get(&a, "tenant_config_x", 0, Fallback::Within(None))
            .await
    });
    while f.tenant_store.reads() == 0 {
        tokio::task::yield_now().await;
    }
    advance(Duration::from_secs(2)).await;
    let a = f.a.clone();
    let second = tokio::spawn(async move {
        other
            .get(&a, "tenant_config_x", 0, Fallback::Within(None))
            .await
    });
    tokio::task::yield_now().await;
    f.tenant_store.release(1);
    for read in [first, second] {
        assert_eq!(read.await.unwrap().unwrap().age, Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_bad_change_is_found_in_the_history_and_undone() {
    let f = fixture();
    let key = "tenant_config_x";
    let v1 = put(&f, &f.a, key, "{\"n\": 1}")
        .await
        .unwrap()
        .revision
        .version;
    let v2 = put(&f, &f.a, key, "{\"n\": 2}")
        .await
        .unwrap()
        .revision
        .version;
    let query = history::HistoryQuery {
        since_ms: 0,
        until_ms: i64::MAX,
        by: String::new(),
        page_size: 0,
        page_token: String::new(),
        values: true,
    };
    let found = f.api.history(&f.a, key, &query).await.unwrap().entries;
    let versions: Vec<_> = found.iter().map(|(_, entry)| entry.version).collect();
    assert_eq!(versions, [v2, v1], "the newest first");
    let (_, newest) = &found[0];
    assert_eq!(
        (newest.by.as_str(), newest.note.as_str(), newest.previous),
        (f.a.subject(), "a test", Some(v1))
    );
    assert!(matches!(
        f.api.history(&f.a_reader, key, &query).await,
        Err(ApiError::Forbidden(Role::Writer))
    ));
    let earlier = f.api.at_version(&f.a_reader, key, v1).await.unwrap();
    assert_eq!(earlier.record.value, "{\"n\": 1}", "readers may read it");
    assert!(matches!(
        f.api.at_version(&f.b, key, v1).await,
        Err(ApiError::NotFound)
    ));
    let diff = f.api.diff(&f.a, key, v1, 0).await.unwrap();
    let patch = serde_json::json!([{"op": "replace", "path": "/n", "value": 2}]);
    assert!(matches!(&diff, diff::Diff::Json(found) if serde_json::json!(found) == patch));

    let undo = |precondition, dry_run| {
        let (api, a) = (&f.api, &f.a);
        async move {
            api.rollback(
                a,
                key,
                history::Earlier::Version(v1),
                precondition,
                &context(),
                dry_run,
            )
            .await
        }
    };
    assert!(matches!(
        undo(Precondition::Version(v1), false).await,
        Err(ApiError::Store(error)) if matches!(*error, StoreError::Conflict { .. })
    ));
    let dry = undo(Precondition::Version(v2), true).await.unwrap();
    assert!(matches!(
        dry,
        history::Outcome::Dry(history::DryRun { effect: history::Effect::Replace, version, .. })
            if version == v2
    ));
    let done = undo(Precondition::Version(v2), false).await.unwrap();
    let history::Outcome::Done(v3) = done else {
        panic!("{done:?}")
    };
    assert!(v3.version() > v2);
    let now = f
        .api
        .get(&f.a, key, 0, Fallback::Within(None))
        .await
        .unwrap();
    assert_eq!(now.record.value, "{\"n\": 1}");
    let page = f.api.history(&f.a, key, &query).await.unwrap();
    assert_eq!(page.entries[0].1.operation.as_str(), "rollback");
}

#[tokio::test]
async fn a_dry_run_says_what_a_write_would_and_writes_nothing() {
    let f = fixture();
    let (key, none) = ("tenant_config_x", Precondition::None);
    let dry = |value: &str| {
        let (api, a, value) = (&f.api, &f.a, Bytes::from(value.to_owned()));
        let none = none.clone();
        async move { api.dry_put(a, key, value, "", &none).await }
    };
    assert_eq!(dry("1").await.unwrap().effect, history::Effect::Create);
    assert!(dry("{half").await.is_err(), "the same checks");
    assert!(
        f.api
            .get(&f.a, key, 0, Fallback::Within(None))
            .await
            .is_err()
    );
    put(&f, &f.a, key, "1").await.unwrap();
    assert_eq!(dry("1").await.unwrap().effect, history::Effect::None);
    assert_eq!(dry("2").await.unwrap().effect, history::Effect::Replace);
    assert!(matches!(
        f.api.dry_put(&f.a_reader, key, "2".into(), "", &none).await,
        Err(ApiError::Forbidden(_))
    ));
    let dry = f.api.dry_delete(&f.a, key, &none).await.unwrap();
    assert_eq!(dry.effect, history::Effect::Delete);
    let value = f.api.get(&f.a, key, 0, Fallback::Within(None)).await;
    assert_eq!(value.unwrap().record.value, "1");
}

#[tokio::test]
async fn as_of_a_time_is_what_was_there_then() {
    let f = fixture();
    let key = "tenant_config_x";
    let v1 = put(&f, &f.a, key, "1").await.unwrap().revision.version;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let deleted = f
        .api
        .delete(&f.a, key, Precondition::None, &context())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let at = f.api.as_of(&f.a, key, deleted - 1).await.unwrap();
    assert_eq!(
        (at.record.value.as_text(), at.record.revision.version),
        (Some("1"), v1)
    );
    for absent in [v1 - 1, deleted] {
        assert!(matches!(
            f.api.as_of(&f.a, key, absent).await,
            Err(ApiError::NotFound)
        ));
    }
    assert!(
        f.api.as_of(&f.a, key, i64::MAX).await.is_err(),
        "the future"
    );
}

#[test]
fn notes_are_bounded_and_plain() {
    let note = |note: &str| WriteContext::new(String::new(), note.to_owned()).is_ok();
    assert!(note("") && note("because") && note(&"x".repeat(400)));
    assert!(!note(&"x".repeat(401)) && !note("a\nb"));
}
