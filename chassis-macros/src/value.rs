//! The values of keys: texts, times, sizes, dates. The units are those of the configuration.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Attribute, Expr, ExprLit, Lit, LitInt, LitStr, Meta, Token, punctuated::Punctuated};

use crate::paths::Duration as DurationPath;

type Result<T> = syn::Result<T>;

fn wrong<T>(value: &TokenStream, message: impl std::fmt::Display) -> Result<T> {
    Err(syn::Error::new_spanned(value, message))
}

/// A text, where a literal is expected.
pub(crate) fn text(value: &TokenStream) -> Result<LitStr> {
    syn::parse2(value.clone()).or_else(|_| wrong(value, format!("found `{value}`, expected a text in quotes")))
}

/// Texts in brackets: `["orders", "search"]`.
pub(crate) fn texts(value: &TokenStream) -> Result<Vec<LitStr>> {
    let expected = "expected a list of texts, such as [\"orders\", \"search\"]";
    let read = |input: syn::parse::ParseStream<'_>| {
        let list;
        syn::bracketed!(list in input);
        Punctuated::<LitStr, Token![,]>::parse_terminated(&list)
    };
    match syn::parse::Parser::parse2(read, value.clone()) {
        Ok(texts) if texts.is_empty() => wrong(value, format!("found nothing in the list, {expected}")),
        Ok(texts) => Ok(texts.into_iter().collect()),
        Err(_) => wrong(value, format!("found `{value}`, {expected}")),
    }
}

/// How many: a whole number from 1 on.
pub(crate) fn count(value: &TokenStream) -> Result<u32> {
    match syn::parse2::<LitInt>(value.clone()).and_then(|number| number.base10_parse::<u32>()) {
        Ok(0) => wrong(value, "found 0, expected at least 1: nobody would be served"),
        Ok(number) => Ok(number),
        Err(_) => wrong(value, format!("found `{value}`, expected a whole number from 1 to {}", u32::MAX)),
    }
}

/// A span of time: `"250ms"`, `"1m30s"`.
pub(crate) fn duration(value: &TokenStream) -> Result<Duration> {
    let expected = "expected a duration in quotes, such as \"250ms\", \"5s\" or \"1m30s\"";
    let Ok(literal) = text(value) else {
        return wrong(value, format!("found `{value}`, {expected}"));
    };
    let found = literal.value();
    match parse_duration(&found) {
        Some(duration) if duration.is_zero() => wrong(value, "found no time at all, expected more than zero"),
        Some(duration) => Ok(duration),
        None => wrong(value, format!("found {found:?}, {expected}")),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut rest = text.trim();
    let mut nanos: Option<u64> = None;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, tail) = tail.split_at(tail.bytes().take_while(u8::is_ascii_alphabetic).count());
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        nanos = Some(number.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(nanos.unwrap_or(0))?);
        rest = tail;
    }
    nanos.map(Duration::from_nanos)
}

/// The duration as a constant expression.
pub(crate) fn expand_duration(duration: Duration) -> TokenStream {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    quote!(#DurationPath::new(#seconds, #nanos))
}

/// A number of bytes: `"64KiB"`, `"1MiB"`, or a plain number.
pub(crate) fn size(value: &TokenStream) -> Result<u64> {
    let expected = "expected a size, such as \"64KiB\", \"1MiB\" or a number of bytes";
    let found = match syn::parse2::<Lit>(value.clone()) {
        Ok(Lit::Int(number)) => number.to_string(),
        Ok(Lit::Str(text)) => text.value(),
        _ => return wrong(value, format!("found `{value}`, {expected}")),
    };
    match parse_size(&found) {
        Some(0) => wrong(value, "found no bytes at all, expected more than zero"),
        Some(bytes) => Ok(bytes),
        None => wrong(value, format!("found {found:?}, {expected}")),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
    ];
    let text = text.trim().replace('_', "");
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let scale = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// A day, as it was written.
#[derive(Clone)]
pub(crate) struct Date {
    pub(crate) text: LitStr,
    /// Its first second in UTC, since 1970.
    pub(crate) seconds: i64,
}

/// A day: `"2026-06-30"`.
pub(crate) fn date(value: &TokenStream) -> Result<Date> {
    let expected = "expected a date in quotes, such as \"2026-06-30\"";
    let Ok(text) = text(value) else {
        return wrong(value, format!("found `{value}`, {expected}"));
    };
    match parse_date(&text.value()) {
        Ok(days) => Ok(Date { text, seconds: days * 86_400 }),
        Err(Some(last)) => wrong(value, format!("found {:?}, but that month ends on day {last}", text.value())),
        Err(None) => wrong(value, format!("found {:?}, {expected}", text.value())),
    }
}

/// Days since 1970; the last day of the month when only the day is wrong.
fn parse_date(text: &str) -> std::result::Result<i64, Option<u32>> {
    let mut parts = text.split('-');
    let mut part = |width: usize| {
        let digits = parts.next().filter(|part| part.len() == width && part.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u32>().ok()).ok_or(None)
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() || year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return Err(None);
    }
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day > last {
        return Err(Some(last));
    }
    // Years are counted from March, so that the leap day is the last of its year; see `civil_from_days`.
    let year = i64::from(year) - i64::from(month <= 2);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    Ok(year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

/// The text of the doc comments, one line each, without the space that follows `///`.
pub(crate) fn doc(attributes: &[Attribute]) -> LitStr {
    let mut lines: Vec<String> = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let Meta::NameValue(pair) = &attribute.meta
            && let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = &pair.value
        {
            lines.extend(
                line.value().split('\n').map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()),
            );
        }
    }
    LitStr::new(lines.join("\n").trim(), Span::call_site())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_configuration_reads_them() {
        for (text, nanos) in
            [("250ms", 250_000_000), ("5s", 5_000_000_000), ("1m30s", 90_000_000_000), ("1h1us1ns", 3_600_000_001_001)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "s", "5x", "-1s", "1.5s", "99999999999999999999s", "9999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_the_configuration_reads_them() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("1 MiB", 1_048_576),
            ("512B", 512),
            ("2kB", 2_000),
            ("65536", 65_536),
            ("65_536", 65_536),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "1kib", "1.5MiB", "-1", "1 parsec", "99999999999GiB", "1u8"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_days_that_exist() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1970-03-01", 59),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("2026-06-30", 20_634),
            ("2100-03-01", 47_541),
            ("9999-12-31", 2_932_896),
        ] {
            assert_eq!(parse_date(text), Ok(days), "{text}");
        }
        for (text, last) in [("2026-02-29", 28), ("2100-02-29", 28), ("2026-06-31", 30), ("2026-01-32", 31)] {
            assert_eq!(parse_date(text), Err(Some(last)), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-6-30",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "30.06.2026",
            "2026-06-30T00:00",
            "1969-12-31",
        ] {
            assert_eq!(parse_date(text), Err(None), "{text}");
        }
    }

    #[test]
    fn a_doc_comment_is_read_as_written() {
        let method: syn::ItemFn = syn::parse_quote! {
            /// Look one order up.
            ///
            ///   indented
            fn order() {}
        };
        assert_eq!(doc(&method.attrs).value(), "Look one order up.\n\n  indented");
    }
}
