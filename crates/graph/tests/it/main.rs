//! Tests of the graph's identities: golden digests, what a key depends on, merging.

mod golden;
mod keys;
mod merge;
mod samples;
