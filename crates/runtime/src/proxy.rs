//! What is never reached through a proxy. `HTTP_PROXY` and `HTTPS_PROXY` are for the world outside: a local stack, an emulator
//! and addresses of a private network are called directly, whatever `NO_PROXY` says.

use std::net::IpAddr;

/// Whether a URL's host is this machine, or an address of a private network.
pub fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => {
            let host = host.to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// The AWS SDK's settings, without a proxy if their endpoint [is local](is_local): an emulator.
#[cfg(feature = "aws")]
pub fn direct_to_emulator(sdk: aws_config::SdkConfig) -> aws_config::SdkConfig {
    use aws_smithy_http_client::{
        Builder,
        tls::{Provider, rustls_provider::CryptoMode},
    };

    if !sdk.endpoint_url().is_some_and(is_local_url) {
        return sdk;
    }
    // Unlike the SDK's own, this client takes no proxy from the environment.
    let client = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build_https();
    sdk.into_builder().http_client(client).build()
}

#[cfg(feature = "aws")]
fn is_local_url(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    is_local(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_private_addresses_are_local() {
        for local in [
            "127.0.0.1",
            "127.80.39.3",
            "localhost",
            "LOCALHOST",
            "x.localhost",
            "10.213.4.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "[::1]",
            "::1",
            "fd00::1",
        ] {
            assert!(is_local(local), "{local}");
        }
        for remote in [
            "api.example.com",
            "52.1.2.3",
            "172.32.0.1",
            "2600::1",
            "localhost.evil.test",
            "",
        ] {
            assert!(!is_local(remote), "{remote}");
        }
    }

    #[cfg(feature = "aws")]
    #[test]
    fn an_emulators_url_is_local_and_awss_are_not() {
        for local in [
            "http://127.0.0.1:4566",
            "http://localhost:4566/",
            "http://[::1]:4566",
            "http://10.213.0.1",
        ] {
            assert!(is_local_url(local), "{local}");
        }
        for remote in [
            "https://dynamodb.us-east-1.amazonaws.com",
            "https://vpce-1.example.com:443/",
        ] {
            assert!(!is_local_url(remote), "{remote}");
        }
    }
}
