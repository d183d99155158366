//! The `impl` blocks: methods of public types, and which traits they have.

use syn::visit_mut::VisitMut;
use syn::{ImplItem, Item, ItemImpl};

use crate::attributes::line;
use crate::describe::{bounds, signature};
use crate::names::Definition;
use crate::public::Public;
use crate::qualify::Qualifier;
use crate::source::{Crate, ModulePath, is_public};
use crate::text::text;

pub(crate) fn impls(source: &Crate, public: &Public) -> Vec<String> {
    let mut lines = vec![];
    for (at, module) in &source.modules {
        for item in &module.items {
            if let Item::Impl(item) = item {
                lines.extend(of_impl(source, public, at, item));
            }
        }
    }
    lines
}

fn of_impl(source: &Crate, public: &Public, at: &ModulePath, item: &ItemImpl) -> Vec<String> {
    let mut item = item.clone();
    for inside in &mut item.items {
        if let ImplItem::Fn(it) = inside {
            it.block.stmts.clear();
        }
    }
    let mut head = Qualifier::new(source, public, at).with_generics(&item.generics);
    head.visit_type_mut(&mut item.self_ty);
    if let Some((path, _)) = &mut item.trait_ {
        head.visit_path_mut(path);
    }
    head.visit_generics_mut(&mut item.generics);
    let named = std::mem::take(&mut head.named);
    let Some(owner) = owner(public, &named) else { return vec![] };
    item.items.iter_mut().for_each(|inside| head.visit_impl_item_mut(inside));
    match &item.trait_ {
        Some((path, _)) => vec![of_trait(owner, &item, &text(path))],
        None => of_type(owner, &item),
    }
}

/// Where an impl is listed: at the first item of this crate that it names. Nowhere, where it names one that is not public.
fn owner<'a>(public: &'a Public, named: &[Definition]) -> Option<&'a str> {
    let paths: Option<Vec<&str>> = named.iter().map(|definition| public.path(definition)).collect();
    paths?.first().copied()
}

fn of_trait(owner: &str, item: &ItemImpl, path: &str) -> String {
    let mut types = vec![];
    for inside in &item.items {
        if let ImplItem::Type(it) = inside {
            types.push(format!("type {} = {}", it.ident, text(&it.ty)));
        }
    }
    let inside = if types.is_empty() { String::new() } else { format!(" {{ {} }}", types.join("; ")) };
    let (head, bounds) = (text(&item.generics), bounds(&item.generics));
    line(owner, &item.attrs, format!("impl{head} {path} for {}{bounds}{inside}", text(&item.self_ty)))
}

fn of_type(owner: &str, item: &ItemImpl) -> Vec<String> {
    let plain = item.generics.params.is_empty() && item.generics.where_clause.is_none();
    let (generics, bounds) = (text(&item.generics), bounds(&item.generics));
    let of = if plain { String::new() } else { format!("impl{generics} {}{bounds}: ", text(&item.self_ty)) };
    let mut lines = vec![];
    for inside in &item.items {
        let (visibility, attributes, name, shown) = match inside {
            ImplItem::Fn(it) => (&it.vis, &it.attrs, &it.sig.ident, signature(&it.sig)),
            ImplItem::Const(it) => (
                &it.vis,
                &it.attrs,
                &it.ident,
                format!("const {}: {} = {}", it.ident, text(&it.ty), text(&it.expr)),
            ),
            _ => continue,
        };
        if is_public(visibility) {
            lines.push(line(&format!("{owner}::{name}"), attributes, format!("{of}pub {shown}")));
        }
    }
    lines
}
