//! Who may do what.

use std::collections::BTreeSet;

use super::Shared;
use super::wire::{Answer, Head, unescape};

/// How clients show who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Not at all.
    Open,
    /// Name and password with every request: the base64 of `name:password`.
    Basic(String),
    /// A token for everything. With a base64 of `name:password` or a refresh token, tokens are
    /// given to its bearer only.
    Token(Option<String>),
}

impl Shared {
    /// The refusal of a request, if it is refused.
    pub(super) fn refusal(&self, head: &Head) -> Option<Answer> {
        let shown = head
            .headers
            .get("authorization")
            .map(String::as_str)
            .unwrap_or_default();
        let refused = Answer::error(401, "UNAUTHORIZED", "authentication required");
        match &self.access {
            Access::Open => None,
            Access::Basic(pair) if shown == format!("Basic {pair}") => None,
            Access::Basic(_) => Some(refused.with("www-authenticate", "Basic realm=\"testkit\"")),
            Access::Token(_) => {
                let needed = needed_scopes(head);
                let token = shown.strip_prefix("Bearer ").unwrap_or_default();
                let state = self.state();
                let granted = state.tokens.get(token);
                let enough = granted.is_some_and(|granted| {
                    needed
                        .iter()
                        .all(|needed| granted.iter().any(|scope| covers(scope, needed)))
                });
                let scope = needed.into_iter().collect::<Vec<_>>().join(" ");
                let challenge = format!(
                    "Bearer realm=\"http://{}/token\",service=\"testkit\",scope=\"{scope}\"",
                    self.address
                );
                (!enough).then(|| refused.with("www-authenticate", challenge))
            }
        }
    }

    /// The token server: gives out a token for whatever is asked.
    pub(super) fn give_token(&self, head: &Head, body: &[u8]) -> Answer {
        let Access::Token(bearer) = &self.access else {
            return Answer::new(404);
        };
        let form: Vec<(String, String)> = String::from_utf8_lossy(body)
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (unescape(name), unescape(value)))
            .collect();
        let field = |name: &str| {
            form.iter()
                .find(|(key, _)| key == name)
                .map(|(_, v)| v.clone())
        };
        let shown = head
            .headers
            .get("authorization")
            .cloned()
            .unwrap_or_default();
        let known = bearer.as_ref().is_none_or(|bearer| {
            shown == format!("Basic {bearer}") || field("refresh_token").as_ref() == Some(bearer)
        });
        if !known {
            return Answer::error(401, "UNAUTHORIZED", "incorrect username or password");
        }
        let asked = head
            .query
            .iter()
            .filter(|(name, _)| name == "scope")
            .map(|(_, v)| v.clone());
        let scopes: BTreeSet<String> = match field("scope") {
            Some(scopes) => scopes.split(' ').map(str::to_string).collect(),
            None => asked.collect(),
        };
        let mut state = self.state();
        let token = state.fresh("token");
        state.tokens.insert(token.clone(), scopes);
        Answer::new(200).body(serde_json::json!({"token": token, "expires_in": 300}).to_string())
    }
}

/// The scopes that a request needs: pulling or pushing in its repository, and pulling where it
/// mounts from.
fn needed_scopes(head: &Head) -> BTreeSet<String> {
    let path = head.path.trim_start_matches("/v2/");
    let cut = ["/blobs/", "/manifests/", "/tags/"]
        .iter()
        .find_map(|part| path.find(part));
    let Some(cut) = cut else {
        return BTreeSet::new();
    };
    let pushes = !matches!(head.method.as_str(), "GET" | "HEAD") || path.contains("/uploads/");
    let actions = if pushes { "pull,push" } else { "pull" };
    let mut scopes = BTreeSet::from([format!("repository:{}:{actions}", &path[..cut])]);
    if let Some(from) = head.query("from") {
        scopes.insert(format!("repository:{from}:pull"));
    }
    scopes
}

/// Whether a granted scope is enough for a needed one.
fn covers(granted: &str, needed: &str) -> bool {
    let (Some((granted, may)), Some((needed, does))) =
        (granted.rsplit_once(':'), needed.rsplit_once(':'))
    else {
        return false;
    };
    granted == needed
        && does
            .split(',')
            .all(|action| may.split(',').any(|a| a == action))
}
