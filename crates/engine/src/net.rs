//! The network: registries and plain downloads over asynchronous code, whose one runtime starts
//! when it is first needed. Nothing above this module knows a future.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use distribution::{Client, ClientOptions};
use reqwest::StatusCode;
use reqwest::header::{
    AUTHORIZATION, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::cancel::Cancel;
use crate::git_remote;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a download may stand still.
const STALL: Duration = Duration::from_secs(60);

/// Clients, and what drives them.
pub(crate) struct Net {
    registries: Client,
    http: OnceLock<reqwest::Client>,
    runtime: OnceLock<Runtime>,
}

/// What tells versions of a download apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Validators {
    /// The `ETag` header.
    pub(crate) etag: Option<String>,
    /// The `Last-Modified` header.
    pub(crate) modified: Option<String>,
}

/// Gets every piece of a download, how many bytes came so far, and how many there will be.
pub(crate) type Sink<'s> = dyn FnMut(&[u8], u64, Option<u64>) -> std::io::Result<()> + Send + 's;

/// How a download ended.
pub(crate) enum Download {
    /// What was asked about is still what there is.
    NotModified,
    /// All pieces were handed out.
    Done(Validators),
}

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    /// The request failed.
    #[error("get {url}")]
    Request {
        /// The URL.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The server refuses.
    #[error("get {url}: the server answers {status}")]
    Status {
        /// The URL.
        url: String,
        /// What it said.
        status: StatusCode,
    },
    /// The build was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// What came could not be kept.
    #[error("keep what came from {url}")]
    Sink {
        /// The URL.
        url: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Net {
    pub(crate) fn new(options: ClientOptions) -> Net {
        Net {
            registries: Client::new(options),
            http: OnceLock::new(),
            runtime: OnceLock::new(),
        }
    }

    /// The client of registries.
    pub(crate) fn client(&self) -> &Client {
        &self.registries
    }

    /// Runs a future to its end on the calling thread; several threads may do so at once.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        let runtime = self.runtime.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("network")
                .enable_all()
                .build()
                .expect("the machine gives threads and descriptors to a program that just started")
        });
        runtime.block_on(future)
    }

    /// As [`Net::wait`], but gives up, with `None`, as soon as `cancel` is raised.
    pub(crate) fn wait_unless<F: Future>(&self, cancel: &Cancel, future: F) -> Option<F::Output> {
        let raised = Arc::new(Notify::new());
        let raise = raised.clone();
        let _registered = cancel.on_cancel(move || raise.notify_one());
        self.wait(async {
            tokio::select! {
                biased;
                output = future => Some(output),
                () = raised.notified() => None,
            }
        })
    }

    /// Downloads a URL, unless it is what `known` says. `sink` gets every piece, how many bytes
    /// came so far, and how many there will be. Gives up as soon as `cancel` is raised.
    pub(crate) fn download(
        &self,
        cancel: &Cancel,
        url: &str,
        authorization: Option<String>,
        known: Validators,
        sink: &mut Sink<'_>,
    ) -> Result<Download, DownloadError> {
        let download = async {
            let shown = || git_remote::redacted(url);
            let failed = |source: reqwest::Error| DownloadError::Request {
                url: shown(),
                source: source.without_url(),
            };
            let conditions = [
                (AUTHORIZATION, authorization),
                (IF_NONE_MATCH, known.etag),
                (IF_MODIFIED_SINCE, known.modified),
            ];
            let mut request = self.http(url)?.get(url);
            for (name, value) in conditions {
                request = match value {
                    Some(value) => request.header(name, value),
                    None => request,
                };
            }
            let mut response = request.send().await.map_err(failed)?;
            if response.status() == StatusCode::NOT_MODIFIED {
                return Ok(Download::NotModified);
            }
            if !response.status().is_success() {
                return Err(DownloadError::Status {
                    url: shown(),
                    status: response.status(),
                });
            }
            let total = response.content_length();
            let mut done = 0;
            while let Some(piece) = response.chunk().await.map_err(failed)? {
                done += piece.len() as u64;
                sink(&piece, done, total).map_err(|source| DownloadError::Sink {
                    url: shown(),
                    source,
                })?;
            }
            let headers = response.headers();
            Ok(Download::Done(Validators {
                etag: text(headers, &ETAG),
                modified: text(headers, &LAST_MODIFIED),
            }))
        };
        self.wait_unless(cancel, download)
            .unwrap_or(Err(DownloadError::Cancelled))
    }

    fn http(&self, url: &str) -> Result<&reqwest::Client, DownloadError> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .read_timeout(STALL)
        };
        let client =
            distribution::trusting(builder, &[]).map_err(|source| DownloadError::Request {
                url: git_remote::redacted(url),
                source,
            })?;
        Ok(self.http.get_or_init(|| client))
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(String::from)
}
