//! Tests of the frontend at its one boundary: files in, graph, config and diagnostics out.

mod buildkit;
mod case;
mod cases;
mod laws;
mod lint;
mod speed;
