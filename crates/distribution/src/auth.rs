//! How we show a host who we are: nothing, name and password, or tokens from its token server
//! (distribution-spec, token authentication).
//!
//! The first answer with status 401 tells which; from then on every request goes out with the
//! right header at once. Tokens are per scope, renewed shortly before they end or when refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::challenge::Challenge;
use crate::credentials::{Credential, Credentials, Secret};
use crate::endpoint::host_of;
use crate::error::{RegistryFailure, RegistryMessage};

/// Tokens say when they end; this is the least that the specification lets them live.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// Renewed this long before they end, so that they do not end on the way.
const MARGIN: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1024 * 1024;
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a request is about, as token servers understand it: `repository:a/b:pull,push`.
pub(crate) type Scopes = BTreeSet<String>;

/// What is known of a host's wishes, and the tokens it got us.
#[derive(Debug)]
pub(crate) struct Auth {
    registry: String,
    credentials: Credentials,
    credential: OnceCell<Option<Credential>>,
    scheme: Mutex<Scheme>,
    tokens: Mutex<HashMap<Scopes, TokenCell>>,
}

/// One token, and the lock that makes the requests that want it wait for each other.
type TokenCell = Arc<tokio::sync::Mutex<Option<Token>>>;

#[derive(Clone, Debug)]
enum Scheme {
    /// Nothing was asked of us yet.
    Open,
    Basic,
    Bearer(TokenServer),
}

/// Where tokens come from.
#[derive(Clone, Debug)]
struct TokenServer {
    realm: Url,
    service: Option<String>,
    /// A scope that the host demands beside ours. Those of repositories we know better.
    scope: Option<String>,
}

#[derive(Clone, Debug)]
struct Token {
    header: HeaderValue,
    ends: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(crate) fn new(registry: &str, credentials: &Credentials) -> Auth {
        Auth {
            registry: registry.into(),
            credentials: credentials.clone(),
            credential: OnceCell::new(),
            scheme: Mutex::new(Scheme::Open),
            tokens: Mutex::new(HashMap::new()),
        }
    }

    /// The header to send with a request of these scopes, if any.
    pub(crate) async fn header(
        &self,
        http: &reqwest::Client,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, RegistryFailure> {
        let scheme = self
            .scheme
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match scheme {
            Scheme::Open => Ok(None),
            Scheme::Basic => Ok(self.credential().await?.and_then(basic)),
            Scheme::Bearer(server) => {
                let cell = self.cell(scopes);
                let mut token = cell.lock().await;
                if let Some(token) = token.as_ref().filter(|token| token.ends > Instant::now()) {
                    return Ok(Some(token.header.clone()));
                }
                let fresh = self.fetch(http, &server, scopes).await?;
                Ok(Some(token.insert(fresh).header.clone()))
            }
        }
    }

    /// Learns from a 401 to a request that went out with `refused`. Whether another try can end
    /// otherwise.
    pub(crate) async fn learn(
        &self,
        challenges: Vec<Challenge>,
        scopes: &Scopes,
        refused: Option<&HeaderValue>,
        secure: bool,
    ) -> Result<bool, RegistryFailure> {
        let Some(scheme) = choose(challenges, secure)? else {
            return Ok(false);
        };
        let usable = match &scheme {
            Scheme::Bearer(_) => {
                let cell = self.cell(scopes);
                let mut token = cell.lock().await;
                // Another request may have renewed it meanwhile.
                if token.as_ref().map(|token| &token.header) == refused {
                    *token = None;
                }
                true
            }
            _ => refused.is_none() && self.credential().await?.and_then(basic).is_some(),
        };
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = scheme;
        Ok(usable)
    }

    /// Whether we have anything to show.
    pub(crate) async fn has_credential(&self) -> bool {
        matches!(self.credential().await, Ok(Some(_)))
    }

    async fn credential(&self) -> Result<Option<&Credential>, RegistryFailure> {
        let ask = || self.credentials.of(&self.registry);
        match self.credential.get_or_try_init(ask).await {
            Ok(credential) => Ok(credential.as_ref()),
            Err(source) => Err(RegistryFailure::Credentials { source }),
        }
    }

    fn cell(&self, scopes: &Scopes) -> TokenCell {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(scopes.clone()).or_default().clone()
    }

    async fn fetch(
        &self,
        http: &reqwest::Client,
        server: &TokenServer,
        scopes: &Scopes,
    ) -> Result<Token, RegistryFailure> {
        let asked = Instant::now();
        let credential = self.credential().await?;
        if let Some(Credential::RegistryToken(token)) = credential {
            let header = sensitive(&format!("Bearer {}", token.reveal()))?;
            return Ok(Token {
                header,
                ends: asked + SHORTEST_LIFE,
            });
        }
        let at_server = |source| RegistryFailure::Token {
            server: host_of(&server.realm),
            source: Box::new(source),
        };
        let request = token_request(http, server, scopes, credential);
        let answer = exchange(request, credential.is_some())
            .await
            .map_err(at_server)?;
        let malformed = |what: &str| at_server(RegistryFailure::Malformed { what: what.into() });
        let answer: TokenAnswer =
            serde_json::from_slice(&answer).map_err(|_| malformed("no JSON of a token"))?;
        let token = answer
            .token
            .or(answer.access_token)
            .ok_or_else(|| malformed("it has neither token nor access_token"))?;
        let life = answer.expires_in.map_or(SHORTEST_LIFE, Duration::from_secs);
        let life = life.clamp(SHORTEST_LIFE, Duration::from_secs(24 * 3600));
        let header = sensitive(&format!("Bearer {}", token.reveal()))?;
        Ok(Token {
            header,
            ends: asked + life - MARGIN,
        })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// Tokens before passwords: where both are offered, the password goes to the token server only.
fn choose(challenges: Vec<Challenge>, secure: bool) -> Result<Option<Scheme>, RegistryFailure> {
    let malformed = |what: &str| RegistryFailure::Malformed { what: what.into() };
    let bearer = challenges
        .iter()
        .find(|challenge| challenge.scheme == "bearer");
    if let Some(realm) = bearer.and_then(|bearer| bearer.parameters.get("realm")) {
        let realm = Url::parse(realm).map_err(|_| malformed("the token server is no URL"))?;
        if realm.scheme() != "https" && (secure || realm.scheme() != "http") {
            return Err(malformed("the token server is not reached by https"));
        }
        let parameter = |name| {
            bearer
                .and_then(|bearer| bearer.parameters.get(name))
                .cloned()
        };
        return Ok(Some(Scheme::Bearer(TokenServer {
            realm,
            service: parameter("service"),
            scope: parameter("scope").filter(|scope| !scope.starts_with("repository:")),
        })));
    }
    let basic = challenges
        .iter()
        .any(|challenge| challenge.scheme == "basic");
    Ok(basic.then_some(Scheme::Basic))
}

/// With an identity token the OAuth2 form is posted, otherwise the older query is sent, which
/// every token server knows.
fn token_request(
    http: &reqwest::Client,
    server: &TokenServer,
    scopes: &Scopes,
    credential: Option<&Credential>,
) -> reqwest::RequestBuilder {
    let TokenServer {
        realm,
        service,
        scope,
    } = server;
    let scopes: Vec<&str> = scopes.iter().chain(scope).map(String::as_str).collect();
    if let Some(Credential::IdentityToken(refresh)) = credential {
        let mut form = realm.clone();
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "kiln")
            .append_pair("service", service.as_deref().unwrap_or_default())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", refresh.reveal());
        return http
            .post(realm.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_string());
    }
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    match credential {
        Some(Credential::Password { username, password }) => {
            http.get(url).basic_auth(username, Some(password.reveal()))
        }
        _ => http.get(url),
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
    offered: bool,
) -> Result<Vec<u8>, RegistryFailure> {
    let request = request.timeout(TOKEN_TIMEOUT);
    let mut response = request
        .send()
        .await
        .map_err(RegistryFailure::of_transport)?;
    let status = response.status();
    let retry_after = crate::exchange::retry_after(response.headers());
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(RegistryFailure::of_transport)?
    {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            let what = format!("more than {MAX_ANSWER} bytes");
            return Err(RegistryFailure::Malformed { what });
        }
    }
    if status.is_success() {
        return Ok(body);
    }
    let registry = RegistryMessage::parse(&body);
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
            RegistryFailure::Unauthorized { offered, registry }
        }
        status => crate::exchange::failure_of(status, retry_after, registry, offered),
    })
}

fn basic(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::Password { username, password } => {
            let pair = STANDARD.encode(format!("{username}:{}", password.reveal()));
            sensitive(&format!("Basic {pair}")).ok()
        }
        Credential::RegistryToken(token) => sensitive(&format!("Bearer {}", token.reveal())).ok(),
        Credential::IdentityToken(_) => None,
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, RegistryFailure> {
    let mut header = HeaderValue::from_str(text).map_err(|_| RegistryFailure::Malformed {
        what: "a token with characters that no header has".into(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}
