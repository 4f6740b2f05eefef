//! Where a configuration lies in its backend. A [`LocationId`] names such a place (cache keys, change
//! events); a [`Location`] is a place that may be read, and only a [`TenantId`] can make one.

use std::fmt;

use crate::TenantId;

/// The name of a backend, as responses give it in `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backend(pub &'static str);

/// A place in a backend: DynamoDB's partition and sort key, or a parameter's path with no sort key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LocationId {
    backend: Backend,
    partition: Box<str>,
    sort: Box<str>,
}

/// Whose value a location holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The tenant's own.
    Tenant,
    /// A default that all tenants share.
    Global,
}

/// A place that a verified caller may read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    id: LocationId,
    owner: Option<TenantId>,
}

/// The places where one key of one tenant may lie: the first that holds a value answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    own: Location,
    shared: Option<Location>,
}

// === impl Backend ===

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

// === impl LocationId ===

impl LocationId {
    /// The place that these parts name.
    pub fn new(
        backend: Backend,
        partition: impl Into<Box<str>>,
        sort: impl Into<Box<str>>,
    ) -> Self {
        Self {
            backend,
            partition: partition.into(),
            sort: sort.into(),
        }
    }

    /// The backend it lies in.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Partition key or path.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// Sort key, or empty.
    pub fn sort(&self) -> &str {
        &self.sort
    }

    /// What it takes in memory beyond its own struct, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.partition.len() + self.sort.len()
    }
}

impl fmt::Debug for LocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for LocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.backend, self.partition)?;
        if self.sort.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.sort)
        }
    }
}

// === impl Origin ===

impl Origin {
    /// As responses spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Global => "global",
        }
    }
}

// === impl Location ===

impl Location {
    /// The caller's own place. The strategy forms the parts from the tenant it is given.
    pub fn owned_by(
        tenant: &TenantId,
        backend: Backend,
        parts: impl FnOnce(&TenantId) -> (String, String),
    ) -> Self {
        let (partition, sort) = parts(tenant);
        Self {
            id: LocationId::new(backend, partition, sort),
            owner: Some(tenant.clone()),
        }
    }

    /// A place that every verified caller may read.
    pub fn shared_with(
        _tenant: &TenantId,
        backend: Backend,
        (partition, sort): (String, String),
    ) -> Self {
        Self {
            id: LocationId::new(backend, partition, sort),
            owner: None,
        }
    }

    /// The place's name.
    pub fn id(&self) -> &LocationId {
        &self.id
    }

    /// Whose value it is.
    pub fn origin(&self) -> Origin {
        match self.owner {
            Some(_) => Origin::Tenant,
            None => Origin::Global,
        }
    }

    /// Who owns it; nobody, if all share it.
    pub fn owner(&self) -> Option<&TenantId> {
        self.owner.as_ref()
    }
}

// === impl Layers ===

impl Layers {
    /// Only the tenant's own place.
    pub fn own(own: Location) -> Self {
        Self { own, shared: None }
    }

    /// The tenant's own place over a shared default.
    pub fn over(own: Location, shared: Location) -> Self {
        Self {
            own,
            shared: Some(shared),
        }
    }

    /// The tenant's own place.
    pub fn first(&self) -> &Location {
        &self.own
    }

    /// All locations, in the order in which they are read.
    pub fn iter(&self) -> impl Iterator<Item = &Location> {
        std::iter::once(&self.own).chain(&self.shared)
    }
}
