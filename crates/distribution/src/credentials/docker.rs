//! Docker's `config.json`, as far as it is about credentials.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Credential, CredentialsError, Secret, helper};

/// The content of docker's `config.json`. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    file: File,
    /// Where helper programs are looked for, in order.
    helper_folders: Vec<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
struct Entry {
    auth: Option<Hidden>,
    username: Option<String>,
    password: Option<Hidden>,
    identitytoken: Option<Hidden>,
    registrytoken: Option<Hidden>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
struct Hidden(Secret);

impl From<String> for Hidden {
    fn from(text: String) -> Hidden {
        Hidden(Secret::new(text))
    }
}

impl DockerConfig {
    /// Reads the file's content. Programs `docker-credential-NAME` are looked for in
    /// `helper_folders`, usually those of `PATH`.
    ///
    /// # Errors
    /// When it is no JSON of docker's form.
    pub fn parse(
        json: &[u8],
        helper_folders: Vec<PathBuf>,
    ) -> Result<DockerConfig, CredentialsError> {
        let file =
            serde_json::from_slice(json).map_err(|source| CredentialsError::Config { source })?;
        Ok(DockerConfig {
            file,
            helper_folders,
        })
    }

    /// A helper of the registry goes before the entry, which goes before the general store: an
    /// entry with content was written by hand or by `docker login` without a store.
    pub(super) async fn credential(
        &self,
        registry: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        let keys = keys_of(registry);
        if let Some(name) = keys.iter().find_map(|key| self.file.cred_helpers.get(key)) {
            return self.ask_helper(name, &keys).await;
        }
        for key in &keys {
            if let Some(entry) = self.entry(key)
                && let Some(credential) = entry.credential(registry)?
            {
                return Ok(Some(credential));
            }
        }
        match &self.file.creds_store {
            Some(name) if !name.is_empty() => self.ask_helper(name, &keys).await,
            _ => Ok(None),
        }
    }

    /// Keys may be host names or URLs: `https://host/v1/` is `host`.
    fn entry(&self, key: &str) -> Option<&Entry> {
        self.file.auths.get(key).or_else(|| {
            let mut entries = self.file.auths.iter();
            entries.find_map(|(written, entry)| (host_of(written) == host_of(key)).then_some(entry))
        })
    }

    async fn ask_helper(
        &self,
        name: &str,
        keys: &[String],
    ) -> Result<Option<Credential>, CredentialsError> {
        for key in keys {
            let found = helper::get(name, key, &self.helper_folders).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Entry {
    fn credential(&self, registry: &str) -> Result<Option<Credential>, CredentialsError> {
        let filled = |hidden: &Option<Hidden>| {
            let secret = hidden.as_ref().map(|Hidden(secret)| secret.clone());
            secret.filter(|secret| !secret.reveal().is_empty())
        };
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(token) = filled(&self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        if let Some(encoded) = filled(&self.auth) {
            let malformed = || CredentialsError::Entry {
                registry: registry.into(),
            };
            let decoded = STANDARD
                .decode(encoded.reveal().trim())
                .map_err(|_| malformed())?;
            let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
            let (username, password) = decoded.split_once(':').ok_or_else(malformed)?;
            // Docker pads with NUL bytes in some versions.
            let password = Secret::new(password.trim_end_matches('\0'));
            return Ok(Some(Credential::Password {
                username: username.into(),
                password,
            }));
        }
        Ok(match (&self.username, filled(&self.password)) {
            (Some(username), Some(password)) if !username.is_empty() => {
                Some(Credential::Password {
                    username: username.clone(),
                    password,
                })
            }
            _ => None,
        })
    }
}

/// The names under which credentials of a registry may be kept, likeliest first.
pub(super) fn keys_of(registry: &str) -> Vec<String> {
    let names: &[&str] = match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => &[
            "https://index.docker.io/v1/",
            "docker.io",
            "index.docker.io",
            "registry-1.docker.io",
        ],
        other => &[other],
    };
    names.iter().map(ToString::to_string).collect()
}

pub(super) fn host_of(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnMzY3JldDp4AAA="},
            "ghcr.io": {"identitytoken": "refresh-me"},
            "https://plain.example/v2/": {"username": "u", "password": "p"},
            "token.example": {"registrytoken": "bearer-me"},
            "empty.example": {},
            "bad.example": {"auth": "%%%"}
        },
        "credHelpers": {"helped.example": "missing", "evil.example": "../../bin/sh"},
        "HttpHeaders": {"X": "y"}
    }"#;

    async fn look_up(registry: &str) -> Result<Option<Credential>, CredentialsError> {
        DockerConfig::parse(CONFIG.as_bytes(), Vec::new())
            .expect("parses")
            .credential(registry)
            .await
    }

    fn password(username: &str, password: &str) -> Credential {
        Credential::Password {
            username: username.into(),
            password: Secret::new(password),
        }
    }

    #[tokio::test]
    async fn entries_are_found_under_every_name_of_a_registry() {
        #[track_caller]
        fn check(
            found: Result<Option<Credential>, CredentialsError>,
            expected: Option<Credential>,
        ) {
            assert_eq!(found.expect("no error"), expected);
        }
        check(
            look_up("docker.io").await,
            Some(password("hub", "s3cret:x")),
        );
        check(
            look_up("registry-1.docker.io").await,
            Some(password("hub", "s3cret:x")),
        );
        check(
            look_up("ghcr.io").await,
            Some(Credential::IdentityToken(Secret::new("refresh-me"))),
        );
        check(look_up("plain.example").await, Some(password("u", "p")));
        check(
            look_up("token.example").await,
            Some(Credential::RegistryToken(Secret::new("bearer-me"))),
        );
        check(look_up("empty.example").await, None);
        check(look_up("unknown.example").await, None);
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_an_error() {
        let error = look_up("bad.example")
            .await
            .expect_err("bad entry")
            .to_string();
        assert!(error.contains("bad.example"), "{error}");
        let error = look_up("helped.example")
            .await
            .expect_err("no program")
            .to_string();
        assert!(error.contains("docker-credential-missing"), "{error}");
        let error = look_up("evil.example")
            .await
            .expect_err("no name")
            .to_string();
        assert!(error.contains("not a name of a program"), "{error}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let config = DockerConfig::parse(CONFIG.as_bytes(), Vec::new()).expect("parses");
        let shown = format!("{config:?} {:?}", password("u", "hunter2"));
        for secret in ["aHVi", "refresh-me", "\"p\"", "bearer-me", "hunter2"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
