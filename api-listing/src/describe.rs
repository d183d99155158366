//! An item as lines: itself, and all that can be named of it.

use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Fields, FnArg, Generics, Item, ItemEnum, ItemStruct, ItemTrait, Pat, Signature, TraitItem,
};

use crate::attributes::{is_shown, line};
use crate::names::{Definition, name_of};
use crate::public::Public;
use crate::qualify::Qualifier;
use crate::source::{Crate, is_public};
use crate::text::text;

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
        Item::Const(it) => vec![line(
            path,
            &it.attrs,
            format!("pub const {}: {} = {}", it.ident, text(&it.ty), text(&it.expr)),
        )],
        Item::Static(it) => vec![line(
            path,
            &it.attrs,
            format!("pub static {}: {} = {}", it.ident, text(&it.ty), text(&it.expr)),
        )],
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
    for field in item.fields.iter().filter(|field| is_public(&field.vis)) {
        if let Some(name) = &field.ident {
            lines.push(line(
                &format!("{path}::{name}"),
                &field.attrs,
                format!("pub {name}: {}", text(&field.ty)),
            ));
        }
    }
    let derived = derives(path, &item.attrs);
    if derived.iter().any(|derive| derive.ends_with("Serialize") || derive.ends_with("Deserialize")) {
        lines.extend(serialized(path, &item.fields));
    }
    lines.extend(derived);
    lines
}

/// The private fields of what is serialized: whoever reads it meets them.
fn serialized(path: &str, fields: &Fields) -> Vec<String> {
    let private = fields.iter().filter(|field| !is_public(&field.vis));
    let named = private.filter_map(|field| Some((field.ident.as_ref()?, &field.attrs)));
    named.map(|(name, attributes)| line(path, attributes, format!("serialized {name}"))).collect()
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
    for variant in &item.variants {
        let mut bare = variant.clone();
        bare.attrs.clear();
        bare.fields.iter_mut().for_each(|field| field.attrs.retain(is_shown));
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
                let value = it.default.as_ref().map(|(_, value)| format!(" = {}", text(value)));
                let shown = format!("const {}: {}{}", it.ident, text(&it.ty), value.unwrap_or_default());
                (&it.attrs, &it.ident, shown, false)
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
