//! Page tokens: opaque, authenticated, and without the tenant. A token works only for the tenant and prefix
//! that it was made for, on every replica that shares the refresh credential.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tagged_config_domain::TenantId;

const MAC_BYTES: usize = 16;

/// Makes and checks page tokens.
pub(crate) struct PageTokens {
    keys: Vec<Hmac<Sha256>>,
}

impl PageTokens {
    /// Keys derived from the current secret, which signs, and the previous one, which is still accepted.
    pub(crate) fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let derive = |secret: &str| {
            let mut kdf = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
            kdf.update(b"tagged-config page token v1");
            Hmac::new_from_slice(&kdf.finalize().into_bytes()).ok()
        };
        Self {
            keys: secrets.into_iter().filter_map(derive).collect(),
        }
    }

    /// A token for what follows this name.
    pub(crate) fn seal(&self, tenant: &TenantId, prefix: &str, after: &str) -> String {
        let Some(key) = self.keys.first() else {
            return String::new();
        };
        let mut bytes =
            mac(key, tenant, prefix, after).finalize().into_bytes()[..MAC_BYTES].to_vec();
        bytes.extend_from_slice(after.as_bytes());
        BASE64.encode(bytes)
    }

    /// The name to continue after, if the token was made for this tenant and prefix.
    pub(crate) fn open(&self, tenant: &TenantId, prefix: &str, token: &str) -> Option<String> {
        let bytes = BASE64.decode(token).ok()?;
        let (tag, after) = bytes.split_at_checked(MAC_BYTES)?;
        let after = std::str::from_utf8(after).ok()?;
        let genuine = self.keys.iter().any(|key| {
            mac(key, tenant, prefix, after)
                .verify_truncated_left(tag)
                .is_ok()
        });
        genuine.then(|| after.to_owned())
    }
}

fn mac(key: &Hmac<Sha256>, tenant: &TenantId, prefix: &str, after: &str) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in [tenant.as_str(), prefix, after] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac
}

#[cfg(test)]
mod tests {
    use tagged_config_testkit::Issuer;

    use super::*;

    #[test]
    fn a_token_is_bound_to_tenant_prefix_and_secret() {
        let issuer = Issuer::new();
        let (a, b) = (issuer.tenant("A1"), issuer.tenant("B2"));
        let tokens = PageTokens::new(["s1"]);
        let token = tokens.seal(&a, "tenant_config_", "x/y");
        assert_eq!(
            tokens.open(&a, "tenant_config_", &token).as_deref(),
            Some("x/y")
        );
        assert_eq!(tokens.open(&b, "tenant_config_", &token), None);
        assert_eq!(tokens.open(&a, "tenant_config_x", &token), None);
        assert_eq!(
            PageTokens::new(["s2"]).open(&a, "tenant_config_", &token),
            None
        );
        assert!(
            PageTokens::new(["s2", "s1"])
                .open(&a, "tenant_config_", &token)
                .is_some(),
            "rotation"
        );
        let decoded = BASE64.decode(&token).unwrap();
        assert!(!String::from_utf8_lossy(&decoded).contains("A1"));
        for forged in ["", "AAAA", "%%%", &BASE64.encode([0; 40]), &token[1..]] {
            assert_eq!(tokens.open(&a, "tenant_config_", forged), None, "{forged}");
        }
    }
}
