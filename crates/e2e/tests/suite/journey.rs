//! What `make demo` shows, asserted.

use e2e::{Stack, User, poll_until};
use serde_json::{Value, json};

const ORDER: &str = r#"{"lines": [{"sku": "book", "quantity": 2, "unitPrice": "19.99"}]}"#;

async fn order(stack: &Stack, user: &User, base: &str) -> anyhow::Result<Value> {
    let call = stack
        .web
        .post(format!("{base}/v1/orders"))
        .bearer_auth(&user.token);
    Ok(call
        .header("content-type", "application/json")
        .body(ORDER)
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?)
}

#[tokio::test]
async fn two_tenants_through_the_edge() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let a = stack.seeded("TENANT_A_USER", "A1B2C3D4").await?;
    let b = stack.seeded("TENANT_B_USER", "E5F6G7H8").await?;
    let key = "/v1/config/tenant_config_featureFlagX";
    let (status, of_a) = stack.get(&a, &stack.api_url, key).await?;
    assert_eq!(
        (status, of_a["value"].as_str()),
        (200, Some(r#"{"enabled": true, "variant": "control"}"#))
    );
    let (status, of_b) = stack.get(&b, &stack.api_url, key).await?;
    assert_eq!(
        (status, of_b["value"].as_str()),
        (200, Some(r#"{"enabled": false}"#))
    );
    for (user, key, status) in [
        (&a, "appSettingY", 200),
        (&b, "appSettingY", 404),
        (&a, "paymentGateway", 404),
        (&b, "paymentGateway", 200),
    ] {
        let (got, _) = stack
            .get(
                user,
                &stack.api_url,
                &format!("/v1/config/tenant_config_{key}"),
            )
            .await?;
        assert_eq!(got, status, "{key} of {}", user.tenant);
    }
    let unsigned = stack
        .web
        .get(format!("{}{key}", stack.api_url))
        .send()
        .await?;
    assert_eq!(unsigned.status().as_u16(), 401);

    let (of_a, of_b) = (
        order(&stack, &a, &stack.api_url).await?,
        order(&stack, &b, &stack.api_url).await?,
    );
    assert_eq!(
        (of_a["currency"].as_str(), of_a["total"].as_str()),
        (Some("USD"), Some("47.98"))
    );
    assert_eq!(
        (of_b["currency"].as_str(), of_b["total"].as_str()),
        (Some("EUR"), Some("47.58")),
        "its own tax rate"
    );
    Ok(())
}

/// A tenant of its own, so that the prices of others are not disturbed.
#[tokio::test]
async fn a_change_reaches_every_replica_and_the_price() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    stack
        .put_item(
            &user.tenant,
            "pricing",
            r#"{"currency": "GBP", "discountPercent": "50"}"#,
        )
        .await?;
    stack
        .put_parameter(&format!("tenants/{}/tax/rate", user.tenant), "0.10", false)
        .await?;
    let flag = |variant: &str| json!({"enabled": true, "variant": variant}).to_string();
    stack
        .put_item(&user.tenant, "featureFlagX", &flag("control"))
        .await?;
    stack
        .wait_for(&user, "tenant_config_featureFlagX", Some(&flag("control")))
        .await?;
    let total = async || {
        anyhow::Ok(
            order(&stack, &user, &stack.order_url).await?["total"]
                .as_str()
                .map(ToOwned::to_owned),
        )
    };
    poll_until("the first price", async || {
        Ok(total().await?.as_deref() == Some("43.98"))
    })
    .await?;

    stack
        .put_item(&user.tenant, "featureFlagX", &flag("treatment"))
        .await?;
    stack
        .wait_for(
            &user,
            "tenant_config_featureFlagX",
            Some(&flag("treatment")),
        )
        .await?;
    poll_until("the discount", async || {
        Ok(total().await?.as_deref() == Some("21.99"))
    })
    .await?;

    stack
        .put_parameter(&format!("tenants/{}/tax/rate", user.tenant), "0.30", false)
        .await?;
    stack
        .wait_for(&user, "param_config_tax/rate", Some("0.30"))
        .await?;
    poll_until("the tax", async || {
        Ok(total().await?.as_deref() == Some("25.99"))
    })
    .await?;

    // Without the override, the shared default shines through.
    stack
        .delete_parameter(&format!("tenants/{}/tax/rate", user.tenant))
        .await?;
    stack
        .wait_for(&user, "param_config_tax/rate", Some("0.20"))
        .await?;
    stack.delete_item(&user.tenant, "featureFlagX").await?;
    stack
        .wait_for(&user, "tenant_config_featureFlagX", None)
        .await?;
    poll_until("no discount, default tax", async || {
        Ok(total().await?.as_deref() == Some("47.98"))
    })
    .await
}

#[tokio::test]
async fn orders_that_cannot_be_priced() -> anyhow::Result<()> {
    let stack = Stack::connect().await?;
    let user = stack.writer().await?;
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        (r#"{"lines": []}"#, 422),
        (r#"{"lines": [{}]}"#, 400),
        (
            r#"{"lines": [{"sku": "a", "quantity": 1, "unitPrice": "1"}], "tenantId": "A1B2C3D4"}"#,
            400,
        ),
        (
            r#"{"lines": [{"sku": "a", "quantity": 0, "unitPrice": "1"}]}"#,
            422,
        ),
        (
            r#"{"lines": [{"sku": "a", "quantity": -1, "unitPrice": "1"}]}"#,
            400,
        ),
        (
            r#"{"lines": [{"sku": "a", "quantity": 1, "unitPrice": "1e99"}]}"#,
            400,
        ),
    ] {
        let answer = stack
            .web
            .post(format!("{}/v1/orders", stack.order_url))
            .bearer_auth(&user.token)
            .body(body)
            .send()
            .await?;
        assert_eq!(answer.status().as_u16(), status, "{body}");
        assert_eq!(
            answer.headers()["content-type"],
            "application/problem+json",
            "{body}"
        );
    }
    let large = "x".repeat(300 * 1024);
    let answer = stack
        .web
        .post(format!("{}/v1/orders", stack.order_url))
        .bearer_auth(&user.token)
        .body(large)
        .send()
        .await?;
    assert_eq!(answer.status().as_u16(), 413);
    let unsigned = stack
        .web
        .post(format!("{}/v1/orders", stack.order_url))
        .body(ORDER)
        .send()
        .await?;
    assert_eq!(unsigned.status().as_u16(), 401);

    stack.put_item(&user.tenant, "orderLimits", "{half").await?;
    stack
        .wait_for(&user, "tenant_config_orderLimits", Some("{half"))
        .await?;
    // order-service has a copy of its own, which its watch brings up to date.
    poll_until("the order to be refused", async || {
        let answer = stack
            .web
            .post(format!("{}/v1/orders", stack.order_url))
            .bearer_auth(&user.token)
            .body(ORDER)
            .send()
            .await?;
        if answer.status().as_u16() != 502 {
            return Ok(false);
        }
        assert!(answer.text().await?.contains("tenant_config_orderLimits"));
        Ok(true)
    })
    .await
}
