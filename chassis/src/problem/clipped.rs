//! What a caller sent is quoted, but not at any length.

use std::borrow::Cow;

/// The most that is told of one thing found: it is quoted, and may be as long as the body.
const MAX_MESSAGE_BYTES: usize = 400;

/// A message of a length that a person reads.
pub(crate) fn clipped(message: &str) -> Cow<'_, str> {
    if message.len() <= MAX_MESSAGE_BYTES {
        return Cow::Borrowed(message);
    }
    // What was expected stands at the end.
    let (mut head, mut tail) = (MAX_MESSAGE_BYTES / 2, message.len() - MAX_MESSAGE_BYTES / 2);
    while !message.is_char_boundary(head) {
        head -= 1;
    }
    while !message.is_char_boundary(tail) {
        tail += 1;
    }
    Cow::Owned(format!("{} … {}", &message[..head], &message[tail..]))
}
