//! Debian's `docker-registry` as a second opinion: a real registry, in a process of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/bin/docker-registry";

/// Name of the file with a line for every request.
const LOG: &str = "access.log";

/// A running `docker-registry` with its data in memory; it stops when this is dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    address: SocketAddr,
    /// Holds its configuration and certificate.
    folder: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one that speaks plain http; `None` where the program is not installed.
    ///
    /// # Panics
    /// When the program is there but does not come up; when it is not there although the
    /// environment has `KILN_REQUIRE`.
    pub fn start() -> Option<DockerRegistry> {
        start(false)
    }

    /// Starts one that speaks https, with a certificate that [`DockerRegistry::certificate`]
    /// vouches for and no one else.
    ///
    /// # Panics
    /// As [`DockerRegistry::start`].
    pub fn start_with_tls() -> Option<DockerRegistry> {
        start(true)
    }

    /// Host and port, as they stand in references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// PEM file of the certificate that its own is to be checked by.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// What it was asked, one `METHOD /path` each, in order.
    ///
    /// # Panics
    /// When its log cannot be read.
    pub fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join(LOG)).expect("a log");
        let requests = log.lines().filter_map(|line| line.split('"').nth(1));
        let words = |request: &str| request.split(' ').take(2).collect::<Vec<_>>().join(" ");
        requests.map(words).collect()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn start(tls: bool) -> Option<DockerRegistry> {
    if !Path::new(PROGRAM).exists() {
        let required = std::env::var_os("KILN_REQUIRE").is_some();
        assert!(!required, "{PROGRAM} is not installed");
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let config = folder.path().join("config.yml");
    let tls = if tls {
        certify(folder.path())
    } else {
        String::new()
    };
    let text = format!(
        "version: 0.1\nlog:\n  level: error\n\
         storage:\n  inmemory: {{}}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n{tls}"
    );
    std::fs::write(&config, text).expect("a configuration");
    let log = File::create(folder.path().join(LOG)).expect("a file");
    let child = Command::new(PROGRAM)
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let registry = DockerRegistry {
        child,
        address,
        folder,
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "{PROGRAM} does not answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(registry)
}

/// Makes a certificate for 127.0.0.1 that vouches for itself, and the lines that configure it.
fn certify(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]);
    let made = made.expect("a certificate");
    let write = |name: &str, pem: String| {
        let path = folder.join(name);
        std::fs::write(&path, pem).expect("a file");
        path.display().to_string()
    };
    let cert = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    format!("  tls:\n    certificate: {cert}\n    key: {key}\n")
}
