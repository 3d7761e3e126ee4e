//! One operation at one host: its requests, its patience, its words for errors.

use std::sync::Arc;

use reqwest::{Response, Url};

use crate::config::{RetryNotice, RetryPolicy};
use crate::error::{RegistryFailure, RequestError};
use crate::exchange::{Call, Endpoint};
use crate::retry::Patience;

/// When to go on to the next host instead of giving up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MoveOn {
    /// There is no other.
    Never,
    /// When this one does not exist or speaks something else.
    IfUnreachable,
    /// Whatever happens (mirrors).
    Always,
}

pub(crate) struct Visit {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Name of the repository at this host; mirrors may have it below a prefix.
    pub(crate) repository: String,
    pub(crate) patience: Patience,
    action: String,
    move_on: MoveOn,
    on_retry: Option<Arc<dyn Fn(RetryNotice) + Send + Sync>>,
}

impl Visit {
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        name: &str,
        action: &str,
        policy: RetryPolicy,
        move_on: MoveOn,
        on_retry: Option<Arc<dyn Fn(RetryNotice) + Send + Sync>>,
    ) -> Visit {
        let prefix = endpoint.address.base.path().trim_start_matches("/v2/");
        Visit {
            repository: format!("{prefix}{name}"),
            patience: Patience::new(policy),
            action: action.into(),
            endpoint,
            move_on,
            on_retry,
        }
    }

    /// The URL of something of the repository.
    pub(crate) fn url(&self, tail: &str) -> Url {
        let mut url = self.endpoint.address.base.clone();
        // Names, tags and digests have no characters that need escaping.
        url.set_path(&format!("/v2/{}/{tail}", self.repository));
        url
    }

    /// Sends a request until it succeeds or patience ends.
    pub(crate) async fn send(&mut self, call: &Call) -> Result<Response, RegistryFailure> {
        loop {
            match self.endpoint.exchange(call).await {
                Ok(response) => return Ok(response),
                Err(failure) => self.pause(failure).await?,
            }
        }
    }

    /// Pauses as long as `failure` asks for, or gives it back when patience has ended.
    pub(crate) async fn pause(&mut self, failure: RegistryFailure) -> Result<(), RegistryFailure> {
        let Some(pause) = self.patience.pause_after(&failure) else {
            return Err(failure);
        };
        if let Some(on_retry) = &self.on_retry
            && !pause.is_zero()
        {
            on_retry(RetryNotice {
                host: self.endpoint.address.host(),
                action: self.action.clone(),
                reason: failure.to_string(),
                pause,
            });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Whether to try the next host after `failure`.
    pub(crate) fn moves_on(&self, failure: &RegistryFailure) -> bool {
        match self.move_on {
            MoveOn::Never => false,
            MoveOn::IfUnreachable => matches!(
                failure,
                RegistryFailure::Connect { .. } | RegistryFailure::Tls { .. }
            ),
            MoveOn::Always => true,
        }
    }

    /// What came of the visit; `None` when the next host is to be asked.
    pub(crate) fn settle<T>(
        &self,
        outcome: Result<T, RegistryFailure>,
    ) -> Option<Result<T, RequestError>> {
        match outcome {
            Ok(answer) => Some(Ok(answer)),
            Err(failure) if self.moves_on(&failure) => None,
            Err(failure) => Some(Err(self.error(failure))),
        }
    }

    pub(crate) fn error(&self, failure: RegistryFailure) -> RequestError {
        RequestError {
            host: self.endpoint.address.host(),
            action: self.action.clone(),
            failure,
        }
    }
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.action, self.endpoint.address.host())
    }
}
