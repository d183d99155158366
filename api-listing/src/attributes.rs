//! The attributes of an item that change what its users meet.

use quote::ToTokens;
use syn::{Attribute, Meta};

use crate::text::text;

const SHOWN: [&str; 8] =
    ["async_trait", "cfg", "default", "deprecated", "must_use", "non_exhaustive", "repr", "serde"];

/// What is listed of them, in front of the item.
pub(crate) fn shown(attributes: &[Attribute]) -> String {
    let mut kept: Vec<String> =
        attributes.iter().filter(|it| is_shown(it)).map(|it| format!("#[{}] ", text(&it.meta))).collect();
    kept.sort();
    kept.concat()
}

/// An item behind its path.
pub(crate) fn line(path: &str, attributes: &[Attribute], item: String) -> String {
    format!("{path}: {}{item}", shown(attributes))
}

pub(crate) fn is_shown(attribute: &Attribute) -> bool {
    let named = attribute.path().segments.last();
    is_hidden(attribute) || named.is_some_and(|last| SHOWN.iter().any(|name| last.ident == name))
}

fn is_hidden(attribute: &Attribute) -> bool {
    attribute.path().is_ident("doc")
        && attribute.meta.to_token_stream().to_string().contains("hidden")
        && matches!(attribute.meta, Meta::List(_))
}
