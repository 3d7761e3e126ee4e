//! Logging in to a registry: the credentials are tried, then kept where docker keeps them, so that
//! both tools know them. Needs no store.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use distribution::{Credential, Credentials, DockerConfigEdit, Secret};

use crate::error::BuildError;
use crate::net::Net;
use crate::{RegistryOptions, client_options};

/// The registry that is meant when none is named.
const HUB: &str = "docker.io";

/// Where registries are described and credentials kept.
#[derive(Debug)]
pub struct Registries {
    /// How registries are reached, by host.
    pub options: BTreeMap<String, RegistryOptions>,
    /// Files with credentials in docker's form. The first that exists is changed; if none does,
    /// the first is made.
    pub credentials: Vec<PathBuf>,
    /// Directories that credential helpers are looked for in.
    pub helper_folders: Vec<PathBuf>,
}

/// What a login left behind.
#[derive(Debug)]
pub struct Login {
    /// The registry, as credentials are kept under.
    pub registry: String,
    /// The file that names it.
    pub file: PathBuf,
    /// The credential helper that has the password, if it is not in the file.
    pub helper: Option<String>,
}

/// Tries a name and password at a registry, Docker Hub if none is named, and keeps them.
///
/// # Errors
/// When the registry does not take them or does not answer, or they cannot be kept. Then nothing
/// has changed.
pub fn login(
    registries: Registries,
    registry: Option<&str>,
    username: &str,
    password: &str,
) -> Result<Login, BuildError> {
    let registry = host(registry);
    let password = Secret::new(password);
    let credential = Credential::Password {
        username: username.into(),
        password: password.clone(),
    };
    let credentials = Credentials::none().with(&registry, credential);
    let net = Net::new(client_options(registries.options, credentials));
    let attempt = || format!("log in to {registry}");
    net.wait(net.client().check_credentials(&registry))
        .map_err(|error| BuildError::store(attempt(), error))?;
    let file = file(&registries.credentials)?;
    let mut config = read(&file, registries.helper_folders)?;
    let helper = config
        .remember(&registry, username, &password)
        .map_err(|error| BuildError::store(keep(&file), error))?;
    write(&file, &config.to_json())?;
    Ok(Login {
        registry,
        file,
        helper,
    })
}

/// Forgets the credentials for a registry, Docker Hub if none is named. Gives the registry's name
/// and whether there were any.
///
/// # Errors
/// When the file or a credential helper cannot be used.
pub fn logout(
    registries: Registries,
    registry: Option<&str>,
) -> Result<(String, bool), BuildError> {
    let registry = host(registry);
    let file = file(&registries.credentials)?;
    let mut config = read(&file, registries.helper_folders)?;
    let known = config
        .forget(&registry)
        .map_err(|error| BuildError::store(keep(&file), error))?;
    if known {
        write(&file, &config.to_json())?;
    }
    Ok((registry, known))
}

/// `https://host/v1/` is `host`, and docker's old name of its hub is the hub.
fn host(written: Option<&str>) -> String {
    let written = written.unwrap_or(HUB);
    let bare = written
        .strip_prefix("https://")
        .or_else(|| written.strip_prefix("http://"))
        .unwrap_or(written);
    match bare.split('/').next().unwrap_or(bare) {
        "" | "index.docker.io" | "registry-1.docker.io" => HUB.into(),
        host => host.into(),
    }
}

fn file(candidates: &[PathBuf]) -> Result<PathBuf, BuildError> {
    let existing = candidates.iter().find(|path| path.exists());
    existing.or(candidates.first()).cloned().ok_or_else(|| {
        BuildError::request(
            "there is no place for credentials: neither DOCKER_CONFIG nor HOME is set",
        )
    })
}

fn keep(file: &Path) -> String {
    format!("keep credentials in {}", file.display())
}

fn read(file: &Path, helper_folders: Vec<PathBuf>) -> Result<DockerConfigEdit, BuildError> {
    let attempt = || format!("read credentials from {}", file.display());
    let json = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| BuildError::store(attempt(), error))?,
    };
    DockerConfigEdit::parse(&json, helper_folders)
        .map_err(|error| BuildError::store(attempt(), error))
}

/// Replaces the file, which only its owner may read. A link stays one: what it points to changes.
fn write(file: &Path, json: &[u8]) -> Result<(), BuildError> {
    let replace = || -> io::Result<()> {
        let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
        let folder = target.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let mut temporary = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        temporary.write_all(json)?;
        temporary.as_file().sync_all()?;
        temporary.persist(&target)?;
        Ok(())
    };
    replace().map_err(|error| BuildError::store(keep(file), error))
}
