//! A certificate that one side does not accept: no failure of the connection, and no further attempt helps.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

/// Why one side does not accept what the other has shown, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct TlsRefusal(pub(super) String);

/// Why the one side refused the other, where that is the cause of an error: [`Error::Denied`](crate::Error::Denied) is what
/// it means. Also found in what a client library has made of the error.
pub fn tls_refusal(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(TlsRefusal(said)) = cause.downcast_ref() {
            return Some(said.clone());
        }
        next = inside(cause).or_else(|| cause.source());
    }
    None
}

/// What is no source of an error, but stands in it: libraries share theirs, and an `io::Error` is around another.
fn inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        return Some(&**shared);
    }
    if let Some(shared) = error.downcast_ref::<Arc<io::Error>>() {
        return Some(&**shared);
    }
    Some(error.downcast_ref::<io::Error>()?.get_ref()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("a library's")]
    struct Library(#[source] Arc<dyn StdError + Send + Sync>);

    #[test]
    fn a_refusal_is_found_in_what_libraries_make_of_it() {
        let refused = || io::Error::new(io::ErrorKind::InvalidData, TlsRefusal("expired".into()));
        assert_eq!(tls_refusal(&refused()).as_deref(), Some("expired"));
        assert_eq!(tls_refusal(&io::Error::other(refused())).as_deref(), Some("expired"));
        assert_eq!(tls_refusal(&Library(Arc::new(refused()))).as_deref(), Some("expired"));
        assert_eq!(tls_refusal(&Arc::new(refused())).as_deref(), Some("expired"));
        let shared: Arc<dyn StdError + Send + Sync> = Arc::new(refused());
        assert_eq!(tls_refusal(&shared).as_deref(), Some("expired"));
        assert_eq!(tls_refusal(&Library(Arc::new(io::Error::other("reset")))), None);
    }
}
