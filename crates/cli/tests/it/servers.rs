//! Servers that builds fetch from: files over http with validators, repositories over git's own
//! protocol.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// When every file of a [`Web`] was last changed.
pub(crate) const CHANGED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

type Files = Arc<Mutex<HashMap<String, Page>>>;

/// What was sent as `Authorization`, request by request; nothing where there was none.
type Authorizations = Arc<Mutex<Vec<Option<String>>>>;

/// The value of a header, of which the name may be written in any case.
fn header(headers: &[String], name: &str) -> Option<String> {
    headers.iter().find_map(|header| {
        let (found, value) = header.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.to_string())
    })
}

/// What a [`Web`] has at a path.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) content: Vec<u8>,
    /// Whether it has an `ETag`.
    pub(crate) tagged: bool,
    /// Its `Last-Modified`.
    pub(crate) modified: Option<&'static str>,
    /// Where it says that it is instead.
    pub(crate) moved: Option<String>,
}

impl Page {
    /// A page with both validators.
    pub(crate) fn new(content: impl AsRef<[u8]>) -> Page {
        Page {
            content: content.as_ref().to_vec(),
            tagged: true,
            modified: Some(CHANGED),
            moved: None,
        }
    }

    fn tag(&self) -> Option<String> {
        let sum: u32 = self.content.iter().map(|&byte| u32::from(byte)).sum();
        self.tagged
            .then(|| format!("\"{}-{sum}\"", self.content.len()))
    }

    /// Whether whoever sends these headers has this page; the tag decides where there is one.
    fn is_known(&self, headers: &[String]) -> bool {
        let sent = |name: &str| header(headers, name);
        match (self.tag(), self.modified) {
            (Some(tag), _) => sent("if-none-match") == Some(tag),
            (None, Some(modified)) => sent("if-modified-since").as_deref() == Some(modified),
            (None, None) => false,
        }
    }

    /// Status, headers and body of the answer.
    fn answer(&self, headers: &[String]) -> (&'static str, String, &[u8]) {
        let mut more = String::new();
        if let Some(moved) = &self.moved {
            return ("302 Found", format!("Location: {moved}\r\n"), &[]);
        }
        for (name, value) in [
            ("ETag", self.tag()),
            ("Last-Modified", self.modified.map(String::from)),
        ] {
            more.extend(value.map(|value| format!("{name}: {value}\r\n")));
        }
        match self.is_known(headers) {
            true => ("304 Not Modified", more, &[]),
            false => ("200 OK", more, &self.content),
        }
    }
}

/// Files over http. Answers 304 to whom knows what there is; the thread ends with the test's
/// process.
pub(crate) struct Web {
    pub(crate) address: String,
    files: Files,
    log: Arc<Mutex<Vec<String>>>,
    authorizations: Authorizations,
}

impl Web {
    pub(crate) fn start() -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (files, log) = (Files::default(), Arc::new(Mutex::new(Vec::new())));
        let authorizations = Authorizations::default();
        let (served, logged, noted) = (files.clone(), log.clone(), authorizations.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(line) = answer(&stream, &served, &noted) {
                    logged.lock().unwrap().push(line);
                }
            }
        });
        Web {
            address,
            files,
            log,
            authorizations,
        }
    }

    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        self.serve(path, Page::new(content));
    }

    pub(crate) fn serve(&self, path: &str, page: Page) {
        self.files.lock().unwrap().insert(path.into(), page);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was sent as `Authorization` since the last call.
    pub(crate) fn take_authorizations(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.authorizations.lock().unwrap())
    }

    /// Status and path of every answer since the last call.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// Method and target of a request, and its headers.
fn request(reader: &mut impl BufRead) -> Option<(String, String, Vec<String>)> {
    let mut lines = reader.lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ').map(String::from);
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty());
    Some((words.next()?, words.next()?, headers.collect()))
}

fn answer(mut stream: &TcpStream, files: &Files, noted: &Authorizations) -> Option<String> {
    let (_, path, headers) = request(&mut BufReader::new(stream))?;
    noted
        .lock()
        .unwrap()
        .push(header(&headers, "authorization"));
    let page = files.lock().unwrap().get(&path).cloned();
    let (status, more, body) = match &page {
        None => ("404 Not Found", String::new(), &[][..]),
        Some(page) => page.answer(&headers),
    };
    let len = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {len}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
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

/// Repositories of a directory over http, as `git http-backend` gives them. The thread ends with
/// the test's process.
pub(crate) struct GitWeb {
    pub(crate) address: String,
    authorizations: Authorizations,
}

impl GitWeb {
    pub(crate) fn start(base: &Path) -> GitWeb {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let authorizations = Authorizations::default();
        let (base, noted) = (base.to_owned(), authorizations.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve_git(&stream, &base, &noted);
            }
        });
        GitWeb {
            address,
            authorizations,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was sent as `Authorization` since the last call.
    pub(crate) fn take_authorizations(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.authorizations.lock().unwrap())
    }
}

fn serve_git(mut stream: &TcpStream, base: &Path, noted: &Authorizations) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (method, target, headers) = request(&mut reader)?;
    noted
        .lock()
        .unwrap()
        .push(header(&headers, "authorization"));
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let sent = |name: &str| header(&headers, name).unwrap_or_default();
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", base)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", sent("content-type"))
        .env("CONTENT_LENGTH", sent("content-length"))
        .env("HTTP_CONTENT_ENCODING", sent("content-encoding"))
        .env("GIT_PROTOCOL", sent("git-protocol"))
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git is installed");
    let length = sent("content-length").parse().unwrap_or(0);
    let mut body = reader.take(length);
    if let Some(mut stdin) = backend.stdin.take() {
        // Whoever asks hears of it when it did not arrive.
        drop(std::io::copy(&mut body, &mut stdin));
    }
    let answer = backend.wait_with_output().ok()?.stdout;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
        .ok()?;
    stream.write_all(&answer).ok()
}
