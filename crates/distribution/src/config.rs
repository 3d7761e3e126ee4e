//! What a client is told: registries, credentials, patience. Plain data; whoever makes it reads
//! files and the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::credentials::Credentials;

/// What is known of registries, by the name they have in references (`docker.io`,
/// `127.0.0.1:5000`). What is not listed is reached by https, loopback addresses by plain http.
pub type Registries = BTreeMap<String, RegistryConfig>;

/// How one registry is reached. The fields are those of `[registry."NAME"]` in `buildkitd.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Hosts to ask first, in this order, when something is pulled: `host[:port][/path]`. Each
    /// may have a configuration of its own.
    pub mirrors: Vec<String>,
    /// Plain http instead of https. Without a word, loopback addresses are reached by http.
    pub http: Option<bool>,
    /// Take any certificate; where there is no TLS at all, plain http.
    pub insecure: bool,
    /// PEM files with authorities to trust beside the system's. Read when first needed.
    pub ca: Vec<PathBuf>,
    /// Client certificates. Read when first needed.
    pub keypairs: Vec<KeyPair>,
}

/// PEM files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key.
    pub key: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
}

/// How long failures that may pass are put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Time without any progress after which an operation fails.
    pub deadline: Duration,
    /// Upper bound of the first pause; it doubles from pause to pause. The pause itself is
    /// chosen at random between nothing and the bound.
    pub first_pause: Duration,
    /// The bound never gets above this. A registry's own `Retry-After` may.
    pub longest_pause: Duration,
    /// How often a host that cannot be connected to is tried.
    pub connect_attempts: u32,
    /// Time without a byte in either direction after which a connection counts as broken.
    pub stall: Duration,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            deadline: Duration::from_secs(300),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            connect_attempts: 3,
            stall: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// Told to [`ClientOptions::on_retry`] before each pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryNotice {
    /// The host that failed.
    pub host: String,
    /// What was attempted.
    pub action: String,
    /// Why it failed.
    pub reason: String,
    /// How long the pause is.
    pub pause: Duration,
}

/// Everything that a [`crate::Client`] is told.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// Registries that need a word.
    pub registries: Registries,
    /// Who we are, where.
    pub credentials: Credentials,
    /// How long failures are put up with.
    pub retry: RetryPolicy,
    /// Value of the `User-Agent` header; empty sends none.
    pub user_agent: String,
    /// Is told of every pause.
    pub on_retry: Option<Arc<dyn Fn(RetryNotice) + Send + Sync>>,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions")
            .field("registries", &self.registries)
            .field("credentials", &self.credentials)
            .field("retry", &self.retry)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}
