//! Hand edits, odd items, deletes: every replica ends at what the source holds, through events alone (the
//! stack's TTL is five minutes).

use aws_sdk_dynamodb::types::AttributeValue;
use e2e::Stack;

#[tokio::test]
async fn items_written_by_hand_in_every_shape() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let key = "tenant_config_odd";
    let table = aws_sdk_dynamodb::Client::new(&stack.sdk);
    let put = async |value: Option<AttributeValue>, version: Option<&str>| {
        let mut call = table
            .put_item()
            .table_name(&stack.table)
            .item("PK", AttributeValue::S(format!("TENANT#{}", user.tenant)))
            .item("SK", AttributeValue::S("CONFIG#odd".to_owned()));
        if let Some(value) = value {
            call = call.item("configValue", value);
        }
        if let Some(version) = version {
            call = call.item("version", AttributeValue::N(version.to_owned()));
        }
        call.send().await.map(|_| ())
    };
    stack.wait_for(&user, key, None).await?;
    let map = || AttributeValue::M([("on".to_owned(), AttributeValue::Bool(true))].into());
    for (value, version, served) in [
        (
            AttributeValue::S("{\"a\": 1}".to_owned()),
            None,
            "{\"a\": 1}",
        ),
        (map(), None, "{\"on\":true}"),
        (AttributeValue::Bool(false), Some("7"), "false"),
        (AttributeValue::N("12.50".to_owned()), Some("7"), "12.5"),
        (AttributeValue::Bool(false), Some("7"), "false"),
        (AttributeValue::S("words".to_owned()), Some("3"), "words"),
        (
            AttributeValue::S("9".to_owned()),
            Some("9007199254740991"),
            "9",
        ),
        (AttributeValue::S("10".to_owned()), Some("1"), "10"),
    ] {
        put(Some(value), version).await?;
        // DynamoDB drops a number's trailing zeros; the emulator may keep them.
        let shown = stack.wait_for(&user, key, Some(served)).await;
        if served == "12.5" && shown.is_err() {
            stack.wait_for(&user, key, Some("12.50")).await?;
        } else {
            shown?;
        }
    }
    put(None, Some("8")).await?;
    e2e::poll_until("the malformed item", async || {
        let (status, body) = stack
            .get(
                &user,
                &format!("http://{}", stack.http[0]),
                &format!("/v1/config/{key}"),
            )
            .await?;
        Ok(status == 500 && body["type"] == "urn:tagged-config:problem:malformed-value")
    })
    .await?;
    stack.delete_item(&user.tenant, "odd").await?;
    stack.wait_for(&user, key, None).await
}

#[tokio::test]
async fn parameters_deleted_and_made_again() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    let (path, key) = (
        format!("tenants/{}/limit", user.tenant),
        "param_config_limit",
    );
    stack.wait_for(&user, key, None).await?;
    for round in ["1", "2", "3"] {
        stack.put_parameter(&path, round, false).await?;
        stack.wait_for(&user, key, Some(round)).await?;
        stack.put_parameter(&path, "\"changed\"", false).await?;
        stack.wait_for(&user, key, Some("\"changed\"")).await?;
        stack.delete_parameter(&path).await?;
        stack.wait_for(&user, key, None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_burst_of_changes_ends_at_the_last() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    stack.put_item(&user.tenant, "burst", "0").await?;
    stack
        .wait_for(&user, "tenant_config_burst", Some("0"))
        .await?;
    for n in 1..=50 {
        stack
            .put_item(&user.tenant, "burst", &n.to_string())
            .await?;
    }
    stack
        .wait_for(&user, "tenant_config_burst", Some("50"))
        .await
}
