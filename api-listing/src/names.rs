//! What a path leads to.

use std::collections::BTreeMap;

use syn::Item;

use crate::source::{Crate, Module, ModulePath};

/// More re-exports in a row than a crate has: a circle.
const MOST_STEPS: usize = 16;

/// An item by the module that defines it, and its name there.
pub(crate) type Definition = (ModulePath, String);

pub(crate) enum Target {
    Module(ModulePath),
    /// An item, and what follows it in the path: a variant, an associated item.
    Item(Definition, Vec<String>),
    /// The path in another crate.
    Foreign(Vec<String>),
}

/// What `path`, written in the module `from`, leads to; `None` for what no `use` and no item names: generics, the prelude.
pub(crate) fn resolve(source: &Crate, from: &ModulePath, path: &[String]) -> Option<Target> {
    Names { modules: &source.modules }.follow(from, path, 0)
}

struct Names<'a> {
    modules: &'a BTreeMap<ModulePath, Module>,
}

impl Names<'_> {
    fn follow(&self, from: &ModulePath, path: &[String], steps: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        if steps > MOST_STEPS {
            return None;
        }
        match first.as_str() {
            "crate" => self.walk(vec![], rest, steps),
            "self" => self.walk(from.clone(), rest, steps),
            "super" => {
                let parent = from.split_last().map(|(_, outer)| outer.to_vec())?;
                if rest.is_empty() { Some(Target::Module(parent)) } else { self.above(parent, rest, steps) }
            }
            _ => self.walk(from.clone(), path, steps),
        }
    }

    fn above(&self, parent: ModulePath, rest: &[String], steps: usize) -> Option<Target> {
        if rest[0] == "super" {
            self.follow(&parent, rest, steps + 1)
        } else {
            self.walk(parent, rest, steps)
        }
    }

    fn walk(&self, at: ModulePath, path: &[String], steps: usize) -> Option<Target> {
        let Some((first, rest)) = path.split_first() else {
            return Some(Target::Module(at));
        };
        let module = self.modules.get(&at)?;
        let below = [at.as_slice(), std::slice::from_ref(first)].concat();
        let is_module = self.modules.contains_key(&below);
        if is_module && !rest.is_empty() {
            return self.walk(below, rest, steps);
        }
        if module.items.iter().any(|item| name_of(item).as_ref() == Some(first)) {
            return Some(Target::Item((at, first.clone()), rest.to_vec()));
        }
        let brought = self.brought(&at, module, path, steps);
        brought.or_else(|| is_module.then_some(Target::Module(below)))
    }

    /// What a `use` of the module brings in by this name.
    fn brought(&self, at: &ModulePath, module: &Module, path: &[String], steps: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        if let Some(found) = module.uses.iter().find(|it| it.name == *first && it.path != [first.clone()]) {
            let onward = [found.path.as_slice(), rest].concat();
            // `use name::name` of another crate: alone the item, with more behind it the crate.
            if found.path.first() == Some(first)
                && !self.modules.contains_key(&[at, &found.path[..1]].concat())
            {
                return Some(Target::Foreign(if rest.is_empty() { onward } else { path.to_vec() }));
            }
            return self.follow(at, &onward, steps + 1).or(Some(Target::Foreign(onward)));
        }
        module.uses.iter().filter(|it| it.name == "*").find_map(|it| {
            match self.follow(at, &it.path, steps + 1)? {
                Target::Module(inside) if inside != *at => self.walk(inside, path, steps + 1),
                _ => None,
            }
        })
    }
}

/// The name of an item that a path can lead to; modules have their own place.
pub(crate) fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
