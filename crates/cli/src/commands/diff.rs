//! `kiln diff`.

use std::process::ExitCode;

use anyhow::Result;
use engine::Difference;
use engine::event::Events;
use serde_json::{Value, json};

use super::Session;
use crate::args::DiffArgs;
use crate::exit;

/// Compares two images of the store.
pub(crate) fn diff(session: &Session, args: &DiffArgs) -> Result<ExitCode> {
    let engine = session.engine()?;
    let found = engine.compare(&args.one, (&engine, &args.other), &Events::ignored())?;
    if args.format == "json" {
        let rows: Vec<Value> = found.iter().map(row).collect();
        println!("{}", Value::Array(rows));
    } else {
        print!("{}", text(&found));
    }
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        exit::FAILURE.into()
    })
}

fn row(difference: &Difference) -> Value {
    let Difference {
        platform,
        place,
        item,
        reason,
    } = difference;
    json!({"platform": platform, "place": place, "item": item, "reason": reason})
}

/// One line for each difference, below a line for each place.
pub(super) fn text(differences: &[Difference]) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for difference in differences {
        let place = match &difference.platform {
            Some(platform) => format!("{platform}: {}", difference.place),
            None => difference.place.clone(),
        };
        if place != last {
            text.push_str(&place);
            text.push('\n');
            last = place;
        }
        text.push_str(&format!("  {}: {}\n", difference.item, difference.reason));
    }
    text
}
