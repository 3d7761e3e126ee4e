//! The binary `kiln`.
fn main() {}
