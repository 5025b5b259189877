//! A service with every kind of argument and every kind of answer, to hold its OpenAPI document against.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chassis::{
    prelude::*,
    service::{Event, Events, JsonLines, Raw},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tonic::codegen::tokio_stream;

/// Something that can be had. What is written has fields more than what must be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub struct Item {
    #[garde(length(chars, min = 1))]
    pub name: String,
    #[garde(range(max = 1_000_000))]
    pub cents: u64,
    #[serde(default)]
    pub weight: Option<f64>,
    #[serde(default)]
    pub colours: Vec<Colour>,
    #[garde(dive)]
    #[serde(default)]
    pub parts: Vec<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    Red,
    DarkBlue,
}

/// What is to be changed of an item; any of it, or nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Another name.
    Rename { to: String },
    /// Another price, in cents.
    Price { cents: i32 },
}

/// Which items are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Page {
    /// At most so many.
    pub limit: u8,
    /// Only behind this one.
    pub after: Option<u32>,
    pub colour: Option<Colour>,
    #[serde(default)]
    pub cheap: bool,
}

/// A part of a list, with where the next begins.
#[derive(Debug, Serialize, JsonSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    pub next: Option<u32>,
}

/// An item's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemId(pub u32);

#[derive(Debug, thiserror::Error, Problem)]
pub enum ItemError {
    /// No item has this number.
    #[error("there is no item {}", id.0)]
    #[problem(not_found, code = "unknown_item")]
    Unknown {
        #[problem(public)]
        id: ItemId,
    },
    /// There was one.
    #[error("the item is gone")]
    #[problem(gone, type = "https://example.com/problems/gone")]
    Gone,
    #[error("the store is away")]
    #[problem(unavailable, code = "store", retry_after = "2s")]
    Store,
}

#[derive(Debug, thiserror::Error, Problem)]
pub enum KeepError {
    #[error("the name is taken")]
    #[problem(already_exists, code = "name_taken")]
    Taken,
    #[error("the shelf is locked")]
    #[problem(conflict, code = "locked")]
    Locked {
        #[problem(public)]
        by: String,
    },
    /// Some words are no names.
    #[error("this is no name")]
    #[problem(unprocessable, code = "no_name")]
    NoName,
}

/// One thing that happened.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Sale {
    pub number: u32,
}

/// The service; it panics when it is told to, and waits at the gate while somebody holds it.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    pub panics: Arc<AtomicBool>,
    pub gate: Arc<Mutex<()>>,
    pub waits: Arc<Notify>,
}

pub fn item(name: &str) -> Item {
    Item { name: name.to_owned(), cents: 99, weight: None, colours: vec![Colour::Red], parts: Vec::new() }
}

/// A second service, behind a prefix; it panics when the first does.
#[derive(Debug, Clone, Default)]
pub struct Depot {
    pub panics: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error, Problem)]
pub enum DepotError {
    #[error(transparent)]
    #[problem(transparent)]
    Item(#[from] ItemError),
    /// Nobody may look.
    #[error("the file is sealed")]
    #[problem(forbidden)]
    Sealed,
}

#[chassis::service(path = "/depot", version = "v1", tag = "depot")]
impl Depot {
    /// Read a file.
    #[get("/files/{*rest}")]
    async fn file(&self, rest: String) -> Result<String, DepotError> {
        assert!(!self.panics.load(Ordering::Relaxed), "told to panic");
        match rest.as_str() {
            "items/404" => Err(ItemError::Unknown { id: ItemId(404) }.into()),
            "items/410" => Err(ItemError::Gone.into()),
            "items/503" => Err(ItemError::Store.into()),
            "sealed" => Err(DepotError::Sealed),
            _ => Ok(rest),
        }
    }
}

impl Catalogue {
    fn trip(&self) {
        assert!(!self.panics.load(Ordering::Relaxed), "told to panic");
    }
}

#[chassis::service]
impl Catalogue {
    /// Look one item up.
    ///
    /// Numbers from 1 to 99 are there.
    #[get("/items/{id}")]
    async fn item(&self, id: ItemId) -> Result<Item, ItemError> {
        self.trip();
        match id.0 {
            1..=99 => Ok(item("cup")),
            410 => Err(ItemError::Gone),
            503 => Err(ItemError::Store),
            _ => Err(ItemError::Unknown { id }),
        }
    }

    /// List items.
    #[get("/items")]
    async fn items(&self, page: Page) -> List<Item> {
        self.trip();
        let all = [item("cup"), Item { cents: 7, ..item("spoon") }];
        let wanted = all.into_iter().skip(page.after.unwrap_or_default() as usize).take(page.limit.into());
        let wanted = wanted
            .filter(|item| page.colour.is_none_or(|colour| item.colours.contains(&colour)))
            .filter(|item| !page.cheap || item.cents < 10);
        List { items: wanted.collect(), next: (page.limit == 1).then_some(1) }
    }

    /// Add an item.
    #[post("/items", timeout = "5s")]
    async fn add(&self, item: Item) -> Result<Created<Item>, KeepError> {
        self.trip();
        match item.name.as_str() {
            "nameless" => Err(KeepError::NoName),
            "taken" => Err(KeepError::Taken),
            "locked" => Err(KeepError::Locked { by: "ada".to_owned() }),
            _ => Ok(Created::new(item).at("/items/7")),
        }
    }

    /// Put an item in a place.
    #[put("/shelves/{shelf}/{place}")]
    async fn put(&self, shelf: Colour, place: String, item: Item) -> List<(Colour, String, Item)> {
        self.trip();
        List { items: vec![(shelf, place, item)], next: None }
    }

    /// Change an item.
    #[patch("/items/{id}", idempotent, tags = ["changes"])]
    async fn change(&self, id: u64, change: Change) -> Accepted<String> {
        self.trip();
        Accepted(match change {
            Change::Rename { to } => format!("{id} is called {to}"),
            Change::Price { cents } => format!("{id} costs {cents}"),
        })
    }

    /// Take a draft away.
    #[delete("/drafts/{id}")]
    async fn remove(&self, id: i64) {
        let _ = id;
        self.trip();
    }

    /// Whether there is one of this colour.
    #[head("/colours/{colour}")]
    async fn has(&self, colour: Colour) -> NoContent {
        let _ = colour;
        self.trip();
        NoContent
    }

    #[get("/events")]
    async fn events(&self) -> Events<Sale> {
        self.trip();
        Events::new(tokio_stream::iter([1, 2].map(|number| Event::new(Sale { number }).name("sold").id(number))))
    }

    #[get("/lines", deprecated = "2026-06-30", sunset = "2027-06-30")]
    async fn lines(&self) -> JsonLines<Sale> {
        self.trip();
        JsonLines::new(tokio_stream::iter([1, 2].map(|number| Sale { number })))
    }

    /// One at a time.
    #[get("/narrow", concurrency = 1)]
    async fn narrow(&self) -> Sale {
        self.trip();
        self.waits.notify_one();
        drop(self.gate.lock().await);
        Sale { number: 1 }
    }

    /// Whatever axum makes of it.
    #[get("/raw")]
    async fn raw(&self) -> Raw<&'static str> {
        self.trip();
        Raw("raw")
    }

    /// Fails in a way that nobody described.
    #[get("/dynamic/{word}")]
    async fn dynamic(&self, word: String) -> Result<String, Problem> {
        self.trip();
        if word == "teapot" { Err(Problem::new(http::StatusCode::IM_A_TEAPOT, "teapot")) } else { Ok(word) }
    }
}
