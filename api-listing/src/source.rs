//! The source of a crate: its modules, without tests.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

use crate::expand::Macros;

/// What went wrong: a file that cannot be read, or is not Rust.
pub type Error = Box<dyn std::error::Error>;

/// The names of a module and those that it stands in, from the root, which has none.
pub(crate) type ModulePath = Vec<String>;

#[derive(Default)]
pub(crate) struct Module {
    pub(crate) items: Vec<Item>,
    pub(crate) uses: Vec<Use>,
}

/// One name that a `use` brings in; `*` for all of a module.
pub(crate) struct Use {
    pub(crate) path: Vec<String>,
    pub(crate) name: String,
    pub(crate) public: bool,
    pub(crate) attributes: Vec<Attribute>,
}

pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) modules: BTreeMap<ModulePath, Module>,
    /// All that are defined, wherever.
    macros: Macros,
}

impl Crate {
    pub(crate) fn read(name: &str, root: &Path) -> Result<Self, Error> {
        // Twice: a macro that is brought in by `use` may stand behind its first invocation.
        let first = Self::walked(name, root, &Macros::default())?;
        Self::walked(name, root, &first.macros)
    }

    fn walked(name: &str, root: &Path, known: &Macros) -> Result<Self, Error> {
        let mut source = Self { name: name.to_owned(), modules: BTreeMap::new(), macros: Macros::default() };
        let items = parse(root)?;
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        source.add(vec![], items, &folder, known)?;
        Ok(source)
    }

    fn add(
        &mut self,
        path: ModulePath,
        items: Vec<Item>,
        folder: &Path,
        outer: &Macros,
    ) -> Result<(), Error> {
        let mut macros = outer.clone();
        let mut module = Module::default();
        for item in items {
            self.take(item, &path, folder, &mut macros, &mut module)?;
        }
        self.modules.insert(path, module);
        Ok(())
    }

    fn take(
        &mut self,
        item: Item,
        path: &ModulePath,
        folder: &Path,
        macros: &mut Macros,
        module: &mut Module,
    ) -> Result<(), Error> {
        if attributes(&item).is_some_and(is_test) {
            return Ok(());
        }
        match item {
            Item::Use(item) => leaves(&item.tree, &mut vec![], &item, &mut module.uses),
            Item::Macro(item) if item.ident.is_none() => match macros.expand(&item.mac) {
                Some(items) => {
                    for item in items {
                        self.take(item, path, folder, macros, module)?;
                    }
                }
                None => module.items.push(Item::Macro(item)),
            },
            Item::Macro(item) => {
                macros.define(&item);
                self.macros.define(&item);
                module.items.push(Item::Macro(item));
            }
            Item::Mod(mut item) => {
                let below = folder.join(item.ident.to_string());
                let items = match item.content.take() {
                    Some((_, items)) => items,
                    None => parse(&file_of(&item, folder))?,
                };
                let path = [path.as_slice(), &[item.ident.to_string()]].concat();
                self.add(path, items, &below, macros)?;
                module.items.push(Item::Mod(item));
            }
            item => module.items.push(item),
        }
        Ok(())
    }
}

fn parse(file: &Path) -> Result<Vec<Item>, Error> {
    let shown = file.display();
    let text = read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let parsed = syn::parse_file(&text).map_err(|error| format!("{shown}: {error}"))?;
    Ok(parsed.items)
}

fn file_of(module: &ItemMod, folder: &Path) -> PathBuf {
    let beside = folder.join(format!("{}.rs", module.ident));
    if beside.exists() { beside } else { folder.join(module.ident.to_string()).join("mod.rs") }
}

fn leaves(tree: &UseTree, prefix: &mut Vec<String>, item: &ItemUse, found: &mut Vec<Use>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            leaves(&path.tree, prefix, item, found);
            prefix.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, prefix, item, found)),
        UseTree::Name(leaf) => found.push(leaf_of(prefix, leaf.ident.to_string(), None, item)),
        UseTree::Rename(leaf) => {
            found.push(leaf_of(prefix, leaf.ident.to_string(), Some(leaf.rename.to_string()), item))
        }
        UseTree::Glob(_) => found.push(use_of(prefix.clone(), "*".into(), item)),
    }
}

fn leaf_of(prefix: &[String], leaf: String, alias: Option<String>, item: &ItemUse) -> Use {
    let mut path = prefix.to_vec();
    if leaf != "self" {
        path.push(leaf);
    }
    let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
    use_of(path, name, item)
}

fn use_of(path: Vec<String>, name: String, item: &ItemUse) -> Use {
    Use { path, name, public: is_public(&item.vis), attributes: item.attrs.clone() }
}

pub(crate) fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.meta.to_token_stream().to_string().replace(' ', "");
        text == "test" || text.starts_with("cfg(test") || text.starts_with("cfg(all(test")
    })
}

pub(crate) fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}
