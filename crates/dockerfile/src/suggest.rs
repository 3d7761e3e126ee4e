//! "Did you mean": the nearest of the names that would have been right.

/// Longest name, in characters, that is compared with others: nobody mistypes a longer one, and
/// the comparison takes the product of both lengths.
const MAX_NAME: usize = 128;

/// Returns the candidate nearest to `name` by edit distance, ignoring case, if it is near
/// enough to be meant: at most a third of the longer name's characters, and at least one, differ,
/// and not all. Of equally near candidates the first wins. A candidate equal to `name` up to case counts.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    if wanted.len() > MAX_NAME {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        let limit = (wanted.len().max(other.len()) / 3).max(1);
        // A name much longer or shorter is not meant, and not worth comparing.
        if wanted.len().abs_diff(other.len()) > limit || candidate == name {
            continue;
        }
        let distance = edit_distance(&wanted, &other);
        let shared = distance < wanted.len().max(other.len());
        if shared && distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Least number of characters inserted, removed, changed or swapped with a neighbour.
fn edit_distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, left_char) in left.iter().enumerate() {
        let mut current = Vec::with_capacity(right.len() + 1);
        current.push(row + 1);
        for (column, right_char) in right.iter().enumerate() {
            let changed = previous[column] + usize::from(left_char != right_char);
            let mut least = changed
                .min(previous[column + 1] + 1)
                .min(current[column] + 1);
            let swapped = row > 0
                && column > 0
                && *left_char == right[column - 1]
                && left[row - 1] == *right_char;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAME, nearest};

    #[track_caller]
    fn check(name: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(nearest(name, candidates.iter().copied()), expected);
    }

    #[test]
    fn finds_typos_and_nothing_else() {
        let keywords = ["RUN", "COPY", "ADD", "ENTRYPOINT", "ENV", "WORKDIR"];
        check("COPPY", &keywords, Some("COPY"));
        check("ENTRPOINT", &keywords, Some("ENTRYPOINT"));
        check("form", &["from", "chown"], Some("from"));
        check("run", &keywords, Some("RUN"));
        check("INCLUDE", &keywords, None);
        check("", &keywords, None);
        check("RUN", &["RUN"], None);
        let long = "x".repeat(MAX_NAME);
        check(&long, &[&format!("{long}y")], Some(&format!("{long}y")));
        check(&format!("{long}y"), &[&long], None);
    }
}
