//! `#[chassis::main]`: the user's `main`, as it was written, inside a `main` that the process can start. And
//! `build_info!()`, what it says of the build, for a `main` that stays the user's.

use std::{
    env,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, FnArg, ReturnType, Signature, Visibility,
    parse::{ParseStream, Parser},
    spanned::Spanned,
};

use crate::{
    fallback::{self, Mistakes},
    git::Head,
    paths::{self, BuildInfo, ExitCode, ended, main as run},
};

/// The variable that names the commit where there is no repository, as in a container's build.
const COMMIT_VARIABLE: &str = "CHASSIS_GIT_COMMIT";
/// The moment a reproducible build claims to be made at, in seconds since 1970: <https://reproducible-builds.org>.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// What the macro learns from its surroundings.
pub(crate) struct Build {
    pub(crate) head: Head,
    /// Seconds since 1970.
    pub(crate) built_at: u64,
}

impl Build {
    /// From the variables and the repository of the crate that is being compiled.
    pub(crate) fn from_environment() -> Self {
        let mut head = env::var_os("CARGO_MANIFEST_DIR").map(|dir| Head::of(Path::new(&dir))).unwrap_or_default();
        if let Some(commit) = env::var(COMMIT_VARIABLE).ok().filter(|commit| !commit.is_empty()) {
            head.commit = Some(commit);
        }
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        let claimed = env::var(EPOCH_VARIABLE).ok().and_then(|seconds| seconds.trim().parse().ok());
        Self { head, built_at: claimed.unwrap_or_else(now) }
    }
}

/// `#[chassis::main]`.
pub(crate) fn main(keys: &TokenStream, item: TokenStream, build: &Build) -> TokenStream {
    let mut mistakes = Mistakes::default();
    if !keys.is_empty() {
        mistakes.on(keys, "`#[chassis::main]` takes no keys: what can be set is in the configuration");
    }
    let signature = read(item.clone(), &mut mistakes);
    let signature = match signature {
        Some(signature) if mistakes.is_empty() => signature,
        Some(signature) if signature.ident == "main" => return wrong(&item, mistakes),
        _ => return fallback::as_written(item, mistakes),
    };

    let (facts, watched) = (facts(build), watched(build));
    let name = &signature.ident;
    // A wrong argument or return type is told where it is written.
    let argument = signature.inputs.first().map_or(name.span(), |input| match input {
        FnArg::Typed(argument) => argument.ty.span(),
        FnArg::Receiver(receiver) => receiver.span(),
    });
    let output = match &signature.output {
        ReturnType::Type(_, ty) => ty.span(),
        ReturnType::Default => name.span(),
    };
    let (start, checked) = (paths::at(argument, run), paths::at(output, ended));
    let function = Ident::new("main", output);
    let body = quote_spanned!(output=> |chassis| async { #checked(#function(chassis).await) });
    let call = quote_spanned!(argument=> #start(#facts, #body));
    quote! {
        fn #name() -> #ExitCode {
            #item
            #watched
            #call
        }
    }
}

/// `chassis::build_info!()`.
pub(crate) fn build_info(input: &TokenStream, build: &Build) -> TokenStream {
    if !input.is_empty() {
        let mut mistakes = Mistakes::default();
        mistakes.on(input, "`build_info!()` takes nothing: name and version are those of the package");
        return mistakes.into_tokens();
    }
    let (facts, watched) = (facts(build), watched(build));
    quote!({ #watched #facts })
}

/// The function as it was written, and what is wrong with it. It is put into another `main`, so that the compiler does not
/// miss one, or complain that this one is async.
fn wrong(item: &TokenStream, mistakes: Mistakes) -> TokenStream {
    let mistakes = mistakes.into_tokens();
    quote! {
        #[allow(dead_code)]
        fn main() {
            #item
        }
        #mistakes
    }
}

fn read(item: TokenStream, mistakes: &mut Mistakes) -> Option<Signature> {
    let mut tokens: Vec<TokenTree> = item.into_iter().collect();
    // The body stays raw: it may be half-typed.
    tokens.pop();
    let read = |input: ParseStream<'_>| {
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        input.parse::<Signature>()
    };
    let signature = mistakes.note(read.parse2(tokens.into_iter().collect()))?;
    if signature.ident != "main" {
        mistakes.on(&signature.ident, "`#[chassis::main]` goes on the function `main`");
    }
    if signature.asyncness.is_none() {
        mistakes.on(signature.fn_token, "`main` must be async: add `async` before `fn`");
    }
    if !signature.generics.params.is_empty() {
        mistakes.on(
            &signature.generics,
            "`main` must not be generic: name the settings, as in `chassis: Chassis<Settings>`",
        );
    }
    match signature.inputs.len() {
        1 => {}
        0 => mistakes.on(&signature.ident, "`main` needs its argument: write `async fn main(chassis: Chassis)`"),
        _ => mistakes.on(&signature.inputs, "`main` has one argument: write `async fn main(chassis: Chassis)`"),
    }
    if matches!(signature.output, ReturnType::Default) {
        mistakes.on(&signature.ident, "`main` must return how it went: add `-> chassis::Result<()>`");
    }
    Some(signature)
}

fn facts(build: &Build) -> TokenStream {
    let commit = match &build.head.commit {
        Some(commit) => quote!(::core::option::Option::Some(#commit)),
        None => quote!(::core::option::Option::None),
    };
    let built_at = rfc3339(build.built_at);
    quote! {
        #BuildInfo {
            name: ::core::env!("CARGO_PKG_NAME"),
            version: ::core::env!("CARGO_PKG_VERSION"),
            git_commit: #commit,
            built_at: #built_at,
        }
    }
}

/// Names the files and variables that were read, so that cargo builds anew when one of them changes. None of their
/// content gets into the binary.
fn watched(build: &Build) -> TokenStream {
    let files = build.head.files.iter().filter_map(|path| path.to_str());
    quote! {
        #(const _: &[u8] = ::core::include_bytes!(#files);)*
        const _: [::core::option::Option<&str>; 2] =
            [::core::option_env!(#COMMIT_VARIABLE), ::core::option_env!(#EPOCH_VARIABLE)];
    }
}

/// Seconds since 1970 as a date and a time of day in UTC.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day since 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year: 400 of them have 146,097 days, and the
/// first day of month `m` (March is 0) is day `(153 m + 2) / 5`.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::expand::tests::{golden, mistakes_in};

    fn build() -> Build {
        Build {
            head: Head {
                commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
                files: vec![PathBuf::from(".git/HEAD")],
            },
            built_at: 1_700_000_000,
        }
    }

    #[test]
    fn dates_are_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn main_is_kept_as_written_inside_one_that_can_start() {
        let item = quote! {
            /// Serves orders.
            async fn main(chassis: Chassis<Settings>) -> chassis::Result<()> {
                let store = Store::open(&chassis.settings().store).await?;
                chassis.mount(Orders { store }).serve().await
            }
        };
        golden("entry", &main(&TokenStream::new(), item, &build()));
    }

    #[test]
    fn the_build_is_told_where_a_value_is_wanted_and_takes_nothing() {
        let value = build_info(&TokenStream::new(), &build());
        golden("build_info", &quote!(const BUILD: BuildInfo = #value;));
        let mistakes = mistakes_in(&build_info(&quote!("orders"), &build()));
        assert_eq!(mistakes, ["`build_info!()` takes nothing: name and version are those of the package"]);
    }

    #[test]
    fn a_wrong_main_is_told_everything_at_once() {
        let check = |item: TokenStream, expected: &[&str]| {
            let expanded = main(&TokenStream::new(), item.clone(), &build());
            assert!(expanded.to_string().contains(&item.to_string()), "kept as written: {expanded}");
            assert_eq!(mistakes_in(&expanded), expected);
        };
        check(
            quote!(
                fn main() {}
            ),
            &[
                "`main` must be async: add `async` before `fn`",
                "`main` needs its argument: write `async fn main(chassis: Chassis)`",
                "`main` must return how it went: add `-> chassis::Result<()>`",
            ],
        );
        check(
            quote!(
                async fn run(chassis: Chassis, x: u8) -> chassis::Result<()> {}
            ),
            &[
                "`#[chassis::main]` goes on the function `main`",
                "`main` has one argument: write `async fn main(chassis: Chassis)`",
            ],
        );
    }
}
