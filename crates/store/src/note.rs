//! Notes: small facts that save work and may be lost at any time, such as what a reference was
//! resolved to, or the ETag of a download.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::record::Kind;
use crate::store::{Store, Table, text_key};

const NOTES: Table = Table {
    kind: Kind {
        name: "note",
        version: 1,
    },
    folder: "notes",
};

#[derive(Serialize, Deserialize)]
struct Note<T> {
    kind: String,
    subject: String,
    value: T,
}

impl Store {
    /// The note of this kind about this subject. One that cannot be read as `T` counts as absent.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn note<T: DeserializeOwned>(
        &self,
        kind: &str,
        subject: &str,
    ) -> Result<Option<T>, StoreError> {
        let note = self.inner.get::<Note<T>>(NOTES, &note_key(kind, subject))?;
        Ok(note.map(|(note, _)| note.value))
    }

    /// Takes a note, in place of any earlier one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_note<T: Serialize>(
        &self,
        kind: &str,
        subject: &str,
        value: &T,
    ) -> Result<(), StoreError> {
        let (kind, subject) = (kind.to_owned(), subject.to_owned());
        let key = note_key(&kind, &subject);
        self.inner.put(
            NOTES,
            &key,
            &Note {
                kind,
                subject,
                value,
            },
        )
    }
}

fn note_key(kind: &str, subject: &str) -> String {
    text_key(&format!("{}:{kind}{subject}", kind.len()))
}
