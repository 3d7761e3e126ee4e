//! Changes to docker's `config.json`: what `docker login` and `docker logout` do to it. Everything
//! else in the file stays.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::docker::{host_of, keys_of};
use super::helper::Helper;
use super::{CredentialsError, Secret};

/// A `config.json` to be changed.
#[derive(Debug)]
pub struct DockerConfigEdit {
    file: Map<String, Value>,
    helper_folders: Vec<PathBuf>,
}

impl DockerConfigEdit {
    /// Reads the file's content; nothing is an empty file. Programs `docker-credential-NAME` are
    /// looked for in `helper_folders`.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn parse(
        json: &[u8],
        helper_folders: Vec<PathBuf>,
    ) -> Result<DockerConfigEdit, CredentialsError> {
        let file = match json.trim_ascii() {
            [] => Map::new(),
            json => serde_json::from_slice(json)
                .map_err(|source| CredentialsError::Config { source })?,
        };
        Ok(DockerConfigEdit {
            file,
            helper_folders,
        })
    }

    /// Remembers who we are at a registry: in the helper program that the file names for it, else
    /// in the file itself, in base64. Gives the helper's name, if there is one.
    ///
    /// # Errors
    /// When the helper program does not take it.
    pub fn remember(
        &mut self,
        registry: &str,
        username: &str,
        password: &Secret,
    ) -> Result<Option<String>, CredentialsError> {
        let keys = keys_of(registry);
        self.drop_entries(&keys);
        let helper = self.helper(&keys);
        let entry = match &helper {
            Some(name) => {
                Helper::find(name, &self.helper_folders)?.store(&keys[0], username, password)?;
                // Docker leaves an empty entry, and lists by it who is logged in where.
                Value::Object(Map::new())
            }
            None => {
                let pair = STANDARD.encode(format!("{username}:{}", password.reveal()));
                serde_json::json!({ "auth": pair })
            }
        };
        let auths = self
            .file
            .entry("auths")
            .or_insert_with(|| Map::new().into());
        if let Value::Object(auths) = auths {
            auths.insert(keys[0].clone(), entry);
        }
        Ok(helper)
    }

    /// Forgets who we are at a registry. Whether the file knew.
    ///
    /// # Errors
    /// When a helper program that the file names for the registry fails.
    pub fn forget(&mut self, registry: &str) -> Result<bool, CredentialsError> {
        let keys = keys_of(registry);
        if let Some(name) = self.helper(&keys) {
            let helper = Helper::find(&name, &self.helper_folders)?;
            for key in &keys {
                helper.erase(key)?;
            }
        }
        Ok(self.drop_entries(&keys))
    }

    /// The file's content, for its next reader.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = format!("{:#}", Value::from(self.file.clone()));
        json.push('\n');
        json.into_bytes()
    }

    fn helper(&self, keys: &[String]) -> Option<String> {
        let text = |value: &Value| value.as_str().map(String::from);
        let own = self.file.get("credHelpers").and_then(|helpers| {
            let named = keys.iter().find_map(|key| helpers.get(key));
            named.and_then(text)
        });
        let general = || self.file.get("credsStore").and_then(text);
        own.or_else(general).filter(|name| !name.is_empty())
    }

    /// Removes what is said of a registry under any of its names. Whether there was something.
    fn drop_entries(&mut self, keys: &[String]) -> bool {
        let Some(Value::Object(auths)) = self.file.get_mut("auths") else {
            return false;
        };
        let before = auths.len();
        auths.retain(|written, _| !keys.iter().any(|key| host_of(written) == host_of(key)));
        auths.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn edit(json: &str) -> DockerConfigEdit {
        DockerConfigEdit::parse(json.as_bytes(), Vec::new()).expect("parses")
    }

    #[track_caller]
    fn check(edit: &DockerConfigEdit, expected: &str) {
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        let found: Value = serde_json::from_slice(&edit.to_json()).expect("JSON");
        assert_eq!(found, expected);
    }

    #[test]
    fn entries_come_and_go_and_the_rest_stays() {
        let mut config =
            edit(r#"{"HttpHeaders": {"X": "y"}, "auths": {"docker.io": {"auth": "b2xk"}}}"#);
        let secret = Secret::new("p:w");
        assert_eq!(
            config.remember("docker.io", "me", &secret).expect("kept"),
            None
        );
        check(
            &config,
            r#"{"HttpHeaders": {"X": "y"}, "auths": {"https://index.docker.io/v1/": {"auth": "bWU6cDp3"}}}"#,
        );
        config.remember("ghcr.io", "me", &secret).expect("kept");
        assert!(config.forget("docker.io").expect("forgotten"));
        assert!(!config.forget("docker.io").expect("forgotten"));
        check(
            &config,
            r#"{"HttpHeaders": {"X": "y"}, "auths": {"ghcr.io": {"auth": "bWU6cDp3"}}}"#,
        );
        let mut empty = edit("");
        empty
            .remember("localhost:5000", "me", &secret)
            .expect("kept");
        check(
            &empty,
            r#"{"auths": {"localhost:5000": {"auth": "bWU6cDp3"}}}"#,
        );
    }

    #[test]
    fn a_helper_keeps_what_the_file_would() {
        let folder = tempfile::tempdir().expect("folder");
        let program = folder.path().join("docker-credential-demo");
        let kept = folder.path().join("kept");
        let script = format!(
            "#!/bin/sh\n{{ echo $1; cat; echo; }} >> {}\n",
            kept.display()
        );
        std::fs::write(&program, script).expect("script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let json = br#"{"credHelpers": {"ghcr.io": "demo"}}"#;
        let mut config = DockerConfigEdit::parse(json, vec![folder.path().into()]).expect("parses");
        let helper = config
            .remember("ghcr.io", "me", &Secret::new("pw"))
            .expect("kept");
        assert_eq!(helper.as_deref(), Some("demo"));
        check(
            &config,
            r#"{"auths": {"ghcr.io": {}}, "credHelpers": {"ghcr.io": "demo"}}"#,
        );
        assert!(config.forget("ghcr.io").expect("forgotten"));
        assert_eq!(
            std::fs::read_to_string(&kept).expect("ran"),
            "store\n{\"Secret\":\"pw\",\"ServerURL\":\"ghcr.io\",\"Username\":\"me\"}\nerase\nghcr.io\n"
        );
    }
}
