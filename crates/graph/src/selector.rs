//! What of an input's tree a `COPY`, an `ADD` or a bind mount can see: the part that its cache key
//! depends on.

/// Part of a tree, together with which of its metadata have an effect on the consumer. Two trees
/// whose selected parts have the same *effect* must get the same content digest, wherever in the
/// tree those parts lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Paths and patterns; later ones may overwrite what earlier ones brought, so order counts.
    pub paths: Vec<SelectedPath>,
    /// `--exclude` patterns, relative to each selected directory.
    pub exclude: Vec<String>,
    /// Which names have an effect.
    pub naming: Naming,
    /// Owners have no effect: `--chown` or the context's 0:0 replaces them.
    pub ignore_owner: bool,
    /// Permission bits have no effect: an octal `--chmod` replaces them.
    pub ignore_mode: bool,
}

/// One path or pattern of a [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedPath {
    /// Clean path relative to the tree's root, without leading slash; empty is the root. With
    /// [`Naming::Parents`] it may hold one `/./` (or begin with `./`), the pivot.
    pub path: String,
    /// It is a pattern: its matches are selected, and having none is no error.
    pub pattern: bool,
}

/// Which names and directories of the selected part have an effect on the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Bind mount: the selected inode itself, with its metadata, and everything below it. Its own
    /// name has none. A symbolic link is followed inside the tree.
    Mount,
    /// `COPY` and `ADD`: of a directory its contents, neither its name nor its own metadata; of
    /// anything else the last component of the selected path too. A symbolic link is followed
    /// inside the tree.
    Contents,
    /// `COPY --parents`: every match under its path after the pivot, with the metadata of the
    /// directories on that path.
    Parents,
}
