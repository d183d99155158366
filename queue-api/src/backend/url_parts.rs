//! What URLs of every form are made of.

/// What is read, or what is wrong with it: never the text itself, which may be a secret.
pub(super) type Read<T> = std::result::Result<T, String>;

/// The parameters of a URL, decoded.
#[derive(Clone)]
pub(super) struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// Nothing unknown, repeated or without a value.
    pub(super) fn read(query: &str, known: &[&'static str]) -> Read<Self> {
        let mut read = Vec::<(&'static str, String)>::new();
        for (at, pair) in query.split('&').filter(|_| !query.is_empty()).enumerate() {
            let (given, value) = pair.split_once('=').ok_or("a parameter has no value")?;
            let Some(&key) = known.iter().find(|key| **key == given) else {
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                // Its name is not said: it may be a secret in the wrong place.
                return Err(format!("parameter {} is not known, known is {known}", at + 1));
            };
            if read.iter().any(|(earlier, _)| *earlier == key) {
                return Err(format!("the parameter {key:?} is given twice"));
            }
            read.push((key, decoded(value)?));
        }
        Ok(Self(read))
    }

    /// The value of one, where it is given.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }
}

/// Once: what is decoded may look encoded again.
pub(super) fn decoded(text: &str) -> Read<String> {
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("a space or control character is not percent-encoded".into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let hex = part.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.ok_or("two hexadecimal digits do not follow a %, which is itself written %25")?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "percent-encoded bytes are not UTF-8".into())
}
