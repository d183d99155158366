//! The crate's own macros, where they are simple: one rule, parameters between commas, no repetition.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{Item, ItemMacro, Macro};

#[derive(Clone)]
struct Rule {
    parameters: Vec<String>,
    body: TokenStream,
}

/// The macros that can be expanded, by name.
#[derive(Clone, Default)]
pub(crate) struct Macros(BTreeMap<String, Rule>);

impl Macros {
    pub(crate) fn define(&mut self, item: &ItemMacro) {
        if let (Some(name), Some(rule)) = (&item.ident, rule(item.mac.tokens.clone())) {
            self.0.insert(name.to_string(), rule);
        }
    }

    /// The items that an invocation stands for; `None` where that is not known.
    pub(crate) fn expand(&self, invocation: &Macro) -> Option<Vec<Item>> {
        let rule = self.0.get(&invocation.path.get_ident()?.to_string())?;
        let arguments = split(invocation.tokens.clone());
        if arguments.len() != rule.parameters.len() {
            return None;
        }
        let given = rule.parameters.iter().cloned().zip(arguments).collect();
        syn::parse2::<syn::File>(replaced(rule.body.clone(), &given)).ok().map(|file| file.items)
    }
}

/// `( $a:ident, … ) => { body }` and nothing after it.
fn rule(tokens: TokenStream) -> Option<Rule> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (TokenTree::Group(matcher), TokenTree::Group(body)) = (tokens.first()?, tokens.get(3)?) else {
        return None;
    };
    let one = tokens.len() == 4 || (tokens.len() == 5 && tokens[4].to_string() == ";");
    let parameters = split(matcher.stream()).iter().map(parameter).collect::<Option<_>>()?;
    one.then(|| Rule { parameters, body: body.stream() })
}

/// The `a` of `$a:ident`.
fn parameter(tokens: &TokenStream) -> Option<String> {
    let tokens: Vec<String> = tokens.clone().into_iter().map(|token| token.to_string()).collect();
    (tokens.len() == 4 && tokens[0] == "$" && tokens[2] == ":").then(|| tokens[1].clone())
}

fn split(tokens: TokenStream) -> Vec<TokenStream> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let parts = tokens.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','));
    parts.map(|part| part.iter().cloned().collect()).filter(|part: &TokenStream| !part.is_empty()).collect()
}

fn replaced(tokens: TokenStream, given: &BTreeMap<String, TokenStream>) -> TokenStream {
    let (mut done, mut tokens) = (TokenStream::new(), tokens.into_iter().peekable());
    while let Some(token) = tokens.next() {
        let dollar = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '$');
        let value = tokens.peek().filter(|_| dollar).and_then(|name| given.get(&name.to_string()));
        match (value, token) {
            (Some(value), _) => {
                done.extend(value.clone());
                tokens.next();
            }
            (None, TokenTree::Group(group)) => done.extend([TokenTree::Group(inside(&group, given))]),
            (None, token) => done.extend([token]),
        }
    }
    done
}

fn inside(group: &Group, given: &BTreeMap<String, TokenStream>) -> Group {
    let delimiter: Delimiter = group.delimiter();
    Group::new(delimiter, replaced(group.stream(), given))
}
