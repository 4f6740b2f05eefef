//! How the stores with shared defaults lay out their names: `tenants/<tenantId>/<name>` over `global/<name>`.

use tagged_config_domain::{Backend, ConfigName, Layers, Location, TenantId};

/// The places of a name, below a prefix that ends with a slash, or an empty one.
pub(crate) fn layers(
    tenant: &TenantId,
    backend: Backend,
    prefix: &str,
    name: ConfigName<'_>,
) -> Layers {
    let name = name.as_str();
    Layers::over(
        Location::owned_by(tenant, backend, |tenant| {
            (format!("{prefix}tenants/{tenant}/{name}"), String::new())
        }),
        Location::shared_with(tenant, backend, format!("{prefix}global/{name}")),
    )
}

/// Whether this, from behind the prefix, is the place of a name.
pub(crate) fn holds_configuration(below: &str) -> bool {
    below
        .strip_prefix("global/")
        .or_else(|| below.strip_prefix("tenants/")?.split_once('/').map(|t| t.1))
        .is_some_and(|name| ConfigName::parse(name).is_ok())
}
