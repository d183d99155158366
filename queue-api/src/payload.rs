//! Types that travel in messages.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type that travels as the JSON payload of a message.
///
/// ```
/// use polyqueue::{Message, Payload};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Welcome { user: String }
/// impl Payload for Welcome { const KIND: &'static str = "welcome"; }
///
/// assert_eq!(Message::of(&Welcome { user: "Ada".into() })?.kind(), "welcome");
/// # Ok::<_, polyqueue::Error>(())
/// ```
///
/// A type that only serde knows is refused:
///
/// ```compile_fail,E0277
/// # use polyqueue::Message;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Welcome { user: String }
/// Message::of(&Welcome { user: "Ada".into() });
/// // error[E0277]: `Welcome` is not a `Payload`
/// //   = note: write `impl Payload for Welcome { const KIND: &'static str = "…"; }`, beside `#[derive(…)]`
/// //   = note: `Message::json` sends, and `Message::decode` reads, what is none
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Payload`",
    label = "should be a type that implements `Payload`",
    note = "write `impl Payload for {Self} {{ const KIND: &'static str = \"…\"; }}`, beside `#[derive(serde::Serialize, serde::Deserialize)]`",
    note = "`Message::json` sends, and `Message::decode` reads, what is none"
)]
pub trait Payload: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The message's kind: what a [`Worker`](crate::Worker) chooses the handler by. At most 200 bytes.
    const KIND: &'static str;
    /// The version of this payload's schema, `major.minor.patch`; another major version at the reader is warned of.
    const VERSION: &'static str = "1.0.0";
}
