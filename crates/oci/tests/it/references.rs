use oci::Reference;
use proptest::prelude::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn short_names_mean_what_docker_means() {
    #[track_caller]
    fn check(text: &str, full: &str, familiar: &str) {
        let text = text.replace("DIGEST", DIGEST);
        let reference: Reference = text.parse().expect(&text);
        assert_eq!(reference.to_string(), full.replace("DIGEST", DIGEST));
        assert_eq!(
            reference.familiar().to_string(),
            familiar.replace("DIGEST", DIGEST)
        );
    }
    check(
        "busybox",
        "docker.io/library/busybox:latest",
        "busybox:latest",
    );
    check(
        "busybox:1.36",
        "docker.io/library/busybox:1.36",
        "busybox:1.36",
    );
    check(
        "library/busybox",
        "docker.io/library/busybox:latest",
        "busybox:latest",
    );
    check(
        "docker.io/busybox",
        "docker.io/library/busybox:latest",
        "busybox:latest",
    );
    check(
        "index.docker.io/busybox",
        "docker.io/library/busybox:latest",
        "busybox:latest",
    );
    check("user/app", "docker.io/user/app:latest", "user/app:latest");
    check("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest");
    check(
        "busybox@DIGEST",
        "docker.io/library/busybox@DIGEST",
        "busybox@DIGEST",
    );
    check(
        "busybox:1@DIGEST",
        "docker.io/library/busybox:1@DIGEST",
        "busybox:1@DIGEST",
    );
    check("localhost/a", "localhost/a:latest", "localhost/a:latest");
    check(
        "localhost:5000/a:b",
        "localhost:5000/a:b",
        "localhost:5000/a:b",
    );
    check(
        "127.0.0.1:5000/a/b",
        "127.0.0.1:5000/a/b:latest",
        "127.0.0.1:5000/a/b:latest",
    );
    check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
    check(
        "[2001:db8::1]/a@DIGEST",
        "[2001:db8::1]/a@DIGEST",
        "[2001:db8::1]/a@DIGEST",
    );
    check(
        "ghcr.io/o/a-b__c.d",
        "ghcr.io/o/a-b__c.d:latest",
        "ghcr.io/o/a-b__c.d:latest",
    );
    check("Registry/a", "Registry/a:latest", "Registry/a:latest");
    check("a---b", "docker.io/library/a---b:latest", "a---b:latest");
    check("sha256:abc", "docker.io/library/sha256:abc", "sha256:abc");
    // Cut short, these would name another image or none.
    check(
        "docker.io/x.y/a",
        "docker.io/x.y/a:latest",
        "docker.io/x.y/a:latest",
    );
    let id = "a".repeat(64);
    let by_id = format!("library/{id}:latest");
    check(
        &format!("docker.io/library/{id}"),
        &format!("docker.io/{by_id}"),
        &by_id,
    );
}

#[test]
fn a_text_without_a_version_may_mean_a_repository() {
    for text in ["app", "localhost:5000/app", "[::1]:5000/a/b", "sha256/a"] {
        assert!(Reference::is_repository(text), "{text}");
    }
    for text in ["app:1", "localhost:5000/app:latest", "a/b@sha256:00"] {
        assert!(!Reference::is_repository(text), "{text}");
    }
}

#[test]
fn other_texts_are_refused() {
    #[track_caller]
    fn check(text: &str, message: &str) {
        let error = text.parse::<Reference>().expect_err(text).to_string();
        assert!(error.contains(message), "{error}");
    }
    check("", "has no repository");
    check(":tag", "has no repository");
    check("localhost/", "has no repository");
    check("localhost:5000/:tag", "has no repository");
    check("busyBox", "capital letters");
    check("user/App", "capital letters");
    check("a//b", "is no part of a repository");
    check("-a", "is no part of a repository");
    check("a-", "is no part of a repository");
    check("a..b", "is no part of a repository");
    check("a___b", "is no part of a repository");
    check("a.-b", "is no part of a repository");
    check("a b", "is no part of a repository");
    check("äpfel", "is no part of a repository");
    check("a:", "is no tag");
    check("a:.b", "is no tag");
    check("a:b/c", "no host name or address");
    check(&format!("a:{}", "t".repeat(129)), "is no tag");
    check("a@sha256:12", "has a bad digest");
    check("a@b@c", "has a bad digest");
    check("host.example:port/a", "no host name or address");
    check("host.example:99999/a", "no host name or address");
    check("host.example:/a", "no host name or address");
    check("[::1/a", "no host name or address");
    check("[::1]x/a", "no host name or address");
    check("[zz]:5/a", "no host name or address");
    check("user:secret@host.example/a", "has a bad digest");
    check("https://host.example/a", "no host name or address");
    check(&"f".repeat(64), "is an image's id");
    check(&"a/".repeat(128), "more than 255");
}

#[test]
fn parts_can_be_taken_and_replaced() {
    let reference: Reference = "ghcr.io/o/a:1".parse().expect("valid");
    assert_eq!(reference.name(), "ghcr.io/o/a");
    assert_eq!(
        (reference.registry(), reference.repository()),
        ("ghcr.io", "o/a")
    );
    assert_eq!((reference.tag(), reference.digest()), (Some("1"), None));
    let digest = DIGEST.parse().expect("valid");
    let pinned = reference.with_digest(digest);
    assert_eq!((pinned.tag(), pinned.digest()), (None, Some(digest)));
    assert_eq!(
        pinned.with_tag("2").expect("valid").to_string(),
        "ghcr.io/o/a:2"
    );
    assert!(pinned.with_tag("not a tag").is_err());
}

proptest! {
    /// Whatever parses, parses to the same reference from both of its written forms.
    #[test]
    fn written_forms_read_back(text in "[a-zA-Z0-9.:/@_\\[\\]-]{0,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().expect("full"), reference.clone());
            let familiar = reference.familiar().to_string();
            prop_assert_eq!(familiar.parse::<Reference>().expect("familiar"), reference);
        }
    }

    /// Valid names of every shape are taken.
    #[test]
    fn valid_names_are_taken(
        registry in proptest::option::of("([a-z][a-z0-9]{0,5}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?|localhost|\\[::[0-9a-f]\\])"),
        path in "[a-z0-9]{1,5}((_|__|-{1,3})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,4}){0,2}",
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}"),
    ) {
        let mut text = registry.map_or(String::new(), |registry| registry + "/") + &path;
        if let Some(tag) = &tag {
            text = format!("{text}:{tag}");
        }
        let reference = text.parse::<Reference>().expect(&text);
        prop_assert_eq!(reference.tag(), Some(tag.as_deref().unwrap_or("latest")));
    }
}
