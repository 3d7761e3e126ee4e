//! Names that are no stage: images of a registry, and named contexts that stand for them.

use dockerfile::{Diagnostic, Span};
use graph::{ImageOrigin, Source};
use oci::Platform;

use crate::known::Need;
use crate::plan::list;
use crate::request::{Context, LowerRequest};

/// What a name outside the file means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum External {
    /// An image, which has a config.
    Image { need: Need, origin: ImageOrigin },
    /// A tree of files of the request, by key of its named context.
    Files { context: String },
    /// A source that is fetched, for the named context of this key.
    Fetched { context: String, source: Source },
    /// A named context that there is none of.
    Nothing,
}

/// Resolves a name, named contexts first (F3).
pub(crate) fn resolve(
    name: &str,
    platform: Option<&Platform>,
    request: &LowerRequest,
) -> Result<External, oci::ReferenceError> {
    if let Some(key) = request.named_context(name, platform) {
        return Ok(context(key, platform, request));
    }
    let reference = name.parse()?;
    let platform = platform
        .unwrap_or_else(|| request.target_platform())
        .clone();
    Ok(External::Image {
        need: Need::Image {
            reference,
            platform,
        },
        origin: ImageOrigin::Registry,
    })
}

/// What the named context with this key of the request is.
pub(crate) fn context(key: &str, platform: Option<&Platform>, request: &LowerRequest) -> External {
    let platform = platform
        .unwrap_or_else(|| request.target_platform())
        .clone();
    let name = key.to_owned();
    match request.named_contexts.get(key) {
        None | Some(Context::None) => External::Nothing,
        Some(Context::Files { .. }) => External::Files { context: name },
        Some(Context::Git(git)) => External::Fetched {
            context: name,
            source: Source::Git(git.clone()),
        },
        Some(Context::Http(http)) => External::Fetched {
            context: name,
            source: Source::Http(http.clone()),
        },
        Some(Context::Image(reference)) => External::Image {
            need: Need::Image {
                reference: reference.clone(),
                platform,
            },
            origin: ImageOrigin::Registry,
        },
        Some(Context::Layout) => External::Image {
            need: Need::Layout {
                context: name.clone(),
                platform,
            },
            origin: ImageOrigin::Layout(name),
        },
    }
}

/// The error of a name that is neither a stage nor a possible image.
pub(crate) fn bad_name<'a>(
    error: &oci::ReferenceError,
    span: Span,
    stages: impl DoubleEndedIterator<Item = &'a str>,
) -> Diagnostic {
    let error = Diagnostic::error("image-name", span, error.to_string());
    match list(stages) {
        Some(stages) => error.with_note(format!("stages defined before: {stages}")),
        None => error,
    }
}
