//! A gate that admits everything, for tests that are not about admission.

use tagged_config_domain::{Admitted, Gate, Quota, Resource, TenantId};

/// An operation of this tenant, admitted.
pub fn admitted(tenant: &TenantId) -> Admitted {
    const UNLIMITED: Quota = Quota {
        per_second: u32::MAX,
        burst: u32::MAX,
    };
    Gate::new([(Resource::Requests, UNLIMITED)], u64::MAX)
        .admit(tenant, Resource::Requests, 1)
        .expect("the quota is large")
}
