//! The way to registries: one per process or per build, shared by everything that runs at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci::Reference;

use crate::config::ClientOptions;
use crate::endpoint::{Address, BadAddress};
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
        let mut known = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = match known.get(reference.registry()) {
            Some(hosts) => hosts.clone(),
            None => {
                let options = &self.0.options;
                let addresses = Address::of(reference.registry(), &options.registries)?;
                let endpoints = addresses
                    .into_iter()
                    .map(|address| Arc::new(Endpoint::new(address, options)))
                    .collect();
                let hosts = Arc::new(Hosts::new(endpoints, options));
                known.insert(reference.registry().into(), hosts.clone());
                hosts
            }
        };
        Ok(Repository::Registry(RegistryRepository(Registry::new(
            hosts, reference,
        ))))
    }
}
