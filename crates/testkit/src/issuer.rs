//! An issuer with keys of its own. Tenants in tests come from its tokens, verified as in production: there
//! is no other way to make one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair, KeySize, PublicKeyComponents},
    signature::KeyPair as _,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tagged_config_auth::{JwksError, JwksSource};
use tagged_config_domain::{Principal, SigningKeys, TenantId, TokenRules};

/// The `iss` of the tokens.
pub const ISSUER: &str = "https://issuer.test";
/// The `aud` of the tokens.
pub const AUDIENCE: &str = "test-client";

/// Signs tokens with an RSA key of its own.
pub struct Issuer {
    kid: String,
    key: EncodingKey,
    modulus: String,
    exponent: String,
}

/// A JWKS endpoint that a test controls.
#[derive(Clone, Default)]
pub struct SharedJwks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    document: Mutex<Option<String>>,
    fetches: AtomicU64,
}

/// What PKCS #8 puts before the PKCS #1 key (RFC 8017) that the signer wants, for 2048-bit keys.
const PKCS8_PREFIX: usize = 26;

static NEXT_KID: AtomicU64 = AtomicU64::new(1);

impl Issuer {
    /// An issuer with a fresh key.
    pub fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
        let pkcs8 = pair.as_der().expect("a key can be encoded");
        let parts = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        Self {
            kid: format!("kid-{}", NEXT_KID.fetch_add(1, Ordering::Relaxed)),
            key: EncodingKey::from_rsa_der(&pkcs8.as_ref()[PKCS8_PREFIX..]),
            modulus: URL_SAFE_NO_PAD.encode(parts.n),
            exponent: URL_SAFE_NO_PAD.encode(parts.e),
        }
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key's modulus, as in the JWKS.
    pub fn modulus(&self) -> &str {
        &self.modulus
    }

    /// The key as a JWK.
    pub fn jwk(&self) -> Value {
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": self.modulus, "e": self.exponent})
    }

    /// A JWKS with this key only.
    pub fn jwks(&self) -> String {
        json!({"keys": [self.jwk()]}).to_string()
    }

    /// The claims of a good token, to be changed and signed.
    pub fn claims(tenant: &str, role: &str) -> Value {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        json!({
            "iss": ISSUER, "aud": AUDIENCE, "token_use": "id", "sub": "user-1",
            "iat": now, "exp": now + 3_600, "custom:tenantId": tenant, "custom:userRole": role,
        })
    }

    /// Signs any claims.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.kid.clone());
        encode(&header, claims, &self.key).expect("claims can be signed")
    }

    /// A good token.
    pub fn token(&self, tenant: &str, role: &str) -> String {
        self.sign(&Self::claims(tenant, role))
    }

    /// A verified caller.
    pub fn principal(&self, tenant: &str, role: &str) -> Principal {
        let keys = SigningKeys::from_jwks(self.jwks().as_bytes()).expect("the JWKS is good");
        TokenRules::new(ISSUER, AUDIENCE)
            .verify(&self.token(tenant, role), &keys)
            .expect("the token is good")
    }

    /// A verified caller's tenant.
    pub fn tenant(&self, tenant: &str) -> TenantId {
        self.principal(tenant, "writer").tenant().clone()
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedJwks {
    /// An endpoint that answers with this document.
    pub fn of(document: String) -> Self {
        let jwks = Self::default();
        jwks.publish(document);
        jwks
    }

    /// Answers with this document from now on.
    pub fn publish(&self, document: String) {
        *self.0.document.lock().expect("not poisoned") = Some(document);
    }

    /// Fails from now on.
    pub fn go_down(&self) {
        *self.0.document.lock().expect("not poisoned") = None;
    }

    /// How often it was requested.
    pub fn fetches(&self) -> u64 {
        self.0.fetches.load(Ordering::SeqCst)
    }
}

impl JwksSource for SharedJwks {
    async fn fetch(&self) -> Result<SigningKeys, JwksError> {
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let document = self
            .0
            .document
            .lock()
            .expect("not poisoned")
            .clone()
            .ok_or(JwksError::Empty)?;
        Ok(SigningKeys::from_jwks(document.as_bytes())?)
    }
}
