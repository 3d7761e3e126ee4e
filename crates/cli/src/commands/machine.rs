//! The store's health, and what is possible on this machine.

use std::process::ExitCode;

use anyhow::Result;

use serde_json::json;

use super::Session;
use crate::args::VersionArgs;

/// Verifies the store.
pub(crate) fn doctor(session: &Session) -> Result<ExitCode> {
    let report = session.engine()?.doctor()?;
    for problem in &report.problems {
        println!("{problem}");
    }
    println!(
        "{} objects verified, {} dropped",
        report.verified, report.dropped
    );
    Ok(ExitCode::SUCCESS)
}

/// Shows the version. There is no server: the client is all there is.
pub(crate) fn version(args: &VersionArgs) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    let shown = json!({"Client": {
        "Version": version,
        "Os": std::env::consts::OS,
        "Arch": oci::Platform::native().architecture,
    }});
    let lines = args.format.lines(&[shown], &[])?;
    print!("{}", lines.unwrap_or_else(|| format!("kiln {version}\n")));
    Ok(ExitCode::SUCCESS)
}

/// Shows version and what this machine allows.
pub(crate) fn info(session: &Session) -> Result<ExitCode> {
    let info = session.engine()?.info();
    println!("kiln {}", env!("CARGO_PKG_VERSION"));
    println!("state directory: {}", info.root.display());
    println!("platform: {}", info.platform);
    println!("privileges: {}", info.rung);
    if let Some(missing) = &info.missing {
        println!("missing: {missing}");
    }
    println!("layers are mounted as: {}", info.layers);
    Ok(ExitCode::SUCCESS)
}
