//! Words that callers choose.

use std::{fmt, ops::Deref};

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A word or a few: 1 to 64 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub(crate) struct Name(
    #[garde(length(chars, min = 1, max = 64), custom(printable))]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    String,
);

/// A control character is a mistake of the caller's, and PostgreSQL stores no NUL.
fn printable(text: &str, _: &()) -> garde::Result {
    match text.chars().find(|character| character.is_control()) {
        Some(character) => {
            Err(garde::Error::new(format!("holds the control character {}", character.escape_unicode())))
        }
        None => Ok(()),
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_to_sixty_four_characters_and_no_control_character() {
        for (text, fits) in
            [("a", true), ("Ada Lovelace", true), ("é".repeat(64).as_str(), true), ("", false), ("a\0", false)]
        {
            assert_eq!(Name::from(text).validate().is_ok(), fits, "{text:?}");
        }
        assert!(Name::from("a".repeat(65)).validate().is_err());
    }
}
