//! What dead letters must be: as they are listed, redriven and discarded.

use std::time::Duration;

use polyqueue::{DeadId, DeadLetter, DeadReason};

use super::message::{Place, Span, Window, name};
use super::state::{CONSUMERS, DeadLettered, Judgement, Model};
use super::time::pass;
use crate::history::Envelope;

/// Judges a listing of all dead letters over so many pages, and learns their ids.
pub(super) fn judge_listing(
    model: &mut Model,
    call: Span,
    dead_letters: &[DeadLetter],
    pages: usize,
) -> Judgement {
    pass(model, call.inv);
    model.coverage.note_if(pages > 1 && dead_letters.len() > 1, "dead letters listed over several pages");
    learn_deaths(model, call, dead_letters);
    if dead_letters.len() != model.dead.len() {
        return Err(format!("dead letters listed {}, not {}", dead_letters.len(), model.dead.len()));
    }
    let mut before: Option<usize> = None;
    for dead_letter in dead_letters {
        let id = dead_letter.message().map(|message| message.id());
        let known = model.dead.iter().position(|known| Some(model.messages[known.message].sent.id()) == id);
        let Some(at) = known else { return Err(format!("{id:?} is among the dead, but did not die")) };
        record(model, &model.dead[at], dead_letter)?;
        if model.dead[at].id.as_ref().is_some_and(|known| *known != dead_letter.id) {
            return Err(format!("{} has another dead letter id than before", name(model.dead[at].message)));
        }
        model.dead[at].id = Some(dead_letter.id.clone());
        if let Some(before) = before.filter(|&before| model.dead[at].died.by < model.dead[before].died.from) {
            let (late, early) = (name(model.dead[before].message), name(model.dead[at].message));
            return Err(format!("{late} is listed before {early}, which died earlier"));
        }
        before = Some(at);
    }
    Ok(())
}

/// A last lease that was about to end has ended when its message is listed.
fn learn_deaths(model: &mut Model, call: Span, dead_letters: &[DeadLetter]) {
    for at in 0..model.messages.len() {
        let Place::InFlight(lease) = model.messages[at].place else { continue };
        let message = &model.messages[at];
        let listed =
            |dead_letter: &DeadLetter| dead_letter.message().is_some_and(|it| it.id() == message.sent.id());
        let may = message.attempts >= message.max && lease.from <= call.ret;
        if may && dead_letters.iter().any(listed) {
            let died = Window { from: lease.from, by: call.ret };
            model.dead_letter(at, &[DeadReason::MaxAttempts], None, died);
        }
    }
}

/// Whether the record says what was sent and why it died.
fn record(model: &Model, known: &DeadLettered, dead_letter: &DeadLetter) -> Judgement {
    let (who, message) = (name(known.message), &model.messages[known.message]);
    let wrong = |what: &str, shown: String, not: String| {
        Err(format!("the record of {who} says {what} {shown}, not {not}"))
    };
    if !known.reasons.contains(&dead_letter.reason) {
        return wrong("reason", dead_letter.reason.to_string(), format!("{:?}", known.reasons));
    }
    if let Some(error) = known.error.as_ref().filter(|error| **error != dead_letter.error) {
        return wrong("error", format!("{:?}", dead_letter.error), format!("{error:?}"));
    }
    let shown = (dead_letter.attempts, dead_letter.total_attempts, dead_letter.redriven);
    let counted = (message.attempts, message.earlier + message.attempts, message.redriven);
    if shown != counted {
        return wrong("attempts, total, redriven", format!("{shown:?}"), format!("{counted:?}"));
    }
    let (holder, shown) = (message.holder.map(|at| CONSUMERS[at]), dead_letter.consumer.as_deref());
    if shown.is_some() && shown != holder {
        return wrong("consumer", format!("{shown:?}"), format!("{holder:?}"));
    }
    let envelope = dead_letter.message().map(Envelope::of);
    if !envelope.as_ref().is_some_and(|envelope| envelope.came_from(&message.envelope)) {
        return wrong("message", format!("{envelope:?}"), format!("{:?}", message.envelope));
    }
    let published = dead_letter.message().and_then(|message| message.published_at());
    if dead_letter.first_published_at != published || published.is_some_and(|at| dead_letter.died_at < at) {
        return wrong("times", format!("{:?}", dead_letter.died_at), "after its publication".into());
    }
    Ok(())
}

/// Judges the answers to a redrive of these dead letters, and makes them ready; of those that are not there it must say so.
pub(super) fn judge_redrive(model: &mut Model, call: Span, asked: &[DeadId], moved: &[bool]) -> Judgement {
    gone_as_said(model, "redriven", asked, moved)?;
    for id in asked {
        let Some(at) = model.dead.iter().position(|dead_letter| dead_letter.id.as_ref() == Some(id)) else {
            model.coverage.note("redriven twice");
            continue;
        };
        let dead_letter = model.dead.remove(at);
        model.coverage.note("redriven");
        model.goes_back(dead_letter.message, call, Duration::ZERO);
        let expires = model.messages[dead_letter.message].sent.ttl().map(|ttl| model.after(call, ttl));
        let message = &mut model.messages[dead_letter.message];
        message.expires = expires;
        message.earlier += message.attempts;
        message.attempts = 0;
        message.redriven += 1;
    }
    Ok(())
}

/// Judges the answer to a discard, and removes the dead letter.
pub(super) fn judge_discard(model: &mut Model, asked: &[DeadId], removed: &[bool]) -> Judgement {
    gone_as_said(model, "discarded", asked, removed)?;
    for id in asked {
        if let Some(at) = model.dead.iter().position(|dead_letter| dead_letter.id.as_ref() == Some(id)) {
            let dead_letter = model.dead.remove(at);
            model.messages[dead_letter.message].place = Place::Gone;
            model.coverage.note("discarded");
        }
    }
    Ok(())
}

fn gone_as_said(model: &Model, what: &str, asked: &[DeadId], answers: &[bool]) -> Judgement {
    let mut seen = Vec::new();
    let due: Vec<bool> = asked
        .iter()
        .map(|id| {
            let there = !seen.contains(&id)
                && model.dead.iter().any(|dead_letter| dead_letter.id.as_ref() == Some(id));
            seen.push(id);
            there
        })
        .collect();
    if answers == due { Ok(()) } else { Err(format!("{what} says {answers:?}, not {due:?}")) }
}
