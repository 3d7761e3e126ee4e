//! What the cache holds, and giving some of it up.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use engine::{PruneRequest, UsageRow};
use serde_json::{Value, json};

use super::Session;
use crate::args::{DuArgs, PruneArgs};
use crate::format::Format;
use crate::{exit, table};

/// Shows what the cache holds.
pub(crate) fn du(session: &Session, args: &DuArgs) -> Result<ExitCode> {
    let now = SystemTime::now();
    let mut rows = session.engine()?.usage()?;
    rows.retain(|row| args.filters.fit(row, now));
    let shown: Vec<Value> = match &args.format {
        Format::Json => rows.iter().map(fields).collect(),
        _ => rows.iter().map(|row| readable(row, now)).collect(),
    };
    match args.format.lines(&shown, &HEADINGS)? {
        Some(lines) => print!("{lines}"),
        None if args.verbose => {
            rows.iter()
                .for_each(|row| println!("{}\n", paragraph(row, now)));
            println!("{}", sums(&rows));
        }
        None => println!("{}\n\n{}", usage_table(&rows, now), sums(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Fields of `--format` and what stands above their columns.
const HEADINGS: [(&str, &str); 11] = [
    ("ID", "ID"),
    ("Parents", "PARENTS"),
    ("Type", "TYPE"),
    ("Size", "SIZE"),
    ("CreatedAt", "CREATED"),
    ("LastUsedAt", "LAST USED"),
    ("Mutable", "MUTABLE"),
    ("Reclaimable", "RECLAIMABLE"),
    ("InUse", "IN USE"),
    ("Shared", "SHARED"),
    ("Description", "DESCRIPTION"),
];

/// What is known of a row, under buildx's names.
fn fields(row: &UsageRow) -> Value {
    json!({
        "ID": row.id,
        "Parents": row.parents,
        "Type": row.kind,
        "Size": row.size,
        "CreatedAt": time(row.created),
        "LastUsedAt": time(row.last_used),
        "Mutable": row.mutable,
        "Reclaimable": row.is_reclaimable(),
        "InUse": row.in_use,
        "Shared": row.shared,
        "Description": row.description,
    })
}

/// The same for people: sizes with units, times as how long ago they are.
fn readable(row: &UsageRow, now: SystemTime) -> Value {
    let mut fields = fields(row);
    for (name, text) in [
        ("Parents", row.parents.join(",")),
        ("Size", table::size(row.size)),
        ("CreatedAt", ago(row.created, now)),
        ("LastUsedAt", ago(row.last_used, now)),
    ] {
        fields[name] = text.into();
    }
    fields
}

fn time(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok()?;
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

fn ago(seconds: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    table::ago(now.saturating_sub(seconds))
}

fn usage_table(rows: &[UsageRow], now: SystemTime) -> String {
    const ID: usize = 12;
    const DESCRIPTION: usize = 48;
    let start = |text: &str, count| text.chars().take(count).collect::<String>();
    let cells = |row: &UsageRow| {
        vec![
            start(&row.id, ID),
            row.kind.to_string(),
            yes_or_no(row.is_reclaimable()),
            table::size(row.size),
            ago(row.last_used, now),
            start(&row.description, DESCRIPTION),
        ]
    };
    table::layout(
        &[
            "ID",
            "TYPE",
            "RECLAIMABLE",
            "SIZE",
            "LAST USED",
            "DESCRIPTION",
        ],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    )
}

fn yes_or_no(so: bool) -> String {
    if so { "yes" } else { "no" }.to_string()
}

/// All that is known of a row, a line each.
fn paragraph(row: &UsageRow, now: SystemTime) -> String {
    let mut lines = vec![("ID", row.id.clone())];
    lines.extend(row.parents.iter().map(|id| ("Parent", id.clone())));
    lines.extend([
        ("Created", ago(row.created, now)),
        ("Mutable", yes_or_no(row.mutable)),
        ("Reclaimable", yes_or_no(row.is_reclaimable())),
        ("In use", yes_or_no(row.in_use)),
        ("Shared", yes_or_no(row.shared)),
        ("Size", table::size(row.size)),
        ("Description", row.description.clone()),
        ("Last used", ago(row.last_used, now)),
        ("Type", row.kind.to_string()),
    ]);
    layout_pairs(&lines)
}

fn sums(rows: &[UsageRow]) -> String {
    let sum = |which: &dyn Fn(&UsageRow) -> bool| {
        let sizes = rows.iter().filter(|row| which(row)).map(|row| row.size);
        table::size(sizes.sum())
    };
    layout_pairs(&[
        ("Shared", sum(&|row| row.shared)),
        ("Private", sum(&|row| !row.shared)),
        ("Reclaimable", sum(&UsageRow::is_reclaimable)),
        ("Total", sum(&|_| true)),
    ])
}

fn layout_pairs(pairs: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| {
        let line = format!("{:<14}{value}", format!("{name}:"));
        line.trim_end().to_string()
    };
    pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Removes cache.
pub(crate) fn prune(session: &Session, args: &PruneArgs) -> Result<ExitCode> {
    let request = PruneRequest {
        all: args.all,
        max_size: args.max_used_space,
        min_free: args.min_free_space,
        reserved: args.reserved_space,
    };
    if !args.force && !confirmed()? {
        return Ok(exit::FAILURE.into());
    }
    let now = SystemTime::now();
    let report = session
        .engine()?
        .prune(&request, &|row| args.filters.fit(row, now))?;
    for row in &report.removed {
        if args.verbose {
            println!("{}\n", paragraph(row, now));
        } else {
            let size = table::size(row.size);
            println!("{}   {size}   {}", row.id, row.description);
        }
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
