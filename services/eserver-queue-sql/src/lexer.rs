//! [`Lexer`]: the words of SQL, as far as a drain must tell them apart.
//!
//! What stands in quotes and comments must never be taken for SQL, nor SQL for what stands in
//! quotes, or a text could hide a second statement. So each engine's quoting is followed to the
//! letter, and what versions of an engine read differently is refused. It holds for sessions as they
//! are by default: MySQL's `sql_mode` without `ANSI_QUOTES` and `NO_BACKSLASH_ESCAPES`, PostgreSQL's
//! `standard_conforming_strings` on; a sink sees to it.

use thiserror::Error;

use crate::engine::Engine;

/// Cuts a text into tokens that together are the text again. Ends with the first error.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    engine: Engine,
    text: &'a str,
    at: usize,
}

/// A piece of a text, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// Its first byte in the text.
    pub(crate) start: usize,
    /// The byte behind its last.
    pub(crate) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Blank,
    Comment,
    /// A keyword or a name without quotes.
    Word,
    /// Begins with a digit, or with a dot and a digit; not always a number.
    Number,
    /// `'…'`, and PostgreSQL's `E'…'`.
    Text,
    /// Any other quotes: `"…"`, `` `…` ``, `[…]`, `$tag$…$tag$`.
    Quoted,
    /// `?`, whatever it means to the engine.
    Mark,
    /// The engine's own placeholders that are not `?`: `$1`, and SQLite's `:a`, `@a` and `$a`.
    Named,
    /// Any other single byte.
    Symbol(u8),
}

/// Why a text cannot be cut; `at` counts bytes from its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum LexError {
    #[error("`{quote}` at byte {at} is never closed")]
    Unterminated { quote: &'static str, at: usize },
    #[error("the comment at byte {at} would be carried out by the server, write what it says")]
    Executable { at: usize },
    #[error("the number at byte {at} runs into a quote or `$`, write a blank between them")]
    Unclear { at: usize },
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(engine: Engine, text: &'a str) -> Lexer<'a> {
        Lexer { engine, text, at: 0 }
    }

    /// The kind and length of the token at the front of `rest`, which is not empty.
    fn cut(&self, rest: &[u8]) -> Result<(Kind, usize), LexError> {
        use Engine::{MySql, Postgres, Sqlite};
        let next = rest.get(1).copied().unwrap_or(0);
        let backslash = self.engine == MySql;
        Ok(match (rest[0], self.engine) {
            (byte, _) if is_blank(byte) => (Kind::Blank, run(rest, is_blank)),
            (b'\'', _) => (Kind::Text, self.quoted(rest, 0, "'", backslash)?),
            (b'"', _) => (Kind::Quoted, self.quoted(rest, 0, "\"", backslash)?),
            (b'`', MySql | Sqlite) => (Kind::Quoted, self.quoted(rest, 0, "`", false)?),
            (b'[', Sqlite) => match rest.iter().position(|byte| *byte == b']') {
                Some(last) => (Kind::Quoted, last + 1),
                None => return Err(LexError::Unterminated { quote: "[", at: self.at }),
            },
            // MySQL takes two dashes for a comment only before a blank, a control byte or the end.
            (b'-', engine)
                if next == b'-'
                    && (engine != MySql
                        || rest.get(2).is_none_or(|byte| *byte <= b' ' || *byte == 0x7f)) =>
            {
                (Kind::Comment, self.line(rest))
            }
            (b'#', MySql) => (Kind::Comment, self.line(rest)),
            (b'/', _) if next == b'*' => (Kind::Comment, self.block(rest)?),
            (b'E' | b'e', Postgres) if next == b'\'' => (Kind::Text, self.escape_string(rest)?),
            (b'$', Postgres) if next.is_ascii_digit() => {
                (Kind::Named, 1 + run(&rest[1..], |byte| byte.is_ascii_digit()))
            }
            (b'$', Postgres) => self.dollar(rest)?,
            (b'$' | b'@' | b':', Sqlite) if is_word(next) => {
                (Kind::Named, 1 + run(&rest[1..], is_word))
            }
            (b'?', _) => (Kind::Mark, 1),
            (byte, _) if byte.is_ascii_digit() || byte == b'.' && next.is_ascii_digit() => {
                (Kind::Number, self.number(rest)?)
            }
            (byte, _) if is_word(byte) => (Kind::Word, run(rest, is_word)),
            (byte, _) => (Kind::Symbol(byte), 1),
        })
    }

    /// The length of what is quoted behind `prefix` bytes; a doubled quote is one inside, and
    /// `backslash` takes the next byte's meaning.
    fn quoted(
        &self,
        rest: &[u8],
        prefix: usize,
        quote: &'static str,
        backslash: bool,
    ) -> Result<usize, LexError> {
        let mut end = prefix + 1;
        while let Some(byte) = rest.get(end) {
            end += match byte {
                b'\\' if backslash => 2,
                byte if *byte != quote.as_bytes()[0] => 1,
                byte if rest.get(end + 1) == Some(byte) => 2,
                _ => return Ok(end + 1),
            };
        }
        Err(LexError::Unterminated { quote, at: self.at })
    }

    /// The length of PostgreSQL's `E'…'`, with the parts that follow on further lines: backslashes
    /// count in them too, although they have no `E`.
    fn escape_string(&self, rest: &[u8]) -> Result<usize, LexError> {
        let mut end = self.quoted(rest, 1, "'", true)?;
        loop {
            let mut next = end;
            while let Some(byte) = rest.get(next) {
                next += match byte {
                    b'-' if rest.get(next + 1) == Some(&b'-') => self.line(&rest[next..]),
                    byte if is_blank(*byte) => 1,
                    _ => break,
                };
            }
            let new_line = rest[end..next].iter().any(|byte| matches!(byte, b'\n' | b'\r'));
            if !new_line || rest.get(next) != Some(&b'\'') {
                return Ok(end);
            }
            end = next + self.quoted(&rest[next..], 0, "'", true)?;
        }
    }

    /// The length of a comment up to the end of its line.
    fn line(&self, rest: &[u8]) -> usize {
        let postgres = self.engine == Engine::Postgres;
        run(rest, |byte| byte != b'\n' && !(postgres && byte == b'\r'))
    }

    /// The length of a comment in `/* */`; PostgreSQL's contain others.
    fn block(&self, rest: &[u8]) -> Result<usize, LexError> {
        if self.engine == Engine::MySql
            && (rest[2..].starts_with(b"!") || rest[2..].starts_with(b"M!"))
        {
            return Err(LexError::Executable { at: self.at });
        }
        let (mut end, mut depth) = (2, 1);
        while end + 1 < rest.len() {
            end += match &rest[end..end + 2] {
                b"*/" => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(end + 2);
                    }
                    2
                }
                b"/*" if self.engine == Engine::Postgres => {
                    depth += 1;
                    2
                }
                _ => 1,
            };
        }
        Err(LexError::Unterminated { quote: "/*", at: self.at })
    }

    /// PostgreSQL's `$tag$…$tag$`, or a lone `$`.
    fn dollar(&self, rest: &[u8]) -> Result<(Kind, usize), LexError> {
        let tag = 2 + run(&rest[1..], |byte| is_word(byte) && byte != b'$');
        if rest.get(tag - 1) != Some(&b'$') {
            return Ok((Kind::Symbol(b'$'), 1));
        }
        let (tag, body) = rest.split_at(tag);
        // Every tag ends with `$` and has none inside, so the candidates are few.
        let mut candidates = body.windows(tag.len()).enumerate();
        match candidates.find(|(_, window)| *window == tag) {
            Some((at, _)) => Ok((Kind::Quoted, 2 * tag.len() + at)),
            None => Err(LexError::Unterminated { quote: "$", at: self.at }),
        }
    }

    /// The length of a number, and of any letters it runs into.
    fn number(&self, rest: &[u8]) -> Result<usize, LexError> {
        let postgres = self.engine == Engine::Postgres;
        let digits = run(rest, |byte| byte.is_ascii_digit() || byte == b'.');
        let exponent = matches!(rest.get(digits), Some(b'e' | b'E'))
            && matches!(rest.get(digits + 1), Some(b'+' | b'-'))
            && rest.get(digits + 2).is_some_and(u8::is_ascii_digit);
        let end = if exponent { digits + 2 } else { digits };
        let end = end
            + run(&rest[end..], |byte| {
                byte == b'.' || is_word(byte) && !(postgres && byte == b'$')
            });
        // Before version 15, PostgreSQL read `1E'…'` as `1` and an escape string.
        if postgres && matches!(rest.get(end), Some(b'\'' | b'"' | b'$')) {
            return Err(LexError::Unclear { at: self.at });
        }
        Ok(end)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Result<Token, LexError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.is_empty() {
            return None;
        }
        let start = self.at;
        Some(match self.cut(rest) {
            Ok((kind, length)) => {
                self.at += length;
                Ok(Token { kind, start, end: self.at })
            }
            Err(error) => {
                self.at = self.text.len();
                Err(error)
            }
        })
    }
}

impl Token {
    /// Whether it is one of these words, which have a blank between them, in any case.
    pub(crate) fn is_among(self, text: &str, words: &str) -> bool {
        self.kind == Kind::Word && words.split(' ').any(|word| self.is(text, word))
    }

    /// Whether it is this word, in any case.
    pub(crate) fn is(self, text: &str, word: &str) -> bool {
        self.kind == Kind::Word && text[self.start..self.end].eq_ignore_ascii_case(word)
    }
}

/// Whether an engine may take this byte for part of a name; bytes of other alphabets are.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte)
}

/// How many bytes at the front are of a sort.
fn run(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !of(*byte)).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENGINES: [Engine; 3] = [Engine::Sqlite, Engine::Postgres, Engine::MySql];

    /// A sign for each token: `w`ord, `n`umber, `T`ext, `Q`uoted, `C`omment, a mark, a named
    /// placeholder as `$`; blanks and symbols as they are.
    fn shape(engine: Engine, text: &str) -> String {
        let sign = |token: Result<Token, LexError>| match token {
            Ok(token) => match token.kind {
                Kind::Blank => ' ',
                Kind::Comment => 'C',
                Kind::Word => 'w',
                Kind::Number => 'n',
                Kind::Text => 'T',
                Kind::Quoted => 'Q',
                Kind::Mark => '?',
                Kind::Named => '$',
                Kind::Symbol(byte) => char::from(byte),
            },
            Err(LexError::Unterminated { .. }) => '…',
            Err(LexError::Executable { .. }) => '!',
            Err(LexError::Unclear { .. }) => '~',
        };
        Lexer::new(engine, text).map(sign).collect()
    }

    #[test]
    fn each_engine_has_its_quotes_and_comments() {
        // The text, and what it is to SQLite, PostgreSQL and MySQL.
        #[rustfmt::skip]
        const TABLE: &[(&str, &str, &str, &str)] = &[
            ("select 1", "w n", "w n", "w n"),
            ("'a'", "T", "T", "T"),
            ("'a''b'", "T", "T", "T"),
            ("'a' 'b'", "T T", "T T", "T T"),
            ("''", "T", "T", "T"),
            ("'", "…", "…", "…"),
            ("'''", "…", "…", "…"),
            ("'a;b';", "T;", "T;", "T;"),
            ("'?'?", "T?", "T?", "T?"),
            // A backslash takes the next byte's meaning on MySQL, and behind PostgreSQL's E.
            (r"'\'", "T", "T", "…"),
            (r"'\\'", "T", "T", "T"),
            (r"'\''", "…", "…", "T"),
            (r"'\'';'", "T", "T", "T;…"),
            (r"E'\''", "w…", "T", "wT"),
            (r"e'\\'", "wT", "T", "wT"),
            (r"E'\\''", "w…", "…", "w…"),
            (r"aE'\'", "wT", "wT", "w…"),
            (r"E '\'", "w T", "w T", "w …"),
            (r"E'a''\'b'", "wTw…", "T", "wT"),
            // The parts of a string on further lines are read like its first.
            ("E'a'\n'\\''", "wT …", "T", "wT T"),
            ("E'a' -- b\n'\\''", "wT C …", "T", "wT C T"),
            ("E'a' \t'\\''", "wT …", "T …", "wT T"),
            ("E'a'\n--\n\n  '\\''", "wT C …", "T", "wT C T"),
            ("E'a'\n;'", "wT ;…", "T ;…", "wT ;…"),
            ("'a'\n'\\'", "T T", "T T", "T …"),
            (r#""a""b""#, "Q", "Q", "Q"),
            (r#""\""#, "Q", "Q", "…"),
            (r#""a'b""#, "Q", "Q", "Q"),
            (r#"""#, "…", "…", "…"),
            ("`a;b`", "Q", "`w;w`", "Q"),
            ("`a``;`", "Q", "`w``;`", "Q"),
            (r"`\`", "Q", r"`\`", "Q"),
            ("`", "…", "`", "…"),
            ("[a;'b]", "Q", "[w;…", "[w;…"),
            ("[", "…", "[", "["),
            ("$$;'$$", "$;…", "Q", "w;…"),
            ("$a$;$$;$a$", "$;$;$", "Q", "w;w;w"),
            ("$é$'$é$", "$…", "Q", "w…"),
            ("$a$b$c$", "$", "…", "w"),
            ("$$", "$", "…", "w"),
            ("a$$;", "w;", "w;", "w;"),
            ("$1", "$", "$", "w"),
            ("$12$", "$", "$$", "w"),
            ("$ 1", "w n", "$ n", "w n"),
            (":a @b", "$ $", ":w @w", ":w @w"),
            ("a::text", "w:$", "w::w", "w::w"),
            ("?1", "?n", "?n", "?n"),
            ("-- ' ;\n1", "C n", "C n", "C n"),
            ("--'\n", "C ", "C ", "--…"),
            ("--", "C", "C", "C"),
            ("1--1", "nC", "nC", "n--n"),
            ("--\t'", "C", "C", "C"),
            ("-- '\r;'", "C", "C ;…", "C"),
            ("# ' \n;", "# …", "# …", "C ;"),
            ("/* ; ' */;", "C;", "C;", "C;"),
            ("/*/ */;", "C;", "C;", "C;"),
            ("/* /* */;", "C;", "…", "C;"),
            ("/* /* */ */;", "C */;", "C;", "C */;"),
            ("/*", "…", "…", "…"),
            ("/*! ; */", "C", "C", "!"),
            ("/*M!1 ; */", "C", "C", "!"),
            ("/*!50000 drop */", "C", "C", "!"),
            ("/*+ hint */", "C", "C", "C"),
            ("*/*'*/;", "*C;", "*C;", "*C;"),
            ("1e5 .5 1.5e-3 0x1F 1_000", "n n n n n", "n n n n n", "n n n n n"),
            ("1e-x", "n-w", "n-w", "n-w"),
            ("1-2", "n-n", "n-n", "n-n"),
            // Versions of PostgreSQL differ in these.
            (r"1E'\''", "n…", "~", "nT"),
            ("1$$;$$", "n;$", "~", "n;w"),
            ("a.b", "w.w", "w.w", "w.w"),
            ("zażółć _x x$y", "w w w", "w w w", "w w w"),
            ("(a,1)", "(w,n)", "(w,n)", "(w,n)"),
            ("%d %5d", "%w %n", "%w %n", "%w %n"),
        ];
        for (text, sqlite, postgres, mysql) in TABLE {
            for (engine, expected) in ENGINES.into_iter().zip([sqlite, postgres, mysql]) {
                assert_eq!(shape(engine, text), **expected, "{text:?} on {engine}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_tokens_are_the_text(
            text in r#"([-'"`\[\]$?;:@#/*!\\ \n\reEaé1.+M]|--|/\*|\*/|E'|\$a\$|[^\x00]){0,40}"#
        ) {
            for engine in ENGINES {
                let mut end = 0;
                let mut lexer = Lexer::new(engine, &text);
                for token in lexer.by_ref() {
                    let Ok(token) = token else { break };
                    prop_assert_eq!(token.start, end);
                    prop_assert!(token.end > end && text.is_char_boundary(token.end));
                    end = token.end;
                }
                prop_assert!(lexer.next().is_none());
                let failed = Lexer::new(engine, &text).any(|token| token.is_err());
                prop_assert!(failed || end == text.len());
            }
        }
    }
}
