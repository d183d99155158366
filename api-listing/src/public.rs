//! Which items can be reached from outside, and by what path.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, Visibility};

use crate::attributes::{line, shown};
use crate::names::{Definition, Target, name_of, resolve};
use crate::source::{Crate, ModulePath, is_public};
use crate::text::text;

/// The public items: by what path each is listed, and what else leads to them or to other crates.
#[derive(Default)]
pub(crate) struct Public {
    paths: BTreeMap<Definition, BTreeSet<(usize, String)>>,
    lines: BTreeSet<String>,
    reexports: Vec<String>,
    seen: BTreeSet<(ModulePath, String)>,
}

impl Public {
    pub(crate) fn of(source: &Crate) -> Self {
        let mut public = Self::default();
        public.visit(source, &vec![], &source.name);
        public.reexports = public.also().chain(public.lines.iter().cloned()).collect();
        public
    }

    pub(crate) fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.paths.keys()
    }

    /// The shortest path that leads to an item; `None` where none does.
    pub(crate) fn path(&self, definition: &Definition) -> Option<&str> {
        self.paths.get(definition)?.first().map(|(_, path)| path.as_str())
    }

    /// Lines for modules, for items of other crates, and for each further path that leads to an item.
    pub(crate) fn reexports(&self) -> &[String] {
        &self.reexports
    }

    fn also(&self) -> impl Iterator<Item = String> {
        self.paths.values().flat_map(|paths| {
            let first = paths.first().map(|(_, path)| path.as_str()).unwrap_or_default();
            paths.iter().skip(1).map(move |(_, path)| format!("{path}: pub use {first}"))
        })
    }

    fn visit(&mut self, source: &Crate, at: &ModulePath, prefix: &str) {
        let Some(module) =
            source.modules.get(at).filter(|_| self.seen.insert((at.clone(), prefix.to_owned())))
        else {
            return;
        };
        for item in &module.items {
            self.visit_item(source, at, prefix, item);
        }
        for it in module.uses.iter().filter(|it| it.public) {
            let path = format!("{prefix}::{}", it.name);
            if !shown(&it.attributes).is_empty() {
                self.lines.insert(line(&path, &it.attributes, "pub use".into()));
            }
            match resolve(source, at, &it.path) {
                Some(Target::Module(inside)) if it.name == "*" => self.visit(source, &inside, prefix),
                Some(Target::Module(inside)) => self.visit(source, &inside, &path),
                Some(Target::Item(definition, rest)) if rest.is_empty() => self.reach(definition, path),
                Some(Target::Foreign(foreign)) => self.other(&path, &foreign),
                _ => self.other(&path, &it.path),
            }
        }
    }

    fn visit_item(&mut self, source: &Crate, at: &ModulePath, prefix: &str, item: &Item) {
        match item {
            Item::Mod(item) if is_public(&item.vis) => {
                let path = format!("{prefix}::{}", item.ident);
                self.lines.insert(line(&path, &item.attrs, "pub mod".into()));
                self.visit(source, &[at.as_slice(), &[item.ident.to_string()]].concat(), &path);
            }
            Item::Macro(item) => self.visit_macro(source, prefix, item),
            item => {
                if let Some(name) = name_of(item).filter(|_| visibility(item).is_some_and(is_public)) {
                    self.reach((at.clone(), name.clone()), format!("{prefix}::{name}"));
                }
            }
        }
    }

    fn visit_macro(&mut self, source: &Crate, prefix: &str, item: &syn::ItemMacro) {
        let tokens = text(&item.mac.tokens);
        match &item.ident {
            Some(name) if item.attrs.iter().any(|it| it.path().is_ident("macro_export")) => {
                self.lines.insert(line(
                    &format!("{}::{name}", source.name),
                    &item.attrs,
                    format!("macro_rules! {{ {tokens} }}"),
                ));
            }
            Some(_) => {}
            None if item.mac.path.is_ident("thread_local") && !tokens.contains("pub ") => {}
            None => {
                let name = text(&item.mac.path);
                self.lines.insert(format!("{prefix}: {name}! {{ {tokens} }}"));
            }
        }
    }

    fn reach(&mut self, definition: Definition, path: String) {
        self.paths.entry(definition).or_default().insert((path.matches("::").count(), path));
    }

    fn other(&mut self, path: &str, target: &[String]) {
        self.lines.insert(format!("{path}: pub use {}", target.join("::")));
    }
}

fn visibility(item: &Item) -> Option<&Visibility> {
    Some(match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        _ => return None,
    })
}
