//! Tokens as text on one line, spaced as people write them.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

pub(crate) fn text(tokens: &impl ToTokens) -> String {
    let mut out = String::new();
    write(tokens.to_token_stream(), &mut out);
    out.trim().trim_end_matches(',').replace(", >", ">")
}

fn write(tokens: TokenStream, out: &mut String) {
    let mut joint = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    // A slice after a lifetime or a word.
                    Delimiter::Bracket if out.ends_with(char::is_alphanumeric) => (" [", "]"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => (" { ", " }"),
                    Delimiter::None => ("", ""),
                };
                out.push_str(open);
                write(group.stream(), out);
                out.truncate(out.trim_end().trim_end_matches(',').len());
                out.push_str(close);
                joint = false;
            }
            TokenTree::Punct(mark) => {
                punctuate(mark.as_char(), joint, mark.spacing() == Spacing::Joint, out);
                joint = mark.spacing() == Spacing::Joint;
            }
            token => {
                if out.ends_with(|last: char| last.is_alphanumeric() || "_)>]}".contains(last)) && !joint {
                    out.push(' ');
                }
                out.push_str(&token.to_string());
                joint = false;
            }
        }
    }
}

fn punctuate(mark: char, after_mark: bool, before_mark: bool, out: &mut String) {
    match mark {
        ',' | ';' => {
            out.truncate(out.trim_end().len());
            out.push(mark);
            out.push(' ');
        }
        // `a: T`, `a::b`.
        ':' if after_mark || before_mark => out.push(mark),
        ':' => out.push_str(": "),
        // `a = b`, `a => b`, `a == b`.
        '=' if after_mark => out.push(mark),
        '=' | '+' | '|' => out.push_str(&format!(" {mark}{}", if before_mark { "" } else { " " })),
        // `-> T`, `=> T`.
        '>' if out.ends_with(['-', '=']) => out.push_str("> "),
        '-' if before_mark => out.push_str(" -"),
        // A lifetime or a reference after a name.
        '\'' | '&' | '#' if out.ends_with(|last: char| last.is_alphanumeric() || last == '>') => {
            out.push(' ');
            out.push(mark);
        }
        _ => out.push(mark),
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_signature_reads_as_it_is_written() {
        for written in [
            "pub async fn run<T: Clone + 'static>(&self, to: impl Into<Vec<u8>>) -> Result<(), E>",
            "fn all<'a, F>(&'a mut self, each: F) -> impl Iterator<Item = &'a str> where F: Fn(u8) -> u8 + Send",
            "[u8; 4]",
            "dyn for<'a> Fn(&'a [u8]) -> std::time::Duration",
        ] {
            let tokens: proc_macro2::TokenStream = written.parse().unwrap();
            assert_eq!(text(&tokens), written);
        }
    }
}
