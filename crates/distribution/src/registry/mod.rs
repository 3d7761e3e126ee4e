//! A repository on a registry: the client's side of the distribution-spec.
//!
//! A *visit* is one operation at one host, with its own patience. Pulling visits the mirrors
//! first and then the registry itself; pushing visits the registry only.

mod blob;
mod manifest;
mod upload;
mod visit;

use std::sync::Arc;

use oci::Digest;
use reqwest::{Method, Url};
use tokio::sync::OnceCell;

pub(crate) use blob::RegistryBlob;
pub(crate) use upload::read_range;
pub use upload::{BlobSource, Pushed};

use crate::auth::Scopes;
use crate::config::{ClientOptions, RetryPolicy};
use crate::error::RequestError;
use crate::exchange::{Call, Endpoint};
use crate::repository::Version;
use visit::{MoveOn, Visit};

/// The hosts of one registry. Shared by all its repositories, so that tokens and connections are.
#[derive(Debug)]
pub(crate) struct Hosts {
    mirrors: Vec<Arc<Endpoint>>,
    /// More than one where it is not known whether the registry speaks https.
    origins: Vec<Arc<Endpoint>>,
    /// The one of `origins` that answers.
    origin: OnceCell<Arc<Endpoint>>,
    options: Arc<ClientOptions>,
}

impl Hosts {
    pub(crate) fn new(endpoints: Vec<Arc<Endpoint>>, options: &Arc<ClientOptions>) -> Hosts {
        let (mirrors, origins) = endpoints
            .into_iter()
            .partition(|endpoint| endpoint.address.mirror);
        Hosts {
            mirrors,
            origins,
            origin: OnceCell::new(),
            options: options.clone(),
        }
    }
}

/// One repository.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    hosts: Arc<Hosts>,
    name: String,
}

impl Registry {
    pub(crate) fn new(hosts: Arc<Hosts>, name: &str) -> Registry {
        Registry {
            hosts,
            name: name.into(),
        }
    }

    /// Asks for the root of the API, which no repository is needed for.
    pub(crate) async fn check_credentials(&self) -> Result<(), RequestError> {
        let mut visit = self.push_visit("log in").await?;
        let url = visit.endpoint.address.base.clone();
        let ping = Call::new(Method::GET, url, &Scopes::new(), &[200]);
        match visit.send(&ping).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(visit.error(failure)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The hosts to pull from, in order. The last one settles everything.
    fn pull_visits(&self, action: &str) -> Vec<Visit> {
        let policy = self.hosts.options.retry;
        let origins = match self.hosts.origin.get() {
            Some(origin) => std::slice::from_ref(origin),
            None => &self.hosts.origins,
        };
        let mut visits = Vec::new();
        for mirror in &self.hosts.mirrors {
            visits.push(self.visit(mirror, action, hurried(policy), MoveOn::Always));
        }
        let last = origins.len().saturating_sub(1);
        for (position, origin) in origins.iter().enumerate() {
            visits.push(match position == last {
                true => self.visit(origin, action, policy, MoveOn::Never),
                false => self.visit(origin, action, hurried(policy), MoveOn::IfUnreachable),
            });
        }
        visits
    }

    /// The host to push to.
    async fn push_visit(&self, action: &str) -> Result<Visit, RequestError> {
        let find = || self.find_origin(action);
        let origin = self.hosts.origin.get_or_try_init(find).await?;
        Ok(self.visit(origin, action, self.hosts.options.retry, MoveOn::Never))
    }

    async fn find_origin(&self, action: &str) -> Result<Arc<Endpoint>, RequestError> {
        let [first, others @ ..] = &self.hosts.origins[..] else {
            unreachable!("every registry has an address of its own")
        };
        let mut chosen = first;
        for next in others {
            let policy = hurried(self.hosts.options.retry);
            let mut visit = self.visit(chosen, action, policy, MoveOn::IfUnreachable);
            let url = chosen.address.base.clone();
            // Any answer shows that the host is there.
            let ping = Call::new(Method::GET, url, &Scopes::new(), &[200, 401, 403, 404]);
            match visit.send(&ping).await {
                Err(failure) if visit.moves_on(&failure) => chosen = next,
                _ => break,
            }
        }
        Ok(chosen.clone())
    }

    fn visit(
        &self,
        endpoint: &Arc<Endpoint>,
        action: &str,
        policy: RetryPolicy,
        move_on: MoveOn,
    ) -> Visit {
        let on_retry = self.hosts.options.on_retry.clone();
        Visit::new(
            endpoint.clone(),
            &self.name,
            action,
            policy,
            move_on,
            on_retry,
        )
    }
}

/// For hosts that there is an alternative to.
fn hurried(policy: RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        deadline: policy.deadline.min(std::time::Duration::from_secs(10)),
        connect_attempts: 1,
        ..policy
    }
}

/// Scopes of a token, as one host calls the repository.
fn pull_scope(repository: &str) -> Scopes {
    Scopes::from([format!("repository:{repository}:pull")])
}

fn push_scope(repository: &str) -> Scopes {
    Scopes::from([format!("repository:{repository}:pull,push")])
}

fn manifest_url(visit: &Visit, version: &Version) -> Url {
    match version {
        Version::Tag(tag) => visit.url(&format!("manifests/{tag}")),
        Version::Digest(digest) => visit.url(&format!("manifests/{digest}")),
    }
}

fn blob_url(visit: &Visit, digest: &Digest) -> Url {
    visit.url(&format!("blobs/{digest}"))
}
