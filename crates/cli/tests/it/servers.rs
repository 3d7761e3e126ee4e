//! Servers that builds fetch from: files over http with validators, repositories over git's own
//! protocol.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// When every file of a [`Web`] was last changed.
pub(crate) const CHANGED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Files over http. Answers 304 to whom knows the ETag; the thread ends with the test's process.
pub(crate) struct Web {
    pub(crate) address: String,
    files: Files,
    log: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub(crate) fn start() -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (files, log) = (Files::default(), Arc::new(Mutex::new(Vec::new())));
        let (served, logged) = (files.clone(), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(line) = answer(&stream, &served) {
                    logged.lock().unwrap().push(line);
                }
            }
        });
        Web {
            address,
            files,
            log,
        }
    }

    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let content = content.as_ref().to_vec();
        self.files.lock().unwrap().insert(path.into(), content);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Status and path of every answer since the last call.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn answer(stream: &TcpStream, files: &Files) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_string();
    let headers: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let content = files.lock().unwrap().get(&path).cloned();
    let (status, body) = match content {
        None => ("404 Not Found", Vec::new()),
        Some(content) => {
            let tag = format!("\"{}-{}\"", content.len(), content.first().unwrap_or(&0));
            let known = headers.iter().any(|header| {
                header.to_ascii_lowercase().starts_with("if-none-match:") && header.ends_with(&tag)
            });
            let status = if known { "304 Not Modified" } else { "200 OK" };
            let body = if known { Vec::new() } else { content };
            let head = format!(
                "HTTP/1.1 {status}\r\nETag: {tag}\r\nLast-Modified: {CHANGED}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let mut stream = stream;
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(&body).ok()?;
            return Some(format!("{} {path}", &status[..3]));
        }
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    stream.write_all(&body).ok()?;
    Some(format!("{} {path}", &status[..3]))
}

/// `git daemon` over a directory, as long as this value lives.
pub(crate) struct GitServer {
    pub(crate) address: String,
    process: Child,
}

impl GitServer {
    pub(crate) fn start(base: &Path) -> GitServer {
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("bound")
            .port();
        let mut command = Command::new("git");
        command
            .args([
                "daemon",
                "--export-all",
                "--reuseaddr",
                "--listen=127.0.0.1",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", base.display()))
            .args(["--enable=upload-pack"])
            .env("GIT_CONFIG_COUNT", "2")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .env("GIT_CONFIG_KEY_1", "uploadpack.allowAnySHA1InWant")
            .env("GIT_CONFIG_VALUE_1", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // `git` starts `git-daemon`; both have to go at the end.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.spawn().expect("git is installed");
        let address = format!("127.0.0.1:{port}");
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline, "git daemon does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        GitServer { address, process }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("git://{}{path}", self.address)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        drop(Command::new("kill").args(["--", &group]).status());
        drop(self.process.wait());
    }
}
