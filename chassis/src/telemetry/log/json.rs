//! JSON by hand: the few shapes that a log line has, written into a buffer that is used again.

use std::fmt;

/// How each byte is written inside a JSON string: 0 as it is, `u` as `\u00XX`, else behind a backslash (RFC 8259,
/// section 7). DEL is escaped as well, because terminals act on it.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x7f] = b'u';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether one of eight bytes may need an escape. It may say yes for nothing, never no for something.
#[inline(always)]
fn suspicious(eight: [u8; 8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(eight);
    // Subtracting from each byte borrows into its high bit where the byte was smaller.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\') | equal(0x7f) != 0
}

/// Appends `text` as the inside of a JSON string.
#[inline]
pub(crate) fn escape(out: &mut Vec<u8>, text: &str) {
    let (eights, rest) = text.as_bytes().as_chunks::<8>();
    // Nearly every text needs no escape.
    if eights.iter().any(|eight| suspicious(*eight)) || rest.iter().any(|byte| ESCAPES[*byte as usize] != 0) {
        escape_each(out, text.as_bytes());
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cold]
fn escape_each(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[byte as usize];
        if escape != 0 {
            out.extend_from_slice(&bytes[copied..at]);
            copied = at + 1;
            if escape == b'u' {
                out.extend_from_slice(b"\\u00");
                hex(out, &[byte]);
            } else {
                out.extend_from_slice(&[b'\\', escape]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// Appends bytes, at most 16, as lower-case hexadecimal digits.
#[inline]
pub(crate) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    // Gathered first: one append of 32 digits is several times cheaper than 16 of two.
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEX[(byte >> 4) as usize];
        pair[1] = HEX[(byte & 15) as usize];
    }
    out.extend_from_slice(&digits[..2 * bytes.len().min(16)]);
}

/// Writes formatted text as the inside of a JSON string, without a copy of it in between.
pub(crate) struct Escape<'a>(pub(crate) &'a mut Vec<u8>);

impl fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Writes formatted text for a terminal: control characters, which could forge a line or move the cursor, are spelled
/// out.
pub(crate) struct Printable<'a>(pub(crate) &'a mut Vec<u8>);

impl fmt::Write for Printable<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            let (clean, tail) = rest.split_at(at);
            self.0.extend_from_slice(clean.as_bytes());
            let mut tail = tail.chars();
            for char in tail.next().into_iter().flat_map(char::escape_default) {
                self.0.push(char as u8);
            }
            rest = tail.as_str();
        }
        self.0.extend_from_slice(rest.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fmt::Write;

    use super::*;

    #[test]
    fn whatever_is_escaped_reads_back_as_it_was() {
        let all: String = (0..0x300).filter_map(char::from_u32).chain("\u{2028}🦀\u{10ffff}".chars()).collect();
        for text in ["", "plain", "\"", "\\", "a\nb", "\u{0}\u{1f}\u{7f}end", &all] {
            let mut out = vec![b'"'];
            escape(&mut out, text);
            out.push(b'"');
            assert!(out.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f), "no raw control character in {out:?}");
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn no_byte_that_needs_an_escape_is_overlooked() {
        for byte in 0..=255_u8 {
            for other in [0_u8, 0x1f, 0x20, 0x21, 0x22, 0x5c, 0x7f, 0x80, 0xff] {
                for at in 0..8 {
                    let mut eight = [other; 8];
                    eight[at] = byte;
                    let needs = eight.iter().any(|byte| ESCAPES[*byte as usize] != 0);
                    assert!(suspicious(eight) || !needs, "{eight:?}");
                }
            }
        }
    }

    #[test]
    fn a_terminal_sees_no_control_character() {
        let mut out = Vec::new();
        write!(Printable(&mut out), "a\nb\r\u{1b}[2J\u{9b}ü").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r"a\nb\r\u{1b}[2J\u{9b}ü");
    }
}
