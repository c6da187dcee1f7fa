//! The HTTP application of `[http]`: fixed answers and files.

use eserver::http::{App, Reply, bytes};

use crate::config::{HttpConfig, RespondConfig};

/// Methods that a fixed answer is for, besides HEAD and OPTIONS, which follow from them.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// What the section says.
pub(super) fn app(config: &HttpConfig) -> App {
    let mut app = App::new();
    for respond in &config.responds {
        let answer = Answer::lasting(respond);
        for method in METHODS {
            app.route(method, &respond.path, move |_| answer.reply());
        }
    }
    for files in &config.files {
        app.files(&files.prefix, &files.root);
    }
    app.newcomers(config.newcomers);
    if let Some(one_in) = config.access_log_one_in {
        app.access_log(one_in.get());
    }
    app
}

/// A path that is worth a first try.
pub(super) fn path_to_try(config: &HttpConfig) -> &str {
    let fixed = config.responds.first().map(|respond| respond.path.as_str());
    let files = config.files.first().map(|files| files.prefix.as_str());
    fixed.or(files).filter(|path| !path.is_empty()).unwrap_or("/")
}

/// A fixed answer as the shards have it, who copy it for each request.
#[derive(Clone, Copy)]
struct Answer {
    status: u16,
    content_type: &'static str,
    body: &'static [u8],
}

impl Answer {
    /// The configuration's answers last as long as the process, so that giving one allocates
    /// nothing.
    fn lasting(respond: &RespondConfig) -> Self {
        Answer {
            status: respond.status,
            content_type: respond.content_type.clone().leak(),
            body: respond.body.clone().into_bytes().leak(),
        }
    }

    fn reply(self) -> Reply {
        bytes(self.content_type, self.body).with_status(self.status)
    }
}
