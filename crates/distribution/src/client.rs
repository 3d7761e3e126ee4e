//! The way to registries: one per process or per build, shared by everything that runs at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci::Reference;

use crate::config::ClientOptions;
use crate::endpoint::{Address, BadAddress};
use crate::error::RequestError;
use crate::exchange::Endpoint;
use crate::registry::{Hosts, Registry};
use crate::repository::{RegistryRepository, Repository};

/// Knows how to reach registries. Cheap to make and to clone: certificates and credentials are
/// read when a host is first spoken to. Clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: Arc<ClientOptions>,
    hosts: Mutex<HashMap<String, Arc<Hosts>>>,
}

impl Client {
    /// A client with these options.
    pub fn new(options: ClientOptions) -> Client {
        Client(Arc::new(Shared {
            options: Arc::new(options),
            hosts: Mutex::default(),
        }))
    }

    /// The repository that a reference is in.
    ///
    /// # Errors
    /// When the registry, or a mirror that is configured for it, has no proper name.
    pub fn repository(&self, reference: &Reference) -> Result<Repository, BadAddress> {
        let hosts = self.hosts(reference.registry())?;
        Ok(Repository::Registry(RegistryRepository(Registry::new(
            hosts,
            reference.repository(),
        ))))
    }

    /// Asks a registry whether it lets us in with the credentials that we have for it
    /// (distribution-spec, "Determining Support").
    ///
    /// # Errors
    /// When it does not, when it does not answer, or when its name is no host's.
    pub async fn check_credentials(&self, registry: &str) -> Result<(), CheckError> {
        let hosts = self.hosts(registry)?;
        Ok(Registry::new(hosts, "").check_credentials().await?)
    }

    fn hosts(&self, registry: &str) -> Result<Arc<Hosts>, BadAddress> {
        let mut known = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosts) = known.get(registry) {
            return Ok(hosts.clone());
        }
        let options = &self.0.options;
        let addresses = Address::of(registry, &options.registries)?;
        let endpoints = addresses
            .into_iter()
            .map(|address| Arc::new(Endpoint::new(address, options)))
            .collect();
        let hosts = Arc::new(Hosts::new(endpoints, options));
        known.insert(registry.into(), hosts.clone());
        Ok(hosts)
    }
}

/// Why a registry was not asked, or did not let us in.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Its name is no host's.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// It did not answer, or refused.
    #[error(transparent)]
    Request(#[from] RequestError),
}
