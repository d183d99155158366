//! An item as lines: itself, and all that can be named of it.

use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Fields, FnArg, Generics, Item, ItemEnum, ItemStruct, ItemTrait, Pat, Signature, TraitItem,
};

use crate::names::{Definition, name_of};
use crate::public::Public;
use crate::qualify::Qualifier;
use crate::source::{Crate, is_hidden, is_public};
use crate::text::text;

/// Attributes that a user of an item meets.
const SHOWN: [&str; 6] = ["async_trait", "cfg", "deprecated", "must_use", "non_exhaustive", "repr"];

pub(crate) fn describe(source: &Crate, public: &Public, definition: &Definition) -> Vec<String> {
    let Some(path) = public.path(definition) else { return vec![] };
    let module = &source.modules[&definition.0];
    let mut lines = vec![];
    for item in module.items.iter().filter(|item| name_of(item).as_ref() == Some(&definition.1)) {
        let mut item = item.clone();
        let mut qualifier = Qualifier::new(source, public, &definition.0);
        if let Some(generics) = generics(&item) {
            qualifier = qualifier.with_generics(generics);
        }
        declaration_only(&mut item);
        qualifier.visit_item_mut(&mut item);
        lines.extend(of_item(path, &item));
    }
    lines
}

fn of_item(path: &str, item: &Item) -> Vec<String> {
    match item {
        Item::Const(it) => vec![line(path, &it.attrs, format!("pub const {}: {}", it.ident, text(&it.ty)))],
        Item::Static(it) => vec![line(path, &it.attrs, format!("pub static {}: {}", it.ident, text(&it.ty)))],
        Item::Fn(it) => vec![line(path, &it.attrs, format!("pub {}", signature(&it.sig)))],
        Item::Type(it) => {
            let alias = format!("pub type {}{} = {}", it.ident, of_generics(&it.generics), text(&it.ty));
            vec![line(path, &it.attrs, alias)]
        }
        Item::Struct(it) => of_struct(path, it),
        Item::Enum(it) => of_enum(path, it),
        Item::Trait(it) => of_trait(path, it),
        other => vec![format!("{path}: {}", text(other))],
    }
}

fn of_struct(path: &str, item: &ItemStruct) -> Vec<String> {
    let head = format!("pub struct {}{}{}", item.ident, of_generics(&item.generics), shape(&item.fields));
    let mut lines = vec![line(path, &item.attrs, head)];
    for field in item.fields.iter().filter(|field| is_public(&field.vis) && !is_hidden(&field.attrs)) {
        if let Some(name) = &field.ident {
            lines.push(line(
                &format!("{path}::{name}"),
                &field.attrs,
                format!("pub {name}: {}", text(&field.ty)),
            ));
        }
    }
    lines.extend(derives(path, &item.attrs));
    lines
}

/// Whether it can be made and taken apart by others: not where a field is private.
fn shape(fields: &Fields) -> String {
    match fields {
        Fields::Unit => String::new(),
        Fields::Named(named) if named.named.iter().all(|field| is_public(&field.vis)) => " { … }".into(),
        Fields::Named(_) => " { … private }".into(),
        Fields::Unnamed(tuple) => {
            let shown =
                |field: &syn::Field| if is_public(&field.vis) { text(&field.ty) } else { "private".into() };
            format!("({})", tuple.unnamed.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
    }
}

fn of_enum(path: &str, item: &ItemEnum) -> Vec<String> {
    let mut lines =
        vec![line(path, &item.attrs, format!("pub enum {}{}", item.ident, of_generics(&item.generics)))];
    for variant in item.variants.iter().filter(|variant| !is_hidden(&variant.attrs)) {
        let mut bare = variant.clone();
        bare.attrs.clear();
        bare.fields.iter_mut().for_each(|field| field.attrs.clear());
        lines.push(line(&format!("{path}::{}", bare.ident), &variant.attrs, text(&bare)));
    }
    lines.extend(derives(path, &item.attrs));
    lines
}

fn of_trait(path: &str, item: &ItemTrait) -> Vec<String> {
    let (start, bounds) = (text(&item.supertraits), if item.supertraits.is_empty() { "" } else { ": " });
    let head = format!("pub trait {}{}{bounds}{start}", item.ident, of_generics(&item.generics));
    let mut lines = vec![line(path, &item.attrs, head)];
    for inside in &item.items {
        let (attributes, name, mut shown, provided) = match inside {
            TraitItem::Fn(it) => (&it.attrs, &it.sig.ident, signature(&it.sig), it.default.is_some()),
            TraitItem::Const(it) => {
                (&it.attrs, &it.ident, format!("const {}: {}", it.ident, text(&it.ty)), it.default.is_some())
            }
            TraitItem::Type(it) => (
                &it.attrs,
                &it.ident,
                format!("type {}: {}", it.ident, text(&it.bounds)),
                it.default.is_some(),
            ),
            other => {
                lines.push(format!("{path}: {}", text(other)));
                continue;
            }
        };
        if is_hidden(attributes) {
            continue;
        }
        if provided {
            shown.push_str(" { … }");
        }
        lines.push(line(&format!("{path}::{name}"), attributes, shown));
    }
    lines
}

/// Without what is nobody's business: bodies, and whether a parameter is `mut`.
fn declaration_only(item: &mut Item) {
    match item {
        Item::Fn(it) => it.block.stmts.clear(),
        Item::Trait(it) => {
            for inside in &mut it.items {
                if let TraitItem::Fn(it) = inside {
                    it.default.iter_mut().for_each(|body| body.stmts.clear());
                }
            }
        }
        _ => {}
    }
}

pub(crate) fn signature(signature: &Signature) -> String {
    let mut signature = signature.clone();
    for input in &mut signature.inputs {
        match input {
            FnArg::Receiver(it) => it.mutability = None,
            FnArg::Typed(it) => {
                if let Pat::Ident(name) = &mut *it.pat {
                    name.mutability = None;
                }
            }
        }
    }
    text(&signature)
}

fn of_generics(generics: &Generics) -> String {
    format!("{}{}", text(generics), bounds(generics))
}

/// The `where` clause, after a space.
pub(crate) fn bounds(generics: &Generics) -> String {
    generics.where_clause.as_ref().map(|bounds| format!(" {}", text(bounds))).unwrap_or_default()
}

fn generics(item: &Item) -> Option<&Generics> {
    match item {
        Item::Struct(it) => Some(&it.generics),
        Item::Enum(it) => Some(&it.generics),
        Item::Trait(it) => Some(&it.generics),
        Item::Type(it) => Some(&it.generics),
        Item::Fn(it) => Some(&it.sig.generics),
        _ => None,
    }
}

fn derives(path: &str, attributes: &[Attribute]) -> Vec<String> {
    let mut lines = vec![];
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        let _ = attribute.parse_nested_meta(|derived| {
            lines.push(format!("{path}: derive {}", text(&derived.path)));
            Ok(())
        });
    }
    lines
}

pub(crate) fn line(path: &str, attributes: &[Attribute], shown: String) -> String {
    let mut kept: Vec<String> = attributes
        .iter()
        .filter(|it| {
            it.path().segments.last().is_some_and(|last| SHOWN.iter().any(|name| last.ident == name))
        })
        .map(|it| format!("#[{}] ", text(&it.meta)))
        .collect();
    kept.sort();
    format!("{path}: {}{shown}", kept.concat())
}
