//! The refresh credential: fetched at cold start, and anew when a task no longer accepts it. During a rotation some
//! tasks know the new one only, and those not replaced yet the old one only: hence the parameter's version before is
//! known too.

use std::time::{Duration, Instant};

use anyhow::Context;
use aws_sdk_ssm::{Client, types::Parameter};
use tokio::sync::RwLock;
use tonic::metadata::{Ascii, MetadataValue};

/// The shortest time between two reads of the credential: every task that refuses one causes a read.
const REFETCH_INTERVAL: Duration = Duration::from_secs(5);

/// The credential as metadata; marked sensitive, so that it is never printed.
pub(crate) struct Credential {
    client: Client,
    parameter: String,
    known: RwLock<Option<Known>>,
}

/// What tasks may accept.
#[derive(Clone)]
pub(crate) struct Known {
    /// The newest.
    pub(crate) current: MetadataValue<Ascii>,
    /// The one before, if there was one.
    pub(crate) previous: Option<MetadataValue<Ascii>>,
    /// Whether the previous one was read.
    sought: bool,
    fetched: Instant,
}

impl Credential {
    /// Not fetched yet.
    pub(crate) fn new(client: Client, parameter: String) -> Self {
        Self {
            client,
            parameter,
            known: RwLock::new(None),
        }
    }

    /// A credential that is known from the start.
    #[cfg(test)]
    pub(crate) fn known(text: &'static str) -> Self {
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(aws_sdk_ssm::config::BehaviorVersion::latest())
            .build();
        let known = Known {
            current: MetadataValue::from_static(text),
            previous: None,
            sought: true,
            fetched: Instant::now(),
        };
        Self {
            client: Client::from_conf(config),
            parameter: "/credential".to_owned(),
            known: RwLock::new(Some(known)),
        }
    }

    /// The credential, fetched once.
    pub(crate) async fn get(&self) -> anyhow::Result<MetadataValue<Ascii>> {
        if let Some(known) = &*self.known.read().await {
            return Ok(known.current.clone());
        }
        Ok(self.fetch().await?.current)
    }

    /// Fetches it anew, with the one before; what was fetched a moment ago is given again.
    pub(crate) async fn fetch(&self) -> anyhow::Result<Known> {
        let mut slot = self.known.write().await;
        if let Some(known) = &*slot
            && known.sought
            && known.fetched.elapsed() < REFETCH_INTERVAL
        {
            return Ok(known.clone());
        }
        let newest = self.parameter(&self.parameter).await?;
        let before = newest.version() - 1;
        // Not at a cold start: most never need it.
        let sought = slot.is_some();
        let known = Known {
            current: metadata(&newest)?,
            previous: if sought && before > 0 {
                let selector = format!("{}:{before}", self.parameter);
                // Parameter Store forgets old versions: then nobody should accept it any more.
                let older = self.parameter(&selector).await.ok();
                older.as_ref().map(metadata).transpose()?
            } else {
                None
            },
            sought,
            fetched: Instant::now(),
        };
        *slot = Some(known.clone());
        Ok(known)
    }

    async fn parameter(&self, selector: &str) -> anyhow::Result<Parameter> {
        let answer = self
            .client
            .get_parameter()
            .name(selector)
            .with_decryption(true)
            .send()
            .await
            .with_context(|| format!("reading the refresh credential {selector}"))?;
        answer.parameter.context("the refresh credential is empty")
    }
}

fn metadata(parameter: &Parameter) -> anyhow::Result<MetadataValue<Ascii>> {
    let text = parameter.value().unwrap_or_default();
    let mut value: MetadataValue<Ascii> = text
        .parse()
        .context("the refresh credential is not printable ASCII")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ssm::config::{BehaviorVersion, Credentials, Region};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Parameter Store as it is on the wire, with version 3 of the credential and those before.
    async fn parameter_store() -> anyhow::Result<Client> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"}") {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let request = String::from_utf8_lossy(&request).into_owned();
                    let version = if request.contains("/credential:2") {
                        2
                    } else {
                        3
                    };
                    let body = format!(
                        r#"{{"Parameter": {{"Name": "/credential", "Value": "secret-{version}", "Version": {version}}}}}"#
                    );
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\n\
                         content-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(url)
            .build();
        Ok(Client::from_conf(config))
    }

    #[tokio::test]
    async fn during_a_rotation_the_one_before_is_known_too() -> anyhow::Result<()> {
        let credential = Credential::new(parameter_store().await?, "/credential".to_owned());
        assert_eq!(credential.get().await?, "secret-3");
        let known = credential.fetch().await?;
        assert_eq!(known.current, "secret-3");
        assert_eq!(known.previous.context("no previous one")?, "secret-2");
        assert!(!format!("{:?}", credential.get().await?).contains("secret"));
        Ok(())
    }
}
