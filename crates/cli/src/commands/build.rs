//! `kiln build`.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use engine::event::Events;
use engine::request::Call;
use engine::{BuildError, BuildOutcome, Cancel, Engine, Unvaried, Verification};
use serde_json::{Map, Value, json};

use super::{ENVIRONMENT, Session, diff};
use crate::args::{BuildArgs, ProgressMode};
use crate::{exit, failure, progress, report};

/// Builds, showing progress, and prints or writes what came of it.
pub(crate) fn build(session: &Session, args: &BuildArgs) -> Result<ExitCode> {
    let request = args.request(&ENVIRONMENT)?;
    let call = request.call;
    let takes_stdout = request.takes_stdout();
    let verify = args.verify && call == Call::Build;
    let mode = if args.quiet || call != Call::Build {
        ProgressMode::Quiet
    } else {
        args.progress
    };
    let (engine, second) = if verify {
        let again = |title: &str, engine: &Engine, request| {
            let cancel = cancelled_by_signals()?;
            if !matches!(mode, ProgressMode::Quiet | ProgressMode::Json) {
                eprintln!("{title}");
            }
            shown(args, mode, |events| engine.build(request, events, &cancel))
        };
        let (engine, second) = session.engines(&request, again)?;
        (engine, Some(second))
    } else {
        (session.engine()?, None)
    };
    let cancel = cancelled_by_signals()?;
    let built = match second {
        None => shown(args, mode, |events| engine.build(request, events, &cancel))
            .map(|outcome| (outcome, None)),
        Some(second) => shown(args, mode, |events| {
            engine.build_first(request.clone(), events, &cancel)
        })
        .and_then(|outcome| {
            let found = engine.verify(&request, &outcome, second, &cancel)?;
            Ok((outcome, Some(found)))
        }),
    };
    let (outcome, verification) = match built {
        Ok(built) => built,
        Err(error) => return failed(error, call != Call::Build && args.wants_json(), mode),
    };
    if call != Call::Build {
        return Ok(answer(call, &outcome, args.wants_json()));
    }
    write_results(args, &outcome)?;
    print_results(args, &outcome, takes_stdout);
    Ok(verification.map_or(ExitCode::SUCCESS, |found| verdict(&found)))
}

fn cancelled_by_signals() -> Result<Cancel, BuildError> {
    let cancel = Cancel::new();
    engine::cancel_on_signal(&cancel).map_err(|error| BuildError::Store {
        attempt: "handle signals".into(),
        source: error.into(),
    })?;
    Ok(cancel)
}

/// Shows the progress of what is done meanwhile.
fn shown<T>(args: &BuildArgs, mode: ProgressMode, work: impl FnOnce(&Events) -> T) -> T {
    let (events, receiver) = Events::channel();
    let started = SystemTime::now();
    let explain = args.explain;
    std::thread::scope(|scope| {
        let renderer = scope.spawn(move || progress::render(mode, explain, &receiver, started));
        let done = work(&events);
        drop(events);
        drop(renderer.join());
        done
    })
}

/// Says what verification found.
fn verdict(found: &Verification) -> ExitCode {
    for Unvaried { what, why } in &found.unvaried {
        eprintln!("not varied: {what}: {why}");
    }
    let differences = &found.differences;
    if differences.is_empty() {
        eprintln!("verified: the second build made the same image");
        return ExitCode::SUCCESS;
    }
    eprint!("{}", diff::text(differences));
    eprintln!("error: the second build made another image");
    exit::FAILURE.into()
}

/// Reports a failure in the form that was asked for; people get theirs from the caller.
fn failed(error: BuildError, json_answer: bool, mode: ProgressMode) -> Result<ExitCode> {
    match &error {
        BuildError::Rejected(found) if json_answer => {
            println!("{}", json!({"diagnostics": report::json(found)}));
        }
        _ if mode == ProgressMode::Json => {
            let line = progress::record(SystemTime::now(), failure::facts(&error));
            eprintln!("{line}");
        }
        _ => return Err(error.into()),
    }
    Ok(failure::code(&error.into(), exit::FAILURE).into())
}

/// Prints the answer to a question that was asked instead of building.
fn answer(call: Call, outcome: &BuildOutcome, as_json: bool) -> ExitCode {
    if let Some(text) = if as_json {
        &outcome.answer_json
    } else {
        &outcome.answer
    } {
        print!("{text}");
    }
    if call != Call::Check {
        return ExitCode::SUCCESS;
    }
    let found = &outcome.warnings;
    let count = found.diagnostics.len();
    if as_json {
        println!("{}", json!({"diagnostics": report::json(found)}));
    } else if count == 0 {
        println!("Check complete, no warnings found.");
    } else {
        println!(
            "{}\n\nCheck complete, {count} warning{} found.",
            report::render(found, false),
            if count == 1 { "" } else { "s" }
        );
    }
    if count == 0 {
        ExitCode::SUCCESS
    } else {
        exit::FAILURE.into()
    }
}

fn write_results(args: &BuildArgs, outcome: &BuildOutcome) -> Result<()> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.iidfile {
        write(
            path,
            outcome
                .image_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
        )?;
    }
    if let Some(path) = &args.metadata_file {
        write(path, format!("{:#}\n", metadata(outcome)))?;
    }
    Ok(())
}

/// The metadata file, its keys as in buildx.
fn metadata(outcome: &BuildOutcome) -> Value {
    let mut fields = Map::new();
    if let Some(config) = outcome.config {
        fields.insert(
            "containerimage.config.digest".into(),
            config.to_string().into(),
        );
    }
    let shipped = outcome.descriptor.as_ref().map(|found| found.digest);
    // An image that is only in the store is known by its id, as in docker's.
    if let Some(digest) = shipped.or(outcome.image_id) {
        fields.insert("containerimage.digest".into(), digest.to_string().into());
    }
    if let Some(descriptor) = &outcome.descriptor {
        fields.insert(
            "containerimage.descriptor".into(),
            serde_json::to_value(descriptor).unwrap_or_default(),
        );
    }
    if !outcome.names.is_empty() {
        let names: Vec<String> = outcome.names.iter().map(ToString::to_string).collect();
        fields.insert("image.name".into(), names.join(",").into());
    }
    Value::Object(fields)
}

fn print_results(args: &BuildArgs, outcome: &BuildOutcome, takes_stdout: bool) {
    if args.quiet {
        // An archive on standard output is not to end in an id.
        if let Some(id) = outcome.image_id.filter(|_| !takes_stdout) {
            println!("{id}");
        }
        return;
    }
    if let Some(id) = outcome.image_id {
        eprintln!("image {id}");
    }
    for name in &outcome.names {
        eprintln!("naming {}", name.familiar());
    }
    if let Some(descriptor) = &outcome.descriptor {
        eprintln!("manifest {}", descriptor.digest);
    }
}
