//! The store and the machine: what the cache holds, pruning, verifying, what is possible here.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use engine::{PruneFilter, PruneRequest, UsageRow};
use serde_json::json;

use super::Session;
use crate::args::{DuArgs, PruneArgs, parse_duration};
use crate::{exit, table};

/// Shows what the cache holds.
pub(crate) fn du(session: &Session, args: &DuArgs) -> Result<ExitCode> {
    let filters = args
        .filter
        .iter()
        .map(|text| filter(text))
        .collect::<Result<Vec<_>>>()?;
    let rows = session.engine()?.usage(&filters)?;
    if args.format == "json" {
        for row in &rows {
            println!(
                "{}",
                json!({"ID": row.id, "Type": row.kind, "Size": row.size, "InUse": row.in_use,
                "Shared": row.shared, "LastUsed": row.last_used, "Description": row.description})
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", usage_table(&rows, args.verbose));
    Ok(ExitCode::SUCCESS)
}

fn usage_table(rows: &[UsageRow], verbose: bool) -> String {
    const SHORT: usize = 12;
    let cells = |row: &UsageRow| {
        let id: String = row
            .id
            .chars()
            .take(if verbose { usize::MAX } else { SHORT })
            .collect();
        let reclaimable = if row.in_use || row.shared {
            "no"
        } else {
            "yes"
        };
        let description = if verbose {
            row.description.clone()
        } else {
            row.description.chars().take(48).collect()
        };
        vec![
            id,
            row.kind.to_string(),
            reclaimable.to_string(),
            table::size(row.size),
            description,
        ]
    };
    let shown: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let total: u64 = rows.iter().map(|row| row.size).sum();
    let free: u64 = rows
        .iter()
        .filter(|row| !row.in_use && !row.shared)
        .map(|row| row.size)
        .sum();
    format!(
        "{}\nReclaimable:   {}\nTotal:         {}",
        table::layout(
            &["ID", "TYPE", "RECLAIMABLE", "SIZE", "DESCRIPTION"],
            &shown
        ),
        table::size(free),
        table::size(total)
    )
}

fn filter(text: &str) -> Result<PruneFilter> {
    let (key, value) = text
        .split_once('=')
        .with_context(|| format!("--filter {text}: must be KEY=VALUE"))?;
    let boolean = || match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => bail!("--filter {text}: must be true or false"),
    };
    Ok(match key {
        "until" | "unused-for" => PruneFilter::UnusedFor(
            parse_duration(value).map_err(|reason| anyhow::anyhow!("--filter {text}: {reason}"))?,
        ),
        "id" => PruneFilter::Id(value.to_string()),
        "type" => PruneFilter::Kind(value.to_string()),
        "inuse" => PruneFilter::InUse(boolean()?),
        "shared" => PruneFilter::Shared(boolean()?),
        _ => bail!("--filter {text}: kiln filters by until, id, type, inuse and shared"),
    })
}

/// Removes cache.
pub(crate) fn prune(session: &Session, args: &PruneArgs) -> Result<ExitCode> {
    let request = PruneRequest {
        all: args.all,
        filters: args
            .filter
            .iter()
            .map(|text| filter(text))
            .collect::<Result<_>>()?,
        max_size: args.max_used_space,
        min_free: args.min_free_space,
    };
    if !args.force && !confirmed()? {
        return Ok(exit::FAILURE.into());
    }
    let report = session.engine()?.prune(&request)?;
    for row in &report.removed {
        println!(
            "{}   {}   {}",
            row.id,
            table::size(row.size),
            row.description
        );
    }
    println!("Total reclaimed space: {}", table::size(report.freed));
    Ok(ExitCode::SUCCESS)
}

fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    print!("This removes all cache that no image and no running build is using. Continue? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

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
