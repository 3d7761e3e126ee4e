//! Tests of the ignore rules.
