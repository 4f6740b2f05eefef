//! Who changed what, and how it is undone.

use anyhow::Context;
use aws_sdk_dynamodb::types::AttributeValue as Attribute;
use e2e::{Stack, User, call, grpc_client, poll_until};
use reqwest::Method;
use serde_json::{Value, json};
use tagged_config_proto::v1::{
    GetConfigRequest, ListHistoryRequest, PutConfigRequest, RollbackConfigRequest,
};
use tonic::Code;

/// What is seen of each change: operation, whether its author is known, and note; newest first.
fn seen(page: &Value) -> Vec<(String, String, String)> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let entries = page["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| {
            (
                text(entry, "operation"),
                text(entry, "role"),
                text(entry, "note"),
            )
        })
        .collect()
}

fn owned(all: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    all.iter()
        .map(|(one, two, three)| ((*one).to_owned(), (*two).to_owned(), (*three).to_owned()))
        .collect()
}

#[tokio::test]
async fn every_change_has_one_entry_with_its_author_by_every_way() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    let reader = stack.user_of(&writer.tenant, "reader").await?;
    let replica = format!("http://{}", stack.http[0]);
    let key = "tenant_config_audited";
    let at = |base: &str| format!("{base}/v1/config/{key}");

    let (status, first) = call(
        &stack,
        &writer,
        Method::PUT,
        &at(&replica),
        "first",
        Some("{\"n\": 1}"),
    )
    .await?;
    assert_eq!(status, 201, "{first}");
    let (status, second) = call(
        &stack,
        &admin,
        Method::PUT,
        &at(&stack.api_url),
        "second",
        Some("{\"n\": 2}"),
    )
    .await?;
    assert_eq!(status, 200, "{second}");
    stack
        .put_item(&writer.tenant, "audited", "{\"n\": 3}")
        .await?;
    let history = format!("{}:history", at(&replica));
    poll_until("the hand edit in the history", async || {
        let (_, page) = call(&stack, &writer, Method::GET, &history, "", None).await?;
        Ok(seen(&page).len() == 3)
    })
    .await?;
    let (status, _) = call(&stack, &writer, Method::DELETE, &at(&replica), "away", None).await?;
    assert_eq!(status, 200);
    let wanted = owned(&[
        ("delete", "writer", "away"),
        ("put", "", ""),
        ("put", "admin", "second"),
        ("put", "writer", "first"),
    ]);
    for base in [&replica, &stack.api_url] {
        let url = format!("{}:history", at(base));
        let (status, page) = call(&stack, &writer, Method::GET, &url, "", None).await?;
        assert_eq!((status, seen(&page)), (200, wanted.clone()), "{page}");
        assert_eq!(page["entries"][1]["by"], "unknown");
        assert_eq!(page["entries"][2]["version"], second["version"]);
    }
    let mut client = grpc_client(&stack.grpc[1], &admin.token).await?;
    let request = ListHistoryRequest {
        key: key.to_owned(),
        values: true,
        ..Default::default()
    };
    let page = client.list_history(request).await?.into_inner();
    let values: Vec<_> = page.entries.iter().map(|entry| &*entry.value).collect();
    assert_eq!(values, ["", "{\"n\": 3}", "{\"n\": 2}", "{\"n\": 1}"]);

    // The stream brings the deletion, too, and nothing is told twice.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let (_, page) = call(&stack, &writer, Method::GET, &history, "", None).await?;
    assert_eq!(seen(&page), wanted);

    let of_tenant = format!("{}/v1/history?page_size=2", stack.api_url);
    let (status, page) = call(&stack, &writer, Method::GET, &of_tenant, "", None).await?;
    assert_eq!((status, seen(&page)), (200, wanted[..2].to_vec()));
    let next = page["nextPageToken"].as_str().unwrap();
    let rest = format!("{of_tenant}&page_token={next}");
    let (_, page) = call(&stack, &writer, Method::GET, &rest, "", None).await?;
    assert_eq!(seen(&page), wanted[2..].to_vec());

    let (status, _) = call(&stack, &reader, Method::GET, &history, "", None).await?;
    assert_eq!(status, 403, "who changed what is for writers");
    let stranger = stack.writer().await?;
    let (status, page) = call(&stack, &stranger, Method::GET, &history, "", None).await?;
    assert_eq!((status, seen(&page).len()), (200, 0));
    Ok(())
}

#[tokio::test]
async fn a_bad_change_is_undone_everywhere() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let key = "tenant_config_undone";
    let mut client = grpc_client(&stack.grpc[0], &user.token).await?;
    let put = |value: &str| PutConfigRequest {
        key: key.to_owned(),
        value: value.to_owned(),
        ..Default::default()
    };
    let v1 = client
        .put_config(put("{\"n\": 1}"))
        .await?
        .into_inner()
        .version;
    let v2 = client
        .put_config(put("{\"n\": 2}"))
        .await?
        .into_inner()
        .version;
    stack.wait_for(&user, key, Some("{\"n\": 2}")).await?;
    let at = |version: i64| GetConfigRequest {
        key: key.to_owned(),
        version,
        ..Default::default()
    };
    let earlier = client.get_config(at(v1)).await?.into_inner();
    assert_eq!(
        (earlier.value.as_str(), earlier.version),
        ("{\"n\": 1}", v1)
    );
    let missing = client.get_config(at(v1 - 1)).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    let base = format!("http://{}/v1/config/{key}", stack.http[1]);
    let diff = format!("{base}:diff?from={v1}");
    let (_, answer) = call(&stack, &user, Method::GET, &diff, "", None).await?;
    let patch = json!([{"op": "replace", "path": "/n", "value": 2}]);
    assert_eq!(
        answer["diff"],
        json!({"format": "json-patch", "patch": patch})
    );

    let back = |expected_version| RollbackConfigRequest {
        key: key.to_owned(),
        version: v1,
        expected_version: Some(expected_version),
        note: "undo".to_owned(),
        ..Default::default()
    };
    let stale = client.rollback_config(back(v1)).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let dry = RollbackConfigRequest {
        dry_run: true,
        ..back(v2)
    };
    let dry = client.rollback_config(dry).await?.into_inner();
    assert_eq!(
        (dry.version, dry.dry_run.unwrap().effect.as_str()),
        (v2, "replace")
    );
    let v3 = client.rollback_config(back(v2)).await?.into_inner().version;
    assert!(v3 > v2);
    stack.wait_for(&user, key, Some("{\"n\": 1}")).await?;

    let (status, page) = call(
        &stack,
        &user,
        Method::GET,
        &format!("{base}?as_of={}", rfc3339(v3 - 1)),
        "",
        None,
    )
    .await?;
    assert_eq!((status, page["value"].as_str()), (200, Some("{\"n\": 2}")));
    let list = format!(
        "http://{}/v1/config?prefix=tenant_config_&as_of={}",
        stack.http[0],
        rfc3339(v2 - 1)
    );
    let (status, page) = call(&stack, &user, Method::GET, &list, "", None).await?;
    assert_eq!(
        (status, page["entries"][0]["version"].as_i64()),
        (200, Some(v1))
    );
    Ok(())
}

#[tokio::test]
async fn all_that_one_request_or_caller_changed_is_undone_at_once() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let good = stack.writer().await?;
    let bad = stack.user_of(&good.tenant, "writer").await?;
    let base = format!("http://{}", stack.http[0]);
    let at = |name: &str| format!("{base}/v1/config/tenant_config_{name}");
    for name in ["a", "b", "other"] {
        call(&stack, &good, Method::PUT, &at(name), "", Some("1")).await?;
    }
    for name in ["a", "b", "new"] {
        call(&stack, &bad, Method::PUT, &at(name), "", Some("2")).await?;
    }
    let url = format!("{base}/v1/history");
    poll_until("the changes in the index", async || {
        let (_, page) = call(&stack, &good, Method::GET, &url, "", None).await?;
        Ok(page["entries"]
            .as_array()
            .is_some_and(|entries| entries.len() == 6))
    })
    .await?;
    let (_, page) = call(&stack, &good, Method::GET, &url, "", None).await?;
    let by = page["entries"][0]["by"].clone();
    let undo = |execute: bool| {
        json!({"by": by, "since": "2026-01-01T00:00:00Z", "until": null, "execute": execute})
            .to_string()
    };
    let url = format!("{base}/v1/history:undo");
    let (status, refused) = call(&stack, &good, Method::POST, &url, "", Some(&undo(false))).await?;
    assert_eq!(status, 400, "a window of a year: {refused}");
    let since = rfc3339(now_ms() - 60_000);
    let undo = |execute: bool| json!({"by": by, "since": since, "execute": execute}).to_string();
    let (status, plan) = call(&stack, &good, Method::POST, &url, "", Some(&undo(false))).await?;
    assert_eq!((status, &plan["executed"]), (200, &json!(false)), "{plan}");
    let keys: Vec<_> = plan["keys"].as_array().unwrap().iter().collect();
    assert_eq!(keys.len(), 3, "{plan}");
    assert_eq!(keys[1]["diff"]["patch"][0]["value"], 1, "{plan}");
    assert_eq!(
        stack
            .value_at(&good, &stack.http[0], "tenant_config_a")
            .await?
            .as_deref(),
        Some("2")
    );

    let (status, done) = call(&stack, &good, Method::POST, &url, "", Some(&undo(true))).await?;
    assert_eq!((status, &done["executed"]), (200, &json!(true)), "{done}");
    stack.wait_for(&good, "tenant_config_a", Some("1")).await?;
    stack.wait_for(&good, "tenant_config_b", Some("1")).await?;
    stack.wait_for(&good, "tenant_config_new", None).await?;
    stack
        .wait_for(&good, "tenant_config_other", Some("1"))
        .await?;

    // What somebody else has changed since is nobody's to undo.
    let (_, again) = call(&stack, &good, Method::POST, &url, "", Some(&undo(true))).await?;
    assert_eq!(again["executed"], false, "{again}");
    assert!(
        again["keys"][0]["problem"]
            .as_str()
            .unwrap()
            .contains("has changed it since")
    );
    Ok(())
}

#[tokio::test]
async fn of_two_deletions_at_once_one_takes_effect_and_has_its_entry() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let at = |replica: &str| format!("http://{replica}/v1/config/tenant_config_gone");
    let rounds = 15;
    for _ in 0..rounds {
        let (status, _) = call(
            &stack,
            &user,
            Method::PUT,
            &at(&stack.http[0]),
            "",
            Some("1"),
        )
        .await?;
        assert!(matches!(status, 200 | 201));
        let delete = |replica: &str| {
            let url = at(replica);
            let (stack, user) = (&stack, &user);
            async move { call(stack, user, Method::DELETE, &url, "", None).await }
        };
        let (one, other) = tokio::join!(delete(&stack.http[0]), delete(&stack.http[1]));
        let mut statuses = [one?.0, other?.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404]);
    }
    let url = format!("{}:history?page_size=100", at(&stack.http[0]));
    let (_, page) = call(&stack, &user, Method::GET, &url, "", None).await?;
    assert_eq!(seen(&page).len(), 2 * rounds);
    Ok(())
}

#[tokio::test]
async fn parameters_blobs_and_secrets_tell_what_their_stores_keep() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let base = format!("http://{}/v1/config", stack.http[0]);
    let path = format!("tenants/{}/limit", user.tenant);
    stack.put_parameter(&path, "1", false).await?;
    stack.put_parameter(&path, "2", false).await?;
    let url = format!("{base}/param_config_limit:history?values=true");
    let (status, page) = call(&stack, &user, Method::GET, &url, "", None).await?;
    let values: Vec<_> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["value"].as_str().unwrap())
        .collect();
    assert_eq!((status, values), (200, vec!["2", "1"]), "{page}");
    stack.delete_parameter(&path).await?;
    poll_until("the deletion in the history", async || {
        let (_, page) = call(&stack, &user, Method::GET, &url, "", None).await?;
        Ok(page["entries"][0]["operation"] == "delete")
    })
    .await?;

    let blob = format!("{base}/blob_config_table");
    let (_, first) = call(&stack, &user, Method::PUT, &blob, "first", Some("[1]")).await?;
    call(&stack, &user, Method::PUT, &blob, "second", Some("[2]")).await?;
    call(&stack, &user, Method::DELETE, &blob, "away", None).await?;
    let (_, page) = call(
        &stack,
        &user,
        Method::GET,
        &format!("{blob}:history"),
        "",
        None,
    )
    .await?;
    let notes: Vec<_> = seen(&page)
        .into_iter()
        .map(|(operation, _, note)| (operation, note))
        .collect();
    let wanted = [("delete", "away"), ("put", "second"), ("put", "first")];
    assert_eq!(
        notes,
        wanted.map(|(one, two)| (one.to_owned(), two.to_owned())),
        "{page}"
    );
    let back = json!({"version": first["version"]}).to_string();
    let (status, answer) = call(
        &stack,
        &user,
        Method::POST,
        &format!("{blob}:rollback"),
        "",
        Some(&back),
    )
    .await?;
    assert_eq!(status, 200, "{answer}");
    stack
        .wait_for(&user, "blob_config_table", Some("[1]"))
        .await?;
    Ok(())
}

fn now_ms() -> i64 {
    tagged_config_runtime::clock::unix_ms()
}

fn rfc3339(ms: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap()
}

/// A restore puts items back to the letter, with the versions and claims that they had.
#[tokio::test]
async fn what_was_deleted_and_put_back_to_the_letter_is_deleted_again() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let url = format!("http://{}/v1/config/tenant_config_restored", stack.http[0]);
    let (status, _) = call(&stack, &writer, Method::PUT, &url, "", Some("1")).await?;
    assert_eq!(status, 201);
    let table = aws_sdk_dynamodb::Client::new(&stack.sdk);
    let text = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
    let item = table
        .get_item()
        .table_name(&stack.table)
        .key("PK", text(format!("TENANT#{}", writer.tenant)))
        .key("SK", text("CONFIG#restored".to_owned()))
        .send()
        .await?
        .item;
    for round in 0..3 {
        let (status, answer) = call(&stack, &writer, Method::DELETE, &url, "", None).await?;
        assert_eq!(status, 200, "round {round}: {answer}");
        table
            .put_item()
            .table_name(&stack.table)
            .set_item(item.clone())
            .send()
            .await?;
    }
    Ok(())
}

/// Somebody puts back, by hand and to the letter, what the service wrote a moment ago, and deletes it again.
#[tokio::test]
async fn repetitions_past_the_service_have_entries_of_their_own() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let key = "tenant_config_repeated";
    let url = format!("http://{}/v1/config/{key}", stack.http[0]);
    let table = aws_sdk_dynamodb::Client::new(&stack.sdk);
    let text = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
    let place = [
        ("PK", text(format!("TENANT#{}", writer.tenant))),
        ("SK", text("CONFIG#repeated".to_owned())),
    ];
    let place = place.map(|(name, value)| (name.to_owned(), value));
    let read = async || {
        let read = table.get_item().table_name(&stack.table);
        let read = read.set_key(Some(place.clone().into()));
        anyhow::Ok(read.consistent_read(true).send().await?.item)
    };
    let put_back = async |item: Option<_>| {
        let put = table.put_item().table_name(&stack.table);
        put.set_item(item).send().await?;
        anyhow::Ok(())
    };
    let remove = async || {
        let delete = table.delete_item().table_name(&stack.table);
        delete.set_key(Some(place.clone().into())).send().await?;
        anyhow::Ok(())
    };
    call(&stack, &writer, Method::PUT, &url, "", Some("1")).await?;
    let one = read().await?;
    call(&stack, &writer, Method::PUT, &url, "", Some("2")).await?;
    let two = read().await?;
    put_back(one).await?;
    put_back(two.clone()).await?;
    remove().await?;
    put_back(two.clone()).await?;
    // Of a deletion by the service and one past it, of the same item in the same second, nothing tells which was which.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let (status, _) = call(&stack, &writer, Method::DELETE, &url, "", None).await?;
    assert_eq!(status, 200);
    put_back(two).await?;
    remove().await?;
    let wanted = [
        "delete", "put", "delete", "put", "delete", "put", "put", "put", "put",
    ];
    let of_the_service = [2, 7, 8];
    let history = format!("{url}:history");
    let found = poll_until("an entry of each change", async || {
        let (_, page) = call(&stack, &writer, Method::GET, &history, "", None).await?;
        Ok(seen(&page).len() == wanted.len())
    })
    .await;
    let (_, page) = call(&stack, &writer, Method::GET, &history, "", None).await?;
    found.with_context(|| format!("{:?}", seen(&page)))?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let (_, page) = call(&stack, &writer, Method::GET, &history, "", None).await?;
    let operations: Vec<_> = seen(&page)
        .into_iter()
        .map(|(operation, ..)| operation)
        .collect();
    assert_eq!(operations, wanted, "{page}");
    for (index, entry) in page["entries"].as_array().unwrap().iter().enumerate() {
        let is_of_the_service = entry["by"] != "unknown";
        assert_eq!(
            is_of_the_service,
            of_the_service.contains(&index),
            "{index}: {page}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_undo_keeps_to_its_window_and_a_dry_run_is_one_however_it_is_spelt() -> anyhow::Result<()>
{
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    let base = format!("http://{}/v1", stack.http[0]);
    let url = |key: &str| format!("{base}/config/{key}");
    let put = async |user: &User, key: &str, value: &str| {
        let (status, answer) = call(&stack, user, Method::PUT, &url(key), "", Some(value)).await?;
        assert!(status < 300, "{answer}");
        anyhow::Ok(answer["version"].as_i64().unwrap())
    };
    let at = |version: i64| {
        let nanos = i128::from(version) * 1_000_000;
        let time = time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
        time.format(&time::format_description::well_known::Rfc3339)
            .unwrap()
    };
    let one = put(&admin, "tenant_config_window", "1").await?;
    let two = put(&writer, "tenant_config_window", "2").await?;
    let three = put(&writer, "tenant_config_window", "3").await?;
    put(&writer, "tenant_config_passing", "1").await?;
    call(
        &stack,
        &writer,
        Method::DELETE,
        &url("tenant_config_passing"),
        "",
        None,
    )
    .await?;
    let (_, page) = call(
        &stack,
        &admin,
        Method::GET,
        &format!("{base}/history"),
        "",
        None,
    )
    .await?;
    let by = page["entries"][0]["by"].as_str().unwrap();
    let undo = async |since: i64, until: Option<i64>, more: &str| {
        let mut body = json!({"by": by, "since": at(since), "execute": true});
        if let Some(until) = until {
            body["until"] = json!(at(until));
        }
        let url = format!("{base}/history:undo{more}");
        let body = body.to_string();
        call(&stack, &admin, Method::POST, &url, "", Some(&body)).await
    };
    let (_, answer) = undo(two, Some(three), "").await?;
    assert_eq!(
        answer["executed"], false,
        "it was changed again after the window: {answer}"
    );
    let (_, answer) = undo(two, None, "?dry_run=true").await?;
    assert_eq!(answer["executed"], false, "{answer}");
    let (_, answer) = undo(two, None, "").await?;
    assert_eq!(
        answer["executed"], true,
        "what was made and deleted again is no obstacle: {answer}"
    );
    let (_, now) = call(
        &stack,
        &writer,
        Method::GET,
        &url("tenant_config_window"),
        "",
        None,
    )
    .await?;
    assert_eq!(now["value"], "1");

    let rollback = format!("{}:rollback", url("tenant_config_window"));
    let body = json!({"version": two}).to_string();
    let (status, answer) = call(
        &stack,
        &writer,
        Method::POST,
        &format!("{rollback}?dry_run=true"),
        "",
        Some(&body),
    )
    .await?;
    assert_eq!(
        (status, &answer["dryRun"]["effect"]),
        (200, &json!("replace"))
    );
    let request = stack.web.post(&rollback).bearer_auth(&writer.token);
    let refused = request
        .header("if-match", "\"AAAA\"")
        .body(body)
        .send()
        .await?;
    assert_eq!(refused.status(), 412);
    for spelling in ["dry_run", "dryRun", "dry-run"] {
        let dry = format!("{}?{spelling}=true", url("tenant_config_window"));
        let (_, answer) = call(&stack, &writer, Method::DELETE, &dry, "", None).await?;
        assert_eq!(answer["dryRun"]["effect"], "delete", "{spelling}: {answer}");
    }
    let as_of = format!("{}?asOf={}", url("tenant_config_window"), at(one));
    let (_, then) = call(&stack, &writer, Method::GET, &as_of, "", None).await?;
    assert_eq!(
        (&then["value"], &then["version"]),
        (&json!("1"), &json!(one))
    );
    let (status, _) = call(&stack, &writer, Method::GET, &url(":history"), "", None).await?;
    assert_eq!(status, 400);
    Ok(())
}

/// All entries of a key, page by page.
async fn paged(
    stack: &Stack,
    user: &User,
    url: &str,
    size: usize,
) -> anyhow::Result<Vec<(String, String, String)>> {
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..50 {
        let page = format!("{url}:history?page_size={size}&page_token={token}");
        let (status, page) = call(stack, user, Method::GET, &page, "", None).await?;
        assert_eq!(status, 200, "{page}");
        let found = seen(&page);
        assert!(found.len() <= size, "{page}");
        all.extend(found);
        page["nextPageToken"]
            .as_str()
            .unwrap()
            .clone_into(&mut token);
        if token.is_empty() {
            return Ok(all);
        }
    }
    anyhow::bail!("there is no end of it: {all:?}")
}

#[tokio::test]
async fn pages_of_blobs_and_parameters_have_each_change_once() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let url = |key: &str| format!("http://{}/v1/config/{key}", stack.http[0]);
    let blob = url("blob_config_paged");
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(1_200));
    for note in ["one", "two"] {
        let (status, _) = call(&stack, &writer, Method::PUT, &blob, note, Some("1")).await?;
        assert_eq!(status, 201);
        pause().await;
        let (status, _) = call(&stack, &writer, Method::DELETE, &blob, note, None).await?;
        assert_eq!(status, 200);
        pause().await;
    }
    let wanted = owned(&[
        ("delete", "writer", "two"),
        ("put", "writer", "two"),
        ("delete", "writer", "one"),
        ("put", "writer", "one"),
    ]);
    let below_root = format!("tenants/{}/paged", writer.tenant);
    for value in ["1", "2"] {
        stack.put_parameter(&below_root, value, false).await?;
        pause().await;
        stack.delete_parameter(&below_root).await?;
        pause().await;
    }
    stack.put_parameter(&below_root, "3", false).await?;
    let parameter = url("param_config_paged");
    poll_until("the deletions of the parameter", async || {
        let all = paged(&stack, &writer, &parameter, 100).await?;
        Ok(all
            .iter()
            .filter(|(operation, ..)| operation == "delete")
            .count()
            == 2)
    })
    .await?;
    let whole = paged(&stack, &writer, &parameter, 100).await?;
    for size in [1, 2, 3] {
        assert_eq!(paged(&stack, &writer, &blob, size).await?, wanted, "{size}");
        assert_eq!(
            paged(&stack, &writer, &parameter, size).await?,
            whole,
            "{size}"
        );
    }
    assert_eq!(paged(&stack, &writer, &blob, 100).await?, wanted);
    Ok(())
}

#[tokio::test]
async fn a_copy_in_s3_is_nobodys_write() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let url = format!("http://{}/v1/config/blob_config_copied", stack.http[0]);
    let (status, _) = call(&stack, &writer, Method::PUT, &url, "mine", Some("1")).await?;
    assert_eq!(status, 201);
    // Its time tells it apart, where it is more than clocks may be.
    tokio::time::sleep(std::time::Duration::from_millis(6_500)).await;
    let key = format!("tenants/{}/copied", writer.tenant);
    aws_sdk_s3::Client::new(&stack.sdk)
        .copy_object()
        .bucket(&stack.bucket)
        .copy_source(format!("{}/{key}", stack.bucket))
        .key(&key)
        .send()
        .await?;
    let (_, page) = call(
        &stack,
        &writer,
        Method::GET,
        &format!("{url}:history"),
        "",
        None,
    )
    .await?;
    assert_eq!(
        seen(&page),
        owned(&[("put", "", ""), ("put", "writer", "mine")]),
        "{page}"
    );
    Ok(())
}

#[tokio::test]
async fn an_early_version_is_found_behind_megabytes_of_others() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let url = format!("http://{}/v1/config/tenant_config_large", stack.http[0]);
    let mut first = None;
    // Twice what DynamoDB reads in one page.
    for n in 0..8 {
        let value = format!("\"{n}{}\"", "x".repeat(250_000));
        let answer = loop {
            let put = call(&stack, &writer, Method::PUT, &url, "", Some(&value));
            let (status, answer) = put.await?;
            if status != 429 {
                assert!(status < 300, "{answer}");
                break answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        };
        first = first.or(answer["version"].as_i64());
    }
    let first = first.unwrap();
    let (status, answer) = call(
        &stack,
        &writer,
        Method::GET,
        &format!("{url}?version={first}"),
        "",
        None,
    )
    .await?;
    assert_eq!(status, 200);
    assert!(answer["value"].as_str().unwrap().starts_with("\"0x"));
    Ok(())
}

/// Its own entry came to the end of its retention while it was in force.
#[tokio::test]
async fn what_is_replaced_after_the_retention_is_kept_anew() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let url = format!("http://{}/v1/config/tenant_config_stable", stack.http[0]);
    let old = time::OffsetDateTime::now_utc() - time::Duration::days(100);
    let written = old.format(&time::format_description::well_known::Rfc3339)?;
    let version = (old.unix_timestamp_nanos() / 1_000_000).to_string();
    aws_sdk_dynamodb::Client::new(&stack.sdk)
        .put_item()
        .table_name(&stack.table)
        .item("PK", Attribute::S(format!("TENANT#{}", writer.tenant)))
        .item("SK", Attribute::S("CONFIG#stable".to_owned()))
        .item("configValue", Attribute::S("\"stable\"".to_owned()))
        .item("version", Attribute::N(version.clone()))
        .item("assignedVersion", Attribute::N(version.clone()))
        .item("lastModified", Attribute::S(written))
        .send()
        .await?;
    let then = (old + time::Duration::minutes(1))
        .format(&time::format_description::well_known::Rfc3339)?;
    let as_of = format!("{url}?as_of={}", then.replace('+', "%2B"));
    let (status, _) = call(&stack, &writer, Method::GET, &as_of, "", None).await?;
    assert_eq!(status, 404, "the history does not know of it");
    let (status, answer) = call(&stack, &writer, Method::PUT, &url, "", Some("1")).await?;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = call(&stack, &writer, Method::GET, &as_of, "", None).await?;
    assert_eq!((status, &answer["value"]), (200, &json!("\"stable\"")));
    let rollback = json!({"version": version.parse::<i64>()?}).to_string();
    let rollback_url = format!("{url}:rollback");
    let (status, answer) = call(
        &stack,
        &writer,
        Method::POST,
        &rollback_url,
        "",
        Some(&rollback),
    )
    .await?;
    assert_eq!(status, 200, "{answer}");
    Ok(())
}
