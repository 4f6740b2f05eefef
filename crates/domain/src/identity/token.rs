//! The verification of a Cognito ID token: pure, no I/O. Fetching keys and remembering verified tokens
//! is the auth crate's work.
//!
//! Rules: <https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-tokens-verifying-a-jwt.html>

use std::collections::HashMap;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use thiserror::Error;

use super::{Principal, Role, TenantId};

/// Longest token that is read, in bytes. Cognito's are about 1 KiB.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Longest `kid` that is looked up, in bytes.
const MAX_KID_BYTES: usize = 128;
/// Most keys that are taken from one JWKS. Cognito publishes two.
const MAX_KEYS: usize = 32;

/// The issuer's RS256 public keys by `kid`.
#[derive(Default)]
pub struct SigningKeys(HashMap<String, (DecodingKey, KeyMaterial)>);

type KeyMaterial = (String, String);

/// What a token must say to be accepted.
#[derive(Clone, Debug)]
pub struct TokenRules {
    validation: Validation,
}

/// Why a token was refused. For logs only: callers see no more than "unauthenticated".
#[derive(Debug, Error)]
pub enum TokenError {
    /// Not a JWT, too long, or its claims are not of the right types.
    #[error("the token is malformed")]
    Malformed(#[source] Option<jsonwebtoken::errors::Error>),
    /// Signed with something else than RS256.
    #[error("the token's algorithm is not RS256")]
    Algorithm,
    /// No key of that id is known; it may have been added since the keys were fetched.
    #[error("no signing key has the token's kid")]
    UnknownKey,
    /// The signature, issuer, audience or a time does not hold.
    #[error("the token does not verify")]
    Refused(#[source] jsonwebtoken::errors::Error),
    /// Not an ID token.
    #[error("token_use is not \"id\"")]
    TokenUse,
    /// `custom:tenantId` is missing or does not follow the grammar.
    #[error("custom:tenantId is missing or malformed")]
    Tenant,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: u64,
    token_use: Option<String>,
    #[serde(rename = "custom:tenantId")]
    tenant_id: Option<String>,
    #[serde(rename = "custom:userRole")]
    user_role: Option<String>,
}

// === impl SigningKeys ===

impl SigningKeys {
    /// The usable keys of a JWKS document (RFC 7517): RSA, for signatures, RS256. Others are passed over.
    pub fn from_jwks(json: &[u8]) -> Result<Self, serde_json::Error> {
        let set: JwkSet = serde_json::from_slice(json)?;
        let mut keys = HashMap::new();
        for jwk in set.keys.iter().take(MAX_KEYS) {
            let AlgorithmParameters::RSA(rsa) = &jwk.algorithm else {
                continue;
            };
            let for_signatures = matches!(
                jwk.common.public_key_use,
                None | Some(PublicKeyUse::Signature)
            );
            let rs256 = matches!(jwk.common.key_algorithm, None | Some(KeyAlgorithm::RS256));
            let (Some(kid), true, true) = (&jwk.common.key_id, for_signatures, rs256) else {
                continue;
            };
            if let Ok(key) = DecodingKey::from_jwk(jwk) {
                keys.insert(kid.clone(), (key, (rsa.n.clone(), rsa.e.clone())));
            }
        }
        Ok(Self(keys))
    }

    /// Whether there is no usable key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both sets hold the same keys under the same ids.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .all(|(kid, (_, material))| other.0.get(kid).is_some_and(|(_, m)| m == material))
    }
}

// === impl TokenRules ===

impl TokenRules {
    /// Accepts ID tokens of this issuer (`iss`) for this app client (`aud`), with no leeway on `exp`.
    pub fn new(issuer: &str, audience: &str) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 0;
        // A token is not accepted on its last second either (RFC 7519, section 4.1.4).
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        Self { validation }
    }

    /// The caller that the token proves. The only place where a [`TenantId`] is made.
    pub fn verify(&self, token: &str, keys: &SigningKeys) -> Result<Principal, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed(None));
        }
        let header = decode_header(token).map_err(|e| TokenError::Malformed(Some(e)))?;
        if header.alg != Algorithm::RS256 {
            return Err(TokenError::Algorithm);
        }
        let kid = header
            .kid
            .filter(|kid| kid.len() <= MAX_KID_BYTES)
            .ok_or(TokenError::Malformed(None))?;
        let (key, _) = keys.0.get(&kid).ok_or(TokenError::UnknownKey)?;
        let claims = decode::<Claims>(token, key, &self.validation)
            .map_err(TokenError::Refused)?
            .claims;
        if claims.token_use.as_deref() != Some("id") {
            return Err(TokenError::TokenUse);
        }
        let tenant = claims
            .tenant_id
            .as_deref()
            .and_then(TenantId::from_verified_claim)
            .ok_or(TokenError::Tenant)?;
        Ok(Principal {
            tenant,
            role: Role::from_claim(claims.user_role.as_deref()),
            subject: claims.sub.unwrap_or_default().into(),
            expires_at: claims.exp,
        })
    }
}
