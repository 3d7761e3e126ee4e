//! What was measured, as a table for people and as JSON. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// How many times longer is more than the luck of a run.
const CLEARLY: f64 = 3.0;

/// What one tool took for one phase.
#[derive(Clone, Default)]
pub(super) struct Samples {
    pub(super) times: Vec<Duration>,
    /// Bytes.
    pub(super) memory: Option<u64>,
}

impl Samples {
    fn sorted(&self) -> Vec<Duration> {
        let mut times = self.times.clone();
        times.sort();
        times
    }

    fn median(&self) -> Option<Duration> {
        let times = self.sorted();
        times.get(times.len() / 2).copied()
    }

    fn least(&self) -> Option<Duration> {
        self.times.iter().min().copied()
    }
}

/// One phase of a workload, with the samples of every tool.
pub(super) struct Row {
    pub(super) workload: &'static str,
    pub(super) phase: &'static str,
    pub(super) samples: Vec<Samples>,
}

/// A table in Markdown: medians, how many times longer each tool takes than the first, and the
/// first one's best time and memory.
pub(super) fn table(tools: &[&str], rows: &[Row]) -> String {
    let mut text = format!(
        "| workload | phase | {} | least | memory |\n",
        tools.join(" | ")
    );
    text.push_str(&"|---".repeat(tools.len() + 4));
    text.push_str("|\n");
    for row in rows {
        _ = write!(text, "| {} | {} |", row.workload, row.phase);
        let own = row.samples.first().and_then(Samples::median);
        for (column, samples) in row.samples.iter().enumerate() {
            _ = match (samples.median(), own) {
                (Some(time), Some(own)) if column > 0 => {
                    write!(text, " {} ({:.1}×) |", shown(time), ratio(time, own))
                }
                (Some(time), _) => write!(text, " {} |", shown(time)),
                (None, _) => write!(text, " – |"),
            };
        }
        let first = row.samples.first();
        let least = first.and_then(Samples::least).map_or("–".into(), shown);
        let memory = first.and_then(|samples| samples.memory);
        let memory = memory.map_or("–".into(), |bytes| format!("{} MiB", bytes >> 20));
        _ = writeln!(text, " {least} | {memory} |");
    }
    text
}

/// For each tool but the first, in which rows it takes at least three times as long as the first,
/// and in which it does not.
pub(super) fn comparison(tools: &[&str], rows: &[Row]) -> Vec<String> {
    let line = |column: usize| {
        let (mut slower, mut others) = (Vec::new(), Vec::new());
        for row in rows {
            let median = |column: usize| row.samples.get(column).and_then(Samples::median);
            let Some((own, time)) = median(0).zip(median(column)) else {
                continue;
            };
            let list = match ratio(time, own) >= CLEARLY {
                true => &mut slower,
                false => &mut others,
            };
            list.push(format!("{} {}", row.workload, row.phase));
        }
        let listed = |list: &[String]| match list {
            [] => "nothing".to_string(),
            list => list.join(", "),
        };
        format!(
            "{} takes at least {CLEARLY}× as long as {} in: {}. Less in: {}.",
            tools[column],
            tools[0],
            listed(&slower),
            listed(&others)
        )
    };
    (1..tools.len()).map(line).collect()
}

/// The same with every sample, in seconds.
pub(super) fn json(tools: &[&str], rows: &[Row]) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let row = |row: &Row| {
        let own = row.samples.first().and_then(Samples::median);
        let tools: Vec<Value> = tools
            .iter()
            .zip(&row.samples)
            .map(|(tool, samples)| {
                let median = samples.median();
                json!({
                    "tool": tool,
                    "median": seconds(median),
                    "ratio": median.zip(own).map(|(time, own)| ratio(time, own)),
                    "samples": samples.times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
                    "memory": samples.memory,
                })
            })
            .collect();
        json!({"workload": row.workload, "phase": row.phase, "tools": tools})
    };
    json!({ "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

fn ratio(time: Duration, own: Duration) -> f64 {
    time.as_secs_f64() / own.as_secs_f64()
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds < 0.1 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 10.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let samples = |times: &[u64], memory| Samples {
            times: times.iter().copied().map(Duration::from_millis).collect(),
            memory,
        };
        let rows = [Row {
            workload: "w",
            phase: "cold",
            samples: vec![samples(&[30, 10, 20], Some(5 << 20)), samples(&[300], None)],
        }];
        assert_eq!(
            comparison(&["kiln", "other"], &rows),
            ["other takes at least 3× as long as kiln in: w cold. Less in: nothing."]
        );
        let table = table(&["kiln", "other"], &rows);
        let last = table.lines().last();
        assert_eq!(
            last,
            Some("| w | cold | 20.0 ms | 0.30 s (15.0×) | 10.0 ms | 5 MiB |")
        );
        assert_eq!(
            json(&["kiln", "other"], &rows)["rows"][0]["tools"][1]["median"],
            0.3
        );
    }
}
