//! One request and its answer: authorised, watched for standstill, and sorted into success or a
//! [`RegistryFailure`]. Trying again after failures is its callers' business, except that a 401
//! is answered with credentials here.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName,
    RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};

use crate::auth::{Auth, Scopes};
use crate::challenge;
use crate::config::ClientOptions;
use crate::endpoint::{Address, host_of};
use crate::error::{RegistryFailure, RegistryMessage};

/// More than any error message needs.
const MAX_MESSAGE: usize = 64 * 1024;

/// One host, with everything needed to speak to it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    options: Arc<ClientOptions>,
    http: OnceLock<reqwest::Client>,
    auth: Auth,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) scopes: Scopes,
    pub(crate) payload: Payload,
    /// Statuses that are what was asked for.
    pub(crate) expect: &'static [u16],
}

/// The body of a request.
#[derive(Clone)]
pub(crate) enum Payload {
    Bytes(Bytes),
    /// Made anew for each attempt.
    Stream {
        open: Arc<dyn Fn(Progress) -> reqwest::Body + Send + Sync>,
        length: u64,
    },
}

/// Counts what went out, so that a long upload is not taken for a standstill.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Payload::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Payload::Stream { length, .. } => write!(f, "a stream of {length} bytes"),
        }
    }
}

impl Call {
    pub(crate) fn new(method: Method, url: Url, scopes: &Scopes, expect: &'static [u16]) -> Call {
        Call {
            method,
            url,
            headers: Vec::new(),
            scopes: scopes.clone(),
            payload: Payload::Bytes(Bytes::new()),
            expect,
        }
    }

    pub(crate) fn accept(self, media_types: &str) -> Call {
        self.header(ACCEPT, media_types.into())
    }

    /// Asks for everything from byte `offset` on.
    pub(crate) fn from(self, offset: u64) -> Call {
        match offset {
            0 => self,
            offset => self.header(RANGE, format!("bytes={offset}-")),
        }
    }

    pub(crate) fn body(mut self, content_type: &str, payload: Payload) -> Call {
        self.payload = payload;
        self.header(CONTENT_TYPE, content_type.into())
    }

    /// Says which part of a blob the body is: `first` up to but not including `end`.
    pub(crate) fn part(self, first: u64, end: u64) -> Call {
        self.header(CONTENT_RANGE, format!("{first}-{}", end.saturating_sub(1)))
    }

    fn header(mut self, name: HeaderName, value: String) -> Call {
        self.headers.push((name, value));
        self
    }
}

impl Endpoint {
    pub(crate) fn new(address: Address, options: &Arc<ClientOptions>) -> Endpoint {
        let auth = Auth::new(&address.registry, &options.credentials);
        Endpoint {
            address,
            options: options.clone(),
            http: OnceLock::new(),
            auth,
        }
    }

    /// Sends a request; the answer has one of the statuses that it expects.
    pub(crate) async fn exchange(&self, call: &Call) -> Result<Response, RegistryFailure> {
        let http = self.http()?;
        // Credentials are for this host, wherever an upload may have sent us.
        let ours = host_of(&call.url) == self.address.host();
        let mut refused_before = false;
        loop {
            let header = match ours {
                true => self.auth.header(http, &call.scopes).await?,
                false => None,
            };
            let mut request = self.request(http, call);
            if let Some(header) = &header {
                request.0 = request.0.header(AUTHORIZATION, header.clone());
            }
            let response = self.transmit(request.0, &request.1).await?;
            let status = response.status();
            if call.expect.contains(&status.as_u16()) {
                return Ok(response);
            }
            let ours = ours && host_of(response.url()) == self.address.host();
            if status == StatusCode::UNAUTHORIZED && ours && !refused_before {
                refused_before = true;
                let challenges = challenges_of(response.headers());
                let secure = self.address.base.scheme() == "https";
                let learned = self
                    .auth
                    .learn(challenges, &call.scopes, header.as_ref(), secure);
                if learned.await? {
                    if matches!(call.payload, Payload::Stream { .. }) {
                        return Err(RegistryFailure::TokenEnded);
                    }
                    continue;
                }
            }
            return Err(self.failure(response, header.is_some()).await);
        }
    }

    /// The next bytes of an answer's body, or a failure after too long a silence.
    pub(crate) async fn chunk(
        &self,
        body: &mut Response,
    ) -> Result<Option<Bytes>, RegistryFailure> {
        let after = self.options.retry.stall;
        match tokio::time::timeout(after, body.chunk()).await {
            Ok(chunk) => chunk.map_err(RegistryFailure::of_transport),
            Err(_) => Err(RegistryFailure::Stalled { after }),
        }
    }

    /// A whole body of at most `limit` bytes.
    pub(crate) async fn body(
        &self,
        mut response: Response,
        limit: usize,
    ) -> Result<Vec<u8>, RegistryFailure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                let what = format!("it is longer than {limit} bytes");
                return Err(RegistryFailure::Malformed { what });
            }
        }
        Ok(body)
    }

    fn http(&self) -> Result<&reqwest::Client, RegistryFailure> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let options = &self.options;
        let config = options
            .registries
            .get(&self.address.registry)
            .cloned()
            .unwrap_or_default();
        let http =
            crate::http::client(&self.address, &config, &options.retry, &options.user_agent)?;
        Ok(self.http.get_or_init(|| http))
    }

    fn request(&self, http: &reqwest::Client, call: &Call) -> (reqwest::RequestBuilder, Progress) {
        let progress = Progress::default();
        let mut request = http.request(call.method.clone(), call.url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        request = match &call.payload {
            Payload::Bytes(bytes) if bytes.is_empty() => match call.method {
                // Some servers insist on a length where a body could be.
                Method::POST | Method::PUT => request.header(CONTENT_LENGTH, 0),
                _ => request,
            },
            Payload::Bytes(bytes) => request.body(bytes.clone()),
            Payload::Stream { open, length } => request
                .header(CONTENT_LENGTH, *length)
                .body(open(progress.clone())),
        };
        (request, progress)
    }

    /// Waits for the head of the answer as long as anything moves.
    async fn transmit(
        &self,
        request: reqwest::RequestBuilder,
        progress: &Progress,
    ) -> Result<Response, RegistryFailure> {
        let after = self.options.retry.stall;
        let mut answer = std::pin::pin!(request.send());
        let mut sent = progress.so_far();
        loop {
            match tokio::time::timeout(after, &mut answer).await {
                Ok(answer) => return answer.map_err(RegistryFailure::of_transport),
                Err(_) if progress.so_far() > sent => sent = progress.so_far(),
                Err(_) => return Err(RegistryFailure::Stalled { after }),
            }
        }
    }

    async fn failure(&self, response: Response, offered: bool) -> RegistryFailure {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let body = self.body(response, MAX_MESSAGE).await.unwrap_or_default();
        let registry = RegistryMessage::parse(&body);
        let offered =
            offered && (status != StatusCode::UNAUTHORIZED || self.auth.has_credential().await);
        failure_of(status, retry_after, registry, offered)
    }
}

/// What an unexpected status means.
pub(crate) fn failure_of(
    status: StatusCode,
    retry_after: Option<Duration>,
    registry: RegistryMessage,
    offered: bool,
) -> RegistryFailure {
    match status.as_u16() {
        401 => RegistryFailure::Unauthorized { offered, registry },
        403 => RegistryFailure::Denied { registry },
        404 => RegistryFailure::NotFound { registry },
        501 | 505 => RegistryFailure::Status { status, registry },
        408 | 425 | 429 | 500..=599 => RegistryFailure::Busy {
            status,
            retry_after,
            registry,
        },
        _ => RegistryFailure::Status { status, registry },
    }
}

/// `Retry-After` as seconds or, as RFC 9110 also has it, as a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

fn challenges_of(headers: &HeaderMap) -> Vec<challenge::Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect()
}
