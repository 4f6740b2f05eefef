//! The callers' tokens: signed in once, exchanged for new ones before they expire.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{StreamExt, stream};
use parking_lot::RwLock;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tonic::metadata::{Ascii, MetadataValue};

use crate::accounts::{Accounts, Session};

/// A token is exchanged so long before it expires.
const EARLY: Duration = Duration::from_mins(5);
/// Tokens that are exchanged at once.
const AT_ONCE: usize = 8;
/// How often expiries are checked.
const CHECK_EVERY: Duration = Duration::from_secs(20);

/// A caller: a tenant and its present token.
pub(crate) struct Caller {
    /// The tenant's id.
    pub(crate) tenant: Arc<str>,
    present: RwLock<Arc<Token>>,
    refresh_token: RwLock<Option<String>>,
}

/// A token as both transports want it.
pub(crate) struct Token {
    /// For gRPC.
    pub(crate) metadata: MetadataValue<Ascii>,
    /// For HTTP.
    pub(crate) header: HeaderValue,
    expires: u64,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
    #[serde(rename = "custom:tenantId")]
    tenant: String,
}

impl Caller {
    /// Signed in as this tenant's user.
    pub(crate) async fn sign_in(accounts: &Accounts, tenant: &str) -> anyhow::Result<Self> {
        Self::new(tenant.into(), accounts.sign_in(tenant).await?)
    }

    /// The bearers of the tokens in a file, one per line; they are not renewed.
    pub(crate) fn from_file(file: &Path) -> anyhow::Result<Vec<Arc<Self>>> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let now = unix_seconds();
        let bearer = |line: &str| {
            let claims = claims(line)
                .with_context(|| format!("{} does not hold ID tokens", file.display()))?;
            if claims.exp <= now {
                bail!(
                    "a token in {} expired {} s ago: sign in again",
                    file.display(),
                    now - claims.exp
                );
            }
            let session = Session {
                id_token: line.to_owned(),
                refresh_token: None,
            };
            Ok(Arc::new(Self::new(claims.tenant.into(), session)?))
        };
        let callers = text
            .split_whitespace()
            .map(bearer)
            .collect::<anyhow::Result<Vec<_>>>()?;
        anyhow::ensure!(!callers.is_empty(), "{} is empty", file.display());
        Ok(callers)
    }

    fn new(tenant: Arc<str>, session: Session) -> anyhow::Result<Self> {
        Ok(Self {
            tenant,
            present: RwLock::new(Arc::new(Token::new(&session.id_token)?)),
            refresh_token: RwLock::new(session.refresh_token),
        })
    }

    /// The present token.
    pub(crate) fn token(&self) -> Arc<Token> {
        Arc::clone(&self.present.read())
    }

    async fn renew(&self, accounts: &Accounts) -> anyhow::Result<()> {
        let refresh_token = self.refresh_token.read().clone();
        let session = match refresh_token {
            Some(token) => match accounts.refresh(&token).await {
                Ok(session) => session,
                Err(_) => accounts.sign_in(&self.tenant).await?,
            },
            None => return Ok(()),
        };
        *self.present.write() = Arc::new(Token::new(&session.id_token)?);
        if session.refresh_token.is_some() {
            *self.refresh_token.write() = session.refresh_token;
        }
        Ok(())
    }
}

impl Token {
    /// Of an ID token, which is not verified here.
    pub(crate) fn new(id_token: &str) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {id_token}");
        let mut metadata: MetadataValue<Ascii> = bearer
            .parse()
            .ok()
            .context("the token is not printable ASCII")?;
        metadata.set_sensitive(true);
        let mut header = HeaderValue::from_str(&bearer)?;
        header.set_sensitive(true);
        Ok(Self {
            metadata,
            header,
            expires: claims(id_token)?.exp,
        })
    }
}

/// Exchanges tokens before they expire, for as long as it runs. A failure is tried again, and shows as refused calls.
pub(crate) async fn keep_fresh(accounts: Arc<Accounts>, callers: Vec<Arc<Caller>>) {
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        let soon = unix_seconds() + EARLY.as_secs();
        let due = callers
            .iter()
            .filter(|caller| caller.token().expires < soon);
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, async |caller| {
                if let Err(error) = caller.renew(&accounts).await {
                    eprintln!(
                        "warning: the token of tenant {} could not be renewed: {error:#}",
                        caller.tenant
                    );
                }
            })
            .await;
    }
}

/// The tenant of a bearer's token, unverified.
pub(crate) fn tenant_of(authorization: &str) -> Option<String> {
    let id_token = authorization.strip_prefix("Bearer ")?;
    Some(claims(id_token).ok()?.tenant)
}

/// The claims, unverified: what the token says of itself to its own bearer.
fn claims(id_token: &str) -> anyhow::Result<Claims> {
    let payload = id_token
        .split('.')
        .nth(1)
        .filter(|_| id_token.split('.').count() == 3);
    let payload = payload.context("a JWT has three parts")?;
    let json = URL_SAFE_NO_PAD
        .decode(payload)
        .ok()
        .context("its second part is not base64url")?;
    serde_json::from_slice(&json)
        .ok()
        .context("it has no exp or no custom:tenantId (an access token?)")
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn in_a_file(token: &str) -> anyhow::Result<Vec<Arc<Caller>>> {
        let file = std::env::temp_dir().join(format!("{}.jwt", uuid::Uuid::new_v4()));
        std::fs::write(&file, format!("{token}\n"))?;
        let caller = Caller::from_file(&file);
        std::fs::remove_file(file)?;
        caller
    }

    /// A file with a token of each of these tenants. It is removed after the test.
    pub(crate) struct TokenFile(std::path::PathBuf);

    impl TokenFile {
        pub(crate) fn new(tenants: &[&str]) -> Self {
            let file = std::env::temp_dir().join(format!("{}.tokens", uuid::Uuid::new_v4()));
            let line = |tenant: &&str| {
                token(&format!(
                    r#"{{"exp": 99999999999, "custom:tenantId": "{tenant}"}}"#
                ))
            };
            let lines: Vec<String> = tenants.iter().map(line).collect();
            std::fs::write(&file, lines.join("\n")).unwrap();
            Self(file)
        }

        pub(crate) fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for TokenFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// Callers of these tenants.
    pub(crate) fn callers(tenants: &[&str]) -> Vec<Arc<Caller>> {
        Caller::from_file(&TokenFile::new(tenants).0).unwrap()
    }

    /// Of nobody: no signature that anyone would accept.
    pub(crate) fn token(payload: &str) -> String {
        format!("eyJhIjoxfQ.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_token_names_its_tenant_and_must_be_valid_yet() {
        let good = token(r#"{"exp": 99999999999, "custom:tenantId": "lt-00001"}"#);
        assert_eq!(&*in_a_file(&good).unwrap()[0].tenant, "lt-00001");
        let other = token(r#"{"exp": 99999999999, "custom:tenantId": "lt-00002"}"#);
        let both = in_a_file(&format!("{good}\n{other}")).unwrap();
        assert_eq!((both.len(), &*both[1].tenant), (2, "lt-00002"));
        let says = |token: &str| format!("{:#}", in_a_file(token).err().unwrap());
        assert!(says(&token(r#"{"exp": 1, "custom:tenantId": "lt-1"}"#)).contains("expired"));
        assert!(says(&token(r#"{"exp": 99999999999}"#)).contains("access token"));
        assert!(says("").contains("is empty"));
        assert!(says("nonsense").contains("three parts"));
        assert!(says("a.%%.c").contains("base64url"));
    }
}
