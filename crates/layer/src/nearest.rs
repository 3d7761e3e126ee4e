//! Names close to one that does not exist, for error texts.

/// Most names that are offered.
const OFFERED: usize = 3;

/// Up to three of `names` that `wanted` may have been meant as, closest first.
pub(crate) fn nearest(wanted: &[u8], names: Vec<Vec<u8>>) -> Vec<String> {
    let limit = (wanted.len() / 3).max(1);
    let mut close: Vec<(usize, Vec<u8>)> = names
        .into_iter()
        .filter(|name| name.len().abs_diff(wanted.len()) <= limit)
        .map(|name| {
            (
                distance(&wanted.to_ascii_lowercase(), &name.to_ascii_lowercase()),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    close.sort();
    let close = close.into_iter().take(OFFERED);
    close
        .map(|(_, name)| String::from_utf8_lossy(&name).into_owned())
        .collect()
}

/// Insertions, deletions and replacements that make `b` of `a`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_offered_closest_first() {
        let names = [
            "package.json",
            "package-lock.json",
            "Dockerfile",
            "pakcage.jsn",
            "src",
        ];
        let names = names
            .iter()
            .map(|n| n.as_bytes().to_vec())
            .collect::<Vec<_>>();
        assert_eq!(
            nearest(b"package.jsn", names.clone()),
            ["package.json", "pakcage.jsn"]
        );
        assert_eq!(nearest(b"dockerfile", names.clone()), ["Dockerfile"]);
        assert!(nearest(b"requirements.txt", names).is_empty());
    }
}
