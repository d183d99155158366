//! What a broker says of itself in its first frame, which the client library keeps to itself.

use std::ops::ControlFlow::{self, Break, Continue};

use lapin::protocol::connection::AMQPMethod;
use lapin::protocol::{AMQPClass, constants::FRAME_METHOD, parse_class};
use lapin::types::{AMQPValue, FieldTable};

use crate::queue_type::version::ServerVersion;

/// Type, channel and size, before the payload.
const HEADER: usize = 7;
/// No broker says so much of itself.
const LONGEST: usize = 64 * 1024;

/// What has arrived of the first frame.
#[derive(Default)]
pub(crate) struct Greeting {
    arrived: Vec<u8>,
}

impl Greeting {
    /// Takes what arrives; breaks when the frame is complete, or cannot be the one that is awaited.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> ControlFlow<Option<ServerVersion>> {
        let room = LONGEST - self.arrived.len();
        self.arrived.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some((header, payload)) = self.arrived.split_first_chunk::<HEADER>() else {
            return Continue(());
        };
        let &[kind, _, _, size @ ..] = header;
        let size = u32::from_be_bytes(size) as usize;
        if kind != FRAME_METHOD || size > LONGEST - HEADER {
            return Break(None);
        }
        payload.get(..size).map_or(Continue(()), |payload| Break(version(payload)))
    }
}

/// Reads the method `connection.start`.
fn version(payload: &[u8]) -> Option<ServerVersion> {
    match parse_class(payload) {
        Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) => {
            let stated = |name| text(&start.server_properties, name);
            ServerVersion::read(&stated("product")?, &stated("version")?)
        }
        _ => None,
    }
}

fn text(properties: &FieldTable, name: &str) -> Option<String> {
    match properties.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table's field: name, type, value.
    fn field(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
        [&[name.len() as u8], name.as_bytes(), &[kind], value].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
    }

    /// A method frame, with what ends it.
    fn frame(payload: &[u8]) -> Vec<u8> {
        [&[1, 0, 0][..], &long(payload), &[0xCE]].concat()
    }

    /// What a RabbitMQ 3.10 sends first, with these properties.
    fn start(product: Option<&str>, version: Option<&str>) -> Vec<u8> {
        let capabilities = ["publisher_confirms", "consumer_cancel_notify", "connection.blocked"];
        let capabilities = capabilities.map(|name| field(name, b't', &[1])).concat();
        let mut properties = vec![field("capabilities", b'F', &long(&capabilities))];
        let said = [
            ("cluster_name", Some("rabbit@broker")),
            ("copyright", Some("Copyright (c) 2007-2022 VMware, Inc. or its affiliates.")),
            ("information", Some("Licensed under the MPL 2.0. Website: https://rabbitmq.com")),
            ("platform", Some("Erlang/OTP 25.2.3")),
            ("product", product),
            ("version", version),
        ];
        let said = said.into_iter().filter_map(|(name, text)| Some((name, text?)));
        properties.extend(said.map(|(name, text)| field(name, b'S', &long(text.as_bytes()))));
        let properties = long(&properties.concat());
        frame(&[&[0, 10, 0, 10, 0, 9][..], &properties, &long(b"AMQPLAIN PLAIN"), &long(b"en_US")].concat())
    }

    fn rabbitmq() -> Vec<u8> {
        start(Some("RabbitMQ"), Some("3.10.8"))
    }

    const VERSION: Option<ServerVersion> = Some(ServerVersion { major: 3, minor: 10, patch: 8 });

    #[test]
    fn the_first_frame_states_the_version() {
        assert_eq!(Greeting::default().take(&rabbitmq()), Break(VERSION));
    }

    #[test]
    fn bytes_may_come_one_at_a_time() {
        let bytes = rabbitmq();
        let mut greeting = Greeting::default();
        let (last, before) = bytes[..bytes.len() - 1].split_last().unwrap();
        for byte in before {
            assert_eq!(greeting.take(&[*byte]), Continue(()));
        }
        assert_eq!(greeting.take(&[*last]), Break(VERSION));
    }

    #[test]
    fn an_incomplete_frame_is_awaited() {
        let bytes = rabbitmq();
        for length in [0, 1, HEADER - 1, HEADER, bytes.len() - 2] {
            assert_eq!(Greeting::default().take(&bytes[..length]), Continue(()), "{length}");
        }
    }

    #[test]
    fn a_broker_need_not_state_a_version_of_rabbitmq() {
        for (product, version) in
            [(Some("LavinMQ"), Some("2.4.0")), (None, Some("3.10.8")), (Some("RabbitMQ"), None)]
        {
            assert_eq!(Greeting::default().take(&start(product, version)), Break(None), "{product:?}");
        }
    }

    #[test]
    fn anything_else_states_no_version() {
        let wrong_table = frame(&[0, 10, 0, 10, 0, 9, 0, 0, 0, 200, 7]);
        let other_method = frame(&[0, 10, 0, 51]);
        let too_long = [&[1, 0, 0][..], &[0, 2, 0, 0], &[0; 3 * LONGEST]].concat();
        let other_version = b"AMQP\0\0\x09\x01".to_vec();
        let http = b"HTTP/1.1 400 Bad Request\r\n".to_vec();
        for bytes in [wrong_table, other_method, too_long, other_version, http, frame(&[])] {
            assert_eq!(Greeting::default().take(&bytes), Break(None), "{:?}", &bytes[..HEADER]);
        }
    }
}
