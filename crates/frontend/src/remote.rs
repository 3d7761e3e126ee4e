//! Which sources of `ADD` are URLs and which are git repositories (rows C18, C19), and what the
//! latter say in fragment and query.

use graph::GitSource;

/// A source that does not lie in the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// A file to download.
    Http {
        /// The URL as written.
        url: String,
        /// Name of the file it becomes.
        filename: String,
    },
    /// A repository.
    Git(GitUrl),
}

/// A git repository with everything its URL says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GitUrl {
    /// The part that git is given.
    pub(crate) remote: String,
    /// Branch, tag or commit.
    pub(crate) reference: Option<String>,
    /// Subdirectory; empty for all.
    pub(crate) subdir: String,
    /// `keep-git-dir=`.
    pub(crate) keep_git_dir: Option<bool>,
    /// `submodules=`.
    pub(crate) submodules: Option<bool>,
    /// `checksum=` or `commit=`.
    pub(crate) checksum: Option<String>,
}

/// Why a git URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitUrlError {
    /// It is no git URL at all.
    #[error("`{0}` is no git URL (https://….git, ssh://…, git://…, git@host:path, github.com/…)")]
    NotGit(String),
    /// A query parameter that does not exist.
    #[error("git URL has an unknown query parameter `{0}`")]
    UnknownKey(String),
    /// A query parameter that is given twice.
    #[error("git URL has `{key}` more than once")]
    Repeated {
        /// The parameter.
        key: String,
    },
    /// Two of `ref`, `tag` and `branch`.
    #[error("git URL names two references, `{0}` and `{1}`")]
    TwoReferences(String, String),
    /// A switch with another value than a boolean.
    #[error("git URL has `{key}={value}`, which is neither true nor false")]
    NotBoolean {
        /// The parameter.
        key: String,
        /// Its value.
        value: String,
    },
    /// Both `#ref:subdir` and `?ref=…`.
    #[error("git URL has both a fragment and a query; one of them has to say it all")]
    FragmentAndQuery,
}

/// Tells whether a context is a git repository (row B3): any git URL, and `github.com/…`.
pub fn is_git_context(text: &str) -> bool {
    text.starts_with("github.com/") || split_git(text).is_some()
}

/// Reads the git URL of a context, `#ref:subdir` or query included. The `.git` directory is kept
/// only if the URL says so.
///
/// # Errors
/// When it is no git URL (see [`is_git_context`]) or a part of it makes no sense.
pub fn git_source(url: &str) -> Result<GitSource, GitUrlError> {
    let full = match url.starts_with("github.com/") {
        true => format!("https://{url}"),
        false => url.to_owned(),
    };
    let parts = match split_git(&full) {
        Some(parts) => parts,
        None if full != url => parts_of(&full),
        None => return Err(GitUrlError::NotGit(url.to_owned())),
    };
    let url = parse_git(parts)?;
    Ok(GitSource {
        remote: url.remote,
        reference: url.reference,
        commit: None,
        subdir: url.subdir,
        keep_git_dir: url.keep_git_dir.unwrap_or(false),
        submodules: url.submodules.unwrap_or(true),
        checksum: url.checksum,
    })
}

/// Query parameters of a git URL, for suggestions.
pub(crate) const GIT_KEYS: &[&str] = &[
    "ref",
    "tag",
    "branch",
    "commit",
    "checksum",
    "subdir",
    "keep-git-dir",
    "submodules",
    "mtime",
    "fetch-by-commit",
];

/// Classifies a source; `None` is a path of the context.
pub(crate) fn classify(source: &str) -> Result<Option<Remote>, GitUrlError> {
    if let Some(git) = split_git(source) {
        return parse_git(git).map(|url| Some(Remote::Git(url)));
    }
    if source.starts_with("http://") || source.starts_with("https://") {
        return Ok(Some(Remote::Http {
            url: source.to_owned(),
            filename: http_filename(source),
        }));
    }
    Ok(None)
}

/// A git URL cut into its parts.
struct GitParts<'a> {
    remote: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

fn parts_of(source: &str) -> GitParts<'_> {
    let (rest, fragment) = cut(source, '#');
    let (remote, query) = cut(rest, '?');
    GitParts {
        remote,
        query,
        fragment,
    }
}

fn split_git(source: &str) -> Option<GitParts<'_>> {
    let parts = parts_of(source);
    let is_git = match parts.remote.split_once("://") {
        Some(("ssh" | "git", _)) => true,
        Some(("http" | "https", path)) => path.contains('/') && path.ends_with(".git"),
        Some(_) => false,
        None => is_scp(parts.remote),
    };
    is_git.then_some(parts)
}

fn cut(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// `user@host:path`.
fn is_scp(remote: &str) -> bool {
    let word = |text: &str, extra: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c) || extra.contains(c))
    };
    remote.split_once('@').is_some_and(|(user, rest)| {
        let host = rest.split_once(':').map(|(host, _)| host);
        word(user, "") && host.is_some_and(|host| word(host, "."))
    })
}

fn parse_git(parts: GitParts<'_>) -> Result<GitUrl, GitUrlError> {
    let mut url = GitUrl {
        remote: parts.remote.to_owned(),
        ..GitUrl::default()
    };
    if let Some(fragment) = parts.fragment {
        let (reference, subdir) = cut(fragment, ':');
        url.reference = (!reference.is_empty()).then(|| reference.to_owned());
        url.subdir = oci::path::clamp(subdir.unwrap_or_default());
    }
    let Some(query) = parts.query.filter(|query| !query.is_empty()) else {
        return Ok(url);
    };
    if parts.fragment.is_some_and(|fragment| !fragment.is_empty()) {
        return Err(GitUrlError::FragmentAndQuery);
    }
    let mut seen: Vec<String> = Vec::new();
    for pair in query.split('&') {
        let (key, value) = cut(pair, '=');
        let (key, value) = (percent_decode(key), value.map(percent_decode));
        if seen.contains(&key) {
            return Err(GitUrlError::Repeated { key });
        }
        set_parameter(&mut url, &key, value)?;
        seen.push(key);
    }
    // A whole commit says enough; the beginning of one only checks what a branch or tag leads to.
    let is_whole = |commit: &String| matches!(commit.len(), 40 | 64);
    if url.reference.is_none() && seen.iter().any(|key| key == "commit") {
        url.reference = url.checksum.clone().filter(is_whole);
    }
    Ok(url)
}

fn set_parameter(url: &mut GitUrl, key: &str, value: Option<String>) -> Result<(), GitUrlError> {
    let text = value.clone().unwrap_or_default();
    match key {
        "ref" => set_reference(url, text)?,
        "tag" => set_reference(url, format!("refs/tags/{}", strip(&text, "refs/tags/")))?,
        "branch" => set_reference(url, format!("refs/heads/{}", strip(&text, "refs/heads/")))?,
        "checksum" | "commit" => url.checksum = Some(text),
        "subdir" => url.subdir = oci::path::clamp(&text),
        "keep-git-dir" => url.keep_git_dir = Some(flag(key, value)?),
        "submodules" => url.submodules = Some(flag(key, value)?),
        // Layer times are kiln's own, and fetching by commit is what it does whenever it can.
        "mtime" | "fetch-by-commit" => {}
        key => return Err(GitUrlError::UnknownKey(key.to_owned())),
    }
    Ok(())
}

fn set_reference(url: &mut GitUrl, reference: String) -> Result<(), GitUrlError> {
    if let Some(first) = url.reference.take() {
        return Err(GitUrlError::TwoReferences(first, reference));
    }
    url.reference = (!reference.is_empty()).then_some(reference);
    Ok(())
}

fn strip<'a>(text: &'a str, prefix: &str) -> &'a str {
    text.strip_prefix(prefix).unwrap_or(text)
}

fn flag(key: &str, value: Option<String>) -> Result<bool, GitUrlError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(true);
    };
    let key = key.to_owned();
    crate::mount::parse_bool(&value).ok_or(GitUrlError::NotBoolean { key, value })
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let decoded = (byte == b'%')
            .then(|| tail.get(..2).and_then(hex_byte))
            .flatten();
        match decoded {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

/// Last component of the URL's path.
fn http_filename(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let name = percent_decode(&path.replace('+', "%2B"));
    match crate::path::base_name(&name) {
        "/" | "." | ".." => "__unnamed__".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_http(source: &str, filename: &str) {
        let expected = Remote::Http {
            url: source.to_owned(),
            filename: filename.to_owned(),
        };
        assert_eq!(classify(source), Ok(Some(expected)));
    }

    #[track_caller]
    fn check_git(source: &str, expected: GitUrl) {
        assert_eq!(classify(source), Ok(Some(Remote::Git(expected))));
    }

    fn git(remote: &str) -> GitUrl {
        GitUrl {
            remote: remote.to_owned(),
            ..GitUrl::default()
        }
    }

    #[test]
    fn c18_http() {
        check_http("https://example.com/a/b.tar.gz?x=1#y", "b.tar.gz");
        check_http("https://example.com/a/b%20c", "b c");
        check_http("http://example.com", "__unnamed__");
        check_http("http://example.com/", "__unnamed__");
        check_http("http://example.com/dir/", "dir");
        // Only a path that ends in `.git` is a repository.
        check_http("https://github.com/o/r", "r");
        check_http("https://example.com/x?y=.git", "x");
    }

    #[test]
    fn c19_git() {
        check_git("https://h/o/r.git", git("https://h/o/r.git"));
        check_git("git@github.com:o/r", git("git@github.com:o/r"));
        check_git("ssh://h/r", git("ssh://h/r"));
        check_git("git://h/r", git("git://h/r"));
        let expected = GitUrl {
            reference: Some("v1".to_owned()),
            subdir: "sub/dir".to_owned(),
            ..git("https://h/r.git")
        };
        check_git("https://h/r.git#v1:sub/dir/", expected);
        let expected = GitUrl {
            reference: Some("refs/tags/v1".to_owned()),
            subdir: "s".to_owned(),
            keep_git_dir: Some(true),
            submodules: Some(false),
            checksum: Some("abc".to_owned()),
            ..git("https://h/r.git")
        };
        let query = "tag=v1&subdir=s&keep-git-dir&submodules=false&checksum=abc&mtime=commit";
        check_git(&format!("https://h/r.git?{query}"), expected);
    }

    #[test]
    fn c19_commits() {
        let commit = "0123456789012345678901234567890123456789";
        for (query, reference, checksum) in [
            (format!("commit={commit}"), Some(commit), commit),
            (format!("ref=v1&commit={commit}"), Some("v1"), commit),
            (format!("checksum={commit}"), None, commit),
            ("commit=0123".to_owned(), None, "0123"),
        ] {
            let expected = GitUrl {
                reference: reference.map(str::to_owned),
                checksum: Some(checksum.to_owned()),
                ..git("https://h/r.git")
            };
            check_git(&format!("https://h/r.git?{query}"), expected);
        }
    }

    #[test]
    fn c19_errors() {
        let error = |source: &str| classify(source).unwrap_err().to_string();
        assert_eq!(
            error("https://h/r.git?reff=x"),
            "git URL has an unknown query parameter `reff`"
        );
        assert_eq!(
            error("https://h/r.git?ref=a&tag=b"),
            "git URL names two references, `a` and `refs/tags/b`"
        );
        assert_eq!(
            error("https://h/r.git?submodules=perhaps"),
            "git URL has `submodules=perhaps`, which is neither true nor false"
        );
    }

    #[test]
    fn b3_contexts() {
        let source = git_source("github.com/o/r#main:dir").expect("a git URL");
        assert_eq!(source.remote, "https://github.com/o/r");
        assert_eq!(source.reference.as_deref(), Some("main"));
        assert_eq!((source.subdir.as_str(), source.submodules), ("dir", true));
        assert!(is_git_context("git@host:o/r") && !is_git_context("./github.com/o"));
        let error = git_source("https://example.com/x").unwrap_err();
        assert!(matches!(error, GitUrlError::NotGit(_)));
    }

    #[test]
    fn paths_are_paths() {
        for path in [
            "a",
            "./git@x",
            "dir/x.git",
            "ftp://h/x",
            "user@host",
            "C:\\x",
        ] {
            assert_eq!(classify(path), Ok(None), "{path:?}");
        }
    }
}
