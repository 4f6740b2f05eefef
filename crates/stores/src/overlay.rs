//! How the stores with shared defaults lay out their names: `tenants/<tenantId>/<name>` over `global/<name>`.

use crate::history::GLOBAL;
use tagged_config_domain::{Backend, ConfigKey, ConfigName, Layers, Location, TenantId};

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
        Location::shared_with(
            tenant,
            backend,
            (format!("{prefix}global/{name}"), String::new()),
        ),
    )
}

/// Whether this, from behind the prefix, is the place of a name.
pub(crate) fn holds_configuration(below: &str) -> bool {
    owner_and_name(below).is_some()
}

/// The partition of the history, and the name, of what lies there, from behind the prefix; `None` for what holds no
/// configuration.
pub fn owner_and_name(below: &str) -> Option<(String, &str)> {
    let (partition, name) = if let Some(name) = below.strip_prefix("global/") {
        (GLOBAL.to_owned(), name)
    } else {
        let (tenant, name) = below.strip_prefix("tenants/")?.split_once('/')?;
        (format!("TENANT#{tenant}"), name)
    };
    ConfigName::parse(name).ok().map(|_| (partition, name))
}

/// The same with the whole key.
pub(crate) fn key_at(tag: &str, place: Option<(String, &str)>) -> Option<(String, ConfigKey)> {
    let (partition, name) = place?;
    let key = ConfigKey::parse(&format!("{tag}_config_{name}"));
    Some((partition, key.ok()?))
}
