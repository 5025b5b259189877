//! Greetings.

use schemars::JsonSchema;
use serde::Serialize;

use super::GreetError;

/// What somebody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Greeting {
    /// The whole sentence.
    pub(crate) text: String,
}

/// Greets somebody with this word, if the name has at most so many characters.
pub(crate) fn greet(word: &str, name: &str, longest: usize) -> Result<Greeting, GreetError> {
    let name = name.trim();
    let found = name.chars().count();
    match found {
        0 => Err(GreetError::Empty),
        found if found > longest => Err(GreetError::TooLong { found, limit: longest }),
        _ => Ok(Greeting { text: format!("{word}, {name}!") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_greeted_without_the_spaces_around_it() {
        assert_eq!(greet("Hello", " ada ", 64), Ok(Greeting { text: "Hello, ada!".to_owned() }));
    }

    #[test]
    fn a_name_of_spaces_is_refused() {
        assert_eq!(greet("Hello", "  ", 64), Err(GreetError::Empty));
    }

    #[test]
    fn a_name_is_measured_in_characters() {
        assert!(greet("Hello", "Zoë", 3).is_ok());
        assert_eq!(greet("Hello", "Zoës", 3), Err(GreetError::TooLong { found: 4, limit: 3 }));
    }
}
