//! JSON Schemas guard what callers write, and what is written past the service.

use std::collections::HashSet;

use e2e::{Stack, User, grpc_client, poll_until};
use reqwest::Method;
use serde_json::{Value, json};
use tagged_config_proto::v1::{
    GetConfigRequest, ListHistoryRequest, PutConfigRequest, RollbackConfigRequest,
};
use tonic::Code;
use tonic_types::StatusExt;

const SCHEMA: &str = r#"{"type": "object", "required": ["max"], "properties": {"max": {"type": "integer", "maximum": 10}}}"#;

async fn call(
    stack: &Stack,
    user: &User,
    method: Method,
    url: &str,
    body: Option<&str>,
) -> anyhow::Result<(u16, Value)> {
    e2e::call(stack, user, method, url, "", body).await
}

/// Writes a schema that all replicas have then.
async fn put_schema(
    stack: &Stack,
    admin: &User,
    covered: &str,
    schema: &str,
) -> anyhow::Result<()> {
    let url = format!(
        "http://{}/v1/config/schema_config_{covered}?wait_for_tasks=true",
        stack.http[0]
    );
    let (status, answer) = call(stack, admin, Method::PUT, &url, Some(schema)).await?;
    assert!(matches!(status, 200 | 201), "{status} {answer}");
    assert_eq!(answer["tasks"]["live"], true, "{answer}");
    let all = answer["tasks"]["tasks"].as_array().unwrap().len();
    assert_eq!(all, stack.http.len());
    Ok(())
}

fn violations(answer: &Value) -> Vec<(String, String)> {
    let text = |violation: &Value, name: &str| violation[name].as_str().unwrap().to_owned();
    let all = answer["violations"].as_array().unwrap();
    all.iter()
        .map(|violation| (text(violation, "schema"), text(violation, "pointer")))
        .collect()
}

#[tokio::test]
async fn a_write_that_breaks_a_schema_changes_nothing() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    let at = |key: &str| format!("http://{}/v1/config/{key}", stack.http[1]);
    let key = at("tenant_config_limits/eu");

    let (status, before) = call(&stack, &writer, Method::PUT, &key, Some("{\"max\": 99}")).await?;
    assert_eq!(status, 201, "{before}");
    let schema = at("schema_config_tenant_config_limits");
    let (status, _) = call(&stack, &writer, Method::PUT, &schema, Some(SCHEMA)).await?;
    assert_eq!(status, 403, "schemas are for admins");
    for bad in [
        "{\"type\": \"objekt\"}",
        "{\"$ref\": \"https://example.com/x\"}",
        "[]",
    ] {
        let (status, answer) = call(&stack, &admin, Method::PUT, &schema, Some(bad)).await?;
        assert_eq!(status, 422, "{bad}: {answer}");
    }
    for nowhere in [
        "tenant",
        "tenant_config_",
        "nowhere_config_x",
        "schema_config_x",
        "secret_config_x",
    ] {
        let url = at(&format!("schema_config_{nowhere}"));
        let (status, answer) = call(&stack, &admin, Method::PUT, &url, Some("{}")).await?;
        assert_eq!(status, 400, "{nowhere}: {answer}");
    }
    let dry = format!("{schema}?dry_run=true");
    let (status, answer) = call(&stack, &admin, Method::PUT, &dry, Some(SCHEMA)).await?;
    assert_eq!(status, 200, "{answer}");
    let effect = &answer["dryRun"]["schema"];
    assert_eq!(effect["breaks"][0]["key"], "tenant_config_limits/eu");
    assert_eq!(
        (&effect["checked"], &effect["complete"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        effect.get("others"),
        None,
        "of other tenants, it says nothing"
    );
    put_schema(&stack, &admin, "tenant_config_limits", SCHEMA).await?;

    let (status, answer) = call(&stack, &writer, Method::PUT, &key, Some("{\"max\": 11}")).await?;
    let broken = (
        "schema_config_tenant_config_limits".to_owned(),
        "/max".to_owned(),
    );
    assert_eq!(
        (status, violations(&answer)),
        (422, vec![broken]),
        "{answer}"
    );
    let dry = format!("{key}?dry_run=true");
    let (status, _) = call(&stack, &writer, Method::PUT, &dry, Some("{}")).await?;
    assert_eq!(status, 422);
    let mut client = grpc_client(&stack.grpc[0], &writer.token).await?;
    let put = |value: &str| PutConfigRequest {
        key: "tenant_config_limits/eu".to_owned(),
        value: value.to_owned(),
        ..Default::default()
    };
    let refused = client.put_config(put("not json at all")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = client
        .put_config(put("{\"max\": \"1\"}"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    let fields = &details.bad_request().unwrap().field_violations;
    assert_eq!(fields[0].field, "value/max");

    // What was there before the schema is served until it is written again, and cannot be written again.
    let (_, now) = call(&stack, &writer, Method::GET, &key, None).await?;
    assert_eq!(now["value"], "{\"max\": 99}");
    assert_eq!(now["version"], before["version"]);
    let (status, fine) = call(&stack, &writer, Method::PUT, &key, Some("{\"max\": 1}")).await?;
    assert_eq!(status, 200, "{fine}");
    let rollback = RollbackConfigRequest {
        key: "tenant_config_limits/eu".to_owned(),
        version: before["version"].as_i64().unwrap(),
        ..Default::default()
    };
    let refused = client.rollback_config(rollback).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    // Another key, another tenant, and a key that only begins alike are not covered.
    let stranger = stack.writer().await?;
    for (user, other) in [
        (&writer, "tenant_config_limits2"),
        (&stranger, "tenant_config_limits/eu"),
    ] {
        let (status, _) =
            call(&stack, user, Method::PUT, &at(other), Some("{\"max\": 11}")).await?;
        assert_eq!(status, 201, "{other}");
    }
    // Schemas are versioned like any value.
    let history = format!("{schema}:history");
    let (_, page) = call(&stack, &admin, Method::GET, &history, None).await?;
    assert_eq!(page["entries"].as_array().unwrap().len(), 1);
    let (status, _) = call(&stack, &admin, Method::DELETE, &schema, None).await?;
    assert_eq!(status, 200);
    let (status, _) = call(&stack, &writer, Method::PUT, &key, Some("{\"max\": 11}")).await?;
    assert_eq!(status, 200);
    Ok(())
}

/// Of one key: what both replicas serve, and whether they say that an invalid value lies there.
async fn served(
    stack: &Stack,
    user: &User,
    key: &str,
) -> anyhow::Result<HashSet<(u16, String, bool)>> {
    let mut all = HashSet::new();
    for replica in &stack.http {
        let url = format!("http://{replica}/v1/config/{key}");
        let (status, answer) = call(stack, user, Method::GET, &url, None).await?;
        let value = answer["value"].as_str().unwrap_or_default().to_owned();
        let is_instead = answer["invalidNewVersion"].as_bool().unwrap_or_default();
        all.insert((status, value, is_instead));
    }
    Ok(all)
}

async fn operations(stack: &Stack, user: &User, key: &str) -> anyhow::Result<Vec<String>> {
    let mut client = grpc_client(&stack.grpc[0], &user.token).await?;
    let request = ListHistoryRequest {
        key: key.to_owned(),
        ..Default::default()
    };
    let page = client.list_history(request).await?.into_inner();
    Ok(page
        .entries
        .into_iter()
        .map(|entry| entry.operation)
        .collect())
}

#[tokio::test]
async fn an_edit_past_the_service_that_breaks_its_schema_is_not_served() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let tenant = writer.tenant.clone();
    let admin = stack.user_of(&tenant, "admin").await?;
    let edit = async |tag: &str, value: &str| match tag {
        "tenant" => stack.put_item(&tenant, "guarded", value).await,
        "param" => {
            let below_root = format!("tenants/{tenant}/guarded");
            stack.put_parameter(&below_root, value, false).await
        }
        _ => {
            stack
                .put_object(&format!("tenants/{tenant}/guarded"), value)
                .await
        }
    };
    let good = |value: &str, is_instead| HashSet::from([(200, value.to_owned(), is_instead)]);
    for tag in ["tenant", "param", "blob"] {
        let key = format!("{tag}_config_guarded");
        put_schema(&stack, &admin, &format!("{tag}_config"), SCHEMA).await?;
        edit(tag, "{\"max\": 1}").await?;
        poll_until(&format!("the first value of {key}"), async || {
            Ok(served(&stack, &writer, &key).await? == good("{\"max\": 1}", false))
        })
        .await?;
        edit(tag, "{\"max\": 11}").await?;
        poll_until(&format!("the last good value of {key}"), async || {
            let now = served(&stack, &writer, &key).await?;
            let is_wrong = now.iter().any(|(_, value, _)| value == "{\"max\": 11}");
            assert!(!is_wrong, "{key} shows the invalid value: {now:?}");
            Ok(now == good("{\"max\": 1}", true))
        })
        .await?;
        poll_until(
            &format!("the rejection of {key} in the history"),
            async || {
                let operations = operations(&stack, &writer, &key).await?;
                Ok(operations.first().is_some_and(|first| first == "reject"))
            },
        )
        .await?;
        let mut client = grpc_client(&stack.grpc[1], &writer.token).await?;
        let request = GetConfigRequest {
            key: key.clone(),
            ..Default::default()
        };
        assert!(
            client
                .get_config(request)
                .await?
                .into_inner()
                .invalid_new_version
        );
        edit(tag, "{\"max\": 2}").await?;
        poll_until(&format!("the mended value of {key}"), async || {
            Ok(served(&stack, &writer, &key).await? == good("{\"max\": 2}", false))
        })
        .await?;
        // Two replicas rejected it, and the history says so once.
        let operations = operations(&stack, &writer, &key).await?;
        let rejections = operations.iter().filter(|operation| *operation == "reject");
        assert_eq!(rejections.count(), 1, "{key}: {operations:?}");
    }
    let mut guarded = 0.0;
    for replica in &stack.http {
        let text = stack
            .web
            .get(format!("http://{replica}/metrics"))
            .send()
            .await?
            .text()
            .await?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("config_guarded_edits_total "));
        guarded += line.unwrap().parse::<f64>()?;
    }
    assert!(guarded >= 6.0, "{guarded}");
    Ok(())
}

#[tokio::test]
async fn a_first_value_that_breaks_its_schema_is_an_error_that_says_so() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    put_schema(&stack, &admin, "tenant_config_first", SCHEMA).await?;
    stack.put_item(&writer.tenant, "first", "{}").await?;
    let url = format!("http://{}/v1/config/tenant_config_first", stack.http[0]);
    let (status, answer) = call(&stack, &writer, Method::GET, &url, None).await?;
    assert_eq!(status, 500, "{answer}");
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("it breaks its JSON Schema"), "{detail}");
    Ok(())
}

#[tokio::test]
async fn operators_keep_schemas_of_all_tenants_and_tenants_stricter_ones() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let operator = stack.user_of("operators", "admin").await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    // Of a name of this run's own, since it covers all tenants.
    let covered = format!("tenant_config_{}", writer.tenant.to_lowercase());
    let url = |key: &str| format!("http://{}/v1/config/{key}", stack.http[1]);
    let key = url(&covered);
    let put =
        async |user: &User, value: &str| call(&stack, user, Method::PUT, &key, Some(value)).await;
    assert_eq!(put(&writer, "{\"max\": 99}").await?.0, 201);

    let schema = url(&format!("schema_config_{covered}"));
    let dry = format!("{schema}?dry_run=true");
    let (status, answer) = call(&stack, &operator, Method::PUT, &dry, Some(SCHEMA)).await?;
    assert_eq!(status, 200, "{answer}");
    let effect = &answer["dryRun"]["schema"];
    assert_eq!(
        effect["others"],
        json!({"breaks": 1, "checked": 1}),
        "{answer}"
    );
    assert_eq!(effect["breaks"], json!([]), "keys of others are not named");
    let is_named = answer.to_string().contains("99");
    assert!(!is_named, "nor are their values");

    put_schema(&stack, &operator, &covered, SCHEMA).await?;
    assert_eq!(put(&writer, "{\"max\": 11}").await?.0, 422);
    assert_eq!(put(&writer, "{\"max\": 5}").await?.0, 200);
    // A tenant's own cannot loosen it, and can be stricter.
    put_schema(&stack, &admin, &covered, "true").await?;
    assert_eq!(put(&writer, "{\"max\": 11}").await?.0, 422);
    put_schema(
        &stack,
        &admin,
        &covered,
        "{\"properties\": {\"max\": {\"maximum\": 3}}}",
    )
    .await?;
    assert_eq!(put(&writer, "{\"max\": 5}").await?.0, 422);
    assert_eq!(put(&writer, "{\"max\": 2}").await?.0, 200);
    // Operators have its history, and tenants learn that it changed, and not who changed it.
    let history = format!("{schema}:history");
    let entries = async |user: &User| {
        let (status, page) = call(&stack, user, Method::GET, &history, None).await?;
        assert_eq!(status, 200, "{page}");
        anyhow::Ok(page["entries"].as_array().unwrap().clone())
    };
    let of_operators = entries(&operator).await?;
    assert_eq!(of_operators.len(), 1);
    assert_eq!(of_operators[0]["role"], "admin");
    let of_all: Vec<_> = entries(&writer).await?;
    let of_all = of_all.iter().filter(|entry| entry["origin"] == "global");
    for entry in of_all {
        assert_eq!(
            (&entry["by"], &entry["requestId"]),
            (&json!("operator"), &json!(""))
        );
    }
    let version = &of_operators[0]["version"];
    let earlier = format!("{schema}?version={version}");
    let (status, answer) = call(&stack, &operator, Method::GET, &earlier, None).await?;
    assert_eq!((status, &answer["value"]), (200, &json!(SCHEMA)));
    // Nobody else's admin writes for all.
    let stranger = stack.writer().await?;
    assert_eq!(put(&stranger, "{\"max\": 5}").await?.0, 201);
    let (status, _) = call(&stack, &operator, Method::DELETE, &schema, None).await?;
    assert_eq!(status, 200);
    Ok(())
}

/// What both replicas serve, as soon as they do.
async fn wait_until_served(
    stack: &Stack,
    user: &User,
    key: &str,
    wanted: (u16, &str, bool),
) -> anyhow::Result<()> {
    let (status, value, is_instead) = wanted;
    let wanted = HashSet::from([(status, value.to_owned(), is_instead)]);
    poll_until(&format!("{value} in {key}"), async || {
        Ok(served(stack, user, key).await? == wanted)
    })
    .await
}

#[tokio::test]
async fn what_the_service_took_is_good_and_what_was_there_before_a_schema_stays()
-> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    let (taken, by_hand) = ("tenant_config_old/taken", "tenant_config_old/by-hand");
    let url = |key: &str| format!("http://{}/v1/config/{key}", stack.http[0]);
    let edit = async |name: &str, value: &str| stack.put_item(&writer.tenant, name, value).await;
    let first = Some("{\"max\": 99}");
    let (status, _) = call(&stack, &writer, Method::PUT, &url(taken), first).await?;
    assert_eq!(status, 201);
    edit("old/by-hand", "{\"max\": 98}").await?;
    wait_until_served(&stack, &writer, by_hand, (200, "{\"max\": 98}", false)).await?;
    // The stream's time has whole seconds, and clocks may be three apart.
    tokio::time::sleep(std::time::Duration::from_millis(4_500)).await;
    put_schema(&stack, &admin, "tenant_config_old", SCHEMA).await?;
    stack
        .put_parameter(&format!("tenants/{}/x", writer.tenant), "1", false)
        .await?;
    for (key, value) in [(taken, "{\"max\": 99}"), (by_hand, "{\"max\": 98}")] {
        wait_until_served(&stack, &writer, key, (200, value, false)).await?;
    }
    // Also past the caches.
    let page = format!("{}?prefix=tenant_config_old", url("").trim_end_matches('/'));
    let (_, page) = call(&stack, &writer, Method::GET, &page, None).await?;
    assert_eq!(page["entries"].as_array().unwrap().len(), 2, "{page}");
    // An edit that breaks it gives way to them.
    edit("old/taken", "{}").await?;
    wait_until_served(&stack, &writer, taken, (200, "{\"max\": 99}", true)).await?;
    edit("old/by-hand", "{}").await?;
    let (status, answer) = call(&stack, &writer, Method::GET, &url(by_hand), None).await?;
    assert!(
        status == 200 && answer["value"] != "{}" || status == 500,
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn a_guarded_key_is_mended_with_the_tag_that_was_served_and_rejected_again()
-> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let writer = stack.writer().await?;
    let admin = stack.user_of(&writer.tenant, "admin").await?;
    let key = "tenant_config_mended";
    let url = format!("http://{}/v1/config/{key}", stack.http[1]);
    put_schema(&stack, &admin, key, SCHEMA).await?;
    let (status, _) = call(&stack, &writer, Method::PUT, &url, Some("{\"max\": 1}")).await?;
    assert_eq!(status, 201);
    for round in 1..3 {
        stack
            .put_item(&writer.tenant, "mended", "{\"max\": 11}")
            .await?;
        let good = format!("{{\"max\": {round}}}");
        wait_until_served(&stack, &writer, key, (200, &good, true)).await?;
        poll_until("the rejection", async || {
            let operations = operations(&stack, &writer, key).await?;
            let rejections = operations.iter().filter(|operation| *operation == "reject");
            Ok(rejections.count() == round)
        })
        .await?;
        let read = stack
            .web
            .get(&url)
            .bearer_auth(&writer.token)
            .send()
            .await?;
        let tag = read.headers()["etag"].clone();
        let put = stack
            .web
            .put(&url)
            .bearer_auth(&writer.token)
            .header("if-match", tag);
        let mended = put
            .body(format!("{{\"max\": {}}}", round + 1))
            .send()
            .await?;
        assert_eq!(mended.status(), 200, "{}", mended.text().await?);
        let good = format!("{{\"max\": {}}}", round + 1);
        wait_until_served(&stack, &writer, key, (200, &good, false)).await?;
    }
    // Without the schema, what lies there is served at once.
    stack
        .put_item(&writer.tenant, "mended", "{\"max\": 11}")
        .await?;
    wait_until_served(&stack, &writer, key, (200, "{\"max\": 3}", true)).await?;
    let schema = format!("http://{}/v1/config/schema_config_{key}", stack.http[0]);
    let (status, _) = call(&stack, &admin, Method::DELETE, &schema, None).await?;
    assert_eq!(status, 200);
    wait_until_served(&stack, &writer, key, (200, "{\"max\": 11}", false)).await?;
    Ok(())
}
