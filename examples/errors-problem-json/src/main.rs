//! How do my errors look to callers? `cargo run -p errors-problem-json`, then `curl -i localhost:8080/books/2`.
//!
//! An error is a type of the domain. `#[derive(Problem)]` says what callers are told of it: problem details (RFC 9457) with
//! a code for programs and the trace id that is also in the log.
//!
//! - `curl localhost:8080/books/2`: 404, with the `public` field as a member;
//! - `curl localhost:8080/hours`: 503 with `retry-after`; that the file is missing stands in the log only;
//! - `curl localhost:8080/books -H 'content-type: application/json' -d '{"isbn":"1","title":"","year":99}'`: 422, with every
//!   broken rule and its place.
//!
//! Try next: send `"year":"long ago"`, or leave `isbn` out. Look at the document at <http://localhost:8080/docs>: the errors
//! and the rules are in it.

use chassis::prelude::*;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error, Problem)]
enum BookError {
    /// Nobody has brought this book.
    #[error("there is no book {isbn}")]
    #[problem(not_found, code = "unknown_book")]
    Unknown {
        #[problem(public)]
        isbn: String,
    },
    #[error("there is a book {0} already")]
    #[problem(already_exists, code = "book_exists")]
    Exists(String),
}

/// From 500 on the text is for the log, not for callers.
#[derive(Debug, thiserror::Error, Problem)]
#[error("opening-hours.txt cannot be read")]
#[problem(unavailable, code = "hours_unknown", retry_after = "2s")]
struct HoursUnknown(#[from] std::io::Error);

#[derive(Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Book {
    #[garde(length(min = 1, max = 13))]
    isbn: String,
    #[garde(length(min = 1, max = 200))]
    title: String,
    #[garde(range(min = 1450, max = 2100))]
    year: u16,
}

/// A library with one book, number 1.
struct Library;

#[service]
impl Library {
    /// Look a book up.
    #[get("/books/{isbn}")]
    async fn book(&self, isbn: String) -> Result<Book, BookError> {
        if isbn != "1" {
            return Err(BookError::Unknown { isbn });
        }
        Ok(Book { isbn, title: "A book of prefaces".to_owned(), year: 1917 })
    }

    /// Bring a book. It was read and its rules were checked before the method runs.
    #[post("/books")]
    async fn bring(&self, book: Book) -> Result<Created<Book>, BookError> {
        if book.isbn == "1" {
            return Err(BookError::Exists(book.isbn));
        }
        Ok(Created::new(book))
    }

    /// When the library is open.
    #[get("/hours")]
    async fn hours(&self) -> Result<String, HoursUnknown> {
        Ok(tokio::fs::read_to_string("opening-hours.txt").await?)
    }
}

#[chassis::main]
async fn main(chassis: Chassis) -> chassis::Result<()> {
    chassis.mount(Library).serve().await
}
