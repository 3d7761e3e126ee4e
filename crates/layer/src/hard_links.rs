//! Which of the names that are taken, one after the other, are hard links of each other: for content
//! keys, in which links to what is not taken do not count.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use crate::{Kind, LinkId, Node};

/// Which of the names taken so far are hard links of each other.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: u64,
    /// The number of the first name of each inode that may have more.
    first: HashMap<LinkId, u64>,
}

impl Names {
    /// Takes the next name; the number of an earlier one of the same inode.
    pub(crate) fn take(&mut self, node: &Node) -> Option<u64> {
        let number = self.taken;
        self.taken += 1;
        let links = node.links.filter(|_| node.kind != Kind::Directory)?;
        match self.first.entry(links) {
            Occupied(first) => Some(*first.get()),
            Vacant(place) => {
                place.insert(number);
                None
            }
        }
    }
}
