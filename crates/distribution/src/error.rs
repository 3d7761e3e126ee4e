//! What goes wrong with a registry. Texts name the host, the repository and what was attempted;
//! never a credential, a token, or the query of a URL.

use std::io;
use std::time::Duration;

use oci::Digest;
use reqwest::StatusCode;

/// An exchange with a registry that failed for good.
#[derive(Debug, thiserror::Error)]
#[error("{action} at {host}")]
pub struct RequestError {
    /// Host of the registry, with its port if any.
    pub host: String,
    /// What was attempted, with its values: `resolve library/busybox:1`.
    pub action: String,
    /// Why it failed, the last time.
    #[source]
    pub failure: RegistryFailure,
}

impl RequestError {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let host = &self.host;
        let failure = match &self.failure {
            RegistryFailure::Token { source, .. } => source,
            failure => failure,
        };
        match failure {
            RegistryFailure::Connect { .. } => Some(format!(
                "check that {host} is up and reachable from here; mirrors and plain http are \
                 configured under [registry.\"{host}\"]"
            )),
            RegistryFailure::Tls { .. } => Some(format!(
                "if {host} speaks plain http set `http = true`, if its certificate is signed by \
                 an authority of your own set `ca`, under [registry.\"{host}\"]"
            )),
            RegistryFailure::Unauthorized { offered: false, .. } => Some(format!(
                "there are no credentials for {host}: kiln login {host}"
            )),
            RegistryFailure::Unauthorized { offered: true, .. } => Some(format!(
                "the credentials for {host} were refused: kiln login {host}"
            )),
            RegistryFailure::Denied { .. } => Some(format!(
                "the account used at {host} may not do this; check its rights"
            )),
            RegistryFailure::Busy { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
                Some(format!(
                    "{host} limits requests: log in (kiln login {host}), use a mirror, or wait"
                ))
            }
            _ => None,
        }
    }

    /// Whether the registry said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self.failure, RegistryFailure::NotFound { .. })
    }
}

/// Why an exchange with a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryFailure {
    /// No connection: refused, unreachable, no such host.
    #[error("connect")]
    Connect {
        /// Why.
        source: reqwest::Error,
    },
    /// A connection, but no TLS on it that can be trusted.
    #[error("set up TLS")]
    Tls {
        /// Why.
        source: reqwest::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Broken {
        /// Why.
        source: reqwest::Error,
    },
    /// Nothing moved for too long.
    #[error("nothing was heard for {} seconds", after.as_secs())]
    Stalled {
        /// How long.
        after: Duration,
    },
    /// The registry wants to know who we are, or did not believe it.
    #[error("{}{registry}", if *offered { "credentials refused" } else { "credentials required" })]
    Unauthorized {
        /// Whether we said who we are.
        offered: bool,
        /// What the registry says.
        registry: RegistryMessage,
    },
    /// The registry knows who we are and refuses (status 403).
    #[error("denied{registry}")]
    Denied {
        /// What the registry says.
        registry: RegistryMessage,
    },
    /// There is no such thing (status 404).
    #[error("not found{registry}")]
    NotFound {
        /// What the registry says.
        registry: RegistryMessage,
    },
    /// The registry cannot now, but may later (status 408, 425, 429, 5xx).
    #[error("status {status}{registry}")]
    Busy {
        /// The status.
        status: StatusCode,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
        /// What the registry says.
        registry: RegistryMessage,
    },
    /// Any other status that is not what was asked for.
    #[error("status {status}{registry}")]
    Status {
        /// The status.
        status: StatusCode,
        /// What the registry says.
        registry: RegistryMessage,
    },
    /// An answer that breaks the distribution-spec.
    #[error("malformed answer: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// Redirected too often, or from https to http.
    #[error("follow a redirect")]
    Redirect {
        /// Why.
        source: reqwest::Error,
    },
    /// No token from the server that the registry sends us to.
    #[error("get a token from {server}")]
    Token {
        /// Host of that server.
        server: String,
        /// Why.
        source: Box<RegistryFailure>,
    },
    /// The credentials could not be had.
    #[error("get the credentials")]
    Credentials {
        /// Why.
        source: crate::credentials::CredentialsError,
    },
    /// A token ended while a stream went out; there is a new one for the next attempt.
    #[error("the token ended")]
    TokenEnded,
    /// The content hashes to something else than it was asked for by.
    #[error("the content {0}")]
    WrongDigest(Box<DigestMismatch>),
    /// The content is longer or shorter than its descriptor says.
    #[error("the content has {got} bytes, expected {expected}")]
    WrongSize {
        /// What the descriptor says.
        expected: u64,
        /// What came, or is announced, or how much came before it was too much.
        got: u64,
    },
    /// The content ended early, but for all we know there is more.
    #[error("the content ended after {got} of {expected} bytes")]
    Truncated {
        /// What the descriptor says.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// What is to be sent could not be read.
    #[error("read what is to be sent")]
    Source {
        /// Why.
        source: io::Error,
    },
    /// Our side of TLS could not be set up.
    #[error("set up the client: {what}")]
    Client {
        /// Why.
        what: String,
    },
}

/// Content that is not what it was asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestMismatch {
    /// What was asked for.
    pub expected: Digest,
    /// What the content hashes to.
    pub got: Digest,
}

impl std::fmt::Display for DigestMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "has digest {}, expected {}", self.got, self.expected)
    }
}

/// What a registry says in the body of an error, cut to a reasonable length; displays with a
/// leading colon, or as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryMessage {
    /// Its word for it: `MANIFEST_UNKNOWN` (distribution-spec, error codes).
    pub code: Option<String>,
    /// Its sentence.
    pub message: Option<String>,
}

impl RegistryMessage {
    /// Reads the JSON of the distribution-spec, or of a token server; anything else is nothing.
    pub(crate) fn parse(body: &[u8]) -> RegistryMessage {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let first = body.pointer("/errors/0").unwrap_or(&body);
        let text = |key: &str| {
            let text = first.get(key)?.as_str()?;
            let text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
            (!text.is_empty()).then_some(text)
        };
        RegistryMessage {
            code: text("code"),
            message: text("message").or_else(|| text("details")),
        }
    }
}

impl std::fmt::Display for RegistryMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.code, &self.message].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

/// Whether and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// It will not get better.
    Hopeless,
    /// It may be a hiccup, but more likely nobody is there.
    Slim,
    /// It will pass, after this long if that is known.
    Good(Option<Duration>),
}

impl RegistryFailure {
    pub(crate) fn wrong_digest(expected: Digest, got: Digest) -> RegistryFailure {
        RegistryFailure::WrongDigest(Box::new(DigestMismatch { expected, got }))
    }

    pub(crate) fn prospect(&self) -> Prospect {
        match self {
            RegistryFailure::Connect { .. } | RegistryFailure::Tls { .. } => Prospect::Slim,
            RegistryFailure::Broken { .. }
            | RegistryFailure::Stalled { .. }
            | RegistryFailure::Truncated { .. } => Prospect::Good(None),
            RegistryFailure::TokenEnded => Prospect::Good(Some(Duration::ZERO)),
            RegistryFailure::Busy { retry_after, .. } => Prospect::Good(*retry_after),
            RegistryFailure::Token { source, .. } => source.prospect(),
            _ => Prospect::Hopeless,
        }
    }

    /// Sorts an error of the HTTP client. Its URL may hold secrets and is dropped.
    pub(crate) fn of_transport(error: reqwest::Error) -> RegistryFailure {
        let source = error.without_url();
        if source.is_redirect() {
            RegistryFailure::Redirect { source }
        } else if is_tls(&source) {
            RegistryFailure::Tls { source }
        } else if source.is_connect() {
            RegistryFailure::Connect { source }
        } else {
            RegistryFailure::Broken { source }
        }
    }
}

/// The HTTP client does not tell TLS errors from others; the cause at the bottom does. What rustls
/// says ("invalid peer certificate", "received corrupt message") is an `io::Error` of kind
/// `InvalidData`; a server that hangs up on the handshake leaves one of kind `UnexpectedEof`.
fn is_tls(error: &reqwest::Error) -> bool {
    if !error.is_connect() {
        return false;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(is_handshake) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Looks into errors that are wrapped in errors: their `source` passes over the wrapped one.
fn is_handshake(error: &io::Error) -> bool {
    let wrapped = error
        .get_ref()
        .and_then(|wrapped| wrapped.downcast_ref::<io::Error>());
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    ) || wrapped.is_some_and(is_handshake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_registries_are_read_and_bounded() {
        #[track_caller]
        fn check(body: &str, text: &str) {
            assert_eq!(RegistryMessage::parse(body.as_bytes()).to_string(), text);
        }
        check("", "");
        check("<html>", "");
        check(r#"{"errors":[]}"#, "");
        check(
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#,
            ": NAME_UNKNOWN: repository name not known",
        );
        check(
            r#"{"errors":[{"code":"X","message":"\u001b[31m"}]}"#,
            ": X: [31m",
        );
        check(
            r#"{"details":"incorrect username or password"}"#,
            ": incorrect username or password",
        );
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(5000));
        assert_eq!(
            RegistryMessage::parse(long.as_bytes()).to_string().len(),
            302
        );
    }
}
