//! Paths written out, so that a text means the same whatever its file imports.

use syn::visit_mut::{VisitMut, visit_path_mut};
use syn::{Ident, Path, PathSegment};

use crate::names::{Definition, Target, resolve};
use crate::public::Public;
use crate::source::{Crate, ModulePath};

/// Writes out every path in what it visits, and notes which items of the crate they lead to.
pub(crate) struct Qualifier<'a> {
    source: &'a Crate,
    public: &'a Public,
    from: &'a ModulePath,
    /// The generics: names that lead nowhere, whatever is imported.
    pub(crate) own: Vec<String>,
    pub(crate) named: Vec<Definition>,
}

impl<'a> Qualifier<'a> {
    pub(crate) fn new(source: &'a Crate, public: &'a Public, from: &'a ModulePath) -> Self {
        Self { source, public, from, own: vec![], named: vec![] }
    }

    pub(crate) fn with_generics(mut self, generics: &syn::Generics) -> Self {
        self.own.extend(generics.type_params().map(|it| it.ident.to_string()));
        self
    }

    fn written_out(&mut self, path: &Path) -> Option<Vec<String>> {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if path.leading_colon.is_some() || self.own.contains(&names[0]) {
            return None;
        }
        match resolve(self.source, self.from, &names)? {
            Target::Foreign(path) => Some(path),
            Target::Module(_) => None,
            Target::Item(definition, rest) => {
                let shown = match self.public.path(&definition) {
                    Some(path) => path.split("::").map(str::to_owned).collect(),
                    None => [&["crate".to_owned()][..], &definition.0, std::slice::from_ref(&definition.1)]
                        .concat(),
                };
                self.named.push(definition);
                Some([shown, rest].concat())
            }
        }
    }
}

impl VisitMut for Qualifier<'_> {
    fn visit_path_mut(&mut self, path: &mut Path) {
        visit_path_mut(self, path);
        let Some(names) = self.written_out(path) else { return };
        // What a path has of arguments stands at its end: `Vec<T>`, `Fn() -> T`, `module::Type<T>`.
        let Some(last) = path.segments.last().cloned() else { return };
        let mut segments: Vec<PathSegment> =
            names.iter().filter_map(|name| syn::parse_str::<Ident>(name).ok().map(Into::into)).collect();
        if names[0] == "crate" {
            segments.insert(0, PathSegment::from(Ident::new("crate", last.ident.span())));
        }
        if let Some(end) = segments.last_mut() {
            end.arguments = last.arguments;
        }
        path.segments = segments.into_iter().collect();
    }
}
