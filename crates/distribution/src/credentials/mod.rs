//! Who we are, at which registry: given outright, or found as docker finds it.
//!
//! Nothing here looks for files: the content of a `config.json` and the folders of helper
//! programs are passed in.

mod docker;
mod edit;
mod helper;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use docker::DockerConfig;
pub use edit::DockerConfigEdit;

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What shows a registry who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password or access token.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token of the registry's token server.
    IdentityToken(Secret),
    /// A bearer token, sent as it is.
    RegistryToken(Secret),
}

/// Credentials by registry.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    given: BTreeMap<String, Credential>,
    docker: Option<Arc<DockerConfig>>,
}

/// Credentials that are there but cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file is no JSON of docker's form.
    #[error("read docker's config.json")]
    Config {
        /// Where and why.
        source: serde_json::Error,
    },
    /// The entry of a registry is not base64 of `name:password`.
    #[error("read docker's config.json: the entry of {registry} is not base64 of name:password")]
    Entry {
        /// The registry.
        registry: String,
    },
    /// A name that would leave the folders of programs.
    #[error("credential helper {helper:?}: not a name of a program")]
    HelperName {
        /// The name.
        helper: String,
    },
    /// There is no such program.
    #[error("find the credential helper docker-credential-{helper}")]
    NoHelper {
        /// The name.
        helper: String,
    },
    /// The program did not start, or its pipes broke.
    #[error("run the credential helper docker-credential-{helper}")]
    RunHelper {
        /// The name.
        helper: String,
        /// Why.
        source: std::io::Error,
    },
    /// The program failed, took too long, or said something else than credentials.
    #[error("the credential helper docker-credential-{helper} {problem}")]
    HelperFailed {
        /// The name.
        helper: String,
        /// What it did.
        problem: String,
    },
}

impl Credentials {
    /// None at all.
    pub fn none() -> Credentials {
        Credentials::default()
    }

    /// With `credential` for `registry`; it goes before what docker has.
    #[must_use]
    pub fn with(mut self, registry: impl Into<String>, credential: Credential) -> Credentials {
        self.given.insert(registry.into(), credential);
        self
    }

    /// With whatever docker has.
    #[must_use]
    pub fn with_docker(mut self, config: DockerConfig) -> Credentials {
        self.docker = Some(Arc::new(config));
        self
    }

    /// The credential for a registry by its name in references, or `None` where we are nobody.
    /// May run a program.
    ///
    /// # Errors
    /// When there is one but it cannot be had.
    pub(crate) async fn of(&self, registry: &str) -> Result<Option<Credential>, CredentialsError> {
        if let Some(credential) = self.given.get(registry) {
            return Ok(Some(credential.clone()));
        }
        match &self.docker {
            Some(config) => config.credential(registry).await,
            None => Ok(None),
        }
    }
}
