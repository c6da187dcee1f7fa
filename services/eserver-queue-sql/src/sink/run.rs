//! [`Run`]: neighboring messages that may travel as one statement.

use std::ops::Range;
use std::sync::Arc;

use crate::message::{Message, Param};
use crate::statement::{Rows, Statement};

/// Most messages in one statement.
const MESSAGES_MAX: usize = 1_000;

/// Most bytes of values, or of SQL, in one statement; a message that has more goes by itself.
const BYTES_MAX: usize = 256 * 1024;

/// Neighbors, and what they have in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Their indices in the slice.
    pub(super) at: Range<usize>,
    pub(super) form: Form,
}

/// What neighbors have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Each goes by itself; it is only one message.
    Single,
    /// The same statement, each with values of its own.
    Same,
    /// Insertions that differ only in their tuples of literals.
    Tuples,
}

/// Cuts messages into runs, in their order. A message that somebody waits for, and whose number of
/// changed rows could not be told from its neighbors', is in a run of its own; so is every message
/// when one of them asks what the statement before it did.
pub(super) fn runs(messages: &[Message]) -> impl Iterator<Item = Run> {
    let asks = messages.iter().any(|message| message.statement.uses_session_state());
    let length_max = if asks { 1 } else { MESSAGES_MAX };
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &messages[start..];
        let (first, others) = rest.split_first()?;
        let mut run = Run { at: start..start + 1, form: Form::Single };
        let mut bytes = size(first);
        for message in others {
            bytes += size(message);
            if run.at.len() == length_max || bytes > BYTES_MAX {
                break;
            }
            let form = common_form(first, message);
            if form == Form::Single {
                break;
            }
            run.form = form;
            run.at.end += 1;
        }
        start = run.at.end;
        Some(run)
    })
}

/// The rows that each of `messages` changed, when together they changed `total`.
pub(super) fn rows_of_each(messages: &[Message], total: Option<u64>) -> Option<u64> {
    match messages {
        [_] => total,
        [first, ..] if one_each(&first.statement) && total == Some(messages.len() as u64) => {
            Some(1)
        }
        _ => None,
    }
}

/// Insertions that differ only in their tuples, as one.
pub(super) fn join_tuples(messages: &[Message]) -> String {
    let rows = || messages.iter().filter_map(|message| message.statement.rows());
    let length: usize = rows().map(|rows| rows.tuple().len() + 2).sum();
    let (head, tail) = rows().next().map_or(("", ""), |first: &Rows| (first.head(), first.tail()));
    let mut text = String::with_capacity(head.len() + length + tail.len());
    text.push_str(head);
    for (index, rows) in rows().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(rows.tuple());
    }
    text.push_str(tail);
    text
}

/// What a message has in common with the first of a run; [`Form::Single`] stands for nothing.
fn common_form(first: &Message, next: &Message) -> Form {
    let (one, other) = (&first.statement, &next.statement);
    let is_awaited = first.notify.is_some() || next.notify.is_some();
    if is_awaited && !one_each(one) {
        return Form::Single;
    }
    let is_same = Arc::ptr_eq(one, other) || one.text() == other.text();
    if is_same && one.params() > 0 {
        return Form::Same;
    }
    let are_tuples = one.params() == 0
        && (is_same || (one.is_raw() && other.is_raw()))
        && match (one.rows(), other.rows()) {
            (Some(one), Some(other)) => one.head() == other.head() && one.tail() == other.tail(),
            _ => false,
        };
    if are_tuples { Form::Tuples } else { Form::Single }
}

fn one_each(statement: &Statement) -> bool {
    statement.rows().is_some_and(Rows::one_each)
}

/// About how many bytes a message adds to a statement.
fn size(message: &Message) -> usize {
    if message.params.is_empty() {
        return message.statement.text().len();
    }
    let size = |param: &Param| match param {
        Param::Null | Param::Bool(_) | Param::Integer(_) => 8,
        Param::Number(text) | Param::Text(text) | Param::Json(text) => text.len() + 8,
    };
    message.params.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;

    fn named(sql: &str, value: &str) -> Message {
        let statement = Statement::with_params(Engine::Sqlite, sql).unwrap();
        message(statement, vec![Param::Text(value.into())])
    }

    fn raw(sql: &str) -> Message {
        message(Statement::raw(Engine::Sqlite, sql).unwrap(), Vec::new())
    }

    fn message(statement: Statement, params: Vec<Param>) -> Message {
        Message { id: 0, statement: Arc::new(statement), params, key: None, notify: None, bytes: 0 }
    }

    fn awaited(mut message: Message) -> Message {
        message.notify = Some("me".into());
        message
    }

    #[track_caller]
    fn check(messages: &[Message], expected: &[(usize, Form)]) {
        let runs: Vec<_> = runs(messages).map(|run| (run.at.len(), run.form)).collect();
        assert_eq!(runs, expected);
    }

    const INSERT: &str = "insert into t(a) values (?)";
    const UPDATE: &str = "update t set a = ?";

    #[test]
    fn neighbors_with_something_in_common_are_a_run() {
        use Form::{Same, Single, Tuples};
        check(&[], &[]);
        let (insert, update) = (|| named(INSERT, "1"), || named(UPDATE, "1"));
        check(&[insert()], &[(1, Single)]);
        check(&[insert(), insert(), update(), update()], &[(2, Same), (2, Same)]);
        check(&[insert(), update(), insert()], &[(1, Single), (1, Single), (1, Single)]);
        let tuple = |value| raw(&format!("insert into t(a) values ({value})"));
        check(&[tuple("1"), tuple("'2'"), insert()], &[(2, Tuples), (1, Single)]);
        let other = raw("insert into u(a) values (1)");
        check(&[tuple("1"), other, tuple("1")], &[(1, Single), (1, Single), (1, Single)]);
        let raw_update = || raw("update t set a = 1");
        check(&[raw_update(), raw_update()], &[(1, Single), (1, Single)]);
    }

    #[test]
    fn whose_rows_somebody_wants_to_know_goes_by_itself_unless_they_are_known() {
        use Form::{Same, Single};
        let (insert, update) = (|| named(INSERT, "1"), || named(UPDATE, "1"));
        check(&[insert(), awaited(insert()), insert()], &[(3, Same)]);
        check(
            &[update(), update(), awaited(update()), update()],
            &[(2, Same), (1, Single), (1, Single)],
        );
    }

    #[test]
    fn what_asks_for_the_statement_before_it_has_all_go_by_themselves() {
        let insert = || named(INSERT, "1");
        let asking = named("insert into u(a, b) values (last_insert_rowid(), ?)", "1");
        check(&[insert(), insert(), asking, insert()], &[(1, Form::Single); 4]);
    }

    #[test]
    fn a_run_has_bounds() {
        let many: Vec<_> = (0..MESSAGES_MAX + 1).map(|_| named(INSERT, "1")).collect();
        check(&many, &[(MESSAGES_MAX, Form::Same), (1, Form::Single)]);
        let large = "x".repeat(BYTES_MAX / 2);
        let large: Vec<_> = (0..3).map(|_| named(INSERT, &large)).collect();
        check(&large, &[(1, Form::Single), (1, Form::Single), (1, Form::Single)]);
    }

    #[test]
    fn tuples_are_joined() {
        let messages = [raw("insert into t values (1)"), raw("insert into t values ('2')")];
        assert_eq!(join_tuples(&messages), "insert into t values (1), ('2')");
    }

    #[test]
    fn the_rows_of_each_are_told_only_when_known() {
        let inserts = [named(INSERT, "1"), named(INSERT, "2")];
        assert_eq!(rows_of_each(&inserts, Some(2)), Some(1));
        assert_eq!(rows_of_each(&inserts, Some(1)), None);
        assert_eq!(rows_of_each(&inserts[..1], Some(7)), Some(7));
        let updates = [named(UPDATE, "1"), named(UPDATE, "2")];
        assert_eq!(rows_of_each(&updates, Some(2)), None);
    }
}
