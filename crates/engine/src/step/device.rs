//! `RUN --device`: which devices a step gets, and whether it may have them.

use graph::Exec;

use crate::build::Session;
use crate::cdi::{self, Catalog, CdiError, Found};
use crate::error::StepError;
use crate::event::{EventKind, Stream, VertexDigest};
use crate::request::Entitlement;

/// What is described on this machine; `None` for steps that ask for nothing.
pub(super) fn catalog(session: &Session<'_>, exec: &Exec) -> Option<Catalog> {
    (!exec.devices.is_empty()).then(|| Catalog::read(session.device_specs))
}

/// The devices that a step asks for, each once. One that is not there and not required is left
/// out, which the step's log says.
pub(super) fn find<'c>(
    session: &Session<'_>,
    step: VertexDigest,
    exec: &Exec,
    catalog: &'c Catalog,
) -> Result<Vec<Found<'c>>, StepError> {
    let mut all: Vec<Found<'c>> = Vec::new();
    for device in &exec.devices {
        let found = match catalog.find(&device.name) {
            Ok(found) => found,
            Err(error @ CdiError::Missing { .. }) if !device.required => {
                let line = format!("device `{}` is left out: {error}\n", device.name);
                session.events.send(EventKind::Log {
                    step,
                    stream: Stream::Stderr,
                    bytes: line.into_bytes(),
                });
                continue;
            }
            Err(error) => return Err(failed(&device.name)(error)),
        };
        for device in found {
            permit(session, &device)?;
            if !all.iter().any(|other| other.name() == device.name()) {
                all.push(device);
            }
        }
    }
    Ok(all)
}

/// The error of a device that a step cannot be given.
pub(super) fn failed(name: &str) -> impl FnOnce(CdiError) -> StepError {
    StepError::failed(format!("give the step the device `{name}`"))
}

fn permit(session: &Session<'_>, device: &Found<'_>) -> Result<(), StepError> {
    let allowed = session.request.allow.iter().any(|allowed| match allowed {
        Entitlement::Device(None) => true,
        Entitlement::Device(Some(name)) => cdi::allows(name, device.name()),
        _ => false,
    });
    match allowed || device.is_for_all() {
        true => Ok(()),
        false => Err(StepError::refused(format!(
            "the step needs the entitlement device: allow it with --allow device, or only this \
             one with --allow device={}",
            device.name()
        ))),
    }
}
