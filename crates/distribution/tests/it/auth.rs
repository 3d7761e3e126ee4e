use distribution::{BlobSource, Credential, Credentials, Secret, Version};
use testkit::{Access, Effect, Registry};

use super::*;

/// Base64 of `user:pass`.
const PAIR: &str = "dXNlcjpwYXNz";

pub(super) fn password(registry: &Registry) -> Credentials {
    let password = Secret::new("pass");
    let credential = Credential::Password {
        username: "user".into(),
        password,
    };
    Credentials::none().with(registry.host(), credential)
}

fn repository_as(registry: &Registry, credentials: Credentials) -> Repository {
    repository_with(
        &registry.host(),
        ClientOptions {
            credentials,
            ..options()
        },
    )
}

fn tag() -> Version {
    Version::Tag("1".into())
}

#[tokio::test]
async fn every_way_in_is_found() {
    let token = |secret: &str| Access::Token(Some(secret.into()));
    let refresh = |registry: &Registry| {
        let credential = Credential::IdentityToken(Secret::new("refresh-me"));
        Credentials::none().with(registry.host(), credential)
    };
    let nobody = |_: &Registry| Credentials::none();
    type Show = fn(&Registry) -> Credentials;
    let cases: [(Access, Show); 5] = [
        (Access::Open, nobody),
        (Access::Basic(PAIR.into()), password),
        (Access::Token(None), nobody),
        (token(PAIR), password),
        (token("refresh-me"), refresh),
    ];
    for (access, credentials) in cases {
        let registry = Registry::start_with(access.clone());
        let sample = sample();
        sample.put(&registry, "1");
        let repository = repository_as(&registry, credentials(&registry));
        let found = repository.resolve(&tag()).await;
        assert_eq!(
            found.expect("allowed").digest,
            sample.index.digest(),
            "{access:?}"
        );
        let extra = content(1000);
        let source = BlobSource::Bytes(extra.clone().into());
        let pushed = repository.push_blob(&blob(&extra), &source, None).await;
        assert_eq!(
            pushed.expect("allowed"),
            distribution::Pushed::Uploaded,
            "{access:?}"
        );
    }
}

#[tokio::test]
async fn one_token_serves_many_requests_at_once() {
    let registry = Registry::start_with(Access::Token(Some(PAIR.into())));
    let sample = sample();
    sample.put(&registry, "1");
    let repository = repository_as(&registry, password(&registry));
    repository.resolve(&tag()).await.expect("allowed");
    let layer = blob(&sample.layer);
    let fetches = (0..8).map(|_| fetch(&repository, &layer));
    for fetched in futures_util::future::join_all(fetches).await {
        assert_eq!(fetched.expect("allowed"), sample.layer);
    }
    let refusals = registry
        .log()
        .iter()
        .filter(|logged| logged.status == 401)
        .count();
    assert_eq!((refusals, registry.count("GET", "/token")), (1, 1));
}

#[tokio::test]
async fn tokens_are_renewed_when_they_are_refused() {
    let registry = Registry::start_with(Access::Token(Some(PAIR.into())));
    sample().put(&registry, "1");
    let repository = repository_as(&registry, password(&registry));
    for _ in 0..3 {
        repository.resolve(&tag()).await.expect("allowed");
        registry.revoke_tokens();
    }
    assert_eq!(registry.count("GET", "/token"), 3);
}

#[tokio::test]
async fn refusals_say_whether_we_said_who_we_are() {
    let wrong = |registry: &Registry| {
        let password = Secret::new("hunter2");
        let credential = Credential::Password {
            username: "user".into(),
            password,
        };
        Credentials::none().with(registry.host(), credential)
    };
    for access in [Access::Basic(PAIR.into()), Access::Token(Some(PAIR.into()))] {
        let registry = Registry::start_with(access);
        sample().put(&registry, "1");
        let nobody = repository_as(&registry, Credentials::none())
            .resolve(&tag())
            .await;
        let error = nobody.expect_err("refused");
        check_told(&error, &["credentials required", &registry.host()]);
        let wrong = repository_as(&registry, wrong(&registry))
            .resolve(&tag())
            .await;
        let wrong = wrong.expect_err("refused");
        check_told(&wrong, &["credentials refused"]);
        assert!(!format!("{wrong:?}").contains("hunter2"));
        assert!(error.hint().expect("a hint").contains("kiln login"));
        assert!(wrong.hint().expect("a hint").contains("were refused"));
    }
}

#[tokio::test]
async fn a_refused_right_is_no_question_of_patience() {
    let registry = Registry::start();
    registry.fault("POST", "/uploads/", 9, Effect::Status(403, vec![]));
    let error = repository(&registry)
        .check_push()
        .await
        .expect_err("denied");
    check_told(
        &error,
        &[
            "check the right to push to team/app",
            "denied: SCRIPTED: as scripted",
        ],
    );
    assert_eq!(registry.count("POST", "/uploads/"), 1);
}

#[tokio::test]
async fn mounting_asks_for_both_repositories() {
    let registry = Registry::start_with(Access::Token(Some(PAIR.into())));
    let bytes = content(5000);
    registry.put_blob("base/image", &bytes);
    let repository = repository_as(&registry, password(&registry));
    let source = BlobSource::Bytes(bytes.clone().into());
    let pushed = repository
        .push_blob(&blob(&bytes), &source, Some("base/image"))
        .await;
    assert_eq!(pushed.expect("mounted"), distribution::Pushed::Mounted);
    let scopes: Vec<String> = registry
        .log()
        .into_iter()
        .map(|logged| logged.target)
        .collect();
    let both = |target: &String| {
        target.contains("repository%3Abase%2Fimage%3Apull")
            && target.contains("repository%3Ateam%2Fapp%3Apull%2Cpush")
    };
    assert!(scopes.iter().any(both), "{scopes:?}");
}
