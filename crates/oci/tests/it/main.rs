//! The vocabulary from outside: documents as golden files, names as a table and as properties.

mod documents;
mod references;
mod selection;
