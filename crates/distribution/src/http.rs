//! The HTTP client of one host: made when first needed, since reading the system's certificates
//! takes longer than a build where nothing changed.

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, ClientBuilder, Identity};

use crate::config::{RegistryConfig, RetryPolicy};
use crate::endpoint::Address;
use crate::error::RegistryFailure;

const MAX_REDIRECTS: usize = 10;

/// Makes the client for `address`.
///
/// # Errors
/// When a certificate or key cannot be read.
pub(crate) fn client(
    address: &Address,
    config: &RegistryConfig,
    retry: &RetryPolicy,
    user_agent: &str,
) -> Result<reqwest::Client, RegistryFailure> {
    let authorities = read_authorities(config)?;
    let identities = read_identities(config)?;
    let builder = || {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(retry.connect_timeout)
            .referer(false)
            .http2_adaptive_window(true)
            .tls_danger_accept_invalid_certs(config.insecure);
        if !user_agent.is_empty() {
            builder = builder.user_agent(user_agent);
        }
        // The proxy of the environment is on the way to other machines only.
        if address.is_loopback() {
            builder = builder.no_proxy();
        }
        identities
            .iter()
            .cloned()
            .fold(builder, ClientBuilder::identity)
    };
    trusting(builder, &authorities).map_err(|error| RegistryFailure::Client {
        what: error.without_url().to_string(),
    })
}

/// Makes a client that trusts the machine's certificate authorities and these, and follows no
/// redirect from https to http. A machine without any authorities (an image made from scratch) would
/// get no client at all, not even for plain HTTP: there it trusts Mozilla's.
///
/// # Errors
/// When TLS cannot be set up.
pub fn trusting(
    builder: impl Fn() -> ClientBuilder,
    authorities: &[Certificate],
) -> reqwest::Result<reqwest::Client> {
    let authorities = || authorities.iter().cloned();
    let builder = || builder().redirect(Policy::custom(redirect));
    builder()
        .tls_certs_merge(authorities())
        .build()
        .or_else(|_| {
            let own = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
            let own = own.iter().filter_map(|der| Certificate::from_der(der).ok());
            builder().tls_certs_only(own.chain(authorities())).build()
        })
}

/// Follows redirects as browsers do, but never from https to http. The HTTP client drops the
/// credentials when the host changes.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let downgrade = attempt.url().scheme() == "http"
        && attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
    if downgrade {
        attempt.error("redirected from https to http")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("redirected too often")
    } else {
        attempt.follow()
    }
}

fn read_authorities(config: &RegistryConfig) -> Result<Vec<Certificate>, RegistryFailure> {
    let mut authorities = Vec::new();
    for path in &config.ca {
        let bad = |why: String| RegistryFailure::Client {
            what: format!("read the authorities in {}: {why}", path.display()),
        };
        let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        let read = Certificate::from_pem_bundle(&pem).map_err(|error| bad(error.to_string()))?;
        authorities.extend(read);
    }
    Ok(authorities)
}

fn read_identities(config: &RegistryConfig) -> Result<Vec<Identity>, RegistryFailure> {
    let mut identities = Vec::new();
    for pair in &config.keypairs {
        let bad = |why: String| RegistryFailure::Client {
            what: format!("read the client certificate {}: {why}", pair.cert.display()),
        };
        let mut pem = std::fs::read(&pair.key).map_err(|error| bad(error.to_string()))?;
        pem.push(b'\n');
        pem.extend(std::fs::read(&pair.cert).map_err(|error| bad(error.to_string()))?);
        identities.push(Identity::from_pem(&pem).map_err(|error| bad(error.to_string()))?);
    }
    Ok(identities)
}
