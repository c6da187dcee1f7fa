//! [`Statement`]: one SQL statement, looked through once.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use crate::engine::Engine;
use crate::lexer::{Kind, LexError, Lexer, Token, is_word};

/// Most placeholders of a statement: what the engines' protocols can count.
pub(crate) const PARAMS_MAX: usize = 65_535;

/// Most placeholders of a statement for SQLite, as it is compiled.
pub(crate) const SQLITE_PARAMS_MAX: usize = 32_766;

/// One statement that is fit for a drain's transaction, in its engine's own form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    text: Arc<str>,
    params: usize,
    raw: bool,
    uses_session_state: bool,
    rows: Option<Rows>,
}

/// `insert into t(a, b) values (?, 1)`, cut around its one tuple: what a run of such messages says
/// may be said in one statement with many tuples, and means the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The statement's text.
    text: Arc<str>,
    /// The table's name behind `into`; empty without that word, which MySQL does not need.
    table: Range<usize>,
    /// Where the word `values` begins.
    values: usize,
    /// The tuple with its parentheses.
    tuple: Range<usize>,
    /// The placeholders, all of them in the tuple; left empty when it cannot be a select list.
    select_list: Vec<Range<usize>>,
    one_each: bool,
}

/// Why a text is not a statement for a drain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum StatementError {
    /// There are only blanks and comments.
    #[error("the statement is empty")]
    Empty,
    /// There is a NUL byte.
    #[error("the statement has a NUL byte at byte {0}")]
    Nul(usize),
    /// Its quotes or comments are unclear.
    #[error(transparent)]
    Unclear(#[from] LexError),
    /// There is SQL behind a semicolon.
    #[error("there is more than one statement, the second begins at byte {0}; send one a message")]
    Several(usize),
    /// It would begin or end a transaction, or outlive it.
    #[error(
        "`{0}` is not allowed: a drain applies statements in a transaction of its own, which they \
         may neither begin, end nor set up"
    )]
    Transaction(String),
    /// It would define something.
    #[error(
        "`{0}` is not allowed: definitions may end the drain's transaction, make them before it \
         starts"
    )]
    Definition(String),
    /// It begins with anything else.
    #[error(
        "a statement begins with insert, update, delete, replace, merge, with, select, call or \
         values, not with `{0}`"
    )]
    Unknown(String),
    /// SQLite's `or rollback`, which ends the transaction.
    #[error(
        "`or rollback` is not allowed: it would end the transaction in which the drain applies \
         statements"
    )]
    OrRollback,
    /// A placeholder of the engine's own.
    #[error("`{0}` is no placeholder here, write `?` for each value")]
    Placeholder(String),
    /// `??` where no operator has a question mark.
    #[error("`??` stands for PostgreSQL's operator `?`, which {0} does not have")]
    NoOperator(Engine),
    /// A placeholder in a text that brings no values.
    #[error("`{0}` at byte {1} is a placeholder, but nothing is bound to a text without `params`")]
    NothingBound(String, usize),
    /// More placeholders than can be bound.
    #[error("there are {0} placeholders, the most are {1}")]
    TooMany(usize, usize),
}

impl Statement {
    /// Reads a statement with `?` placeholders (`??` is a literal `?`), and translates them to the
    /// engine's.
    pub(crate) fn with_params(engine: Engine, sql: &str) -> Result<Statement, StatementError> {
        let (sql, mut tokens) = scan(engine, sql)?;
        for (at, token) in tokens.iter().enumerate() {
            let numbered = token.kind == Kind::Mark
                && tokens[at + 1..]
                    .first()
                    .is_some_and(|next| next.start == token.end && next.kind == Kind::Number);
            if token.kind == Kind::Named || numbered {
                let end = if numbered { tokens[at + 1].end } else { token.end };
                return Err(StatementError::Placeholder(shown(&sql[token.start..end])));
            }
        }
        let (text, params) = match engine {
            Engine::Postgres => number_marks(sql, &mut tokens),
            Engine::MySql | Engine::Sqlite => {
                let marks = |pair: &[Token]| {
                    pair.iter().all(|token| token.kind == Kind::Mark)
                        && pair[0].end == pair[1].start
                };
                if tokens.windows(2).any(marks) {
                    return Err(StatementError::NoOperator(engine));
                }
                let params = tokens.iter().filter(|token| token.kind == Kind::Mark).count();
                (Arc::from(sql), params)
            }
        };
        let most = if engine == Engine::Sqlite { SQLITE_PARAMS_MAX } else { PARAMS_MAX };
        if params > most {
            return Err(StatementError::TooMany(params, most));
        }
        let rows = Rows::find(engine, &text, &tokens, false);
        let uses_session_state = uses_session_state(engine, &text, &tokens);
        Ok(Statement { text, params, raw: false, uses_session_state, rows })
    }

    /// Reads a text that is sent as it stands, without placeholders.
    pub(crate) fn raw(engine: Engine, sql: &str) -> Result<Statement, StatementError> {
        let (sql, tokens) = scan(engine, sql)?;
        let placeholder = |token: &&Token| match token.kind {
            Kind::Named => true,
            Kind::Mark => engine != Engine::Postgres,
            _ => false,
        };
        if let Some(token) = tokens.iter().find(placeholder) {
            let text = shown(&sql[token.start..token.end]);
            return Err(StatementError::NothingBound(text, token.start));
        }
        let text = Arc::from(sql);
        let rows = Rows::find(engine, &text, &tokens, true);
        let uses_session_state = uses_session_state(engine, &text, &tokens);
        Ok(Statement { text, params: 0, raw: true, uses_session_state, rows })
    }

    /// The text for one message, in the engine's form: `$1` and so on for PostgreSQL, else `?`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How many values are bound to it.
    pub(crate) fn params(&self) -> usize {
        self.params
    }

    /// Whether it is a text that is sent as it stands.
    pub(crate) fn is_raw(&self) -> bool {
        self.raw
    }

    /// Whether it uses what earlier statements left in the session, such as `last_insert_id()`: those
    /// must then have been carried out one by one.
    pub(crate) fn uses_session_state(&self) -> bool {
        self.uses_session_state
    }

    /// `Some` when a run of messages may be one statement.
    pub(crate) fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref()
    }
}

impl Rows {
    /// What stands before the tuple, `insert into t(a, b) values `. Two raw statements with equal
    /// head and tail differ only in their tuples and may be joined.
    pub(crate) fn head(&self) -> &str {
        &self.text[..self.tuple.start]
    }

    /// The name of the table behind `into`, as it is written there, with its schema and quotes if it
    /// has them; empty when there is no `into`, which MySQL does not need.
    pub(crate) fn table(&self) -> &str {
        &self.text[self.table.clone()]
    }

    /// The tuple with its parentheses, in the engine's form for a single row.
    pub(crate) fn tuple(&self) -> &str {
        &self.text[self.tuple.clone()]
    }

    /// What stands behind the tuple: mostly nothing, or what is done about a row that is there.
    pub(crate) fn tail(&self) -> &str {
        &self.text[self.tuple.end..]
    }

    /// Whether each row is known to change exactly one row when the whole succeeded.
    pub(crate) fn one_each(&self) -> bool {
        self.one_each
    }

    /// The statement with `rows` tuples (at least 1) and `?` placeholders, for MySQL and SQLite.
    pub(crate) fn values_text(&self, rows: usize) -> String {
        let (head, tuple, tail) = (self.head(), self.tuple(), self.tail());
        let mut text = String::with_capacity(head.len() + rows * (tuple.len() + 2) + tail.len());
        text.push_str(head);
        text.push_str(tuple);
        for _ in 1..rows {
            text.push_str(", ");
            text.push_str(tuple);
        }
        text.push_str(tail);
        text
    }

    /// The statement with an array for each placeholder, of as many elements as there are rows, for
    /// PostgreSQL: `insert into t(a, b) select eserver_row.p1, now() from unnest($1::T1[]) as
    /// eserver_row(p1)`. `types` are SQL names of types, one for each placeholder.
    ///
    /// `None` where the tuple cannot be a select list, or has no placeholders.
    pub(crate) fn unnest_text(&self, types: &[String]) -> Option<String> {
        if self.select_list.is_empty() || self.select_list.len() != types.len() {
            return None;
        }
        let mut text = String::with_capacity(self.text.len() + 64 * types.len() + 64);
        text.push_str(&self.text[..self.values]);
        text.push_str("select ");
        let mut at = self.tuple.start + 1;
        for (index, placeholder) in self.select_list.iter().enumerate() {
            text.push_str(&self.text[at..placeholder.start]);
            let _ = write!(text, "{ROW_NAME}.p{}", index + 1);
            at = placeholder.end;
        }
        text.push_str(&self.text[at..self.tuple.end - 1]);
        text.push_str(" from unnest(");
        for (index, name) in types.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}${}::{name}[]", index + 1);
        }
        let _ = write!(text, ") as {ROW_NAME}(");
        for index in 0..types.len() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}p{}", index + 1);
        }
        text.push(')');
        text.push_str(self.tail());
        Some(text)
    }

    /// Finds the one tuple of an insertion, if its rows may be joined.
    fn find(engine: Engine, text: &Arc<str>, tokens: &[Token], raw: bool) -> Option<Rows> {
        let verb = tokens.first()?;
        let insert = verb.is(text, "insert");
        let replace = verb.is(text, "replace") && engine != Engine::Postgres;
        if !insert && !replace {
            return None;
        }
        let opens = |token: &Token| token.kind == Kind::Symbol(b'(');
        let values_words = if engine == Engine::MySql { "values value" } else { "values" };
        let mut plain = insert;
        let mut depth = 0_usize;
        let mut values = None;
        for (at, token) in tokens.iter().enumerate().skip(1) {
            match token.kind {
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth = depth.checked_sub(1)?,
                Kind::Mark | Kind::Named => return None,
                Kind::Word if depth > 0 => {}
                Kind::Word if token.is_among(text, values_words) => {
                    values = Some(at).filter(|_| tokens.get(at + 1).is_some_and(opens));
                    break;
                }
                Kind::Word if token.is_among(text, "select set table default with") => {
                    return None;
                }
                Kind::Word if token.is_among(text, "ignore or") => plain = false,
                _ => {}
            }
        }
        let values = values?;
        let open = values + 1;
        let close = open + closing(&tokens[open..])?;
        let (tuple, tail) = (&tokens[open + 1..close], &tokens[close + 1..]);
        let joinable = if raw {
            are_literals(text, tuple)
        } else {
            is_joinable(engine, text, tuple, HARMLESS)
        };
        if !joinable || !is_tail(engine, text, tail) {
            return None;
        }
        let select_list = if tuple.iter().any(|token| token.is(text, "default"))
            || text.contains(ROW_NAME)
            || engine != Engine::Postgres
        {
            Vec::new()
        } else {
            let marks = tuple.iter().filter(|token| token.kind == Kind::Mark);
            marks.map(|token| token.start..token.end).collect()
        };
        Some(Rows {
            text: text.clone(),
            table: table_name(text, &tokens[1..values]),
            values: tokens[values].start,
            tuple: tokens[open].start..tokens[close].end,
            select_list,
            one_each: plain && tail.is_empty(),
        })
    }
}

/// What the rows are called in [`Rows::unnest_text`]; a name that no statement has by chance.
const ROW_NAME: &str = "eserver_row";

/// Words that a statement may begin with.
const ALLOWED: &str = "insert update delete replace merge with select call values";

/// Words that begin or end a transaction, or set up the session.
const TRANSACTION: &str = "\
    abort begin commit deallocate discard end flush lock pragma prepare release reset rollback \
    savepoint set start unlock use xa";

/// Words that define something.
const DEFINITION: &str = "\
    alter analyze attach cluster comment create detach drop grant import install optimize \
    refresh reindex rename repair revoke truncate uninstall vacuum";

/// Words before a parenthesis that call nothing, and functions of which it is known that they give
/// the same for rows of one statement as for statements in one transaction. Others may see rows
/// that earlier statements have inserted, and would not when they are joined.
const HARMLESS: &str = "\
    all and any as between by case else in interval is like not or row then when binary bit \
    char character decimal float numeric time timestamp timestamptz varbinary varbit varchar \
    varying abs cast ceil ceiling char_length clock_timestamp coalesce concat concat_ws convert \
    curdate current_date current_time current_timestamp curtime date date_add date_format \
    date_sub date_trunc datetime decode encode extract floor from_base64 from_unixtime \
    gen_random_uuid greatest hex if ifnull inet6_aton inet_aton json json_array \
    json_build_array json_build_object json_extract json_object json_unquote jsonb \
    jsonb_build_array jsonb_build_object least left length localtime localtimestamp lower lpad \
    ltrim make_interval md5 mod nextval now nullif octet_length point power rand random \
    randomblob replace reverse right round rpad rtrim sha1 sha2 sha256 sign statement_timestamp \
    str_to_date strftime substr substring sysdate timestampadd timestampdiff to_base64 to_char \
    to_date to_json to_jsonb to_number to_timestamp transaction_timestamp trim unhex \
    unix_timestamp unixepoch upper utc_timestamp uuid uuid_generate_v4 uuid_to_bin uuidv4 \
    uuidv7";

/// Words before a parenthesis behind `on duplicate key update`, where `values(a)` is what the row
/// brought.
const IN_UPDATE: &str = "\
    and coalesce concat greatest if ifnull in least not now nullif or round unix_timestamp \
    value values";

/// Functions that tell of earlier statements of the session.
const fn session_functions(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "currval lastval",
        Engine::MySql => "found_rows last_insert_id row_count",
        Engine::Sqlite => "changes last_insert_rowid total_changes",
    }
}

/// Cuts a text into the tokens of its one statement, and what surrounds that away.
fn scan(engine: Engine, sql: &str) -> Result<(&str, Vec<Token>), StatementError> {
    if let Some(at) = sql.bytes().position(|byte| byte == 0) {
        return Err(StatementError::Nul(at));
    }
    let mut tokens: Vec<Token> = Vec::with_capacity((sql.len() / 4).min(64));
    let mut ended = false;
    for token in Lexer::new(engine, sql) {
        let token = token?;
        match token.kind {
            Kind::Blank | Kind::Comment => {}
            Kind::Symbol(b';') if !tokens.is_empty() => ended = true,
            _ if ended => return Err(StatementError::Several(token.start)),
            _ => tokens.push(token),
        }
    }
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return Err(StatementError::Empty);
    };
    let text = &sql[..last.end];
    if !first.is_among(text, ALLOWED) {
        let word = shown(&text[first.start..first.end]);
        return Err(if first.is_among(text, TRANSACTION) {
            StatementError::Transaction(word)
        } else if first.is_among(text, DEFINITION) {
            StatementError::Definition(word)
        } else {
            StatementError::Unknown(word)
        });
    }
    let rolls_back = |pair: &[Token]| pair[0].is(text, "or") && pair[1].is(text, "rollback");
    if engine == Engine::Sqlite && tokens.windows(2).any(rolls_back) {
        return Err(StatementError::OrRollback);
    }
    Ok((text, tokens))
}

/// Writes `$1`, `$2` … for `?` and `?` for `??`, moves the tokens to where they are then, and counts
/// the placeholders; a token of the kind [`Kind::Mark`] is one afterwards.
fn number_marks(sql: &str, tokens: &mut Vec<Token>) -> (Arc<str>, usize) {
    let mut text = String::with_capacity(sql.len() + 16);
    let (mut params, mut copied) = (0, 0);
    let mut moved: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.iter().peekable();
    while let Some(token) = rest.next() {
        text.push_str(&sql[copied..token.start]);
        copied = token.end;
        let mut kind = token.kind;
        let doubled = |next: &&Token| next.kind == Kind::Mark && next.start == token.end;
        let start;
        if kind != Kind::Mark {
            start = text.len();
            text.push_str(&sql[token.start..token.end]);
        } else if let Some(second) = rest.next_if(doubled) {
            copied = second.end;
            kind = Kind::Symbol(b'?');
            start = text.len();
            text.push('?');
        } else {
            // `limit?offset` has no blank for the eye, but `limit$1offset` is one name.
            if text.bytes().last().is_some_and(is_word) {
                text.push(' ');
            }
            start = text.len();
            params += 1;
            let _ = write!(text, "${params}");
        }
        moved.push(Token { kind, start, end: text.len() });
        if kind == Kind::Mark && sql.as_bytes().get(copied).copied().is_some_and(is_word) {
            text.push(' ');
        }
    }
    text.push_str(&sql[copied..]);
    *tokens = moved;
    (Arc::from(text), params)
}

/// Whether a function, or one of MySQL's variables, tells of earlier statements.
fn uses_session_state(engine: Engine, text: &str, tokens: &[Token]) -> bool {
    let is_function = |token: &Token| {
        let name = text[token.start..token.end].trim_matches(['"', '`', '[', ']']);
        session_functions(engine).split(' ').any(|known| name.eq_ignore_ascii_case(known))
    };
    let calls = |pair: &[Token]| pair[1].kind == Kind::Symbol(b'(') && is_function(&pair[0]);
    let is_variable = |token: &Token| token.kind == Kind::Symbol(b'@');
    tokens.windows(2).any(calls) || engine == Engine::MySql && tokens.iter().any(is_variable)
}

/// Where the name behind `into` is, dots included.
fn table_name(text: &str, tokens: &[Token]) -> Range<usize> {
    let into = tokens.iter().skip_while(|token| !token.is(text, "into"));
    let mut name = into.skip(1).peekable();
    let mut range = name.peek().map_or(0..0, |token| token.start..token.start);
    while let Some(part) = name.next_if(|token| matches!(token.kind, Kind::Word | Kind::Quoted)) {
        range.end = part.end;
        if name.next_if(|token| token.kind == Kind::Symbol(b'.')).is_none() {
            break;
        }
    }
    range
}

/// The index of the parenthesis that closes the one at the front.
fn closing(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0_usize;
    tokens.iter().position(|token| {
        match token.kind {
            Kind::Symbol(b'(') => depth += 1,
            Kind::Symbol(b')') => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

/// Whether a tuple's tokens are plain literals with commas between them. Text between two such
/// tuples can be nothing but what it seems.
fn are_literals(text: &str, tuple: &[Token]) -> bool {
    let is_number = |token: &Token| {
        let digits = &text.as_bytes()[token.start..token.end];
        token.kind == Kind::Number
            && digits.iter().all(|byte| {
                byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
            })
    };
    tuple.split(|token| token.kind == Kind::Symbol(b',')).all(|item| match item {
        [Token { kind: Kind::Text, .. }] => true,
        [word @ Token { kind: Kind::Word, .. }] => word.is_among(text, "null true false"),
        [number] | [Token { kind: Kind::Symbol(b'-' | b'+'), .. }, number] => is_number(number),
        _ => false,
    })
}

/// Whether expressions give the same when several rows are inserted by one statement as when each is
/// by its own; `callable` are the words before a parenthesis.
fn is_joinable(engine: Engine, text: &str, tokens: &[Token], callable: &str) -> bool {
    tokens.iter().enumerate().all(|(at, token)| {
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        match token.kind {
            // A subquery sees what earlier statements inserted.
            Kind::Word => !token.is_among(text, "select table"),
            Kind::Symbol(b'(') => match before {
                Some(name) if name.kind == Kind::Word => {
                    let qualified = at >= 2 && tokens[at - 2].kind == Kind::Symbol(b'.');
                    !qualified && name.is_among(text, callable)
                }
                Some(name) => name.kind != Kind::Quoted,
                None => true,
            },
            // `(value).name` may call a function in PostgreSQL.
            Kind::Symbol(b'.') => before.is_none_or(|before| before.kind != Kind::Symbol(b')')),
            // A variable of the session.
            Kind::Symbol(b'@') => engine != Engine::MySql,
            _ => true,
        }
    })
}

/// Whether what follows the tuple means the same for several rows, and has no placeholders.
fn is_tail(engine: Engine, text: &str, tail: &[Token]) -> bool {
    let begins = |tokens: &[Token], words: &str| {
        let mut tokens = tokens.iter();
        words.split(' ').all(|word| tokens.next().is_some_and(|token| token.is(text, word)))
    };
    if tail.is_empty() {
        return true;
    }
    if tail.iter().any(|token| token.kind == Kind::Mark || token.is(text, "returning")) {
        return false;
    }
    match engine {
        Engine::MySql => {
            let aliased = begins(tail, "as") && tail.len() > 2;
            let action = if aliased { &tail[2..] } else { tail };
            begins(action, "on duplicate key update")
                && is_joinable(engine, text, action, IN_UPDATE)
        }
        Engine::Postgres | Engine::Sqlite => {
            // A row that this statement has inserted may not be updated by it, only skipped.
            begins(tail, "on conflict")
                && begins(&tail[tail.len() - 2..], "do nothing")
                && !tail.iter().any(|token| token.is(text, "update"))
        }
    }
}

/// At most 40 characters of a text, for a sentence.
fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENGINES: [Engine; 3] = [Engine::Sqlite, Engine::Postgres, Engine::MySql];

    #[test]
    fn what_is_no_statement_is_refused_with_a_sentence() {
        // For every engine; with and without placeholders.
        const TABLE: &[(&str, &str)] = &[
            ("", "the statement is empty"),
            (" \n -- nothing\n/**/", "the statement is empty"),
            ("insert into t values ('\0')", "a NUL byte at byte 23"),
            (";", "a statement begins with insert, update, delete, replace, merge, with, select"),
            ("; delete from t", "not with `;`"),
            (
                "delete from t; delete from u",
                "more than one statement, the second begins at byte 15",
            ),
            ("delete from t;; /* */ x", "the second begins at byte 22"),
            ("delete from t where a = ';' ; 1", "the second begins at byte 30"),
            ("insert into t values ('a)", "`'` at byte 22 is never closed"),
            ("insert into t values (1) /* a", "`/*` at byte 25 is never closed"),
            ("BEGIN", "`BEGIN` is not allowed: a drain applies statements in a transaction of its"),
            ("/* a */ commit", "`commit` is not allowed: a drain"),
            ("rollback to a", "`rollback` is not allowed: a drain"),
            ("savepoint a", "`savepoint` is not allowed: a drain"),
            ("set autocommit = 1", "`set` is not allowed: a drain"),
            ("pragma journal_mode = off", "`pragma` is not allowed: a drain"),
            ("lock tables t write", "`lock` is not allowed: a drain"),
            ("drop table t", "`drop` is not allowed: definitions may end the drain's transaction"),
            ("Create table t(a int)", "`Create` is not allowed: definitions"),
            ("alter table t add a int", "`alter` is not allowed: definitions"),
            ("truncate t", "`truncate` is not allowed: definitions"),
            ("explain select 1", "not with `explain`"),
            ("(select 1)", "not with `(`"),
            ("'insert'", "not with `'insert'`"),
            (
                "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee",
                "`aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd…`",
            ),
        ];
        for engine in ENGINES {
            for (sql, sentence) in TABLE {
                for read in [Statement::raw, Statement::with_params] {
                    let error = read(engine, sql).unwrap_err().to_string();
                    assert!(error.contains(sentence), "{sql:?} on {engine}: {error}");
                }
            }
        }
    }

    #[test]
    fn what_one_engine_would_misread_is_refused() {
        use Engine::{MySql, Postgres, Sqlite};
        const TABLE: &[(Engine, &str, &str)] = &[
            (MySql, "/*!50000 drop table t */", "at byte 0 would be carried out by the server"),
            (MySql, "delete from t /*M! ; drop table t */", "the comment at byte 14"),
            (Postgres, "select 1$$;drop table t$$", "the number at byte 7 runs into"),
            (Sqlite, "insert or rollback into t values (1)", "`or rollback` is not allowed"),
            (Sqlite, "update OR /**/ ROLLBACK t set a = 1", "`or rollback` is not allowed"),
        ];
        for (engine, sql, sentence) in TABLE {
            for read in [Statement::raw, Statement::with_params] {
                let error = read(*engine, sql).unwrap_err().to_string();
                assert!(error.contains(sentence), "{sql:?} on {engine}: {error}");
            }
        }
    }

    #[test]
    fn what_tells_of_earlier_statements_is_seen() {
        use Engine::{MySql, Postgres, Sqlite};
        const TABLE: &[(Engine, &str, bool)] = &[
            (Postgres, "insert into t(a) values (currval('s'))", true),
            (Postgres, "insert into t(a) select LastVal ()", true),
            (Postgres, "insert into t(a) values (\"lastval\"())", true),
            (Postgres, "insert into t(lastval) values (nextval('s'))", false),
            (Postgres, "insert into t values ('lastval()')", false),
            (Postgres, "insert into changes(a) values (1)", false),
            (Postgres, "select a @> b from t", false),
            (MySql, "insert into t(a) values (last_insert_id())", true),
            (MySql, "update t set a = ROW_COUNT()", true),
            (MySql, "insert into t(a) values (found_rows /**/ ())", true),
            (MySql, "insert into t(a) values (@@identity)", true),
            (MySql, "update t set a = (@n := @n + 1)", true),
            (MySql, "insert into t(a) values ('a@b')", false),
            (Sqlite, "insert into t values (last_insert_rowid())", true),
            (Sqlite, "insert into t select changes()", true),
        ];
        for (engine, sql, expected) in TABLE {
            for read in [Statement::raw, Statement::with_params] {
                let statement = read(*engine, sql).unwrap();
                assert_eq!(statement.uses_session_state(), *expected, "{sql} on {engine}");
            }
        }
    }

    #[test]
    fn the_table_is_named_as_it_is_written() {
        for (sql, expected) in [
            ("insert into t values (1)", "t"),
            ("insert into t(a) values (1)", "t"),
            ("insert into s.t as u (a) values (1)", "s.t"),
            ("insert into \"S\".\"into\"(a) values (1)", "\"S\".\"into\""),
            ("insert /* a */ INTO ünï values (1)", "ünï"),
        ] {
            let statement = Statement::raw(Engine::Postgres, sql).unwrap();
            assert_eq!(statement.rows().unwrap().table(), expected, "{sql}");
        }
        let statement = Statement::raw(Engine::MySql, "insert t values (1)").unwrap();
        assert_eq!(statement.rows().unwrap().table(), "");
    }

    #[test]
    fn what_may_begin_a_statement_is_read() {
        for engine in ENGINES {
            for sql in [
                "insert into t values (1)",
                "UPDATE t SET a = 1 WHERE b = 'begin; commit'",
                "delete from t",
                "replace into t values (1)",
                "merge into t using u on true when matched then do nothing",
                "with a as (select 1) insert into t select * from a",
                "select f()",
                "call p()",
                "values (1)",
                "-- why\n/* and how */ delete from t ; -- the end\n ;",
            ] {
                for read in [Statement::raw, Statement::with_params] {
                    let statement = read(engine, sql).unwrap();
                    let end = sql.find(" ;").unwrap_or(sql.len());
                    assert_eq!(statement.text(), &sql[..end], "{engine}");
                    assert_eq!(statement.params(), 0);
                }
                assert!(Statement::raw(engine, sql).unwrap().is_raw());
            }
        }
    }

    #[test]
    fn placeholders_are_the_engine_s() {
        // The text, and what PostgreSQL gets.
        const TABLE: &[(&str, &str, usize)] = &[
            ("insert into t values (?, ?)", "insert into t values ($1, $2)", 2),
            ("insert into t values (?,'?',?) -- ?", "insert into t values ($1,'?',$2)", 2),
            ("select \"?\", /* ? */ ?", "select \"?\", /* ? */ $1", 1),
            ("select a from t limit?offset?", "select a from t limit $1 offset $2", 2),
            ("update t set a=? where b=?;", "update t set a=$1 where b=$2", 2),
            ("select ?a, -?", "select $1 a, -$2", 2),
            ("select 1", "select 1", 0),
        ];
        for (sql, postgres, params) in TABLE {
            let statement = Statement::with_params(Engine::Postgres, sql).unwrap();
            assert_eq!((statement.text(), statement.params()), (*postgres, *params));
            let end = sql.find(" -- ").or(sql.find(';')).unwrap_or(sql.len());
            for engine in [Engine::Sqlite, Engine::MySql] {
                let statement = Statement::with_params(engine, sql).unwrap();
                assert_eq!((statement.text(), statement.params()), (&sql[..end], *params));
                assert!(!statement.is_raw());
            }
        }
        for (sql, postgres, params) in [
            ("select a ?? 'b', ?", "select a ? 'b', $1", 1),
            ("select a ??| ?", "select a ?| $1", 1),
            ("select a ????", "select a ??", 0),
            ("select a ???", "select a ?$1", 1),
        ] {
            let statement = Statement::with_params(Engine::Postgres, sql).unwrap();
            assert_eq!((statement.text(), statement.params()), (postgres, params));
        }
        let many = |marks| format!("select {}1", "?,".repeat(marks));
        for (engine, sql, sentence) in [
            (Engine::Postgres, "select $1", "`$1` is no placeholder here, write `?`"),
            (Engine::Postgres, "select ?1", "`?1` is no placeholder here"),
            (Engine::Sqlite, "select ?12", "`?12` is no placeholder here"),
            (Engine::Sqlite, "select :a", "`:a` is no placeholder here"),
            (Engine::Sqlite, "select @a", "`@a` is no placeholder here"),
            (Engine::Sqlite, "select $a", "`$a` is no placeholder here"),
            (
                Engine::Sqlite,
                "select a ?? b",
                "`??` stands for PostgreSQL's operator `?`, which SQL",
            ),
            (Engine::MySql, "select a ?? b", "which MySQL does not have"),
            (Engine::Postgres, &many(65_536), "there are 65536 placeholders, the most are 65535"),
            (Engine::MySql, &many(65_536), "there are 65536 placeholders, the most are 65535"),
            (Engine::Sqlite, &many(32_767), "there are 32767 placeholders, the most are 32766"),
        ] {
            let error = Statement::with_params(engine, sql).unwrap_err().to_string();
            assert!(error.contains(sentence), "{engine}: {error}");
        }
        assert_eq!(Statement::with_params(Engine::MySql, &many(65_535)).unwrap().params(), 65_535);
    }

    #[test]
    fn a_raw_text_has_no_placeholders() {
        for (engine, sql, refused) in [
            (Engine::Sqlite, "select ?", true),
            (Engine::MySql, "select ?", true),
            (Engine::Postgres, "select a ? 'b'", false),
            (Engine::Postgres, "select $1", true),
            (Engine::Sqlite, "select :a", true),
            (Engine::MySql, "select @a", false),
            (Engine::MySql, "select '?' -- ?", false),
            (Engine::Sqlite, "insert into t(num) values (%d)", false),
            (Engine::MySql, "insert into t(num) values (%05d)", false),
            (Engine::Postgres, "insert into t(num) values (% d)", false),
        ] {
            match Statement::raw(engine, sql) {
                Ok(statement) => {
                    assert!(!refused, "{sql:?} on {engine}");
                    assert!(sql.starts_with(statement.text()));
                }
                Err(error) => {
                    assert!(refused, "{sql:?} on {engine}: {error}");
                    assert!(error.to_string().contains("nothing is bound"), "{error}");
                }
            }
        }
    }

    /// Head, tuple and tail, with a bar between them, and a star at the end if each row is one.
    fn cut(statement: &Statement) -> Option<String> {
        let rows = statement.rows()?;
        let star = if rows.one_each() { "*" } else { "" };
        assert_eq!(rows.values_text(1), statement.text());
        Some(format!("{}|{}|{}{star}", rows.head(), rows.tuple(), rows.tail()))
    }

    /// The engines by their first letters.
    fn engines(letters: &str) -> impl Iterator<Item = Engine> {
        ENGINES.into_iter().filter(move |engine| {
            letters.contains(engine.to_string().to_ascii_lowercase().as_bytes()[0] as char)
        })
    }

    #[test]
    fn runs_of_rows_are_found_where_joining_keeps_their_meaning() {
        // The engines, the text with bars where it is to be cut (none: not at all).
        #[rustfmt::skip]
        const TABLE: &[(&str, &str)] = &[
            ("smp", "insert into t(a, b) values |(?, ?)|*"),
            ("smp", "INSERT INTO t VALUES|(?)|*"),
            ("smp", "insert into t values |(?, 'x', -1.5, null, ?)|*"),
            ("smp", "insert into t values |(1)|*"),
            ("smp", "insert into t values |(now())|*"),
            ("smp", "insert into t(a) values |(?, now(), coalesce(lower(?), 'a'), (1 + ?) * 2)|*"),
            ("smp", "insert into t(a) values |(cast(? as decimal(10, 2)), case when (? > 1) then 1 end)|*"),
            ("smp", "insert /* c */ into t -- d\n values /* e */ |( ? /* f) */ )|*"),
            ("smp", "insert into \"select\"(\"values\") values |(?)|*"),
            ("sm", "insert into `values`(`a)`) values |(?)|*"),
            ("p", "insert into t(a) overriding system value values |(?, default, ?::jsonb)|*"),
            ("p", "insert into t as x (a) values |(array[?, ?])|*"),
            ("m", "insert into t(a) value |(?)|*"),
            ("m", "insert low_priority into t partition (p0) (a) values |(?)|*"),
            ("sm", "replace into t values |(?)|"),
            ("m", "insert ignore into t values |(?)|"),
            ("s", "insert or ignore into t values |(?)|"),
            ("m", "insert into t values |(?)| on duplicate key update a = values(a), n = n + 1"),
            ("m", "insert into t values |(?)| as new on duplicate key update a = new.a"),
            ("sp", "insert into t values |(?)| on conflict do nothing"),
            ("sp", "insert into t values |(?)| on conflict (a) where b > 1 do nothing"),

            ("smp", "insert into t values (?), (?)"),
            ("smp", "insert into t select ?"),
            ("smp", "insert into t (select ?)"),
            ("smp", "insert into t default values"),
            ("smp", "update t set a = ?"),
            ("smp", "delete from t where (a) in (values (?))"),
            ("smp", "with a as (select 1) insert into t values (?)"),
            ("smp", "insert into t values (?"),
            ("smp", "insert into t values (?))"),
            ("smp", "insert into t values ?"),
            ("smp", "insert into t values row(?)"),
            ("smp", "insert into t values (?) returning a"),
            ("smp", "insert into t values ((select max(a) + 1 from t), ?)"),
            ("smp", "insert into t values ((table u), ?)"),
            ("smp", "insert into t values ((values (1)), ?)"),
            ("smp", "insert into t values (?, f(1))"),
            ("smp", "insert into t values (?, s.lower(1))"),
            ("smp", "insert into t values (?, \"lower\"(1))"),
            ("smp", "insert into t values (?, last_insert_id())"),
            ("smp", "insert into t values (?, last_insert_rowid())"),
            ("p", "insert into t values (?, (?::pair).f)"),
            ("p", "insert into t values (?, currval('s'))"),
            ("m", "insert into t values (?, @a := @a + 1)"),
            ("m", "insert into t set a = ?"),
            ("p", "replace into t values (?)"),
            ("p", "insert into t(a) value (?)"),
            ("smp", "insert into t(a) values (?) on duplicate key update a = ?"),
            ("m", "insert into t(a) values (?) on duplicate key update a = (select max(a) from t)"),
            ("m", "insert into t(a) values (?) on duplicate key update a = f(a)"),
            ("m", "insert into t(a) values (?) on duplicate key update a = 1 returning a"),
            ("sp", "insert into t(a) values (?) on conflict (a) do update set b = 1"),
            ("sp", "insert into t(a) values (?) on conflict (a) do update set b = 1 do nothing"),
            ("sp", "insert into t(a) values (?) on conflict (a) do nothing returning a"),
            ("sp", "insert into t(a) values (?) on conflict (a) where b = ? do nothing"),
            ("m", "insert into t(a) values (?) on conflict do nothing"),
            ("p", "insert into t(a) values (?) on"),
        ];
        for (letters, marked) in TABLE {
            for engine in engines(letters) {
                let sql = marked.replace('|', "");
                let statement =
                    Statement::with_params(engine, sql.strip_suffix('*').unwrap_or(&sql)).unwrap();
                let mut expected = marked.contains('|').then(|| (*marked).to_owned());
                if engine == Engine::Postgres {
                    let mut number = 0;
                    while let Some(text) = expected.as_mut().filter(|text| text.contains('?')) {
                        number += 1;
                        *text = text.replacen('?', &format!("${number}"), 1);
                    }
                }
                assert_eq!(cut(&statement), expected, "{sql} on {engine}");
            }
        }
    }

    #[test]
    fn raw_texts_are_joined_only_when_they_are_plain() {
        #[rustfmt::skip]
        const TABLE: &[(&str, &str)] = &[
            ("smp", "insert into t(a, b) values |(1, 'x')|*"),
            ("smp", "insert into t values |(-1.5, +2, 1e5, 1.5e-3, .5, NULL, True, false, 'it''s', '')|*"),
            ("p", r"insert into t values |(E'a\'', '\')|*"),
            ("m", r"insert into t values |('it\'s', '\\')|*"),
            ("m", "insert into t values |(1)| on duplicate key update a = values(a)"),
            ("sp", "insert into t values |(1)| on conflict do nothing"),
            ("sm", "replace into t values |(1)|"),

            ("sp", "insert into t values |(--1\n1 /* ) */)|*"),

            ("m", "insert into t values (--1\n1)"),
            ("smp", "insert into t values (now())"),
            ("smp", "insert into t values (1 + 1)"),
            ("smp", "insert into t values ()"),
            ("smp", "insert into t values (1,)"),
            ("smp", "insert into t values ((1))"),
            ("smp", "insert into t values ((select 1))"),
            ("smp", "insert into t values (a)"),
            ("smp", "insert into t values (default)"),
            ("smp", "insert into t values (\"a\")"),
            ("smp", "insert into t values (x'00')"),
            ("smp", "insert into t values (0x10)"),
            ("smp", "insert into t values ('a' 'b')"),
            ("smp", "insert into t values (- -1)"),
            ("smp", "insert into t values (%d)"),
            ("p", "insert into t values ($$a$$)"),
            ("p", "insert into t values (1::text)"),
            ("smp", "insert into t values (1) returning a"),
            ("smp", "insert into t values (1), (2)"),
        ];
        for (letters, marked) in TABLE {
            for engine in engines(letters) {
                let sql = marked.replace('|', "");
                let statement =
                    Statement::raw(engine, sql.strip_suffix('*').unwrap_or(&sql)).unwrap();
                let expected = marked.contains('|').then(|| (*marked).to_owned());
                assert_eq!(cut(&statement), expected, "{sql} on {engine}");
            }
        }
    }

    #[test]
    fn rows_become_tuples_or_arrays() {
        let sql = "insert into t(a, b) values (?, now()) on duplicate key update b = 1";
        let statement = Statement::with_params(Engine::MySql, sql).unwrap();
        assert_eq!(
            statement.rows().unwrap().values_text(3),
            "insert into t(a, b) values (?, now()), (?, now()), (?, now()) \
             on duplicate key update b = 1"
        );
        assert_eq!(statement.rows().unwrap().unnest_text(&["int4".to_owned()]), None);

        let unnest = |sql: &str, types: &[&str]| {
            let types: Vec<String> = types.iter().map(|name| (*name).to_owned()).collect();
            Statement::with_params(Engine::Postgres, sql).unwrap().rows()?.unnest_text(&types)
        };
        assert_eq!(
            unnest("insert into t(a) values (?)", &["int4"]).unwrap(),
            "insert into t(a) select eserver_row.p1 from unnest($1::int4[]) as eserver_row(p1)"
        );
        assert_eq!(
            unnest(
                "insert into t(a, b, c)values(? || '?', now(), ?::jsonb ?? 'a')on conflict do nothing",
                &["text", "jsonb"]
            )
            .unwrap(),
            "insert into t(a, b, c)select eserver_row.p1 || '?', now(), \
             eserver_row.p2::jsonb ? 'a' from unnest($1::text[], $2::jsonb[]) \
             as eserver_row(p1, p2)on conflict do nothing"
        );
        for (sql, types) in [
            ("insert into t values (?, default)", &["int4"][..]),
            ("insert into t values (now())", &[]),
            ("insert into t values (?)", &["int4", "int4"]),
            ("insert into t values (eserver_row, ?)", &["int4"]),
        ] {
            assert_eq!(unnest(sql, types), None, "{sql}");
        }
    }

    /// What can stand in a statement without being read as SQL, made of any text.
    fn quoted(engine: Engine, form: usize, body: &str) -> String {
        let doubled = |quote: &str| {
            let body = match engine {
                Engine::MySql => body.replace('\\', r"\\"),
                _ => body.to_owned(),
            };
            format!("{quote}{}{quote}", body.replace(quote, &quote.repeat(2)))
        };
        let no_comments = body.replace("*/", "* /").replace("/*", "/ *").replace('*', " * ");
        let one_line = body.replace(['\n', '\r'], " ");
        match (form % 7, engine) {
            (0, _) => doubled("'"),
            (1, _) => doubled("\""),
            (2, _) => format!("/* {no_comments} */ 1"),
            (3, _) => format!("-- {one_line}\n 1"),
            (4, Engine::Sqlite) => format!("[{}]", body.replace(']', "")),
            (4, Engine::MySql) => format!("# {one_line}\n 1"),
            (4, Engine::Postgres) => format!("$x${}$x$", body.replace('$', "")),
            (5, Engine::Postgres) => format!(
                "E'{}'",
                body.replace('\\', r"\\").replace('\'', r"\'").replace(['\n', '\r'], "")
            ),
            (5, _) => format!("`{}`", body.replace('`', "``")),
            (_, Engine::MySql) => {
                format!("'{}'", body.replace('\\', r"\\").replace('\'', r"\'"))
            }
            (_, Engine::Postgres) => format!("1 /* /* {no_comments} */ ; */"),
            (_, Engine::Sqlite) => format!("'{}'", body.replace('\'', "''")),
        }
    }

    proptest! {
        #[test]
        fn nothing_hides_a_second_statement(
            pieces in proptest::collection::vec(
                (
                    0_usize..7,
                    r#"([-'"`\[\]$?;:@#/*!\\ \n\rEé1(,)]|--|/\*|\*/|; drop table t|\$x\$|[^\x00]){0,12}"#,
                ),
                1..4,
            )
        ) {
            for engine in ENGINES {
                let pieces: Vec<String> =
                    pieces.iter().map(|(form, body)| quoted(engine, *form, body)).collect();
                let one = format!("insert into t values ({})", pieces.join(", "));
                let statement = Statement::raw(engine, &one);
                let text = statement.as_ref().map(Statement::text);
                prop_assert_eq!(text, Ok(one.as_str()), "{} on {}", one, engine);
                prop_assert!(Statement::with_params(engine, &one).is_ok());
                for gap in [";", ";drop table t", " ; /* */ drop table t -- ", ";\n'"] {
                    let both = format!("{one}{gap} x");
                    prop_assert!(Statement::raw(engine, &both).is_err(), "{} on {}", both, engine);
                    prop_assert!(Statement::with_params(engine, &both).is_err());
                }
            }
        }

        #[test]
        fn joined_texts_are_one_statement_with_all_the_rows(
            bodies in proptest::collection::vec(r"[-'\\();, \na/*]{0,8}", 2..5)
        ) {
            for engine in ENGINES {
                let statements: Vec<Statement> = bodies
                    .iter()
                    .map(|body| format!("insert into t values ({}, 1)", quoted(engine, 0, body)))
                    .map(|sql| Statement::raw(engine, &sql).unwrap())
                    .collect();
                let rows: Vec<&Rows> = statements.iter().filter_map(Statement::rows).collect();
                prop_assert_eq!(rows.len(), bodies.len());
                let tuples: Vec<&str> = rows.iter().map(|rows| rows.tuple()).collect();
                let joined = format!("{}{}", rows[0].head(), tuples.join(", "));
                let joined = Statement::raw(engine, &joined);
                prop_assert!(joined.is_ok_and(|joined| joined.rows().is_none()));
            }
        }

        #[test]
        fn no_text_panics(text in r#"(insert into t|values|[-'"`$?;()%,.\\\n]| on conflict|[^a]){0,20}"#) {
            for engine in ENGINES {
                for text in [text.clone(), format!("insert into t values ({text}")] {
                    for read in [Statement::raw, Statement::with_params] {
                        if let Ok(statement) = read(engine, &text) {
                            cut(&statement);
                        }
                    }
                }
            }
        }

        /// What SQLite itself takes for one statement, so do we; what it takes for several, we
        /// refuse.
        #[test]
        fn sqlite_counts_the_same_statements(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "1", ",", " ", "\n", ";", "'", "''", "\"", "`", "[", "]", "/*", "*/", "--", "\\",
                    "select 1", "'a'", "|| 'b'", "-1", "as `a`", "as [a]", "as \"a\"", "1e5", "x'00'",
                ]),
                0..12,
            )
        ) {
            use rusqlite::fallible_iterator::FallibleIterator as _;

            let connection = rusqlite::Connection::open_in_memory().unwrap();
            let sql = format!("select 1 {}", pieces.concat());
            let counted = rusqlite::Batch::new(&connection, &sql).count();
            match Statement::raw(Engine::Sqlite, &sql) {
                Ok(_) => prop_assert!(counted.is_err() || counted == Ok(1), "{}", sql),
                Err(StatementError::Several(_)) => prop_assert!(counted != Ok(1), "{}", sql),
                // SQLite closes a comment at the end of the text.
                Err(StatementError::Unclear(LexError::Unterminated { quote: "/*", .. })) => {}
                Err(_) => prop_assert!(counted.is_err(), "{}", sql),
            }
        }
    }
}
