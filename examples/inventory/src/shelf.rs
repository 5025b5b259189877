//! The domain: a shelf with articles, and what is reserved of them.

use std::collections::{HashMap, hash_map::Entry};

use chassis::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many of an article there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stock {
    /// The article.
    pub sku: String,
    /// How many are left.
    pub count: u32,
    /// The instance that answered.
    pub told_by: String,
}

/// What is to be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// How many.
    pub count: u32,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error, Problem)]
pub enum StockError {
    /// No such article.
    #[error("there is no article {0}")]
    #[problem(not_found, code = "unknown_article")]
    Unknown(String),
    /// Fewer than wanted.
    #[error("there are {left} {sku}, and {wanted} are wanted")]
    #[problem(conflict, code = "not_enough")]
    NotEnough {
        /// The article.
        sku: String,
        /// How many there are.
        left: u32,
        /// How many are wanted.
        wanted: u32,
    },
    /// As [`Mood`](crate::Mood) says.
    #[error("this instance is told to fail")]
    #[problem(unavailable)]
    Failing,
}

/// What there is, and who has reserved what.
#[derive(Debug)]
pub(crate) struct Shelf {
    articles: HashMap<&'static str, u32>,
    /// What was left after each reservation.
    reserved: HashMap<(String, String), u32>,
}

impl Shelf {
    pub(crate) fn full() -> Self {
        Self { articles: HashMap::from([("apple", 100), ("pear", 100)]), reserved: HashMap::new() }
    }

    pub(crate) fn count(&self, sku: &str) -> Result<u32, StockError> {
        self.articles.get(sku).copied().ok_or_else(|| StockError::Unknown(sku.to_owned()))
    }

    /// Takes some out, once for each key; gives how many are left.
    pub(crate) fn reserve(&mut self, sku: &str, key: String, wanted: u32) -> Result<u32, StockError> {
        let count = self.articles.get_mut(sku).ok_or_else(|| StockError::Unknown(sku.to_owned()))?;
        match self.reserved.entry((sku.to_owned(), key)) {
            Entry::Occupied(before) => Ok(*before.get()),
            Entry::Vacant(new) => {
                let left = *count;
                *count = left.checked_sub(wanted).ok_or_else(|| StockError::NotEnough {
                    sku: sku.to_owned(),
                    left,
                    wanted,
                })?;
                Ok(*new.insert(*count))
            }
        }
    }
}
