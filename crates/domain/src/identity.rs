//! Who is calling. A [`TenantId`] has no public constructor: [`token::TokenRules::verify`] makes the
//! only ones there are, so a function that takes a `&TenantId` can be reached by verified callers only.

use std::{fmt, sync::Arc};

pub mod token;

/// The tenant that a verified token names: `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TenantId(Arc<str>);

/// What a caller may do, from the `custom:userRole` claim. Ordered: each role includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads the tenant's configuration. Also what a missing or unknown claim means.
    Reader,
    /// Also writes the tenant's own configuration.
    Writer,
    /// Also reads secrets.
    Admin,
}

/// A caller whose token was verified.
#[derive(Clone, Debug)]
pub struct Principal {
    tenant: TenantId,
    role: Role,
    subject: Arc<str>,
    expires_at: u64,
}

// === impl TenantId ===

impl TenantId {
    /// Longest accepted id, in characters.
    pub const MAX_LEN: usize = 64;

    /// The claim as a tenant, or `None` if it does not follow the grammar. Private on purpose.
    fn from_verified_claim(claim: &str) -> Option<Self> {
        let bytes = claim.as_bytes();
        let first = bytes.first()?;
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        (bytes.len() <= Self::MAX_LEN && first.is_ascii_alphanumeric() && bytes.iter().all(allowed))
            .then(|| Self(claim.into()))
    }

    /// A tenant of this crate's own tests.
    #[cfg(test)]
    pub(crate) fn of_test(claim: &str) -> Self {
        Self::from_verified_claim(claim).expect("a tenant id")
    }

    /// The id as it stands in the token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Role ===

impl Role {
    /// The role that the claim names; anything unknown gets the least.
    fn from_claim(claim: Option<&str>) -> Self {
        match claim {
            Some("admin") => Self::Admin,
            Some("writer") => Self::Writer,
            _ => Self::Reader,
        }
    }

    /// The claim's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        }
    }
}

// === impl Principal ===

impl Principal {
    /// The caller's tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What the caller may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The user (`sub` claim), for audit attributes.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Unix seconds at which the token ends.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_grammar() {
        let longest = "a".repeat(64);
        for good in ["A1B2C3D4", "a", "9", "a_b-c", longest.as_str()] {
            assert!(TenantId::from_verified_claim(good).is_some(), "{good}");
        }
        let too_long = "a".repeat(65);
        for bad in [
            "",
            "_a",
            "-a",
            "a/b",
            "a#b",
            "a b",
            "a.b",
            "ä",
            "a\n",
            "..",
            too_long.as_str(),
        ] {
            assert!(TenantId::from_verified_claim(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn roles_are_ordered_and_default_to_the_least() {
        assert!(Role::Reader < Role::Writer && Role::Writer < Role::Admin);
        for claim in [None, Some(""), Some("Admin"), Some("root")] {
            assert_eq!(Role::from_claim(claim), Role::Reader);
        }
        for role in [Role::Reader, Role::Writer, Role::Admin] {
            assert_eq!(Role::from_claim(Some(role.as_str())), role);
        }
    }
}
