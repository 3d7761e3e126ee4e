//! A registry in this process, on a loopback port, that does as it is told: the pull and push
//! half of the distribution-spec, token and basic authentication, redirects of blobs to another
//! host, and faults on request. It keeps a log of everything that was asked.
//!
//! It is strict where clients should be exact and holds everything in memory.

mod access;
mod api;
mod fault;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::{Descriptor, Digest, MediaType};

pub use access::Access;
pub use fault::Effect;
use fault::Fault;

/// One request, as the registry saw it.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers by name in small letters.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body that were read.
    pub body: u64,
    /// The status that was sent, or was about to be.
    pub status: u16,
    /// It came to the other host, that blobs are redirected to.
    pub storage: bool,
}

/// A running registry; it stops when this is dropped.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    storage: SocketAddr,
    access: Access,
    stopping: AtomicBool,
    state: Mutex<State>,
}

type StoredManifest = (MediaType, Arc<[u8]>);

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<Digest, Arc<[u8]>>,
    /// Which repository has which blobs.
    linked: BTreeSet<(String, Digest)>,
    /// By repository, and by tag or digest.
    manifests: HashMap<(String, String), StoredManifest>,
    uploads: HashMap<String, Vec<u8>>,
    tokens: HashMap<String, BTreeSet<String>>,
    faults: Vec<Fault>,
    log: Vec<Logged>,
    counter: u64,
}

impl Registry {
    /// Starts a registry that lets everyone in.
    pub fn start() -> Registry {
        Registry::start_with(Access::Open)
    }

    /// Starts a registry.
    ///
    /// # Panics
    /// When no loopback port is to be had.
    pub fn start_with(access: Access) -> Registry {
        let listen = || TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        let (main, storage) = (listen(), listen());
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            address: address(&main),
            storage: address(&storage),
            access,
            stopping: AtomicBool::new(false),
            state: Mutex::default(),
        });
        for (listener, is_storage) in [(main, false), (storage, true)] {
            let shared = shared.clone();
            std::thread::spawn(move || accept(&listener, &shared, is_storage));
        }
        Registry { shared }
    }

    /// Host and port, as they stand in references.
    pub fn host(&self) -> String {
        self.shared.address.to_string()
    }

    /// From now on, answers requests of `method` whose target has `part` with `effect`, `times`
    /// times. Faults are used up in the order in which they were asked for.
    pub fn fault(&self, method: &str, part: &str, times: usize, effect: Effect) {
        let fault = Fault {
            method: method.into(),
            part: part.into(),
            times,
            effect,
        };
        self.shared.state().faults.push(fault);
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.shared
            .state()
            .link(repository, digest, Arc::from(bytes));
        digest
    }

    /// Puts a manifest into a repository, under its digest and `tag`.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: MediaType,
        bytes: &[u8],
    ) -> Descriptor {
        let descriptor = Descriptor::of(media_type.clone(), bytes);
        let mut state = self.shared.state();
        for name in [tag.to_string(), descriptor.digest.to_string()] {
            let stored = (media_type.clone(), Arc::from(bytes));
            state.manifests.insert((repository.into(), name), stored);
        }
        descriptor
    }

    /// A blob that a repository has.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Arc<[u8]>> {
        self.shared.state().blob(repository, digest)
    }

    /// The manifest of a tag or digest.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<(MediaType, Arc<[u8]>)> {
        self.shared
            .state()
            .manifests
            .get(&(repository.into(), name.into()))
            .cloned()
    }

    /// From now on, tokens that were given out are good for nothing.
    pub fn revoke_tokens(&self) {
        self.shared.state().tokens.clear();
    }

    /// Everything that was asked so far.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.state().log.clone()
    }

    /// The log in short: `METHOD /path STATUS`, queries left out.
    pub fn log_lines(&self) -> Vec<String> {
        let line = |logged: &Logged| {
            let path = logged.target.split('?').next().unwrap_or_default();
            format!("{} {path} {}", logged.method, logged.status)
        };
        self.log().iter().map(line).collect()
    }

    /// How many requests of `method` had a target with `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let log = self.log();
        log.iter()
            .filter(|logged| logged.method == method && logged.target.contains(part))
            .count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wake the threads that wait for a connection.
        for address in [self.shared.address, self.shared.storage] {
            drop(TcpStream::connect(address));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn link(&mut self, repository: &str, digest: Digest, bytes: Arc<[u8]>) {
        self.blobs.insert(digest, bytes);
        self.linked.insert((repository.into(), digest));
    }

    fn blob(&self, repository: &str, digest: &Digest) -> Option<Arc<[u8]>> {
        let linked = self.linked.contains(&(repository.to_string(), *digest));
        linked.then(|| self.blobs.get(digest).cloned()).flatten()
    }

    /// A name that was not used yet.
    fn fresh(&mut self, prefix: &str) -> String {
        self.counter += 1;
        format!("{prefix}-{}", self.counter)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, storage: bool) {
    while let Ok((connection, _)) = listener.accept() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let shared = shared.clone();
        // A connection that breaks is the client's business.
        std::thread::spawn(move || drop(api::serve(connection, &shared, storage)));
    }
}
