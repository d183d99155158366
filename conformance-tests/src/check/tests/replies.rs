//! H23.

use polyqueue::{Certainty, ReplyAddress};

use super::broken;
use super::script::{Script, id, message};
use crate::history::Call;

fn address(text: &str) -> ReplyAddress {
    ReplyAddress::new(text).unwrap()
}

#[test]
fn h23_a_reply_comes_where_it_was_sent_to_and_once() {
    for (at, times, rules) in
        [("here", 1, vec![]), ("here", 0, vec![]), ("here", 2, vec!["H23"]), ("there", 1, vec!["H23"])]
    {
        let mut s = Script::default();
        s.store(address("here"), message("a"), 0..1);
        s.call(2..3, Call::Replies { inbox: address(at), came: vec![id("a"); times] });
        assert_eq!(broken(&s), rules, "{at} {times}");
    }
}

#[test]
fn h23_a_refused_reply_never_comes() {
    let mut s = Script::default();
    s.send(address("here"), message("a"), 0..1, Err(Certainty::Definite));
    s.call(2..3, Call::Replies { inbox: address("here"), came: vec![id("a")] });
    assert_eq!(broken(&s), ["H23"]);
}
