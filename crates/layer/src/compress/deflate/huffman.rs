//! Codes made for symbols by how often they occur.

/// Lengths of the codes of symbols with these weights, each at most its `limit`; zero for symbols
/// of no weight. At least two symbols get a code: some decoders take less for an error.
///
/// They are the shortest that there are unless one exceeds its limit: then weights are made more
/// alike until none does. Limits leave room for all symbols, were they as heavy as each other.
pub(super) fn lengths(weights: &[u32], limit: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut weights: Vec<u64> = weights.iter().copied().map(u64::from).collect();
    let used = weights.iter().filter(|&&weight| weight > 0).count();
    let unused = weights.iter_mut().filter(|weight| **weight == 0);
    unused
        .take(2_usize.saturating_sub(used))
        .for_each(|weight| *weight = 1);
    loop {
        let lengths = shortest(&weights);
        let is_within = |(symbol, &length): (usize, &u8)| length <= limit(symbol);
        if lengths.iter().enumerate().all(is_within) {
            return lengths;
        }
        for weight in &mut weights {
            *weight = weight.div_ceil(2);
        }
    }
}

/// Huffman's algorithm over two queues: symbols from the lightest on, and the nodes above two
/// others, which come about in order of their weights.
fn shortest(weights: &[u64]) -> Vec<u8> {
    let mut leaves: Vec<(u64, usize)> = weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0)
        .map(|(symbol, &weight)| (weight, symbol))
        .collect();
    leaves.sort_unstable();
    let mut nodes: Vec<u64> = leaves.iter().map(|(weight, _)| *weight).collect();
    let mut parents = vec![0; 2 * leaves.len() - 1];
    let (mut leaf, mut inner) = (0, leaves.len());
    for node in leaves.len()..parents.len() {
        let mut weight = 0;
        for _ in 0..2 {
            let is_leaf = leaf < leaves.len() && (inner >= node || nodes[leaf] <= nodes[inner]);
            let lighter = if is_leaf { &mut leaf } else { &mut inner };
            weight += nodes[*lighter];
            parents[*lighter] = node;
            *lighter += 1;
        }
        nodes.push(weight);
    }
    let mut depths = vec![0_u8; parents.len()];
    for node in (0..parents.len() - 1).rev() {
        depths[node] = depths[parents[node]].saturating_add(1);
    }
    let mut lengths = vec![0; weights.len()];
    for (depth, (_, symbol)) in depths.iter().zip(leaves) {
        lengths[symbol] = *depth;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(weights: &[u32], limit: u8, expected: &[u8]) {
        assert_eq!(lengths(weights, |_| limit), expected);
    }

    #[test]
    fn frequent_symbols_have_short_codes() {
        check(&[8, 4, 2, 1, 1], 15, &[1, 2, 3, 4, 4]);
        check(&[8, 4, 2, 1, 1], 3, &[1, 3, 3, 3, 3]);
        check(&[0, 5, 0, 5], 15, &[0, 1, 0, 1]);
        check(&[0, 0, 5], 15, &[1, 0, 1]);
        check(&[0, 0, 0], 15, &[1, 1, 0]);
    }

    proptest! {
        #[test]
        fn codes_are_complete_and_within_limits(
            weights in proptest::collection::vec(0_u32..1 << 20, 2..300),
            skew in 0_u32..20,
            short in 0_usize..300,
        ) {
            let skewed = |(index, weight): (usize, &u32)| weight >> (index as u32 % (skew + 1));
            let weights: Vec<u32> = weights.iter().enumerate().map(skewed).collect();
            let limit = |symbol| if symbol == short { 12 } else { 15 };
            let lengths = lengths(&weights, limit);
            let room: u32 = lengths.iter().filter(|&&l| l > 0).map(|&l| 1 << (15 - l)).sum();
            prop_assert_eq!(room, 1 << 15);
            for (symbol, &length) in lengths.iter().enumerate() {
                prop_assert!(length <= limit(symbol));
                prop_assert!(weights[symbol] == 0 || length > 0);
            }
        }
    }
}
