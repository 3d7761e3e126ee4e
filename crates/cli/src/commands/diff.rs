//! `kiln diff`.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::Result;
use engine::event::Events;
use engine::{Difference, Place, Reason};
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
    let (place, layer, instruction) = match &difference.place {
        Place::Image => ("image", None, None),
        Place::Config => ("config", None, None),
        Place::Files => ("files", None, None),
        Place::Layer {
            number,
            instruction,
        } => ("layer", Some(number), Some(instruction)),
    };
    let reasons: Vec<Value> = difference
        .reasons
        .iter()
        .map(|reason| json!({"aspect": reason.aspect.word(), "text": reason.text}))
        .collect();
    json!({
        "platform": difference.platform,
        "place": place,
        "layer": layer,
        "instruction": instruction,
        "item": difference.item,
        "reasons": reasons,
    })
}

/// One line for each difference, below a line for each place. A file is not named a second time
/// when a layer said the same of it.
pub(super) fn text(differences: &[Difference]) -> String {
    let mut text = String::new();
    let mut last = String::new();
    let mut told: HashMap<_, Vec<&Reason>> = HashMap::new();
    for difference in differences {
        let place = match &difference.place {
            Place::Image => "image".to_string(),
            Place::Config => "config".to_string(),
            Place::Files => "files".to_string(),
            Place::Layer {
                number,
                instruction,
            } => format!("layer {number} ({instruction})"),
        };
        let file = told
            .entry((&difference.platform, &difference.item))
            .or_default();
        match difference.place {
            Place::Layer { .. } => file.extend(&difference.reasons),
            Place::Files if difference.reasons.iter().all(|r| file.contains(&r)) => continue,
            _ => {}
        }
        let place = match &difference.platform {
            Some(platform) => format!("{platform}: {place}"),
            None => place,
        };
        if place != last {
            text.push_str(&place);
            text.push('\n');
            last = place;
        }
        let reasons: Vec<&str> = difference.reasons.iter().map(|r| r.text.as_str()).collect();
        text.push_str(&format!("  {}: {}\n", difference.item, reasons.join(", ")));
    }
    text
}
