//! What authenticates downloads and repositories: secrets of the build under the names that
//! BuildKit takes for a host, and the agent of `--ssh default`.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;

use crate::git_remote::Access;
use crate::request::{BuildRequest, SecretSource};

/// The `Authorization` header for a URL.
pub(crate) fn of_download(request: &BuildRequest, url: &str) -> Option<String> {
    let host = authority(url)?;
    let secret = |kind: &str| text(&request.secrets, &format!("HTTP_AUTH_{kind}_{host}"));
    secret("HEADER").or_else(|| Some(format!("Bearer {}", secret("TOKEN")?)))
}

/// How to get at a repository. What is meant for its host comes first.
pub(crate) fn of_repository(request: &BuildRequest, remote: &str) -> Access {
    let secret = |kind: &str, host: &str| text(&request.secrets, &format!("GIT_AUTH_{kind}{host}"));
    let token = |host: &str| {
        let pair = format!("x-access-token:{}", secret("TOKEN", host)?);
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        Some(format!("basic {encoded}"))
    };
    let hosts = authority(remote).into_iter().flat_map(|authority| {
        let host = authority.split(':').next().unwrap_or(authority);
        [format!(".{authority}"), format!(".{host}")]
    });
    Access {
        authorization: hosts
            .chain([String::new()])
            .find_map(|host| secret("HEADER", &host).or_else(|| token(&host))),
        ssh_agent: request.ssh_socket("default").map(Path::to_owned),
    }
}

/// Host and port of a URL, without who is asking.
pub(crate) fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?', '#']).next()?.rsplit('@').next()
}

fn text(secrets: &BTreeMap<String, SecretSource>, name: &str) -> Option<String> {
    let value = match secrets.get(name)? {
        SecretSource::Value(value) => String::from_utf8(value.clone()).ok()?,
        SecretSource::File(path) => std::fs::read_to_string(path).ok()?,
    };
    Some(value.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(secrets: &[(&str, &str)]) -> BuildRequest {
        let secret = |&(name, value): &(&str, &str)| {
            let value = SecretSource::Value(value.as_bytes().to_vec());
            (name.to_string(), value)
        };
        BuildRequest {
            secrets: secrets.iter().map(secret).collect(),
            ..BuildRequest::default()
        }
    }

    #[test]
    fn downloads() {
        let request = request(&[
            ("HTTP_AUTH_TOKEN_a.example", "t\n"),
            ("HTTP_AUTH_TOKEN_b.example:8443", "u"),
            ("HTTP_AUTH_HEADER_b.example:8443", "Basic x"),
        ]);
        for (url, expected) in [
            ("https://a.example/f?x", Some("Bearer t")),
            ("https://me:pw@a.example", Some("Bearer t")),
            ("http://b.example:8443/a@b", Some("Basic x")),
            ("https://b.example/f", None),
            ("https://c.example/a.example", None),
        ] {
            assert_eq!(of_download(&request, url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn repositories() {
        let request = request(&[
            ("GIT_AUTH_TOKEN", "any"),
            ("GIT_AUTH_HEADER.a.example", "Basic a"),
            ("GIT_AUTH_TOKEN.b.example", "b"),
            ("GIT_AUTH_TOKEN.c.example:81", "c"),
        ]);
        let basic = |token: &str| {
            let pair = format!("x-access-token:{token}");
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("basic {encoded}")
        };
        for (remote, expected) in [
            ("https://a.example/r.git", "Basic a".to_string()),
            ("https://me@b.example:8443/r.git", basic("b")),
            ("https://c.example:81/r.git", basic("c")),
            ("https://c.example/r.git", basic("any")),
        ] {
            let access = of_repository(&request, remote);
            assert_eq!(access.authorization, Some(expected), "{remote}");
        }
    }
}
