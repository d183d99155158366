//! A table whose places are used again.

/// Values by their places.
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(value);
                place
            }
            None => {
                self.places.push(Some(value));
                self.places.len() - 1
            }
        }
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<T> {
        let value = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    pub(super) fn drain(&mut self) -> Vec<T> {
        self.free.clear();
        self.places.drain(..).flatten().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_never_twice() {
        let mut slab = Slab::default();
        let (first, second) = (slab.insert("a"), slab.insert("b"));
        assert_eq!((slab.len(), slab.remove(first), slab.remove(first)), (2, Some("a"), None));
        assert_eq!(slab.insert("c"), first);
        assert_eq!(slab.iter().copied().collect::<Vec<_>>(), ["c", "b"]);
        assert_eq!((slab.remove(second), slab.len(), slab.drain()), (Some("b"), 1, vec!["c"]));
        assert_eq!(slab.len(), 0);
    }
}
