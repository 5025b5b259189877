//! A route attribute outside of a block that `#[service]` reads.

use proc_macro2::{Span, TokenStream};

use crate::fallback::{self, Mistakes};

/// The item as it was written, and where the attribute belongs.
pub(crate) fn attribute(name: &str, item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    mistakes.at(
        Span::call_site(),
        format!(
            "`#[{name}]` belongs to a method in an impl block that has `#[service]`: put `#[service]` on the block, `impl \
             Orders {{ … }}`"
        ),
    );
    fallback::as_written(item, mistakes)
}
