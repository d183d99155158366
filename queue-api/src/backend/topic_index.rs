//! Which of many patterns a routing key fits, without a look at each.

use std::collections::{BTreeSet, HashMap};

use crate::topic::words;
use crate::{Pattern, RoutingKey};

/// Owners by the patterns that they are bound by: a tree of words. What a key costs depends on its words and on what shares them, not
/// on how many patterns there are.
#[derive(Debug)]
pub struct TopicIndex<T>(Node<T>);

#[derive(Debug)]
struct Node<T> {
    words: HashMap<Box<str>, Node<T>>,
    star: Option<Box<Node<T>>>,
    hash: Option<Box<Node<T>>>,
    /// Those whose patterns end here.
    owners: BTreeSet<T>,
}

impl<T> Default for TopicIndex<T> {
    fn default() -> Self {
        Self(Node::default())
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { words: HashMap::new(), star: None, hash: None, owners: BTreeSet::new() }
    }
}

impl<T: Ord> TopicIndex<T> {
    /// Binds this owner by one more pattern.
    pub fn insert(&mut self, pattern: &Pattern, owner: T) {
        let mut node = &mut self.0;
        for word in words(pattern.as_str()) {
            node = match word {
                "*" => node.star.get_or_insert_default(),
                "#" => node.hash.get_or_insert_default(),
                word => node.words.entry(word.into()).or_default(),
            };
        }
        node.owners.insert(owner);
    }

    /// Takes this owner's pattern away.
    pub fn remove(&mut self, pattern: &Pattern, owner: &T) {
        let words: Vec<&str> = words(pattern.as_str()).collect();
        self.0.remove(&words, owner);
    }

    /// All whose patterns fit this key, once each, in their order.
    pub fn matching(&self, key: &RoutingKey) -> BTreeSet<&T> {
        // A place is a node, and whether the `#` that led there takes another word. No node is in the list twice, so that many `#` do
        // not multiply.
        let mut places = Places::default();
        places.enter(&self.0);
        for word in words(key.as_str()) {
            let mut next = Places::default();
            for place in places.nodes {
                if place.takes_any {
                    next.stay(place.node);
                }
                if let Some(node) = place.node.words.get(word) {
                    next.enter(node);
                }
                if let Some(node) = &place.node.star {
                    next.enter(node);
                }
            }
            places = next;
        }
        places.nodes.iter().flat_map(|place| &place.node.owners).collect()
    }
}

impl<T: Ord> Node<T> {
    fn remove(&mut self, words: &[&str], owner: &T) {
        let Some((word, rest)) = words.split_first() else {
            self.owners.remove(owner);
            return;
        };
        match *word {
            "*" => remove_below(&mut self.star, rest, owner),
            "#" => remove_below(&mut self.hash, rest, owner),
            word => {
                if let Some(node) = self.words.get_mut(word) {
                    node.remove(rest, owner);
                    if node.is_empty() {
                        self.words.remove(word);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.words.is_empty() && self.star.is_none() && self.hash.is_none()
    }
}

fn remove_below<T: Ord>(below: &mut Option<Box<Node<T>>>, rest: &[&str], owner: &T) {
    if let Some(node) = below {
        node.remove(rest, owner);
        if node.is_empty() {
            *below = None;
        }
    }
}

struct Place<'a, T> {
    node: &'a Node<T>,
    takes_any: bool,
}

struct Places<'a, T> {
    nodes: Vec<Place<'a, T>>,
}

impl<T> Default for Places<'_, T> {
    fn default() -> Self {
        Self { nodes: Vec::new() }
    }
}

impl<'a, T> Places<'a, T> {
    /// At this node, and behind each `#` that follows at once, which may stand for nothing.
    fn enter(&mut self, node: &'a Node<T>) {
        self.add(node, false);
    }

    /// Behind a `#` that takes another word.
    fn stay(&mut self, node: &'a Node<T>) {
        self.add(node, true);
    }

    fn add(&mut self, node: &'a Node<T>, takes_any: bool) {
        match self.nodes.iter_mut().find(|place| std::ptr::eq(place.node, node)) {
            Some(place) => place.takes_any |= takes_any,
            None => {
                self.nodes.push(Place { node, takes_any });
                if let Some(behind) = &node.hash {
                    self.add(behind, true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    /// All texts of up to four of these words.
    fn texts(words: &[&str]) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut longest = vec![Vec::new()];
        for _ in 0..4 {
            longest = longest
                .iter()
                .flat_map(|text: &Vec<&str>| words.iter().map(|word| [&text[..], &[*word]].concat()))
                .collect();
            all.extend(longest.iter().map(|text| text.join(".")));
        }
        all
    }

    #[test]
    fn it_finds_what_a_look_at_each_finds() {
        let patterns: Vec<Pattern> = texts(&["a", "b", "*", "#"]).iter().map(|text| pattern(text)).collect();
        let mut index = TopicIndex::default();
        patterns.iter().enumerate().for_each(|(owner, pattern)| index.insert(pattern, owner));
        for key in texts(&["a", "b", "c", ""]) {
            let key = RoutingKey::new(key).unwrap();
            let each = patterns.iter().enumerate().filter(|(_, pattern)| pattern.matches(&key));
            let expected: Vec<usize> = each.map(|(owner, _)| owner).collect();
            assert_eq!(index.matching(&key).into_iter().copied().collect::<Vec<_>>(), expected, "{key:?}");
        }
    }

    #[test]
    fn what_is_taken_away_leaves_nothing() {
        let mut index = TopicIndex::default();
        for text in ["a.b", "a.*", "a.#", "#", ""] {
            index.insert(&pattern(text), "one");
            index.insert(&pattern(text), "two");
        }
        let key = RoutingKey::new("a.b").unwrap();
        assert_eq!(index.matching(&key), BTreeSet::from([&"one", &"two"]));
        for text in ["a.b", "a.*", "a.#", "#", "", "never.there"] {
            index.remove(&pattern(text), &"one");
        }
        assert_eq!(index.matching(&key), BTreeSet::from([&"two"]));
        for text in ["a.b", "a.*", "a.#", "#", ""] {
            index.remove(&pattern(text), &"two");
        }
        assert!(index.0.is_empty());
    }

    #[test]
    fn many_hashes_do_not_explode() {
        let mut index = TopicIndex::default();
        index.insert(&pattern(&["#"; 60].join(".a.").chars().take(200).collect::<String>()), 0);
        let key = RoutingKey::new(vec!["a"; 60].join(".")).unwrap();
        assert!(index.matching(&key).is_empty());
    }
}
